"""kill -9 under load, again and again on one log: what was released is still there."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from log_samples import LOG_KEY, NOW_US, draft, new_log

from ledger.log import Log, SigCheck, verify_log

APPENDER = Path(__file__).with_name("log_appender.py")
ROOT = Path(__file__).parents[3]


def killed_after(home, commits):
    """(size, root) of every head that a process told before it was killed."""
    process = subprocess.Popen(
        [sys.executable, str(APPENDER), str(home)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        lines = [process.stdout.readline() for _ in range(commits)]
    finally:
        process.kill()
        lines += process.stdout.readlines()
        process.stdout.close()
        process.wait()
    # The last line may have been cut by the kill; it was printed after its release all the same.
    told = [line.split() for line in lines if line.endswith(b"\n")]
    return [(int(size), bytes.fromhex(root.decode())) for size, root in told]


def survive_kills(home, cycles):
    new_log(home).close()
    chance = random.Random(cycles)  # noqa: S311 -- when to kill is no secret
    told = []
    for _ in range(cycles):
        heads = killed_after(home, chance.randrange(1, 25))
        assert heads, "the process ended by itself"
        told += heads
        log = Log.open(home, log=LOG_KEY)
        assert log.checkpoint.size >= max(size for size, _ in told)
        assert [(size, log.root_at(size)) for size, _ in told] == told
        size = log.checkpoint.size
        assert log.append([draft(1)], NOW_US).checkpoint.size == size + 1
        log.close()
    return verify_log(home, sigs=SigCheck.HEADS)


def test_a_log_survives_kills_under_load(tmp_path):
    assert not survive_kills(tmp_path / "home", 8).findings


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_a_log_survives_two_hundred_kills_under_load(tmp_path):
    assert not survive_kills(tmp_path / "home", 200).findings
