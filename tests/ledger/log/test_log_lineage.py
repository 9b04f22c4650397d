"""The keys of a mirrored log, proved by its own entries whoever brings them; and stolen ones."""

import pytest
from log_histories import KEY, LOG_ID, ORIGIN, OWNER, History, ask, follow, opened
from log_samples import IDENTITY, LOG_KEY, NOW_US, STRANGER, WITNESS
from test_log_forks import ONE, TWO, rotation

from ledger.log import EntryForm, KeyType, MirroredEntry, Signer, VerifierKey, check_fork
from ledger.log import mirror_errors as errors
from ledger.log.entries import NO_PREVIOUS, Draft, sign_entry
from ledger.log.forks import (
    encode_fork,
    fork_of_cosignatures,
    fork_of_entries,
    fork_of_heads,
    nodes_of,
)
from ledger.log.genesis import genesis_draft, identity_from_body
from ledger.log.notes import cosign
from ledger.log.own_kinds import compromise_draft, fork_draft, rotation_draft, sign_rotation

GENESIS = ONE[0]
ROTATED_AT = 3
NEW_KEY = VerifierKey(ORIGIN, KeyType.ED25519, STRANGER.public_key)
ROTATION = rotation(STRANGER, seq=ROTATED_AT)
ROTATED = OWNER.with_key(STRANGER.public_key, ROTATED_AT + 1)
STOLEN_US = NOW_US - 1_000_000
W_KEY = VerifierKey("tests/witness", KeyType.COSIGNATURE_V1, WITNESS.public_key)
"""Of the log's own site: its genesis entry names this key."""
OTHERS = tuple(Signer(bytes([number]) * 32) for number in (101, 102, 103))
OTHER_KEYS = tuple(
    VerifierKey(f"tests/other-{number}", KeyType.COSIGNATURE_V1, signer.public_key)
    for number, signer in enumerate(OTHERS)
)


def entry_of(draft, *, identity=OWNER, seq=0, log=LOG_KEY):
    return sign_entry(draft, identity=identity, seq=seq, prev=NO_PREVIOUS, time_us=NOW_US, log=log)


def disowning(public_key=LOG_KEY.public_key, *, seq=6, log=STRANGER, identity=ROTATED):
    return entry_of(
        compromise_draft(public_key, STOLEN_US, "node"), identity=identity, seq=seq, log=log
    )


@pytest.fixture
def database(tmp_path):
    database = opened(tmp_path / "witness.db")
    yield database
    database.close()


def test_keys_are_proved_by_entries_before_any_head_was_heard(database):
    assert database.lineage(LOG_ID) == ()
    with pytest.raises(errors.RotationRefused, match="genesis"):
        database.admit_lineage(LOG_ID, [])
    assert database.admit_lineage(LOG_ID, [GENESIS, ROTATION])
    assert not database.admit_lineage(LOG_ID, [GENESIS, ROTATION])
    assert not database.admit_lineage(LOG_ID, [])
    assert database.lineage(LOG_ID) == (GENESIS, ROTATION)
    assert database.keys_in_force(LOG_ID) == ((0, KEY), (ROTATED_AT + 1, NEW_KEY))
    assert database.note_seen(LOG_ID, History(5).note(signer=STRANGER), NOW_US) is None


def test_a_roster_that_names_the_newest_key_alone_learns_of_the_old_one(tmp_path):
    database = opened(tmp_path / "witness.db")
    database.set_logs({LOG_ID: NEW_KEY})
    assert database.admit_lineage(LOG_ID, [GENESIS, ROTATION])
    assert database.log_key(ORIGIN, 3) == KEY
    assert database.log_key(ORIGIN, 4) == NEW_KEY
    database.close()


def test_a_true_statement_in_an_entry_that_the_old_key_did_not_sign_changes_no_key(database):
    database.admit_lineage(LOG_ID, [GENESIS])
    for forged in (
        rotation(STRANGER, seq=1)[:-64] + ROTATION[-64:],  # at a number of the forger's choice
        ROTATION[:-1] + bytes([ROTATION[-1] ^ 1]),
    ):
        with pytest.raises(errors.RotationRefused):
            database.admit_rotation(LOG_ID, forged)
    assert database.keys_in_force(LOG_ID) == ((0, KEY),)


def test_nothing_but_this_logs_changes_of_keys_is_taken(database):
    draft = genesis_draft(
        deployment="tests",
        identity=IDENTITY,
        log_pk=LOG_KEY.public_key,
        witness_pk=WITNESS.public_key,
        nonce=b"\1" * 32,
    )
    foreign = entry_of(draft, identity=identity_from_body(draft.body))
    by_the_thief = disowning(log=LOG_KEY, identity=OWNER, seq=2)
    unknown = disowning(bytes(32))
    for refused in (
        [ROTATION],
        [GENESIS, ROTATION, ONE[1]],
        [GENESIS, ROTATION, b"garbage"],
        [GENESIS, ROTATION, by_the_thief],
        [GENESIS, ROTATION, unknown],
        [foreign],
    ):
        with pytest.raises(errors.RotationRefused):
            database.admit_lineage(LOG_ID, refused)
    database.admit_lineage(LOG_ID, [GENESIS, ROTATION])
    with pytest.raises(errors.RotationRefused, match="held as another"):
        database.admit_lineage(LOG_ID, [rotation(Signer(b"\7" * 32), seq=ROTATED_AT)])


def test_a_log_changes_its_key_so_often_and_no_more(database):
    identity, log, chain = OWNER, LOG_KEY, [GENESIS]
    for number in range(1, 17):
        new = Signer(bytes([number + 40]) * 32)
        statement = sign_rotation(
            LOG_ID, old_pk=log.public_key, new_pk=new.public_key, identity=IDENTITY
        )
        draft = rotation_draft(identity, new.public_key, statement, "node")
        chain.append(entry_of(draft, identity=identity, seq=number, log=log))
        identity, log = identity.with_key(new.public_key, number + 1), new
    with pytest.raises(errors.MirrorFull, match="keys"):
        database.admit_lineage(LOG_ID, chain)
    assert database.admit_lineage(LOG_ID, chain[:-1])


def cosigned_by(history, *others, time_s, size=None):
    """A head's note with these sites' cosignatures."""
    text = history.head(size).text
    lines = (cosign(text, OTHER_KEYS[n].name, OTHERS[n], time_s) for n in others)
    return history.note(size) + b"".join(lines)


EARLY_S = STOLEN_US // 1_000_000 - 1
LATE_S = STOLEN_US // 1_000_000 + 1


@pytest.fixture
def disowned(database):
    """The true log follows, its first key declared stolen; others cosigned it before."""
    true = History(6, branch=1)
    database.set_witnesses([W_KEY, *OTHER_KEYS])
    follow(database, true)
    database.note_seen(LOG_ID, cosigned_by(true, 0, 1, 2, time_s=EARLY_S), NOW_US)
    database.admit_lineage(LOG_ID, [GENESIS, ROTATION])
    assert database.admit_lineage(LOG_ID, [GENESIS, disowning()])
    assert database.lineage(LOG_ID) == (GENESIS, ROTATION, disowning())
    return database


def test_a_head_under_a_stolen_key_accuses_nobody(disowned):
    false = History(3, branch=2)
    with pytest.raises(errors.KeyDisowned):
        disowned.note_seen(LOG_ID, false.note(), NOW_US)
    with pytest.raises(errors.KeyDisowned):
        disowned.note_seen(LOG_ID, cosigned_by(false, 0, 1, 2, time_s=LATE_S), NOW_US)
    assert disowned.forks() == ()


def test_a_head_that_was_cosigned_before_the_theft_is_the_logs_own(disowned):
    early = cosigned_by(History(3, branch=2), 0, time_s=EARLY_S)
    proof = disowned.note_seen(LOG_ID, early, NOW_US)
    assert check_fork(encode_fork(proof)).sizes == (3, 6)


def test_witnesses_that_date_back_accuse_nobody_unless_more_of_them_do_than_may_lie(disowned):
    disowned.set_witnesses([W_KEY, *OTHER_KEYS], 1)
    false = History(3, branch=2)
    with pytest.raises(errors.KeyDisowned):
        disowned.note_seen(LOG_ID, cosigned_by(false, 0, time_s=EARLY_S), NOW_US)
    assert disowned.note_seen(LOG_ID, cosigned_by(false, 0, 1, time_s=EARLY_S), NOW_US)


def test_the_witness_key_of_the_robbed_site_says_nothing_about_when(disowned):
    """Whoever took the log key from a disk may have taken the witness key beside it."""
    false = History(3, branch=2)
    own = false.note() + cosign(false.head().text, W_KEY.name, WITNESS, EARLY_S)
    with pytest.raises(errors.KeyDisowned):
        disowned.note_seen(LOG_ID, own, NOW_US)


def test_a_proven_liar_says_nothing_about_when(disowned):
    a, b = (cosigned_by(History(4, branch=n), 0, time_s=EARLY_S) for n in (3, 4))
    assert disowned.put_fork(encode_fork(fork_of_cosignatures(OTHER_KEYS[0], a, b)))
    with pytest.raises(errors.KeyDisowned):
        disowned.note_seen(LOG_ID, a, NOW_US)


def test_a_thiefs_head_that_was_heard_first_accuses_nobody_either(database):
    """What the true log signs later contradicts it; the log's own site is not to blame."""
    database.note_seen(LOG_ID, History(5, branch=2).note(), NOW_US)
    database.admit_lineage(LOG_ID, [GENESIS, ROTATION, disowning()])
    with pytest.raises(errors.KeyDisowned):
        database.note_seen(LOG_ID, History(5, branch=1).note(signer=STRANGER), NOW_US)
    assert database.forks() == ()


def test_a_thiefs_head_that_waits_for_leaves_is_dropped_and_accuses_nobody(database):
    true = History(6, branch=1)
    database.note_seen(LOG_ID, History(3, branch=2).note(), NOW_US)
    database.admit_lineage(LOG_ID, [GENESIS, ROTATION, disowning()])
    assert database.note_seen(LOG_ID, true.note(signer=STRANGER), NOW_US) is None
    assert database.mirror(LOG_ID, 0, true.leaves) is None
    assert (database.forks(), database.confirmed_size(LOG_ID)) == ((), 6)


def test_a_thiefs_consistency_proof_accuses_nobody(database):
    """Cosigned before anybody knew of the theft: this site cosigns no other history, either."""
    assert ask(database, History(3, branch=2), 0, 3).status == 200
    database.admit_lineage(LOG_ID, [GENESIS, ROTATION, disowning()])
    true = History(6, branch=1)
    assert ask(database, true, 3, 6, signer=STRANGER).status == 422
    assert database.forks() == ()


def test_a_thiefs_entry_accuses_nobody(database):
    follow(database, History(6, branch=1, start=4, real=True))
    database.admit_lineage(LOG_ID, [GENESIS, ROTATION, disowning()])
    database.keep_entries(LOG_ID, [MirroredEntry(4, EntryForm.PLAIN, ONE[4])])
    with pytest.raises(errors.MirrorMismatch) as found:
        database.keep_entries(LOG_ID, [MirroredEntry(4, EntryForm.PLAIN, TWO[4])])
    assert (found.value.fork, database.forks()) == (None, ())


def test_proofs_that_stand_on_a_stolen_key_are_not_taken_from_others(disowned):
    a, b = History(4, branch=3), History(4, branch=4)
    long = History(6, branch=5)
    told = [
        fork_of_heads(KEY, a.note(), b.note()),
        fork_of_heads(KEY, a.note(), long.note(), nodes_of(long.leaves)),
        fork_of_entries(KEY, ONE[4], TWO[4]),
    ]
    for proof in told:
        with pytest.raises(errors.KeyDisowned):
            disowned.put_fork(encode_fork(proof))
    cosigned = encode_fork(fork_of_cosignatures(W_KEY, a.cosigned(), b.cosigned()))
    assert disowned.put_fork(cosigned)
    sure = fork_of_heads(NEW_KEY, a.note(signer=STRANGER), b.note(signer=STRANGER))
    assert disowned.put_fork(encode_fork(sure))


def test_entries_that_an_unstolen_key_signed_still_prove_a_fork(disowned):
    def entry(number):
        return entry_of(Draft("x.y", "node", {"n": number}), identity=ROTATED, seq=5, log=STRANGER)

    proof = fork_of_entries(NEW_KEY, entry(1), entry(2))
    assert disowned.put_fork(encode_fork(proof))


def test_a_flood_of_false_cosignatures_leaves_room_for_the_logs_own_fork(tmp_path):
    database = opened(tmp_path / "flooded.db", forks_per_log_max=1)
    for size in range(2, 6):
        pair = [History(size, branch=branch).cosigned() for branch in (1, 2)]
        is_kept = database.put_fork(encode_fork(fork_of_cosignatures(W_KEY, *pair)))
        assert is_kept is (size == 2), "one proof about each witness is enough"
    assert database.accused_witnesses() == {W_KEY}
    a, b = History(9, branch=1), History(9, branch=2)
    assert database.put_fork(encode_fork(fork_of_heads(KEY, a.note(), b.note())))
    database.close()


def test_a_witness_is_accused_by_the_consistency_proof_that_came_along(tmp_path):
    """Held: nothing but the head that was cosigned; the mirror has no leaves to compare."""
    from base64 import b64encode

    from ledger.log import Witness
    from ledger.log.tree import prove_consistency

    database = opened(tmp_path / "witness.db")
    old, new = History(5, branch=1), History(8, branch=2)
    database.note_seen(LOG_ID, old.cosigned(), NOW_US)
    judge = Witness("tests/judge", Signer(b"\5" * 32), database)
    assert judge.answer(b"old 0\n\n" + old.note(), NOW_US // 1_000_000).status == 200
    nodes = [b64encode(node) for node in prove_consistency(5, 8, new.node_at)]
    asked = b"\n".join([b"old 5", *nodes]) + b"\n\n" + new.cosigned()
    assert judge.answer(asked, NOW_US // 1_000_000).status in (403, 422)
    assert sorted(check_fork(proof).kind.value for proof in database.forks()) == ["K2", "K4"]
    assert database.accused_witnesses() == {W_KEY}
    database.close()


def test_a_witness_that_lied_about_the_own_log_does_not_freeze_it(tmp_path):
    from log_samples import new_log

    with_log = new_log(tmp_path)
    with_log.append([fork_draft(with_log.log_id, "K4", bytes(32), "node")], NOW_US)
    assert with_log.frozen is None
    with_log.append([fork_draft(with_log.log_id, "K1", bytes(32), "node")], NOW_US)
    assert with_log.frozen is not None
    with_log.close()


def test_the_genesis_of_a_lineage_counts_as_a_mirrored_entry(database):
    database.admit_lineage(LOG_ID, [GENESIS])
    follow(database, History(3, real=True))
    assert database.first_missing_entry(LOG_ID) == 1
    database.keep_entries(LOG_ID, [MirroredEntry(0, EntryForm.PLAIN, GENESIS)])
