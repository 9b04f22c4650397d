"""A site's witness keys over time: replaced on record, disowned, and what old ones still say."""

import pytest
from log_histories import (
    GENESIS,
    KEY,
    LOG_ID,
    ORIGIN,
    OWNER,
    WITNESS_KEY,
    WITNESS_NAME,
    History,
    ask,
    follow,
    opened,
)
from log_samples import IDENTITY, LOG_KEY, NOW_US, STRANGER, WITNESS, draft, new_log

from ledger.log import (
    Draft,
    EntryForm,
    ExitCode,
    FindingCode,
    KeyType,
    KnownWitness,
    Log,
    LogReader,
    MirroredEntry,
    Signer,
    VerifierKey,
    check_fork,
    compromise_draft,
    errors,
    identity_from,
    known_under,
    mirror_errors,
    parse_entry,
    sign_rotation,
    verify_log,
)
from ledger.log.entries import NO_PREVIOUS, sign_entry
from ledger.log.forks import encode_fork, fork_of_cosignatures
from ledger.log.identity import FOREVER_US
from ledger.log.notes import cosign
from ledger.log.own_kinds import WITNESS_KEY as WITNESS_ROLE
from ledger.log.own_kinds import follow as follow_keys
from ledger.log.own_kinds import rotation_draft

NEXT = Signer(b"\x21" * 32)
LATER = Signer(b"\x22" * 32)
REPLACED_US = NOW_US + 10_000_000
STOLEN_US = NOW_US + 4_000_000
NOW_S = NOW_US // 1_000_000
EARLY_S, BETWEEN_S, LATE_S = NOW_S + 1, NOW_S + 6, NOW_S + 11
NEXT_KEY = VerifierKey(WITNESS_NAME, KeyType.COSIGNATURE_V1, NEXT.public_key)
FIRST_ENTRY = sign_entry(
    GENESIS, identity=OWNER, seq=0, prev=NO_PREVIOUS, time_us=NOW_US, log=LOG_KEY
)


def rotation(new=NEXT, *, of=OWNER, old=None, signed_by=IDENTITY):
    """The draft that replaces the witness key in force."""
    old_pk = of.witness_pk if old is None else old.public_key
    statement = sign_rotation(
        of.log_id, old_pk=old_pk, new_pk=new.public_key, identity=signed_by, key=WITNESS_ROLE
    )
    return rotation_draft(of, new.public_key, statement, "operator", WITNESS_ROLE)


def disowning(signer=WITNESS, since_us=STOLEN_US):
    return compromise_draft(signer.public_key, since_us, "operator", WITNESS_ROLE)


def entry_of(what, seq, *, identity=OWNER, log=LOG_KEY, time_us=REPLACED_US):
    raw = sign_entry(what, identity=identity, seq=seq, prev=NO_PREVIOUS, time_us=time_us, log=log)
    return raw


# -- the log itself --------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path):
    made = new_log(tmp_path / "home")
    made.append([draft(1)], NOW_US + 1)
    yield made
    made.close()


def keys_of(identity):
    return [(k.public_key, k.until_us, k.is_disowned) for k in identity.witnesses]


def test_a_log_names_its_witness_keys_and_until_when_each_counts(log, tmp_path):
    assert keys_of(log.identity) == [(WITNESS.public_key, FOREVER_US, False)]
    log.append([rotation(of=log.identity), disowning()], REPLACED_US)
    log.append([rotation(LATER, of=log.identity)], REPLACED_US + 9)
    told = [
        (WITNESS.public_key, STOLEN_US, True),
        (NEXT.public_key, REPLACED_US + 9, False),
        (LATER.public_key, FOREVER_US, False),
    ]
    assert keys_of(log.identity) == told
    assert log.identity.witness_pk == LATER.public_key
    shown = log.lineage()
    assert [parse_entry(raw).seq for raw in shown] == [0, 2, 3, 4]
    assert identity_from(shown) == log.identity
    log.close()
    assert verify_log(tmp_path / "home").exit_code is ExitCode.CLEAN
    reader = LogReader.open(tmp_path / "home")
    assert (reader.identity, reader.lineage()) == (log.identity, shown)
    reader.close()
    Log.open(tmp_path / "home", log=LOG_KEY).close()


def test_a_disowning_says_when_the_key_ended_if_that_was_before_it_was_replaced(log):
    log.append([rotation(of=log.identity), disowning(since_us=REPLACED_US + 99)], REPLACED_US)
    assert keys_of(log.identity)[0] == (WITNESS.public_key, REPLACED_US, True)


@pytest.mark.parametrize(
    "wrong",
    [
        rotation(signed_by=STRANGER),
        rotation(old=STRANGER),
        rotation(WITNESS),  # a key serves a log once
        rotation(LOG_KEY),
        rotation(IDENTITY),
        Draft("key.rotated", "node", {"key": "witness", "statement": bytes(64)}),
    ],
)
def test_a_witness_key_that_the_identity_did_not_replace_is_refused_and_nothing_is_written(
    log, wrong
):
    before = log.checkpoint
    with pytest.raises(errors.KeyChangeInvalid):
        log.append([draft(2), wrong], NOW_US + 2)
    assert (log.checkpoint, log.identity.witness_pk) == (before, WITNESS.public_key)
    log.append([draft(2)], NOW_US + 2)


def test_the_statement_for_one_key_says_nothing_about_another(log):
    """A log key's statement, its body relabelled by whoever has the log key."""
    statement = sign_rotation(
        log.log_id, old_pk=WITNESS.public_key, new_pk=NEXT.public_key, identity=IDENTITY
    )
    relabelled = rotation_draft(log.identity, NEXT.public_key, statement, "node", WITNESS_ROLE)
    with pytest.raises(errors.KeyChangeInvalid):
        log.append([relabelled], NOW_US + 2)


def test_words_about_keys_that_prove_nothing_change_no_witness_key(log):
    bare = {"key": "witness", "old": WITNESS.public_key, "new": NEXT.public_key}
    log.append(
        [
            Draft("key.rotated", "node", bare),  # without a statement: of another program
            disowning(STRANGER),
            disowning(WITNESS),  # it is in force: only its successor makes it an old one
        ],
        NOW_US + 2,
    )
    assert keys_of(log.identity) == [(WITNESS.public_key, FOREVER_US, False)]
    assert log.lineage() == ()


def test_a_forged_change_of_the_witness_key_in_a_file_is_found(tmp_path):
    """Whoever has the log key and the disk can sign entries, but no statement of the identity."""
    log = new_log(tmp_path)
    # Their own program does not ask what ours would refuse.
    log._commits.commit([rotation(signed_by=STRANGER)], log.identity, NOW_US)
    log.close()
    found = verify_log(tmp_path)
    assert {(f.code, f.seq) for f in found.findings} == {(FindingCode.KEY_CHANGE_INVALID, 1)}
    with pytest.raises(errors.Corrupt):
        Log.open(tmp_path, log=LOG_KEY)


def test_a_disowned_log_key_that_was_in_force_then_is_left_out_of_what_others_are_shown(log):
    log.append([compromise_draft(LOG_KEY.public_key, NOW_US, "node")], NOW_US + 2)
    log.append([rotation(of=log.identity)], REPLACED_US)
    assert [parse_entry(raw).seq for raw in log.lineage()] == [0, 3]


def test_an_entry_that_the_log_did_not_sign_changes_no_key():
    assert identity_from(()) is None
    for forged in (entry_of(rotation(), 1, log=STRANGER), entry_of(disowning(), 2, log=STRANGER)):
        known = follow_keys(OWNER, parse_entry(entry_of(rotation(), 1)))
        start = OWNER if parse_entry(forged).kind == "key.rotated" else known
        with pytest.raises(errors.EntrySignatureInvalid):
            follow_keys(start, parse_entry(forged))


# -- what others hold of it ------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path):
    database = opened(tmp_path / "witness.db")
    yield database
    database.close()


def chain(*drafts):
    """The genesis entry and these, each signed by the log."""
    return [FIRST_ENTRY, *(entry_of(what, seq) for seq, what in enumerate(drafts, 1))]


def test_a_mirror_learns_witness_keys_with_the_logs_keys_whoever_shows_them(tmp_path, database):
    entries = chain(rotation(), disowning())
    assert database.admit_lineage(LOG_ID, entries[:2])
    assert database.admit_lineage(LOG_ID, entries[2:])
    assert not database.admit_lineage(LOG_ID, entries)
    assert database.lineage(LOG_ID) == tuple(entries)
    assert database.keys_in_force(LOG_ID) == ((0, KEY),), "its heads are under the same key"
    database.close()
    again = opened(tmp_path / "witness.db")
    assert keys_of(identity_from(again.lineage(LOG_ID))) == [
        (WITNESS.public_key, STOLEN_US, True),
        (NEXT.public_key, FOREVER_US, False),
    ]
    again.close()


def test_a_mirror_refuses_what_proves_no_witness_key(database):
    unknown = entry_of(disowning(STRANGER), 2)
    for refused in (
        chain(rotation(signed_by=STRANGER)),
        [FIRST_ENTRY, entry_of(rotation(), 1, log=STRANGER)],
        [*chain(rotation()), unknown],
        chain(disowning()),
    ):
        with pytest.raises(mirror_errors.RotationRefused):
            database.admit_lineage(LOG_ID, refused)
    assert database.lineage(LOG_ID) == ()


def test_a_site_replaces_its_witness_key_so_often_and_no_more(database):
    identity, entries = OWNER, [FIRST_ENTRY]
    for number in range(1, 17):
        new = Signer(bytes([number + 40]) * 32)
        entries.append(entry_of(rotation(new, of=identity), number))
        identity = identity.with_witness(new.public_key, REPLACED_US)
    with pytest.raises(mirror_errors.MirrorFull, match="keys"):
        database.admit_lineage(LOG_ID, entries)
    assert database.admit_lineage(LOG_ID, entries[:-1])


# -- what the keys still say -----------------------------------------------------------------------


def known(until_us=REPLACED_US, *, is_disowned=False):
    """The two keys of one witness."""
    return {
        "keys": [NEXT_KEY],
        "earlier": [KnownWitness(WITNESS_KEY, until_us, is_disowned)],
    }


def line_by(signer, time_s, history, size=None):
    return cosign(history.head(size).text, WITNESS_NAME, signer, time_s)


def held_lines(database):
    return database.head_of(LOG_ID).cosignatures


def test_an_old_key_vouches_for_the_time_before_it_was_replaced_and_not_after(database):
    history = History(6)
    database.set_witnesses(**known())
    for size, time_s in ((3, EARLY_S), (4, LATE_S)):
        note = history.note(size) + line_by(WITNESS, time_s, history, size)
        database.note_seen(LOG_ID, note, NOW_US)
        assert len(held_lines(database)) == (time_s == EARLY_S)
    database.note_seen(LOG_ID, history.note() + line_by(NEXT, LATE_S, history), NOW_US)
    assert len(held_lines(database)) == 1


def test_what_a_disowned_key_signs_is_not_taken_any_more_however_it_is_dated(database):
    history = History(6)
    database.set_witnesses(**known(STOLEN_US, is_disowned=True))
    for size, time_s in ((3, EARLY_S), (4, BETWEEN_S), (5, LATE_S)):
        note = history.note(size) + line_by(WITNESS, time_s, history, size)
        database.note_seen(LOG_ID, note, NOW_US)
        assert held_lines(database) == ()


def contradiction(signer=WITNESS, key=WITNESS_KEY, times=(EARLY_S, EARLY_S)):
    """Proof that a key cosigned two histories, at these times."""
    pair = [History(4, branch=branch) for branch in (1, 2)]
    notes = [
        history.note() + line_by(signer, time_s, history)
        for history, time_s in zip(pair, times, strict=True)
    ]
    return encode_fork(fork_of_cosignatures(key, *notes))


def test_a_witness_answers_for_its_old_key_until_it_was_replaced(database):
    database.set_witnesses(**known())
    with pytest.raises(mirror_errors.WitnessKeyEnded):
        database.put_fork(contradiction(times=(EARLY_S, LATE_S)))
    assert database.put_fork(contradiction())
    assert not database.put_fork(contradiction(NEXT, NEXT_KEY)), "it is accused already, by name"
    assert {key.name for key in database.accused_witnesses()} == {WITNESS_NAME}


def test_a_disowned_witness_key_accuses_nobody_however_it_is_dated(database):
    database.set_witnesses(**known(STOLEN_US, is_disowned=True))
    for times in ((EARLY_S, EARLY_S), (EARLY_S, LATE_S)):
        with pytest.raises(mirror_errors.WitnessKeyEnded):
            database.put_fork(contradiction(times=times))
    database.set_witnesses([NEXT_KEY])
    with pytest.raises(mirror_errors.ForkOfStranger):
        database.put_fork(contradiction())
    assert database.forks() == ()


def test_what_was_proven_before_a_key_was_disowned_stays_proven(database):
    """Else whoever lied would wash itself by calling its key stolen."""
    assert database.put_fork(contradiction())
    database.set_witnesses(**known(STOLEN_US, is_disowned=True))
    assert database.accused_witnesses() == {WITNESS_KEY}


def test_a_fork_that_a_stolen_witness_key_cosigned_is_still_the_logs_own(database):
    """The log signed both heads; who cosigned them does not matter."""
    database.set_witnesses(**known(STOLEN_US, is_disowned=True))
    a, b = (History(4, branch=branch) for branch in (1, 2))
    database.note_seen(LOG_ID, a.note() + line_by(WITNESS, EARLY_S, a), NOW_US)
    proof = database.note_seen(LOG_ID, b.note() + line_by(WITNESS, EARLY_S, b), NOW_US)
    assert [check_fork(data).kind.value for data in database.forks()] == ["K1"]
    assert proof is not None


def test_a_site_goes_on_witnessing_under_another_key_where_it_stopped(database):
    """The book is the memory, not the key: no second history is cosigned after a rotation."""
    history = History(6)
    assert ask(database, history, 0, 3).status == 200
    database.set_witnesses(**known())
    assert ask(database, history, 3, 6).status == 200
    assert ask(database, History(6, branch=2), 0, 6).status == 409


def test_entries_that_change_witness_keys_are_mirrored_like_others(database):
    true = History(3, real=True)
    follow(database, true)
    database.keep_entries(
        LOG_ID, [MirroredEntry(seq, EntryForm.PLAIN, raw) for seq, raw in enumerate(true.raws)]
    )
    assert database.first_missing_entry(LOG_ID) == 3


def test_keys_under_a_name_keep_their_order():
    named = known_under("w", OWNER.with_witness(NEXT.public_key, REPLACED_US).witnesses)
    assert [(k.key.name, k.key.public_key, k.until_us) for k in named] == [
        ("w", WITNESS.public_key, REPLACED_US),
        ("w", NEXT.public_key, FOREVER_US),
    ]
    line = line_by(WITNESS, EARLY_S, History(3))
    assert not named[0].has_signed(line), "another name"
    assert KnownWitness(WITNESS_KEY).has_signed(line)
    assert ORIGIN
