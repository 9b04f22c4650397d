"""The power fails at every write and sync of witness.db: a cosigned history stays the only one."""

import sqlite3

import pytest
from log_crashes import Recording, Released, wrecks
from log_histories import LOG_ID, ORIGIN, History, ask, opened
from log_samples import NOW_US

from ledger.log import Status
from ledger.log.fork_proofs import encode_fork, fork_digest
from ledger.log.witness_store import EntryForm, MirroredEntry

NAME = "witness.db"
HONEST = History(12, branch=0, real=True)
OTHER = History(12, branch=1, real=True)


@pytest.fixture
def recording(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    recording = Recording(tmp_path / "home", NAME)
    monkeypatch.setattr(sqlite3, "connect", recording.connect)
    return recording


def stops(recording, tmp_path, start=0):
    """Every different state that a stop from event `start` on may leave, opened again."""
    seen = set()
    for number, wreck in enumerate(wrecks(recording.events)):
        state = (frozenset(wreck.files.items()), wreck.released)
        if wreck.number >= start and state not in seen:
            seen.add(state)
            home = wreck.lay_out(tmp_path / str(number))
            yield wreck, opened(home / NAME)


def cosigned(recording, database, old, size):
    assert ask(database, HONEST, old, size).status is Status.COSIGNED
    recording.events.append(Released(size, HONEST.head(size).root))


def entry(seq, form=EntryForm.PLAIN):
    return MirroredEntry(seq, form, HONEST.raws[seq] if form is EntryForm.PLAIN else b"sealed")


def test_a_cosigned_head_is_never_forgotten(recording, tmp_path, monkeypatch):
    database = opened(recording.home / NAME)
    cosigned(recording, database, 0, 3)
    database.mirror(LOG_ID, 0, HONEST.leaves[:3])
    database.keep_entries(LOG_ID, [entry(0), entry(1), entry(2, EntryForm.SEALED)])
    cosigned(recording, database, 3, 8)
    database.mirror(LOG_ID, 3, HONEST.leaves[3:8])
    database.keep_entries(LOG_ID, [entry(2), entry(3)])
    database.close()
    monkeypatch.undo()
    for wreck, again in stops(recording, tmp_path):
        held = again.cosigned(ORIGIN)
        size = held.size if held else 0
        assert size >= max((told.size for told in wreck.released), default=0), wreck.what
        assert held in (None, HONEST.head(size))
        mirrored = again.mirrored_size(LOG_ID)
        assert (
            list(again.leaves(LOG_ID, 0, mirrored)) == HONEST.leaves[: again.confirmed_size(LOG_ID)]
        )
        assert all(kept == entry(kept.seq, kept.form) for kept in again.entries(LOG_ID))
        # It goes on, and another history is not cosigned beside this one.
        if size:
            assert ask(again, OTHER, size, size + 1).status is not Status.COSIGNED
            assert ask(again, OTHER, 0, size).status is not Status.COSIGNED
        else:
            assert ask(again, HONEST, 0, 12).status is Status.COSIGNED
        again.close()


def test_the_mirror_goes_on_where_it_stopped(recording, tmp_path, monkeypatch):
    database = opened(recording.home / NAME)
    database.note_seen(LOG_ID, HONEST.note(), NOW_US)
    start = len(recording.events)
    for first in (0, 7):
        database.mirror(LOG_ID, first, HONEST.leaves[first : first + 7])
    database.close()
    monkeypatch.undo()
    for _, again in stops(recording, tmp_path, start):
        assert again.note_seen(LOG_ID, HONEST.note(), NOW_US) is None
        at = again.mirrored_size(LOG_ID)
        assert again.mirror(LOG_ID, at, HONEST.leaves[at:]) is None
        assert again.confirmed_size(LOG_ID) == 12
        assert again.root_at(LOG_ID, 12) == HONEST.head().root
        again.close()


def test_a_proof_that_was_told_is_still_there(recording, tmp_path, monkeypatch):
    database = opened(recording.home / NAME)
    cosigned(recording, database, 0, 8)
    start = len(recording.events)
    proof = encode_fork(database.note_seen(LOG_ID, OTHER.note(8), NOW_US))
    told = len(recording.events)
    database.close()
    monkeypatch.undo()
    found = set()
    for wreck, again in stops(recording, tmp_path, start):
        assert again.forks() in ((), (proof,))
        if wreck.number >= told:
            assert again.fork_digests() == {fork_digest(proof)}
        if again.forks():
            # A log that forked is not cosigned any more, however the file was cut.
            assert ask(again, HONEST, 8, 12).status is Status.BAD_SIGNATURE
        found.add(bool(again.forks()))
        again.close()
    assert found == {True, False}
