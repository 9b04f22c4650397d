"""Steering with real nodes: one command at the proposer, and every training process uses it."""

import signal
from pathlib import Path

import pytest
from node_homes import Consortium, audit_code, entries, p2pfl, p2pfl_json, with_study
from node_processes import running


@pytest.mark.nodes
def test_one_command_steers_every_site_of_a_running_and_guarded_study(
    founded: Consortium, tmp_path: Path
) -> None:
    terms = ("--rounds", "80", "--consensus-rounds", "1", "--round-deadline", "20")
    guarded = ("--privacy", "none", "--guard", "holdout")
    made = with_study(founded.copied(tmp_path / "c"), *terms, *guarded)
    with running(made.homes) as nodes:
        for node in nodes:
            node.wait("round_done")
        proposer = made.home(0)
        steered = p2pfl_json(proposer, "study", "steer", made.study, "learning_rate=0.125")
        for node in nodes:
            node.wait("study_complete")
            assert not node.said("training_failed")
            assert node.stop(signal.SIGTERM)[0] == 0
    for index, home in enumerate(made.homes):
        (record,) = entries(home, "study.steered")
        assert record.body["changes"] == {"learning_rate": "0.125"}
        assert record.body["from_seq"] == (steered["seq"] if index else -1)
        first = record.body["round"]
        assert first >= steered["from_round"]
        before, after = set(), set()
        for training in entries(home, "train.done"):
            (after if training.body["round"] >= first else before).add(training.body["hp"])
        for average in entries(home, "agg.done"):
            assert average.body["rule_params"]["guard_step"] in ("1.0", "0.5", "0.25", "0.0")
        assert len(before) == len(after) == 1
        assert before != after
        assert audit_code(home) == 0
    assert "steered to 0.125" in " ".join(p2pfl(made.home(1), "study", "show", made.study).split())
