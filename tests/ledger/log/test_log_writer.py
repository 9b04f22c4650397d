"""Creating, opening, appending and reading; secrets and peers' heads."""

import os
import sqlite3
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_samples import (
    IDENTITY,
    LOG_KEY,
    NOW_US,
    STRANGER,
    STUDY,
    WITNESS,
    closed_log,
    draft,
    new_log,
)

from ledger.log import (
    Checkpoint,
    Draft,
    Log,
    LogReader,
    commitment_of,
    errors,
    note_verify,
    opens,
    verify_consistency,
    verify_inclusion,
    verify_log,
)


def test_a_new_log_holds_its_genesis_entry_and_a_signed_head(log):
    genesis = log.entry(0)
    assert genesis.kind == "log.genesis"
    assert genesis.body["witness_pk"] == WITNESS.public_key
    assert log.checkpoint.size == 1
    assert log.checkpoint.root == genesis.leaf
    assert log.origin == f"tests/dl-ledger/{log.log_id.hex()}"
    assert Checkpoint.parse(note_verify(log.note, log.identity.verifier_key).text) == log.checkpoint


def test_one_commit_covers_all_drafts_of_a_call(log):
    committed = log.append([draft(1), draft(2)], NOW_US + 5)
    assert [entry.seq for entry in committed.entries] == [1, 2]
    assert committed.entries[1].prev == committed.entries[0].leaf
    assert {entry.time_us for entry in committed.entries} == {NOW_US + 5}
    assert (
        committed.checkpoint
        == log.checkpoint
        == Checkpoint.parse(note_verify(committed.note, log.identity.verifier_key).text)
    )
    assert list(log.entries(1)) == list(committed.entries)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.data())
def test_any_commits_give_heads_that_prove_each_other(tmp_path_factory, counts, data):
    log = new_log(tmp_path_factory.mktemp("home"))
    heads = [log.checkpoint]
    for count in counts:
        heads.append(log.append([draft(i) for i in range(count)], NOW_US).checkpoint)
    older, newer = sorted(data.draw(st.tuples(*[st.integers(0, len(heads) - 1)] * 2)))
    m, n = heads[older], heads[newer]
    verify_consistency(m.size, n.size, m.root, n.root, log.prove_consistency(m.size, n.size))
    seq = data.draw(st.integers(0, n.size - 1))
    leaf = log.entry(seq).leaf
    verify_inclusion(leaf, seq, n.size, log.prove_inclusion(seq, n.size), n.root)
    assert log.root_at(m.size) == m.root
    log.close()


def test_entries_survive_closing_and_opening(tmp_path):
    closed_log(tmp_path)
    with_reader = LogReader.open(tmp_path)
    expected = list(with_reader.entries())
    with_reader.close()
    log = Log.open(tmp_path, log=LOG_KEY)
    assert log.repairs == ()
    assert list(log.entries()) == expected
    assert [entry.seq for entry in log.append([draft(99)], NOW_US).entries] == [len(expected)]
    log.close()
    assert not verify_log(tmp_path).findings


def test_a_bad_draft_leaves_the_log_as_it_was(log):
    before = log.checkpoint
    for bad, error in [
        (Draft("Bad Kind", "node", {}), errors.EntryFieldWrong),
        (Draft("train.done", "node", {"x": 1.5}), errors.FloatRefused),  # type: ignore[dict-item]
        (draft(padding=70_000), errors.TooManyBytes),
    ]:
        with pytest.raises(error):
            log.append([draft(1), bad], NOW_US)
    with pytest.raises(errors.NothingToAppend):
        log.append([], NOW_US)
    with pytest.raises(errors.NothingToAppend):
        log.append([draft()] * 10_001, NOW_US)
    assert log.checkpoint == before
    assert log.append([draft(2)], NOW_US).checkpoint.size == 2


def test_large_entries_and_every_length_of_header_are_kept(log):
    sizes = [0, 10, 300, 65_000]
    log.append([draft(padding=size) for size in sizes], NOW_US)
    assert [len(str(entry.body.get("padding", ""))) for entry in log.entries(1)] == sizes


def test_a_ledger_is_created_once(tmp_path):
    closed_log(tmp_path)
    with pytest.raises(errors.LedgerExists):
        new_log(tmp_path)
    Log.open(tmp_path, log=LOG_KEY).close()


def test_a_ledger_has_one_writer(tmp_path):
    log = new_log(tmp_path)
    with pytest.raises(errors.Locked) as caught:
        Log.open(tmp_path, log=LOG_KEY)
    assert caught.value.exit_code == 75
    with pytest.raises(errors.Locked):
        new_log(tmp_path)
    log.close()
    log.close()
    Log.open(tmp_path, log=LOG_KEY).close()


def test_a_home_without_a_ledger_says_so(tmp_path):
    for attempt in (
        lambda: Log.open(tmp_path, log=LOG_KEY),
        lambda: LogReader.open(tmp_path),
        lambda: verify_log(tmp_path),
    ):
        with pytest.raises(errors.NoLedger):
            attempt()


def test_the_log_key_must_be_the_one_that_genesis_binds(tmp_path):
    closed_log(tmp_path)
    with pytest.raises(errors.LogKeyWrong):
        Log.open(tmp_path, log=STRANGER)
    Log.open(tmp_path, log=LOG_KEY).close()


def test_a_closed_log_takes_nothing(tmp_path):
    log = new_log(tmp_path)
    log.close()
    with pytest.raises(errors.LogStopped):
        log.append([draft()], NOW_US)


def test_files_are_readable_by_their_owner_only(tmp_path):
    log = new_log(tmp_path / "home")
    for name in ("ledger.db", "heads.log"):
        assert (tmp_path / "home" / name).stat().st_mode & 0o777 == 0o600
    log.close()


def test_entries_of_a_study_are_found_by_it(log):
    log.append([draft(i, study=STUDY if i % 3 == 0 else None) for i in range(700)], NOW_US)
    found = [entry.body["number"] for entry in log.entries(study=STUDY)]
    assert found == list(range(0, 700, 3))
    assert not list(log.entries(study=bytes(32)))
    assert len(list(log.entries())) == 701
    assert [entry.seq for entry in log.entries(5, 8)] == [5, 6, 7]
    assert not list(log.entries(9, 3))


def test_what_is_not_there_is_refused_by_name(log):
    for seq in (-1, 1):
        with pytest.raises(errors.NoSuchEntry):
            log.entry(seq)
    with pytest.raises(errors.ProofSizesWrong):
        log.prove_inclusion(0, 2)
    with pytest.raises(errors.ProofSizesWrong):
        log.prove_consistency(1, 2)
    with pytest.raises(errors.ProofSizesWrong):
        log.root_at(-1)


def test_appending_and_reading_from_several_threads_is_safe(log):
    def append() -> None:
        for number in range(10):
            log.append([draft(number)], NOW_US)

    threads = [threading.Thread(target=append) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen = [entry.seq for entry in log.entries()]
        assert seen == list(range(len(seen)))
    for thread in threads:
        thread.join()
    assert [entry.seq for entry in log.entries()] == list(range(31))


def test_a_snapshot_does_not_move_while_the_node_writes(log, tmp_path):
    reader = LogReader.open(tmp_path / "home")
    before, note = reader.checkpoint, log.note
    log.append([draft(i) for i in range(50)], NOW_US)
    assert reader.checkpoint == before
    assert reader.note == note
    assert len(list(reader.entries())) == 1
    reader.close()
    again = LogReader.open(tmp_path / "home")
    assert again.checkpoint == log.checkpoint
    assert again.damage is None
    again.close()


def test_a_read_only_copy_can_be_read(tmp_path):
    closed_log(tmp_path / "home")
    (tmp_path / "home").chmod(0o500)
    try:
        reader = LogReader.open(tmp_path / "home")
        assert len(list(reader.entries())) == 10
        reader.close()
    finally:
        (tmp_path / "home").chmod(0o700)


def test_a_log_of_another_version_is_left_alone(tmp_path):
    closed_log(tmp_path)
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(errors.FormatUnknown):
        Log.open(tmp_path, log=LOG_KEY)


def test_a_home_that_cannot_be_made_is_an_input_output_error(tmp_path):
    (tmp_path / "ledger.db").mkdir()
    with pytest.raises(errors.StoreError) as caught:
        new_log(tmp_path)
    assert caught.value.exit_code == 74
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "heads.log").mkdir()
    with pytest.raises(errors.StoreError):
        new_log(tmp_path / "other")


def test_a_secret_opens_its_commitment_until_it_is_erased(log, tmp_path):
    salt, name = os.urandom(32), b"Dr. Jane Doe"
    commitment = commitment_of("approver", salt, name)
    log.append([Draft("study.approved", "node", {"approver_commit": commitment})], NOW_US)
    log.put_secret(1, "approver", salt, name)
    secret = log.open_secret(1, "approver")
    assert opens(commitment, "approver", secret.salt, secret.value)
    assert not opens(commitment, "approver", secret.salt, b"Dr. John Doe")
    assert not opens(commitment, "reason", secret.salt, secret.value)
    assert "Doe" not in repr(secret)
    log.redact(1, "approver", basis="art-17", now_us=NOW_US)
    with pytest.raises(errors.SecretMissing):
        log.open_secret(1, "approver")
    for path in (tmp_path / "home").iterdir():
        assert name not in path.read_bytes(), path
    log.close()
    assert not verify_log(tmp_path / "home").findings


def test_erasing_says_when_an_open_reader_keeps_the_secret_on_disk(log, tmp_path):
    log.put_secret(0, "reason", bytes(32), b"value")
    reader = LogReader.open(tmp_path / "home")
    log.append([draft()], NOW_US)
    log._writing._connection.execute("PRAGMA busy_timeout = 1")  # what the wait is for is clear
    with pytest.raises(errors.ErasureIncomplete):
        log.redact(0, "reason", basis="art-17", now_us=NOW_US)
    reader.close()
    # The entry is on record; what is left is to empty the write-ahead log.
    assert log.redact(0, "reason", basis="art-17", now_us=NOW_US) is None
    assert [entry.kind for entry in log.entries()].count("redacted") == 1


@pytest.mark.parametrize(
    ("field", "salt", "value"),
    [
        ("Reason", bytes(32), b""),
        ("", bytes(32), b""),
        ("reason", b"short", b""),
        ("reason", bytes(32), b"x" * 4_097),
    ],
)
def test_a_secret_out_of_bounds_is_refused(log, field, salt, value):
    with pytest.raises(errors.SecretRefused):
        log.put_secret(0, field, salt, value)


def test_a_secret_belongs_to_an_entry_that_exists(log):
    with pytest.raises(errors.NoSuchEntry):
        log.put_secret(1, "reason", bytes(32), b"")


@pytest.mark.parametrize(("start", "stop"), [(0, 301), (0, 256), (255, 257), (-3, 999), (9, 9)])
def test_leaves_are_those_of_the_entries_however_many_are_asked_for(log, start, stop):
    log.append([draft() for _ in range(300)], NOW_US)
    asked = [entry.leaf for entry in log.entries()][max(0, start) : stop]
    assert list(log.leaves(start, stop)) == asked


def test_identity_is_not_the_witness(tmp_path):
    with pytest.raises(errors.GenesisInvalid):
        Log.create(
            tmp_path,
            deployment="tests",
            identity=IDENTITY,
            log=LOG_KEY,
            witness_pk=IDENTITY.public_key,
            nonce=bytes(32),
            now_us=NOW_US,
        )
    assert not list(tmp_path.iterdir())
