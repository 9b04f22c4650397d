"""A pause with real nodes: one command at the proposer stops every site, one lets them go on."""

import signal
from pathlib import Path

import pytest
from node_homes import Consortium, audit_code, entries, p2pfl, p2pfl_json, with_study
from node_processes import RunningNode, running


def is_paused(node: RunningNode) -> bool:
    return any(line["code"] == "paused" for line in node.said("study_waits"))


@pytest.mark.nodes
def test_a_study_is_paused_everywhere_across_a_restart_and_a_site_is_away_from_it(
    founded: Consortium, tmp_path: Path
) -> None:
    terms = ("--rounds", "8", "--consensus-rounds", "1", "--neighbours-min", "1")
    made = with_study(founded.copied(tmp_path / "c"), *terms, "--privacy", "none")
    proposer, last = made.home(0), made.homes[-1]
    with running(made.homes[:-1]) as early:
        # It cannot start without the last site, so no round goes by before the pause is there.
        for node in early:
            node.until(lambda node=node: node.said("study_waits"), "approvals")
        paused = p2pfl_json(proposer, "study", "pause", made.study, "--reason", "scanner-replaced")
        assert paused["from_round"] == 1
        with running([last]) as late:
            for node in (*early, *late):
                node.until(lambda node=node: is_paused(node), "paused")
                node.wait("round_done")
            assert "scanner-replaced" in " ".join(p2pfl(proposer, "node", "status").split())
            for node in (*early, *late):
                assert node.stop(signal.SIGTERM)[0] == 0
    before = [len(entries(home, "train.done")) for home in made.homes]
    assert before == [1] * made.count
    p2pfl(last, "study", "away", made.study, "--reason", "maintenance")
    with running(made.homes) as nodes:
        for node in nodes[:-1]:
            node.until(lambda node=node: is_paused(node), "paused")
        assert [len(entries(home, "train.done")) for home in made.homes] == before
        nodes[-1].wait("node_ready")
        assert "study back" in p2pfl(last, "node", "status")
        p2pfl_json(proposer, "study", "resume", made.study)
        for node in nodes[:-1]:
            node.wait("study_complete")
        assert len(entries(last, "train.done")) == 1
        p2pfl_json(last, "study", "back", made.study)
        nodes[-1].wait("study_complete")
        for node in nodes:
            assert node.stop(signal.SIGTERM)[0] == 0
    for home in made.homes:
        assert len(entries(home, "study.paused")) == len(entries(home, "study.resumed")) == 1
        assert audit_code(home) == 0


@pytest.mark.nodes
def test_a_stopped_study_ends_everywhere_with_the_model_that_was_reached(
    founded: Consortium, tmp_path: Path
) -> None:
    terms = ("--rounds", "900", "--consensus-rounds", "1", "--epsilon", "4")
    made = with_study(founded.copied(tmp_path / "c"), *terms)
    proposer = made.home(0)
    with running(made.homes) as nodes:
        for node in nodes:
            node.wait("round_done")
        stopped = p2pfl_json(proposer, "study", "stop", made.study, "--reason", "converged")
        for node in nodes:
            node.wait("study_complete")
            assert node.stop(signal.SIGTERM)[0] == 0
    first = stopped["from_round"]
    for home in made.homes:
        trained = [entry.body["round"] for entry in entries(home, "train.done")]
        assert trained == list(range(first))
        (closed,) = entries(home, "study.closed")
        assert (closed.body["reason"], closed.body["rounds"]) == ("complete", first + 1)
        assert (home.study_models(bytes.fromhex(made.study)) / "model.safetensors").is_file()
        assert audit_code(home) == 0
    assert "before round" in p2pfl(made.home(1), "study", "results", made.study)
