"""A model of 20 MB over a slow line that loses frames: nothing is tuned, nobody is left out."""

from pathlib import Path

import pytest
from node_homes import audit_code, entries, found, with_study
from node_processes import running

from simulations.network_lab import NetworkLab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(1200)]

HIDDEN = 455_000
"""8 columns: 11·h + 2 parameters, five million."""
WAIT_S = 600.0


def test_a_study_of_20_mb_goes_on_over_a_slow_line_without_anything_tuned(
    slow_line: NetworkLab, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lab = slow_line
    plan = ("--plan", "tabular-mlp", "--argument", f"hidden={HIDDEN}", "--argument", "outputs=2")
    work = ("--argument", "local_steps=1", "--argument", "learning_rate=0.001")
    terms = ("--rounds", "1", "--consensus-rounds", "1", "--weighting", "uniform")
    addresses = [f"{lab.host(place)}:7100" for place in range(lab.count)]
    homes = found(tmp_path / "c", lab.count, addresses)
    made = with_study(homes, "--privacy", "none", *plan, *work, *terms)
    with running(made.homes, [lab.inside(place) for place in range(lab.count)]) as nodes:
        for node in nodes:
            node.wait("study_complete", wait_s=WAIT_S)
        rounds = [line for node in nodes for line in node.said("round_done")]
        assert not any(node.said("internal_error") for node in nodes)
        assert [node.stop()[0] for node in nodes] == [0] * lab.count
    gather_s = sorted(line["gather_s"] for line in rounds)
    with capfd.disabled():
        print(f"\n[20 MB at 20 Mbit/s, 40 ms, 1 % loss: gathered in {gather_s} s]")
    for home in made.homes:
        verdicts = [entry.body["verdict"] for entry in entries(home, "update.received")]
        assert verdicts == ["accepted"] * 4, "both neighbours in both rounds"
        assert audit_code(home) == 0
