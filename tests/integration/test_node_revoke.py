"""Revoking means now, between real nodes: the process is gone, nothing leaves, all are told."""

import time
from pathlib import Path

import pytest
from node_homes import Consortium, audit_code, entries, p2pfl, with_study
from node_processes import RunningNode, is_alive, poll, running

GONE_S = 5.0
"""What is aimed at is one second; the test prints what it was."""


@pytest.fixture
def endless(founded: Consortium, tmp_path: Path) -> Consortium:
    """Three sites that approved a private study of which two are enough, and which lasts."""
    terms = ("--rounds", "900", "--round-deadline", "5", "--sites-min", "2")
    made = founded.copied(tmp_path / "c")
    return with_study(made, *terms, "--neighbours-min", "1", "--epsilon", "4")


@pytest.mark.nodes
def test_revoking_kills_the_training_and_the_study_goes_on_elsewhere_or_waits(
    endless: Consortium, capfd: pytest.CaptureFixture[str]
) -> None:
    with running(endless.homes) as nodes:
        for node in nodes:
            node.wait("round_done", 2)

        by_study = _revokes(nodes[2], "study", "revoke", endless.study[:12])
        before = len(nodes[0].said("round_done"))
        nodes[0].until(lambda: _told_of(nodes[0], endless.site(2)), "the others are told")
        nodes[0].wait("round_done", before + 3)  # it goes on between the two that are left

        by_data = _revokes(nodes[1], "data", "revoke", "patients")
        nodes[0].until(lambda: _told_of(nodes[0], endless.site(1)), "the last one is told")
        nodes[0].until(lambda: _waits(nodes[0]), "it says that it waits")
        for node in nodes:
            assert not node.said("internal_error")
            assert node.stop()[0] == 0
    with capfd.disabled():
        print(f"\n[training was gone {by_study:.2f} s and {by_data:.2f} s after the command began]")
    for home in endless.homes:
        assert audit_code(home) == 0
    for site in (1, 2):
        _nothing_left_after_the_decision(endless, site)


def _revokes(node: RunningNode, *words: str) -> float:
    """Run the command; returns after how many seconds its training processes were gone."""
    children = node.training_pids()
    assert children
    begun_s = time.monotonic()
    p2pfl(node.home, *words, "--reason", "withdrawn")
    poll(lambda: not any(map(is_alive, children)), lambda: None, "the training's end", GONE_S)
    took_s = time.monotonic() - begun_s
    assert node.training_pids() == []
    return took_s


def _told_of(node: RunningNode, site: bytes) -> bool:
    told = [line for line in node.said("study_decision") if line.get("site") == site.hex()]
    return any("revoked" in str(line) for line in told)


def _waits(node: RunningNode) -> bool:
    """The newest line about its study's progress is that it cannot go on."""
    told = [line for line in node.read_log() if line["event"] in ("study_waits", "round_done")]
    return told[-1]["event"] == "study_waits"


def _nothing_left_after_the_decision(made: Consortium, site: int) -> None:
    home = made.home(site)
    (revoked,) = entries(home, "study.revoked")
    for kind in ("update.published", "train.done", "model.released"):
        assert all(entry.seq < revoked.seq for entry in entries(home, kind)), kind
