"""A log's keys over time: rotation, a change that is not on record, a key in other hands."""

import threading
from dataclasses import replace

import msgpack
import pytest
from log_samples import IDENTITY, LOG_KEY, NOW_US, STRANGER, STUDY, WITNESS, draft, new_log
from log_tampering import Tampering

from ledger.log import (
    Checkpoint,
    Draft,
    ExitCode,
    FindingCode,
    Log,
    LogReader,
    OnDamage,
    SigCheck,
    Signer,
    compromise_draft,
    errors,
    follow,
    note_verify,
    sign_rotation,
    verify_log,
)
from ledger.log.entries import ENTRY_DOMAIN, parse_entry, split_raw
from ledger.log.heads_file import RECORD_BYTES
from ledger.log.own_kinds import fork_draft, rotated, rotation_draft

NEXT = Signer(b"\x11" * 32)
LATER = Signer(b"\x12" * 32)
NEXT_AGAIN = Signer(b"\x13" * 32)


def statement(log, new=NEXT, old=LOG_KEY, identity=IDENTITY):
    return sign_rotation(
        log.log_id, old_pk=old.public_key, new_pk=new.public_key, identity=identity
    )


@pytest.fixture
def home(tmp_path):
    """Entries 0 … 3 are under the first key (3 replaces it), 4 … 6 the second, 7 the third."""
    log = new_log(tmp_path / "home")
    log.append([draft(1), draft(2, study=STUDY)], NOW_US + 1)
    log.rotate(NEXT, statement(log), NOW_US + 2)
    log.append([draft(4), draft(5)], NOW_US + 3)
    log.rotate(LATER, statement(log, LATER, NEXT), NOW_US + 4)
    log.append([draft(7)], NOW_US + 5)
    log.close()
    return tmp_path / "home"


def codes(home, sigs=SigCheck.ALL, **arguments):
    return {(f.code, f.seq) for f in verify_log(home, sigs=sigs, **arguments).findings}


def test_a_rotation_is_the_old_keys_last_entry_and_the_new_keys_first_head(log):
    before = log.note
    old = log.identity.verifier_key
    committed = log.rotate(NEXT, statement(log), NOW_US)
    entry = committed.entries[0]
    assert entry.kind == "key.rotated"
    assert entry.key_id == old.key_id
    new = log.identity.verifier_key
    assert new.public_key == NEXT.public_key
    note_verify(before, old)
    with pytest.raises(errors.NoteUnsigned):
        note_verify(committed.note, old)
    assert Checkpoint.parse(note_verify(log.note, new).text).size == 2
    assert log.append([draft()], NOW_US).entries[0].key_id == new.key_id
    assert log.identity.verifier_key_at(1) == old
    assert [log.identity.key_at(n).first_seq for n in range(4)] == [0, 0, 2, 2]


@pytest.mark.parametrize("sigs", SigCheck)
def test_a_log_whose_keys_were_rotated_is_clean(home, sigs):
    assert codes(home, sigs) == set()
    log = Log.open(home, log=LATER)
    assert [key.first_seq for key in log.identity.keys] == [0, 4, 7]
    log.append([draft(8)], NOW_US + 6)
    log.close()
    assert codes(home, sigs) == set()
    reader = LogReader.open(home)
    assert [entry.seq for entry in reader.entries()] == list(range(9))
    assert reader.identity == log.identity
    reader.close()


@pytest.mark.parametrize("key", [LOG_KEY, NEXT, STRANGER])
def test_a_log_opens_with_its_newest_key_only(home, key):
    with pytest.raises(errors.LogKeyWrong):
        Log.open(home, log=key)


def test_whoever_mirrors_a_log_follows_its_keys(home):
    reader = LogReader.open(home)
    entries = list(reader.entries())
    first = replace(reader.identity, keys=reader.identity.keys[:1])
    seen = first
    for entry in entries:
        seen = follow(seen, entry)
    assert seen == reader.identity
    with pytest.raises(errors.EntryKeyUnknown):
        follow(first, next(entry for entry in entries if entry.seq == 6))
    reader.close()


def test_a_rotation_cut_before_its_release_is_kept(home):
    log = Log.open(home, log=LATER)
    log.rotate(NEXT_AGAIN, statement(log, NEXT_AGAIN, LATER), NOW_US + 6)
    log.close()
    content = (home / "heads.log").read_bytes()
    (home / "heads.log").write_bytes(content[:-RECORD_BYTES])
    reader = LogReader.open(home)
    assert reader.identity.log_pk == LATER.public_key  # the head shown is still under this key
    reader.close()
    with pytest.raises(errors.LogKeyWrong):
        Log.open(home, log=LATER)
    Log.open(home, log=NEXT_AGAIN).close()
    assert (home / "heads.log").read_bytes() == content


@pytest.mark.parametrize(
    ("new", "signed"),
    [
        (NEXT, {"identity": STRANGER}),  # not by the identity key
        (NEXT, {"old": STRANGER}),  # for another change
        (NEXT, {"new": LATER}),
        (LOG_KEY, {"new": LOG_KEY}),  # a key serves a log once
        (IDENTITY, {"new": IDENTITY}),  # and nothing else
        (WITNESS, {"new": WITNESS}),
    ],
)
def test_a_change_of_keys_that_the_identity_did_not_sign_is_refused(log, new, signed):
    with pytest.raises(errors.KeyChangeInvalid):
        log.rotate(new, statement(log, **signed), NOW_US)
    assert log.append([draft()], NOW_US).checkpoint.size == 2


def test_a_weak_key_is_no_log_key(log):
    weak = rotation_draft(log.identity, b"\x01" + bytes(31), bytes(64), "node")
    with pytest.raises(errors.KeyChangeInvalid):
        rotated(log.identity, 1, weak.body)


def test_a_rotation_replaces_the_key_in_force(log):
    change = rotation_draft(log.identity, NEXT.public_key, statement(log), "node")
    later = rotated(log.identity, 1, change.body)
    with pytest.raises(errors.KeyChangeInvalid):
        rotated(later, 2, change.body)


def test_a_rotation_needs_the_new_key_beside_it(log):
    change = rotation_draft(log.identity, NEXT.public_key, statement(log), "node")
    with pytest.raises(errors.KeyChangeInvalid):
        log.append([change], NOW_US)
    other = Draft("key.rotated", "node", {"key": "witness", "old": bytes(32), "new": bytes(32)})
    log.append([other], NOW_US)
    assert log.identity.log_pk == LOG_KEY.public_key


# --- 31: unlogged key change --------------------


class KeyHolder(Tampering):
    """Somebody who also holds keys, and signs entries and heads with them."""

    def resign(self, seq, signer, key_id, body=None):
        old_body, _, _ = split_raw(self.raw(seq))
        body = body or old_body
        signature = signer.sign(ENTRY_DOMAIN + body)
        self.write_raw(seq, msgpack.packb([body, key_id, signature]))


@pytest.fixture
def holder(home):
    holder = KeyHolder(home)
    yield holder
    holder.connection.close()


@pytest.mark.parametrize("sigs", [SigCheck.ALL, SigCheck.HEADS])
def test_31_a_key_that_no_entry_announced(holder, sigs):
    reader = LogReader.open(holder.home)
    stranger = reader.identity.with_key(STRANGER.public_key, 7).key_id
    reader.close()
    holder.resign(7, STRANGER, stranger)
    holder.rehash()
    found, result = holder.found(sigs)
    assert (FindingCode.KEY_UNKNOWN, 7) in found
    assert result.exit_code == ExitCode.INTEGRITY_BROKEN


@pytest.mark.parametrize("sigs", [SigCheck.ALL, SigCheck.HEADS])
def test_31_an_old_key_that_goes_on_signing(holder, sigs):
    reader = LogReader.open(holder.home)
    holder.resign(5, LOG_KEY, reader.identity.keys[0].key_id)
    reader.close()
    holder.rehash()
    assert (FindingCode.KEY_UNKNOWN, 5) in holder.found(sigs)[0]


def test_31_a_change_that_the_holder_of_the_log_key_made_up(tmp_path):
    """With the log key but without the identity key: the log cannot be taken over."""
    home = tmp_path / "home"
    log = new_log(home)
    body = {"key": "log", "old": LOG_KEY.public_key, "new": STRANGER.public_key}
    forged = {**body, "statement": STRANGER.sign(b"anything")}
    # Their own program does not ask what ours would refuse.
    log._commits.commit([Draft("key.rotated", "node", forged)], log.identity, NOW_US)
    log._commits.commit([draft(2)], log.identity, NOW_US)
    log.close()
    found = verify_log(home)
    assert {(f.code, f.seq) for f in found.findings} == {(FindingCode.KEY_CHANGE_INVALID, 1)}
    assert found.exit_code == ExitCode.INTEGRITY_BROKEN
    for key in (LOG_KEY, STRANGER):
        with pytest.raises(errors.Corrupt) as caught:
            Log.open(home, log=key)
        assert "p2pfl ledger recover" in str(caught.value)
    with pytest.raises(errors.Corrupt):
        LogReader.open(home)
    shown = LogReader.open(home, on_damage=OnDamage.SHOW)
    assert len(list(shown.entries())) == 3
    shown.close()


@pytest.mark.parametrize("missing", ["statement", "old"])
def test_31_a_change_without_its_parts(tmp_path, missing):
    log = new_log(tmp_path)
    body = {
        "key": "log",
        "old": LOG_KEY.public_key,
        "new": NEXT.public_key,
        "statement": statement(log),
    }
    del body[missing]
    log._commits.commit([Draft("key.rotated", "node", body)], log.identity, NOW_US)
    log.close()
    assert codes(tmp_path) == {(FindingCode.KEY_CHANGE_INVALID, 1)}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE entry SET kind = 'other' WHERE seq = 3",
        "UPDATE entry SET raw = zeroblob(90) WHERE seq = 3",
        "UPDATE entry SET leaf = 'text' WHERE seq = 3",
    ],
)
def test_31_a_rotation_made_unreadable(holder, change):
    holder.run(change)
    found, result = holder.found()
    assert 3 in {seq for _, seq in found}
    assert (FindingCode.KEY_UNKNOWN, 4) in found
    assert result.exit_code == ExitCode.INTEGRITY_BROKEN
    with pytest.raises(errors.LedgerError):
        Log.open(holder.home, log=LATER)


def test_31_an_index_that_hides_an_entry_about_the_log(home, tmp_path):
    """SQLite believes its indexes; verification reads the table."""
    log = Log.open(home, log=LATER)
    log.append([Draft("redacted", "node", {"seq": 1, "field": "x", "basis": "b"})], NOW_US + 9)
    log.close()
    tampering = Tampering(home)
    tampering.run("DROP INDEX entry_own")
    tampering.run("CREATE INDEX entry_own ON entry(seq) WHERE kind IN ('key.rotated')")
    tampering.run("PRAGMA writable_schema = ON")
    tampering.run(
        "UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE name = 'entry_own'",
        "('key.rotated')",
        "('fork.found', 'key.compromised', 'key.rotated', 'redacted')",
    )
    tampering.connection.close()
    assert codes(home) == {(FindingCode.INDEX_ALTERED, 8)}


# --- a key in other hands --------------------


@pytest.mark.parametrize(
    ("key", "since_us", "first"),
    [
        (LOG_KEY, NOW_US + 1, 1),
        (LOG_KEY, NOW_US + 2, None),  # only the rotation, for which the identity key vouches
        (LOG_KEY, 0, 0),
        (NEXT, NOW_US + 3, 4),
        (NEXT, 0, 4),
        (LATER, NOW_US + 5, 7),
        (STRANGER, 0, None),  # no key of this log
    ],
)
def test_entries_under_a_key_after_it_was_in_other_hands_are_flagged(home, key, since_us, first):
    log = Log.open(home, log=LATER)
    log.append([compromise_draft(key.public_key, since_us, "node")], NOW_US + 6)
    log.close()
    result = verify_log(home)
    assert [(f.code, f.seq) for f in result.findings] == (
        [] if first is None else [(FindingCode.KEY_COMPROMISED, first)]
    )
    clean = ExitCode.CLEAN if first is None else ExitCode.EVIDENCE_INCOMPLETE
    assert result.exit_code == clean


def test_a_compromise_of_another_key_of_the_site_is_not_the_logs_matter(home):
    log = Log.open(home, log=LATER)
    body = {"key": "transport", "public_key": LATER.public_key, "since_us": 0}
    log.append([Draft("key.compromised", "node", body)], NOW_US + 6)
    log.close()
    assert codes(home) == set()


def test_a_damaged_entry_says_nothing_about_when_a_key_was_lost(home):
    log = Log.open(home, log=LATER)
    log.append([compromise_draft(LOG_KEY.public_key, NOW_US + 1, "node")], NOW_US + 6)
    log.close()
    tampering = Tampering(home)
    tampering.run("UPDATE entry SET raw = zeroblob(90) WHERE seq = 1")
    found, _ = tampering.found()
    assert {(FindingCode.ENTRY_ALTERED, 1), (FindingCode.KEY_COMPROMISED, 2)} <= found


def test_reading_during_a_rotation_shows_no_note_under_the_wrong_key(tmp_path):
    log = new_log(tmp_path)
    notes, done = [], threading.Event()

    def read():
        while not done.is_set():
            notes.append(log.note)

    reader = threading.Thread(target=read)
    reader.start()
    log.rotate(NEXT, statement(log), NOW_US)
    done.set()
    reader.join()
    log.close()
    keys = [log.identity.verifier_key_at(size) for size in (1, 2)]
    for note in set(notes):
        assert note_verify(note, *keys).signatures


def test_a_log_shows_what_changed_its_keys_and_nothing_else(tmp_path):
    log = new_log(tmp_path)
    log.append([draft()], NOW_US)
    assert log.lineage() == ()
    log.rotate(NEXT, statement(log), NOW_US)
    assert [parse_entry(raw).seq for raw in log.lineage()] == [0, 2]
    log.append([compromise_draft(LOG_KEY.public_key, NOW_US, "node")], NOW_US)
    log.append([fork_draft(bytes(32), "K1", bytes(32), "node"), draft()], NOW_US)
    shown = log.lineage()
    assert [parse_entry(raw).seq for raw in shown] == [0, 2, 3]
    log.close()
    reader = LogReader.open(tmp_path)
    assert reader.lineage() == shown
    reader.close()
