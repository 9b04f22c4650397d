"""Processes that check blocks beside the one that verifies; what it finds stays the same."""

import io
import os
import subprocess
import sys

import pytest
from log_samples import LOG_KEY, NOW_US, draft
from log_tampering import SIZE

from ledger.log import FindingCode, Log, SigCheck, verify_log
from ledger.log.block_check import BlockCheck, SoundBlock
from ledger.log.block_process import main
from ledger.log.block_processes import (
    PROCESSES_MAX,
    BlockProcesses,
    blocks_of,
    checked_beside,
    packed_answer,
    processes_for,
    read_answer,
)
from ledger.log.database import Database
from ledger.log.opening import read_identity

BLOCKS = ((0, 1_024), (1_024, 2_048), (2_048, SIZE))
KINDS = {"log.genesis"}


@pytest.fixture
def database(home):
    opened = Database.open_for_reading(home)
    yield opened
    opened.close()


def check_of(database, sigs=SigCheck.ALL):
    return BlockCheck(database, read_identity(database), sigs, KINDS)


def answers_of(home, *, first=0, step=1, sigs="all"):
    """(exit status, what a process would write), without starting one."""
    written = io.BytesIO()
    status = main([str(home), str(SIZE), sigs, "log.genesis", str(first), str(step)], written)
    return status, io.BytesIO(written.getvalue())


def test_processes_vouch_for_what_this_one_would_vouch_for(home, database):
    own = check_of(database)
    with checked_beside(own, home, SigCheck.ALL, KINDS, range(0, SIZE), 2) as blocks:
        assert isinstance(blocks, BlockProcesses)
        answers = [blocks.sound(*block) for block in BLOCKS]
    expected = [own.sound(*block) for block in BLOCKS]
    assert [(a.prev, tuple(a.leaves), a.is_watched) for a in answers] == [
        (b.prev, tuple(b.leaves), b.is_watched) for b in expected
    ]
    assert [answer.is_watched for answer in answers] == [True, False, False]


def test_processes_may_begin_in_the_middle(home, database):
    entries = range(1_024, SIZE)
    with checked_beside(check_of(database), home, SigCheck.HEADS, (), entries, 2) as blocks:
        for first, stop in BLOCKS[1:]:
            assert blocks.sound(first, stop).prev == database.node_at(0, first - 1)


def test_a_long_log_is_verified_by_processes_and_damage_named_as_ever(home, tamper):
    log = Log.open(home, log=LOG_KEY)
    log.append([draft(number) for number in range(2_000)], NOW_US)
    log.close()
    assert processes_for(SIZE + 2_000, SigCheck.ALL, 2) == 2
    result = verify_log(home)
    assert (result.findings, result.size) == ((), SIZE + 2_000)
    tamper.flip(3_000, 30)
    found, damaged = tamper.found()
    assert found == {(FindingCode.ENTRY_ALTERED, 3_000)}
    assert damaged.root == result.root  # its leaf hash is still the one that was signed


def test_processes_are_for_long_logs_and_several_cores():
    assert processes_for(1_000_000, SigCheck.ALL, 1) == 0
    assert processes_for(1_000, SigCheck.ALL, 4) == 0
    assert processes_for(10_000, SigCheck.ALL, 4) == 4
    assert processes_for(10_000, SigCheck.HEADS, 4) == 0
    assert processes_for(1_000_000, SigCheck.HEADS, 64) == PROCESSES_MAX


def test_a_process_that_dies_is_replaced_by_this_one(database):
    died = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    blocks = BlockProcesses(check_of(database), [died], 0)
    assert [len(blocks.sound(*block).leaves) for block in BLOCKS] == [1_024, 1_024, SIZE - 2_048]
    died.communicate()


def test_without_processes_this_one_does_it_all(home, database, monkeypatch):
    own = check_of(database)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with checked_beside(own, home, SigCheck.ALL, KINDS, range(0, SIZE), 2) as blocks:
        assert blocks is own


def test_a_process_takes_every_nth_block(home):
    assert list(blocks_of(0, 1, SIZE)) == list(BLOCKS)
    assert list(blocks_of(1, 2, SIZE)) == [BLOCKS[1]]
    status, answers = answers_of(home, first=0, step=2)
    counts = [len(read_answer(answers).leaves) for _ in range(2)]
    assert (status, counts, answers.read()) == (0, [1_024, SIZE - 2_048], b"")


@pytest.mark.parametrize("sigs", ["all", "heads"])
def test_a_process_does_not_vouch_for_an_altered_block(home, tamper, sigs):
    tamper.flip(1_500, 30)
    status, answers = answers_of(home, sigs=sigs)
    sound = [read_answer(answers) is not None for _ in BLOCKS]
    assert (status, sound) == (0, [True, False, True])


def test_signatures_are_looked_at_only_where_that_was_asked_for(home, tamper):
    tamper.flip(1_500, -3)
    tamper.rehash()  # now the next entry names another leaf, too, and the chain is broken
    tamper.flip(2_599, -3)
    tamper.rehash()
    for sigs, expected in (("all", [True, False, False]), ("heads", [True, False, True])):
        _, answers = answers_of(home, sigs=sigs)
        assert [read_answer(answers) is not None for _ in BLOCKS] == expected


def test_nobody_vouches_for_a_block_after_a_gap(database, tamper):
    tamper.run("DELETE FROM entry WHERE seq = 1023")
    check = check_of(database)
    assert [check.sound(*block) is not None for block in BLOCKS] == [False, False, True]


def test_a_process_that_cannot_read_the_log_says_nothing(tmp_path):
    status, answers = answers_of(tmp_path)
    assert (status, answers.read()) == (1, b"")
    with pytest.raises(EOFError):
        read_answer(answers)


def test_a_process_ends_when_nobody_listens(home):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb", buffering=0) as nobody:
        assert main([str(home), str(SIZE), "heads", "", "0", "1"], nobody) == 1


def test_half_an_answer_is_none():
    answer = packed_answer(SoundBlock(bytes(32), [bytes(32), b"\1" * 32], is_watched=False))
    assert read_answer(io.BytesIO(answer)).leaves == [bytes(32), b"\1" * 32]
    for length in range(len(answer)):
        with pytest.raises(EOFError):
            read_answer(io.BytesIO(answer[:length]))
    assert read_answer(io.BytesIO(packed_answer(None))) is None
