"""The mirror of other sites' logs: leaves and entries under signed heads, and forks found."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_histories import (
    KEY,
    LOG_ID,
    ORIGIN,
    History,
    follow,
    opened,
)
from log_samples import STRANGER
from test_log_forks import ONE, TWO, rotation

from ledger.log import (
    EntryForm,
    ForkKind,
    KeyType,
    MirroredEntry,
    VerifierKey,
    check_fork,
    verify_consistency,
)
from ledger.log import errors as log_errors
from ledger.log import mirror_errors as errors
from ledger.log.forks import encode_fork

NOW_US = 1_800_000_000_000_000
NOW_S = 1_800_000_000
OTHER_ID = bytes(range(32))
OTHER_KEY = VerifierKey("tests/other", KeyType.ED25519, STRANGER.public_key)


def kinds(database):
    return [check_fork(proof).kind for proof in database.forks()]


# --- two histories meet -----------------------------------------------------------------------


def test_two_heads_of_one_size_are_a_proof_at_once_and_once(database):
    a, b = History(8, branch=1), History(8, branch=2)
    database.note_seen(LOG_ID, a.cosigned(), NOW_US)
    proof = database.note_seen(LOG_ID, b.cosigned(), NOW_US)
    assert check_fork(encode_fork(proof)).kind is ForkKind.HEADS_OF_ONE_SIZE
    assert database.note_seen(LOG_ID, b.cosigned(), NOW_US) is None
    assert sorted(kind.value for kind in kinds(database)) == ["K1", "K4"]
    assert database.fork_of(ORIGIN) == proof
    assert len(database.fork_digests()) == 2
    assert database.head_of(LOG_ID).root == a.head().root
    assert database.evidence(LOG_ID) == ()
    with pytest.raises(errors.LogHasForked):
        database.mirror(LOG_ID, 0, a.leaves)


@pytest.mark.parametrize("small", [1, 4, 5, 7])
def test_a_smaller_head_that_the_mirror_contradicts_is_a_proof(database, small):
    follow(database, History(9, branch=1, start=0))
    assert database.note_seen(LOG_ID, History(9, branch=1, start=0).note(small), NOW_US) is None
    proof = database.note_seen(LOG_ID, History(small, branch=2, start=0).note(), NOW_US)
    verdict = check_fork(encode_fork(proof))
    assert (verdict.kind, verdict.sizes) == (ForkKind.HEADS_THAT_DISAGREE, (small, 9))


def test_a_head_that_waited_for_leaves_is_proven_false_when_they_come(database):
    a, b = History(12, branch=1, start=5), History(8, branch=2, start=5)
    follow(database, a, 5)
    assert database.note_seen(LOG_ID, b.note(), NOW_US) is None
    assert database.note_seen(LOG_ID, a.note(), NOW_US) is None
    assert database.mirror(LOG_ID, 5, a.leaves[5:8]) is None
    proof = database.mirror(LOG_ID, 8, a.leaves[8:])
    assert check_fork(encode_fork(proof)).sizes == (8, 12)
    assert database.confirmed_size(LOG_ID) == 12


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 20), st.integers(1, 12), st.integers(1, 12), st.randoms())
def test_whatever_order_two_histories_come_in_whoever_mirrors_the_larger_proves_it(
    tmp_path_factory, start, more_a, more_b, random
):
    a = History(start + max(more_a, more_b), branch=1, start=start)
    b = History(start + min(more_a, more_b), branch=2, start=start)
    database = opened(tmp_path_factory.mktemp("w") / "witness.db")
    follow(database, a, random.randint(1, len(a.leaves)))
    notes = [a.note(), b.note()]
    random.shuffle(notes)
    for note in notes:
        database.note_seen(LOG_ID, note, NOW_US)
    if not database.forks():
        held = database.mirrored_size(LOG_ID)
        database.mirror(LOG_ID, held, a.leaves[held:])
    assert database.forks()
    database.close()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_one_history_in_any_order_is_never_called_a_fork(tmp_path_factory, sizes):
    history = History(40)
    database = opened(tmp_path_factory.mktemp("w") / "witness.db")
    for size in sizes:
        assert database.note_seen(LOG_ID, history.cosigned(size), NOW_US) is None
        held, newest = database.mirrored_size(LOG_ID), database.head_of(LOG_ID).size
        middle = (held + newest) // 2
        assert database.mirror(LOG_ID, held, history.leaves[held:middle]) is None
        if size % 2:
            assert database.mirror(LOG_ID, middle, history.leaves[middle:newest]) is None
    assert database.forks() == ()
    database.close()


# --- the mirror -------------------------------------------------------------------------------


def test_roots_and_proofs_come_from_the_mirror(database):
    history = History(70)
    follow(database, history, 33)
    follow(database, history)
    for size in (0, 1, 33, 64, 70):
        assert database.root_at(LOG_ID, size) == history.head(size).root
    for m, n in ((1, 70), (32, 64), (33, 70)):
        proof = database.prove_consistency(LOG_ID, m, n)
        verify_consistency(m, n, history.head(m).root, history.head(n).root, proof)
    assert database.leaves(LOG_ID, 60, 99) == tuple(history.leaves[60:])
    with pytest.raises(log_errors.ProofSizesWrong):
        database.root_at(LOG_ID, 71)


def test_leaves_that_lead_nowhere_are_dropped_and_asked_for_again(database):
    history, false = History(40), History(40, branch=1, start=20)
    follow(database, history, 10)
    database.note_seen(LOG_ID, history.note(), NOW_US)
    assert database.mirror(LOG_ID, 10, false.leaves[10:30]) is None
    assert (database.mirrored_size(LOG_ID), database.confirmed_size(LOG_ID)) == (30, 10)
    assert database.leaves(LOG_ID, 0, 40) == tuple(history.leaves[:10])
    with pytest.raises(errors.MirrorMismatch) as caught:
        database.mirror(LOG_ID, 30, false.leaves[30:])
    assert caught.value.fork is None
    assert database.mirrored_size(LOG_ID) == database.confirmed_size(LOG_ID) == 10
    follow(database, history)
    assert database.root_at(LOG_ID, 40) == history.head().root


def test_leaves_are_bounded_before_they_are_read(path):
    database = opened(path, leaves_per_call_max=4, leaves_per_log_max=6)
    history = History(9)
    with pytest.raises(errors.MirrorBeyondHead):
        database.mirror(LOG_ID, 0, history.leaves[:1])
    database.note_seen(LOG_ID, history.note(), NOW_US)
    with pytest.raises(errors.MirrorGap):
        database.mirror(LOG_ID, 1, history.leaves[1:2])
    for wrong in (history.leaves[:5], [bytes(31)]):
        with pytest.raises(errors.MirrorBeyondHead):
            database.mirror(LOG_ID, 0, wrong)
    database.mirror(LOG_ID, 0, history.leaves[:4])
    with pytest.raises(errors.MirrorFull):
        database.mirror(LOG_ID, 4, history.leaves[4:8])
    with pytest.raises(errors.MirrorFull):
        opened(path, logs_max=1).set_logs({LOG_ID: KEY, OTHER_ID: OTHER_KEY})
    database.close()


# --- entries ----------------------------------------------------------------------------------

REAL = History(6, branch=1, start=4, real=True)


def plain(seq, raws=REAL.raws):
    return MirroredEntry(seq, EntryForm.PLAIN, raws[seq])


def test_plain_entries_fit_their_leaf_and_replace_sealed_ones_only(database):
    follow(database, REAL)
    sealed = MirroredEntry(2, EntryForm.SEALED, b"sealed")
    database.keep_entries(LOG_ID, [plain(0), plain(1), sealed])
    assert [entry.form for entry in database.entries(LOG_ID)][2] is EntryForm.SEALED
    assert database.first_missing_entry(LOG_ID) == 3
    database.keep_entries(LOG_ID, [plain(2), plain(4)])
    database.keep_entries(LOG_ID, [sealed])
    held = list(database.entries(LOG_ID))
    assert held == [plain(0), plain(1), plain(2), plain(4)]
    assert database.first_missing_entry(LOG_ID) == 3
    assert database.first_missing_entry(LOG_ID, 4) == 5
    assert list(database.entries(LOG_ID, 1, 2)) == [plain(1)]


def test_entries_that_do_not_fit_change_nothing(path):
    database = opened(path, entry_bytes_per_log_max=500)
    follow(database, REAL)
    for wrong in (
        MirroredEntry(6, EntryForm.PLAIN, b""),
        MirroredEntry(-1, EntryForm.PLAIN, b""),
        MirroredEntry(1, EntryForm.PLAIN, b"other"),
    ):
        with pytest.raises(errors.MirrorMismatch):
            database.keep_entries(LOG_ID, [plain(2), wrong])
    with pytest.raises(errors.MirrorFull):
        database.keep_entries(LOG_ID, [MirroredEntry(1, EntryForm.SEALED, bytes(70_000))])
    with pytest.raises(errors.MirrorFull):
        database.keep_entries(LOG_ID, [plain(1), plain(2), plain(3)])
    assert list(database.entries(LOG_ID)) == []
    database.close()


def test_two_signed_entries_of_one_number_are_a_proof(database):
    follow(database, REAL)
    database.keep_entries(LOG_ID, [plain(0), plain(4)])
    for fork_expected in (True, False):
        with pytest.raises(errors.MirrorMismatch) as caught:
            database.keep_entries(LOG_ID, [plain(4, TWO)])
        assert (caught.value.fork is not None) is fork_expected
    (verdict,) = map(check_fork, database.forks())
    assert (verdict.kind, verdict.bound) == (ForkKind.ENTRIES_OF_ONE_NUMBER, True)


# --- keys -------------------------------------------------------------------------------------


def test_a_rotated_key_signs_from_its_entry_on(database):
    key = VerifierKey(ORIGIN, KeyType.ED25519, STRANGER.public_key)
    with pytest.raises(errors.RotationRefused):
        database.admit_rotation(LOG_ID, rotation(STRANGER))
    follow(database, History(3, real=True))
    database.keep_entries(LOG_ID, [plain(0, ONE)])
    for wrong in (b"", ONE[1]):
        with pytest.raises(errors.RotationRefused):
            database.admit_rotation(LOG_ID, wrong)
    for _ in range(2):
        assert database.admit_rotation(LOG_ID, rotation(STRANGER)) == key
    database.set_logs({LOG_ID: KEY})
    assert database.log_key(ORIGIN, 3) == KEY
    assert database.log_key(ORIGIN, 4) == key
    with pytest.raises(errors.KeySuperseded):
        database.note_seen(LOG_ID, History(5).note(), NOW_US)
    assert database.note_seen(LOG_ID, History(5).note(signer=STRANGER), NOW_US) is None
    proof = database.note_seen(LOG_ID, History(5, branch=1).note(), NOW_US)
    verdict = check_fork(encode_fork(proof))
    assert verdict.bound
    assert set(verdict.keys) == {KEY, key}


def test_a_key_that_only_the_roster_changed_signs_what_comes_next(database):
    key = VerifierKey(ORIGIN, KeyType.ED25519, STRANGER.public_key)
    follow(database, History(3))
    database.set_logs({LOG_ID: key})
    assert (database.log_key(ORIGIN, 3), database.log_key(ORIGIN, 4)) == (KEY, key)
    assert database.note_seen(LOG_ID, History(5).note(signer=STRANGER), NOW_US) is None
    # Without the genesis entry nobody else could check a proof under two keys: evidence.
    assert database.note_seen(LOG_ID, History(5, branch=1).note(), NOW_US) is None
    assert database.evidence(LOG_ID) == (History(5, branch=1).note(),)
    for number in range(14):
        seed = bytes([number + 10]) * 32
        other = VerifierKey(ORIGIN, KeyType.ED25519, type(STRANGER)(seed).public_key)
        database.set_logs({LOG_ID: other})
    last = VerifierKey(ORIGIN, KeyType.ED25519, type(STRANGER)(b"z" * 32).public_key)
    with pytest.raises(errors.MirrorFull):
        database.set_logs({LOG_ID: last})
