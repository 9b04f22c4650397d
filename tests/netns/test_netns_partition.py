"""Ten real nodes parted into six and four for a minute, and together again within seconds."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from node_homes import found, with_study
from node_processes import RunningNode, running

from simulations.network_lab import NetworkLab

pytestmark = [pytest.mark.netns, pytest.mark.timeout(1200)]

SIX, FOUR = range(6), range(6, 10)
CUT_S = 60.0
WAIT_S = 600.0


def test_ten_nodes_parted_into_six_and_four_are_one_again_within_seconds(
    ten_places: NetworkLab, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lab = ten_places
    addresses = [f"{lab.host(place)}:7100" for place in range(lab.count)]
    terms = ("--rounds", "1000", "--consensus-rounds", "0", "--privacy", "none")
    made = with_study(found(tmp_path / "c", lab.count, addresses), *terms, "--neighbours-min", "5")
    with running(made.homes, [lab.inside(place) for place in range(lab.count)]) as nodes:
        for node in nodes:
            node.until(lambda n=node: _heard(n, 9, 0.0), "a round with everybody", WAIT_S)  # type: ignore[misc]
        # By then every neighbour's times are known.
        nodes[0].until(lambda: _round(nodes[0]) >= 5, "five rounds", WAIT_S)

        lab.parted.update(FOUR)
        ends_s = time.monotonic() + CUT_S
        before = _round(nodes[0])
        nodes[0].until(lambda: time.monotonic() > ends_s, "the cut's minute", WAIT_S)
        assert _round(nodes[0]) > before + 3, "six go on without the four"
        waits = nodes[9].said("study_waits")[-1]
        assert waits["code"] == "neighbours", "four are too few, and say so"

        lab.parted.clear()
        healed_s = datetime.now(UTC).timestamp()
        for node in nodes:
            met = "a round with both sides"
            node.until(lambda n=node: _heard(n, 9, healed_s), met, WAIT_S)  # type: ignore[misc]
        # The four adopt what the six have; then a round takes as long as the machine does for it.
        caught_up_s = [_first_s(nodes[place], 5, healed_s) - healed_s for place in FOUR]
        whole_s = [_first_s(node, 9, healed_s) - healed_s for node in nodes]
        assert not any(node.said("internal_error") for node in nodes)
    with capfd.disabled():
        print(
            f"\n[ten nodes, six and four for {CUT_S:g} s: the four caught up after "
            f"{max(caught_up_s):.1f} s, all ten in everybody's round after {max(whole_s):.1f} s]"
        )


def _round(node: RunningNode) -> int:
    return int(node.said("round_done")[-1]["round"])


def _heard(node: RunningNode, neighbours: int, since_s: float) -> bool:
    """Whether a round that ended since then averaged so many neighbours."""
    rounds = node.said("round_done")
    return any(done["heard"] >= neighbours and _at_s(done) > since_s for done in rounds)


def _first_s(node: RunningNode, neighbours: int, since_s: float) -> float:
    rounds = node.said("round_done")
    ended_s = [_at_s(done) for done in rounds if done["heard"] >= neighbours]
    return min(at_s for at_s in ended_s if at_s > since_s)


def _at_s(line: dict[str, object]) -> float:
    return datetime.fromisoformat(str(line["timestamp"])).timestamp()
