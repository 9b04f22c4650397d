"""Four real nodes on a slow wire that loses frames, one of them cut off for a while."""

from pathlib import Path
from typing import Any

import pytest
from node_homes import Consortium, audit_code, entries, found, with_study
from node_processes import RunningNode, running

from simulations.network_lab import NetworkLab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(2400)]

ROUNDS = 20
WAIT_S = 600.0
CUT_OFF = 3


def test_a_study_survives_delay_loss_and_a_site_cut_off_in_its_middle(
    lab: NetworkLab, tmp_path: Path
) -> None:
    made = _study(lab, tmp_path)
    with running(made.homes, [lab.inside(place) for place in range(lab.count)]) as nodes:
        for node in nodes:
            node.wait("round_done", 3, WAIT_S)

        waits = len(nodes[CUT_OFF].said("study_waits"))
        lab.cut.add(CUT_OFF)
        missed = _rounds(nodes[CUT_OFF])[-1]["round"]
        for node in nodes[:CUT_OFF]:
            _until_round(node, missed + 4)
        assert _rounds(nodes[0])[-1]["heard"] == 2, "the others go on without it"
        told = nodes[CUT_OFF].wait("study_waits", waits + 1, WAIT_S)
        assert "neighbours" in told["sentence"], "the one cut off says what it waits for"

        lab.cut.clear()
        for node in nodes:
            node.wait("study_complete", wait_s=WAIT_S)
            assert not node.said("internal_error")
        assert [node.stop()[0] for node in nodes] == [0] * lab.count
    for home in made.homes:
        (closed,) = entries(home, "study.closed")
        assert closed.body["reason"] == "complete"
        assert audit_code(home) == 0


def _study(lab: NetworkLab, folder: Path) -> Consortium:
    addresses = [f"{lab.host(place)}:7100" for place in range(lab.count)]
    terms = ("--rounds", str(ROUNDS), "--consensus-rounds", "2", "--round-deadline", "3")
    return with_study(found(folder / "c", lab.count, addresses), *terms, "--epsilon", "4")


def _rounds(node: RunningNode) -> list[dict[str, Any]]:
    return node.said("round_done")


def _until_round(node: RunningNode, number: int) -> None:
    node.until(lambda: _rounds(node)[-1]["round"] >= number, f"round {number}", WAIT_S)
