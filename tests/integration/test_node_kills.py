"""Real nodes, killed at random: whatever the instant, the study ends, ε is sound, audits are clean.

The short run belongs to `make test-nodes`, the long one (50 kills) to `make test-long`."""

import hashlib
import random
import signal
import time
from pathlib import Path

import pytest
from node_homes import Consortium, audit_code, entries, with_study
from node_processes import RunningNode, is_alive, poll, running, start

from p2pfl.runtime.home import Home

GONE_S = 5.0
END_S = 600.0
"""For the rounds that are left after the last kill."""
KILL_AFTER_S = (0.1, 2.0)
WORKING_SHARE = 0.5
"""So many victims may first start: on a slow machine all kills would hit nodes that start."""


@pytest.mark.nodes
@pytest.mark.timeout(1020)
def test_a_few_random_kills_lose_nothing(founded: Consortium, tmp_path: Path) -> None:
    _survives(_study(founded, tmp_path, rounds=25), kills=5, seed=1)  # it may end before the fifth


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_fifty_random_kills_lose_nothing(
    founded: Consortium, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = _study(founded, tmp_path, rounds=990)
    kills, starting = _survives(made, kills=50, seed=2)
    trained = [len(entries(home, "train.done")) for home in made.homes]
    skipped = [len(entries(home, "round.skipped")) for home in made.homes]
    with capfd.disabled():
        print(
            f"\n[{kills} kills, {starting} of them of a node that was starting; "
            f"rounds trained {trained}, skipped on record {skipped}]"
        )
    assert kills == 50, "the study ended too early: give it more rounds"


def _study(founded: Consortium, folder: Path, *, rounds: int) -> Consortium:
    terms = ("--rounds", str(rounds), "--consensus-rounds", "2", "--round-deadline", "3")
    private = ("--epsilon", "4", "--neighbours-min", "1")
    return with_study(founded.copied(folder / "c"), *terms, *private)


def _survives(made: Consortium, *, kills: int, seed: int) -> tuple[int, int]:
    """Returns how many nodes were killed before the study had ended, and how many as they began."""
    killed = starting = 0
    drawn = random.Random(seed)  # noqa: S311 - when to pull the plug
    with running(made.homes) as nodes:
        current = list(nodes)
        for _ in range(kills):
            victim = drawn.randrange(made.count)
            if drawn.random() < WORKING_SHARE:
                current[victim].wait("node_ready")
            # The instant has to be arbitrary: nothing observable may choose it.
            time.sleep(drawn.uniform(*KILL_AFTER_S))
            if all(_has_ended(home) for home in made.homes):
                break
            starting += not current[victim].said("node_ready")
            _kill(current[victim])
            current[victim] = start(made.home(victim))
            nodes.append(current[victim])
            killed += 1
        for home, node in zip(made.homes, current, strict=True):
            node.until(lambda home=home: _has_ended(home), f"end of the study (seed {seed})", END_S)
        for node in current:
            assert not node.said("internal_error")
            node.stop(signal.SIGTERM)
    for home in made.homes:
        _is_sound(home)
    return killed, starting


def _kill(node: RunningNode) -> None:
    """As a power cut does it; the training process must not outlive its node."""
    children = Path(f"/proc/{node.pid}/task/{node.pid}/children").read_text().split()
    node.process.kill()
    node.process.wait()
    gone = [int(child) for child in children]
    poll(lambda: not any(map(is_alive, gone)), lambda: None, "the training process's end", GONE_S)


def _has_ended(home: Home) -> bool:
    return bool(entries(home, "study.closed"))


def _is_sound(home: Home) -> None:
    trained, published = entries(home, "train.done"), entries(home, "update.published")
    rounds = [entry.body["round"] for entry in published]
    assert len(rounds) == len(set(rounds)), "no round is released twice"
    releases = {entry.body["train_seq"] for entry in published} - {-1}
    assert releases == {entry.seq for entry in trained}, "every release has its spending, once"
    (approval,) = entries(home, "study.approved")
    spent = [entry.body["dp"]["eps_total_u"] for entry in trained]
    assert spent == approval.body["eps_table_u"][1 : len(trained) + 1], "ε is the approved table's"
    (closed,) = entries(home, "study.closed")
    assert closed.body["reason"] == "complete"
    assert audit_code(home) == 0
    for blob in home.blobs.iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name, "no half file"
