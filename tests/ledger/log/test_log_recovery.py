"""A lost or shortened log is rebuilt from what is left and what others mirrored."""

import os
import shutil

import pytest
from log_histories import LOG_ID, OWNER
from log_samples import IDENTITY, LOG_KEY, NOW_US, STRANGER, STUDY, draft, new_log
from log_tampering import Tampering

from ledger.log import Checkpoint, Log, LogReader, Signer, errors, note_sign, verify_log
from ledger.log.entries import sign_entry
from ledger.log.heads_file import HEADS_NAME, RECORD_BYTES, HeadRecord, pack_record
from ledger.log.own_kinds import sign_rotation
from ledger.log.recovery import RecoveryContradiction, RecoveryIncomplete, recover_tail
from ledger.log.tree import EMPTY_ROOT, leaf_hash

SALT = b"s" * 32


class Site:
    """A home with a log, an old copy of it, and what the others hold."""

    def __init__(self, path):
        self.home = path / "home"
        log = new_log(self.home)
        self.notes = [log.note]
        for number in range(4):
            log.append([draft(number), draft(number, study=STUDY)], NOW_US)
            self.notes.append(log.note)
            if number == 1:
                log.put_secret(1, "x", SALT, b"value")
                self.copy = path / "copy"
                self.kept = log.checkpoint.size
                log.close()
                shutil.copytree(self.home, self.copy)
                log = Log.open(self.home, log=LOG_KEY)
        self.raws = [entry.raw for entry in log.entries()]
        self.head = log.checkpoint
        log.close()

    def roll_back(self):
        shutil.rmtree(self.home)
        shutil.copytree(self.copy, self.home)

    def recover(self, source=None, witnessed=None, log=LOG_KEY):
        return recover_tail(
            self.home,
            log_id=LOG_ID,
            log=log,
            source=self.raws if source is None else source,
            witnessed=self.notes if witnessed is None else witnessed,
        )

    def check(self, log_key=LOG_KEY):
        assert verify_log(self.home).findings == ()
        with_log = Log.open(self.home, log=log_key)
        assert with_log.checkpoint == self.head
        with_log.append([draft(99)], NOW_US)
        with_log.close()
        assert not (self.home / "recovering").exists()


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_a_log_restored_from_an_old_copy_gets_its_tail_back(site):
    site.roll_back()
    found = site.recover()
    assert (found.size, found.root) == (site.head.size, site.head.root)
    assert (found.kept, found.taken, found.refused, found.secrets_kept) == (site.kept, 4, 0, 1)
    assert {path.name for path in found.damaged.iterdir()} >= {"ledger.db", HEADS_NAME}
    with_secret = LogReader.open(site.home)
    assert with_secret.open_secret(1, "x").value == b"value"
    with_secret.close()
    site.check()


def test_a_lost_home_is_rebuilt_from_mirrors_alone(site):
    for name in ("ledger.db", HEADS_NAME):
        (site.home / name).unlink()
    found = site.recover(source=iter([*site.raws, site.raws[3]]))
    assert (found.kept, found.taken) == (0, len(site.raws))
    site.check()


def test_without_notes_the_heads_that_are_left_say_how_far_it_must_reach(site):
    (site.home / "ledger.db").unlink()
    with pytest.raises(RecoveryIncomplete) as caught:
        site.recover(source=site.raws[:4], witnessed=[])
    assert caught.value.missing == (range(4, site.head.size),)
    site.recover(witnessed=[])
    site.check()


def test_a_head_of_nothing_does_not_make_nothing_a_log(site):
    """Whoever was asked may answer anything, such as a note of a log without entries."""
    for name in ("ledger.db", HEADS_NAME):
        (site.home / name).unlink()
    origin = site.head.origin
    nothing = note_sign(Checkpoint(origin, 0, EMPTY_ROOT).text, origin, STRANGER)
    for witnessed in ([], [nothing]):
        with pytest.raises(RecoveryIncomplete) as caught:
            site.recover(source=[], witnessed=witnessed)
        assert caught.value.missing == (range(1),)
    site.recover(witnessed=[nothing, *site.notes])
    site.check()


def test_entries_that_cannot_be_read_come_from_the_others(site):
    tamper = Tampering(site.home)
    tamper.flip(3, 60)
    tamper.connection.close()
    found = site.recover()
    assert (found.kept, found.taken) == (3, len(site.raws) - 3)
    site.check()


def test_a_database_that_is_noise_counts_as_lost(site):
    (site.home / "ledger.db").write_bytes(b"noise" * 4_096)
    assert site.recover().kept == 0
    site.check()


@pytest.mark.parametrize(
    ("statement", "secrets_kept"),
    [
        ("UPDATE entry SET leaf = 'x' WHERE seq = 3", 1),
        ("DROP TABLE secret", 0),
        ("UPDATE secret SET salt = 'x'", 0),
        ("DELETE FROM entry WHERE seq = 3", 1),
    ],
)
def test_what_is_left_of_damaged_tables_is_used(site, statement, secrets_kept):
    tamper = Tampering(site.home)
    tamper.run(statement)
    tamper.connection.close()
    assert site.recover().secrets_kept == secrets_kept
    site.check()


def test_a_head_in_heads_log_that_nobody_signed_does_not_count(site):
    with (site.home / HEADS_NAME).open("ab") as file:
        file.write(pack_record(HeadRecord(len(site.raws), bytes(32), bytes(64))))
        file.write(pack_record(HeadRecord(99, bytes(32), bytes(64))))
    site.recover()
    site.check()


def test_heads_that_were_cut_or_altered_are_written_again(site):
    heads = site.home / HEADS_NAME
    content = bytearray(heads.read_bytes())
    content[-RECORD_BYTES - 9] ^= 1
    heads.write_bytes(content[: -RECORD_BYTES // 2])
    assert site.recover(source=()).taken == 0
    site.check()
    heads.write_bytes(b"not even\na header" * 9)
    site.head = Log.open(site.copy, log=LOG_KEY).checkpoint
    shutil.copy(site.copy / "ledger.db", site.home / "ledger.db")
    heads.write_bytes(f"other\n{OWNER.origin}\n".encode())
    assert site.recover(source=(), witnessed=[]).size == site.kept


def test_what_is_missing_is_named_and_nothing_is_touched(site):
    site.roll_back()
    before = [(site.home / name).read_bytes() for name in ("ledger.db", HEADS_NAME)]
    gap = [*site.raws[: site.kept], site.raws[6], site.raws[8]]
    with pytest.raises(RecoveryIncomplete, match=r"5 … 5, 7 … 7") as caught:
        site.recover(source=gap)
    assert caught.value.missing == (range(5, 6), range(7, 8))
    assert [(site.home / name).read_bytes() for name in ("ledger.db", HEADS_NAME)] == before
    assert not list(site.home.glob("damaged*"))


def test_nothing_at_all_recovers_nothing(tmp_path):
    home = tmp_path / "empty"
    home.mkdir()
    with pytest.raises(RecoveryIncomplete):
        recover_tail(home, log_id=LOG_ID, log=LOG_KEY, source=(), witnessed=())
    assert not (home / "ledger.db").exists()


def test_a_log_is_never_shortened(site):
    found = site.recover(source=(), witnessed=site.notes[:1])
    assert found.size == site.head.size
    site.check()


def test_entries_beyond_every_known_head_are_not_believed(site):
    site.roll_back()
    found = site.recover(witnessed=site.notes[:4])
    assert found.size == 7
    assert found.taken == 2


def test_hostile_entries_and_notes_are_refused_one_by_one(site):
    site.roll_back()
    forged = bytearray(site.raws[5])
    forged[-1] ^= 1
    stranger = note_sign(Checkpoint(OWNER.origin, 99, bytes(32)).text, OWNER.origin, STRANGER)
    other = note_sign(Checkpoint("other", 99, bytes(32)).text, OWNER.origin, LOG_KEY)
    found = site.recover(
        source=[b"noise", bytes(forged), *site.raws],
        witnessed=[stranger, other, b"noise", *site.notes],
    )
    assert found.refused == 2
    site.check()


def contradicting(site, seq):
    """An entry of another history, signed by the log key."""
    return sign_entry(
        draft(77),
        identity=OWNER,
        seq=seq,
        prev=leaf_hash(site.raws[seq - 1]),
        time_us=NOW_US,
        log=LOG_KEY,
    )


def test_two_histories_are_not_merged(site):
    site.roll_back()
    false_note = note_sign(Checkpoint(OWNER.origin, 7, bytes(32)).text, OWNER.origin, LOG_KEY)
    with pytest.raises(RecoveryContradiction):
        site.recover(witnessed=[*site.notes, false_note])
    for seq in (1, 3):
        with pytest.raises(RecoveryContradiction):
            site.recover(source=[contradicting(site, seq), *site.raws])
    with pytest.raises(RecoveryContradiction):
        site.recover(source=[*site.raws[:5], contradicting(site, 5), *site.raws[6:]])


def test_entries_left_that_contradict_a_head_are_not_merged(site):
    site.roll_back()
    false_note = note_sign(Checkpoint(OWNER.origin, 2, bytes(32)).text, OWNER.origin, LOG_KEY)
    with pytest.raises(RecoveryContradiction):
        site.recover(witnessed=[*site.notes, false_note])
    released = site.home / HEADS_NAME
    released.write_bytes((site.copy / HEADS_NAME).read_bytes())
    second = new_log(site.home.parent / "second")
    second.append([draft(50), draft(51)], NOW_US)
    second.close()
    released.write_bytes((site.home.parent / "second" / HEADS_NAME).read_bytes())
    with pytest.raises(RecoveryContradiction):
        site.recover()


def test_another_log_or_another_key_is_refused(site):
    with pytest.raises(errors.LogKeyWrong):
        site.recover(log=STRANGER)
    with pytest.raises(RecoveryIncomplete):
        recover_tail(site.home, log_id=bytes(32), log=LOG_KEY, source=site.raws, witnessed=())


def test_a_running_log_is_not_recovered(site):
    log = Log.open(site.home, log=LOG_KEY)
    with pytest.raises(errors.Locked):
        site.recover()
    log.close()


def test_a_lost_rotation_of_keys_is_followed(site):
    new = Signer(b"n" * 32)
    log = Log.open(site.home, log=LOG_KEY)
    statement = sign_rotation(
        LOG_ID, old_pk=LOG_KEY.public_key, new_pk=new.public_key, identity=IDENTITY
    )
    log.rotate(new, statement, NOW_US)
    log.append([draft(5)], NOW_US)
    site.raws, site.notes = [entry.raw for entry in log.entries()], [log.note]
    site.head = log.checkpoint
    log.close()
    site.roll_back()
    with pytest.raises(RecoveryIncomplete):
        site.recover(source=site.raws[:9], log=new)
    assert site.recover(log=new).size == site.head.size
    site.check(new)


def test_a_secret_that_the_lost_tail_erased_stays_erased(site):
    log = Log.open(site.home, log=LOG_KEY)
    log.close()
    site.roll_back()
    log = Log.open(site.home, log=LOG_KEY)
    log.redact(1, "x", basis="art-17", now_us=NOW_US)
    raws, note = [entry.raw for entry in log.entries()], log.note
    log.close()
    site.roll_back()
    found = site.recover(source=raws, witnessed=[note])
    assert found.secrets_kept == 0


def test_long_logs_are_rebuilt_in_parts(original, tmp_path):
    reader = LogReader.open(original)
    home = tmp_path / "home"
    home.mkdir()
    found = recover_tail(
        home,
        log_id=reader.log_id,
        log=LOG_KEY,
        source=[entry.raw for entry in reader.entries()],
        witnessed=[reader.note],
    )
    assert (found.size, found.root) == (reader.checkpoint.size, reader.checkpoint.root)
    reader.close()
    assert verify_log(home).findings == ()


def test_a_disk_that_refuses_the_exchange_is_named(site, monkeypatch):
    def refuse(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(errors.StoreError, match="disk full"):
        site.recover()
