"""Real nodes: one hangs for a while and older updates stand in; without a gain one only mixes."""

import json
import signal
import time
from pathlib import Path

import pytest
from node_homes import Consortium, entries, p2pfl, with_study
from node_processes import running

pytestmark = pytest.mark.long

ROUNDS = 60
HANGS_S = 8.0


def test_a_node_that_hangs_holds_up_nobody_and_comes_back(
    founded: Consortium, tmp_path: Path
) -> None:
    terms = ("--rounds", str(ROUNDS), "--consensus-rounds", "1", "--round-deadline", "4")
    options = ("--privacy", "none", "--staleness", "2", "--patience", "2", "--neighbours-min", "1")
    made = with_study(founded.copied(tmp_path / "c"), *terms, *options)
    shown = " ".join(p2pfl(made.home(0), "study", "show", made.study).split())
    assert "up to 2 round(s) old at less weight" in shown
    assert "gains nothing for 2 round(s) only mixes" in shown
    with running(made.homes) as nodes:
        for node in nodes:
            node.wait("round_done", 2)
        *others, hangs = nodes
        hangs.process.send_signal(signal.SIGSTOP)
        until_s = time.monotonic() + HANGS_S
        others[0].until(lambda: time.monotonic() > until_s, "the time it hangs")
        hangs.process.send_signal(signal.SIGCONT)
        for node in nodes:
            node.wait("study_complete")
            assert not node.said("internal_error")
        assert any(node.said("training_stopped") for node in nodes)
        assert [node.stop()[0] for node in nodes] == [0] * len(nodes)
    ages = {age for home in made.homes[:2] for age in _ages(made, home.path.name)}
    assert ages & {1, 2}, "an older update stood in"
    assert max(ages) <= 2
    for home in made.homes:
        told = json.loads(p2pfl(home, "ledger", "audit", "--replay", "--json"))
        assert told["exit_code"] == 0, told
        assert len(entries(home, "update.published")) + len(entries(home, "round.skipped")) > ROUNDS


def _ages(made: Consortium, name: str) -> list[int]:
    """How old each input of a site's averages was, in rounds."""
    (home,) = [home for home in made.homes if home.path.name == name]
    rounds = {
        (entry.body["from"], entry.body["from_seq"]): entry.body["round"]
        for entry in entries(home, "update.received")
    }
    return [
        average.body["round"] - rounds[given["site"], given["seq"]]
        for average in entries(home, "agg.done")
        for given in average.body["inputs"]
    ]
