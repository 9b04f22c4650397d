"""witness.db: what is heard is compared with what is held, durably, in bounded amounts."""

import sqlite3

import pytest
from log_histories import (
    KEY,
    LOG_ID,
    ORIGIN,
    WITNESS_KEY,
    WITNESS_NAME,
    History,
    ask,
    follow,
    opened,
)
from log_samples import LOG_KEY, STRANGER, WITNESS

from ledger.log import (
    Checkpoint,
    KeyType,
    Status,
    VerifierKey,
    Witness,
    WitnessDatabase,
    WitnessPolicy,
    cosign,
    is_witnessed,
    note_sign,
    quorum,
)
from ledger.log import errors as log_errors
from ledger.log import mirror_errors as errors
from ledger.log.fork_errors import ForkRefused
from ledger.log.forks import encode_fork, fork_of_cosignatures, fork_of_heads
from ledger.log.mirror_own import OwnHead
from ledger.log.tree import EMPTY_ROOT
from ledger.log.witness import Request

NOW_US = 1_800_000_000_000_000
NOW_S = 1_800_000_000
OTHER_ID = bytes(range(32))
OTHER_KEY = VerifierKey("tests/other", KeyType.ED25519, STRANGER.public_key)


# --- heads ------------------------------------------------------------------------------------


def test_the_newest_head_is_kept_over_a_restart(database, path):
    history = History(9)
    for size in (3, 9, 5):
        assert database.note_seen(LOG_ID, history.cosigned(size), NOW_US + size) is None
    database.close()
    again = opened(path)
    (held,) = again.heads()
    assert held == again.head_of(LOG_ID)
    assert (held.size, held.root, held.seen_us, held.cosigned_us) == (
        9,
        history.head().root,
        NOW_US + 9,
        0,
    )
    assert held.note == history.note()
    assert held.full_note == history.cosigned()
    again.close()


def test_an_empty_log_has_one_root_only(database):
    lying = note_sign(Checkpoint(ORIGIN, 0, bytes(32)).text, ORIGIN, LOG_KEY)
    with pytest.raises(errors.HeadImpossible):
        database.note_seen(LOG_ID, lying, NOW_US)
    other = note_sign(Checkpoint("x", 1, bytes(32)).text, ORIGIN, LOG_KEY)
    with pytest.raises(errors.HeadImpossible):
        database.note_seen(LOG_ID, other, NOW_US)
    true = note_sign(Checkpoint(ORIGIN, 0, EMPTY_ROOT).text, ORIGIN, LOG_KEY)
    assert database.note_seen(LOG_ID, true, NOW_US) is None
    assert database.head_of(LOG_ID).size == 0


def test_only_logs_of_the_roster_are_heard_and_a_removed_one_stays_readable(database):
    with pytest.raises(errors.LogUnknown):
        database.note_seen(OTHER_ID, History(3).note(), NOW_US)
    with pytest.raises(log_errors.NoteUnsigned):
        database.note_seen(LOG_ID, History(3).note(signer=STRANGER), NOW_US)
    follow(database, History(3))
    database.set_logs({OTHER_ID: OTHER_KEY})
    assert database.head_of(LOG_ID).size == 3
    assert database.head_of(OTHER_ID) is None
    assert database.log_key(ORIGIN, 3) is None
    assert database.log_key(OTHER_KEY.name, 3) == OTHER_KEY
    assert database.fork_of("nobody") is None


def test_cosignatures_of_witnesses_are_gathered_and_renewed(database):
    history = History(4)
    line = cosign(history.head().text, "stranger", STRANGER, NOW_S)
    database.note_seen(LOG_ID, history.note() + line, NOW_US)
    assert database.head_of(LOG_ID).cosignatures == ()
    for time_s in (NOW_S, NOW_S + 9, NOW_S + 5):
        database.note_seen(LOG_ID, history.cosigned(time_s=time_s), NOW_US)
    (found,) = database.head_of(LOG_ID).cosignatures
    assert found == cosign(history.head().text, WITNESS_NAME, WITNESS, NOW_S + 9)


def test_many_heads_without_leaves_do_not_push_out_the_first_ones(path):
    database = opened(path, waiting_heads_per_log_max=4)
    honest, other = History(40), History(40, branch=1)
    for size in range(1, 30):
        database.note_seen(LOG_ID, honest.note(size), NOW_US)
    assert database.head_of(LOG_ID).size == 29
    assert database.note_seen(LOG_ID, other.note(2), NOW_US) is not None
    database.close()


# --- the witness ------------------------------------------------------------------------------


def test_a_cosigned_head_survives_a_restart_and_is_not_given_twice(database, path):
    honest = History(20)
    for old, size in ((0, 5), (5, 8), (8, 8)):
        assert ask(database, honest, old, size).status is Status.COSIGNED
    held = database.head_of(LOG_ID)
    assert held.cosigned_us == NOW_US
    assert held.cosignatures == (ask(database, honest, 8, 8).body,)
    database.close()
    again = opened(path)
    assert again.cosigned(ORIGIN) == honest.head(8)
    assert again.cosigned("nobody") is None
    assert ask(again, honest, 5, 12).body == b"8\n"
    assert not again.advance(None, honest.head(9), honest.note(9), b"", NOW_S)
    assert again.forks() == ()
    again.close()


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("old", [4, 5])
def test_a_log_that_forks_is_cosigned_on_one_side_only(database, old, mirrored):
    a, b = History(12, branch=1, start=3), History(14, branch=2, start=3)
    ask(database, a, 0, old)
    if mirrored:
        follow(database, a)
    answer = ask(database, b, old, 9)
    assert answer.status is Status.BAD_PROOF
    # From a size that is a power of two the proof leaves out what would show the other root.
    assert (answer.fork is not None) is (old == 5 or mirrored)
    same = ask(database, b, old, old, proof=())
    assert same.status is Status.OTHER_SIZE
    assert same.fork is not None
    assert database.cosigned(ORIGIN) == a.head(old)
    assert ask(database, a, old, 11).status is Status.BAD_SIGNATURE


def test_a_useless_proof_is_kept_as_evidence_in_bounded_number(path):
    database = opened(path, evidence_per_log_max=2)
    a, b = History(12, branch=1, start=3), History(14, branch=2, start=3)
    ask(database, a, 0, 4)
    for size in (9, 10, 11):
        assert ask(database, b, 4, size).fork is None
    assert len(database.evidence(LOG_ID)) == 2
    database.close()


def test_heads_asked_for_with_another_size_are_compared_too(database):
    a, b = History(12, branch=1, start=3), History(14, branch=2, start=3)
    ask(database, a, 0, 6)
    assert ask(database, b, 9, 6, proof=()).fork is not None
    assert ask(database, b, 2, 9).status is Status.OTHER_SIZE


def test_a_head_that_the_mirror_contradicts_is_not_cosigned_even_the_first_time(database):
    follow(database, History(12, branch=1))
    answer = ask(database, History(9, branch=2), 0, 9)
    assert answer.status is Status.BAD_SIGNATURE
    assert answer.fork is not None
    assert database.cosigned(ORIGIN) is None


def test_a_smaller_head_than_the_mirrors_can_still_be_the_first_cosigned(database):
    follow(database, History(12))
    assert ask(database, History(12), 0, 7).status is Status.COSIGNED
    assert database.cosigned(ORIGIN) == History(7).head()
    assert database.head_of(LOG_ID).size == 12


def test_impossible_heads_and_strangers_leave_no_trace(database):
    lying = b"old 0\n\n" + note_sign(Checkpoint(ORIGIN, 0, bytes(32)).text, ORIGIN, LOG_KEY)
    witness = Witness(WITNESS_NAME, WITNESS, database)
    assert witness.answer(lying, NOW_S).status is Status.BAD_PROOF
    later = lying.replace(b"old 0", b"old 1")
    assert witness.answer(later, NOW_S).status is Status.MALFORMED
    assert database.heads() == ()
    database.set_logs({})
    assert ask(database, History(3), 0, 3).status is Status.UNKNOWN_LOG
    request = Request(0, (), History(3).note())
    database.keep_refused(None, request, b"", NOW_S)
    database.note_other(request, NOW_S)
    assert database.heads() == ()


def test_a_head_that_was_not_stored_is_not_cosigned(database, path):
    interloper = sqlite3.connect(path)
    interloper.execute(
        """CREATE TRIGGER forget AFTER UPDATE ON head
        BEGIN UPDATE head SET cosigned_us = 0 WHERE size = new.size; END"""
    )
    interloper.close()
    with pytest.raises(errors.WitnessStoreDamaged):
        ask(database, History(3), 0, 3)


# --- own cosignatures, proofs from others -----------------------------------------------------


def test_cosignatures_of_own_heads_are_kept_by_witness_and_thinned_by_age(path):
    database = opened(path, own_heads_max=8)
    assert database.own_cosignatures() is None
    for size in range(1, 12):
        for time_s in (NOW_S, NOW_S + size, NOW_S + 1):
            line = cosign(Checkpoint(ORIGIN, size, bytes(32)).text, "w", WITNESS, time_s)
            database.put_own_cosignature(size, bytes(32), line, time_s)
    newest = database.own_cosignatures()
    assert isinstance(newest, OwnHead)
    assert newest.size == 11
    (given,) = newest.cosignatures
    assert (given.witness, given.time_s, newest.lines) == ("w", NOW_S + 11, (given.line,))
    sizes = [head.size for head in database.own_heads()]
    assert len(sizes) <= 8
    assert sizes[0] == 1
    for wrong in (b"\xff", b"x", "— w AAAAAAAA\n".encode()):
        with pytest.raises(log_errors.NoteMalformed):
            database.put_own_cosignature(1, bytes(32), wrong, NOW_S)
    database.close()


def test_a_proof_from_others_is_checked_and_kept_once(path):
    database = opened(path, forks_per_log_max=1)
    a, b = History(4, branch=1), History(4, branch=2)
    proof = encode_fork(fork_of_heads(KEY, a.note(), b.note()))
    assert database.put_fork(proof)
    assert not database.put_fork(proof)
    witness = encode_fork(fork_of_cosignatures(WITNESS_KEY, a.cosigned(), b.cosigned()))
    assert database.put_fork(witness)
    more = encode_fork(fork_of_heads(KEY, a.note(3), b.note(3)))
    assert not database.put_fork(more)
    assert database.forks() == (proof, witness)
    with pytest.raises(ForkRefused):
        database.put_fork(b"nothing")
    stranger = VerifierKey(ORIGIN, KeyType.ED25519, STRANGER.public_key)
    notes = (a.note(signer=STRANGER), b.note(signer=STRANGER))
    with pytest.raises(errors.ForkOfStranger):
        database.put_fork(encode_fork(fork_of_heads(stranger, *notes)))
    database.set_witnesses([])
    with pytest.raises(errors.ForkOfStranger):
        database.put_fork(witness)
    database.close()


def test_a_quorum_leaves_no_room_for_a_second_history():
    assert (quorum(2, 0), quorum(9, 2), quorum(3, 0), quorum(4, 1)) == (2, 6, 2, 3)
    for n in range(1, 30):
        for f in range(n):
            assert 2 * quorum(n, f) - n > f
    for n, f in ((0, 0), (3, 3), (3, -1)):
        with pytest.raises(ValueError, match="a quorum needs"):
            quorum(n, f)


def test_a_head_is_witnessed_by_enough_valid_cosignatures():
    head = History(5).head()
    others = [type(STRANGER)(bytes([i]) * 32) for i in range(20, 23)]
    keys = tuple(VerifierKey("w", KeyType.COSIGNATURE_V1, other.public_key) for other in others)
    policy = WitnessPolicy(keys, 0)
    lines = [cosign(head.text, "w", other, NOW_S) for other in others]
    assert not is_witnessed(
        head, [lines[0], lines[0], b"\xff", lines[1][:-9] + b"AAAAAAA=\n"], policy
    )
    assert is_witnessed(head, lines[1:], policy)
    assert not is_witnessed(History(4).head(), lines, policy)


# --- the file ---------------------------------------------------------------------------------


def altered(path, *statements):
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE head SET root = zeroblob(32)",
        "UPDATE head SET note = zeroblob(32)",
        "UPDATE head SET size = 'x'",
        "UPDATE head SET vkey = 'x'",
        "DROP TABLE head",
    ],
)
def test_altered_heads_are_found_when_the_file_is_opened(database, path, statement):
    follow(database, History(3))
    database.close()
    altered(path, statement)
    with pytest.raises(errors.WitnessStoreDamaged):
        WitnessDatabase.open(path)


def test_missing_nodes_and_sizes_are_named(database, path):
    follow(database, History(3))
    altered(path, "DELETE FROM node WHERE lvl = 1")
    with pytest.raises(errors.WitnessStoreDamaged):
        database.root_at(LOG_ID, 3)
    altered(path, "UPDATE log SET confirmed = 9")
    with pytest.raises(errors.WitnessStoreDamaged):
        database.root_at(LOG_ID, 3)


def test_a_file_that_is_no_database_or_of_another_version_is_refused(tmp_path):
    with pytest.raises(log_errors.StoreError):
        WitnessDatabase.open(tmp_path / "none" / "witness.db")
    (tmp_path / "noise").write_bytes(b"noise" * 999)
    with pytest.raises(errors.WitnessStoreDamaged):
        WitnessDatabase.open(tmp_path / "noise")
    altered(tmp_path / "newer", "PRAGMA user_version = 9")
    with pytest.raises(log_errors.FormatUnknown):
        WitnessDatabase.open(tmp_path / "newer")


def test_changes_together_are_kept_all_or_none(database, path):
    def fail():
        with database.together():
            follow(database, History(3))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert database.heads() == ()
    with database.together():
        follow(database, History(3))
    assert database.confirmed_size(LOG_ID) == 3


def test_mirrors_stop_growing_before_the_disk_is_full(tmp_path):
    assert opened(tmp_path / "some.db", free_bytes_min=1).has_room
    assert not opened(tmp_path / "none.db", free_bytes_min=2**63).has_room


def test_a_disk_that_refuses_is_named(database, path):
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    database._tables._connection.execute("PRAGMA busy_timeout = 0")
    with pytest.raises(log_errors.WriteFailed):
        database.note_seen(LOG_ID, History(3).note(), NOW_US)
    blocker.close()
