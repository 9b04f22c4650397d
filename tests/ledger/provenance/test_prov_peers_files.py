"""Files that other sites hand over: read as evidence, or named as what cannot be read."""

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from prov_attacks import append, cut_heads, flip
from prov_books import SiteSigners
from prov_homes import (
    NAMES,
    NOW_US,
    audit_home,
    build_homes,
    opened,
    roster_of,
    site_id,
    witness_name,
)
from prov_stories import DAY_US, codes, digest, is_clean

from ledger.log import LogIdentity, LogReader, VerifierKey, cosign, note_sign
from ledger.log.errors import NoLedger
from ledger.log.forks import encode_fork, fork_of_cosignatures, fork_of_heads
from ledger.log.notes import Checkpoint, KeyType, note_with
from ledger.provenance.kinds import PolicyChanged
from ledger.provenance.peers_files import Gathering
from p2pfl.runtime.commands.ledger_peers import gather_peers
from p2pfl.runtime.errors import OperatorError
from p2pfl.runtime.home import Home

ME, OTHERS = "Basel", ("Bern", "Chur")
NOBODY = digest("nobody")


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    build_homes(root)
    return root


@pytest.fixture
def homes(honest: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(honest, tmp_path / "homes"))


def identity_of(home: Path) -> LogIdentity:
    reader = LogReader.open(home)
    try:
        return reader.identity
    finally:
        reader.close()


@pytest.fixture
def gathering(honest: Path) -> Gathering:
    witnesses = {SiteSigners.of(name).witness.public_key: site_id(name) for name in NAMES}
    return Gathering(identity_of(honest / ME), witnesses)


# -- ledgers ---------------------------------------------------------------------------------------


def test_a_ledger_that_is_none_is_a_problem(gathering: Gathering, tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"no database")
    assert gathering.add_ledger(tmp_path) is None
    (problem,) = gathering.evidence().problems
    assert "cannot be read" in problem


def test_a_ledger_without_its_heads_is_damaged(gathering: Gathering, homes: Path) -> None:
    (homes / "Bern" / "heads.log").unlink()
    assert gathering.add_ledger(homes / "Bern") == site_id("Bern")
    (log,) = gathering.evidence().logs
    assert not log.is_sound
    assert gathering.evidence().sound == ()


def test_entries_behind_a_damage_are_left_out(gathering: Gathering, homes: Path) -> None:
    flip(homes / "Bern", 9, 60)
    gathering.add_ledger(homes / "Bern")
    (log,) = gathering.evidence().logs
    assert not log.is_sound


def test_an_altered_head_is_no_head(gathering: Gathering, homes: Path) -> None:
    path = homes / "Bern" / "heads.log"
    data = bytearray(path.read_bytes())
    data[-200] ^= 1
    path.write_bytes(bytes(data))
    gathering.add_ledger(homes / "Bern")
    (log,) = gathering.evidence().logs
    assert not log.is_sound
    assert len(log.notes) > 3


def test_of_two_copies_the_longer_one_counts(gathering: Gathering, homes: Path) -> None:
    old = Path(shutil.copytree(homes / "Bern", homes / "old"))
    append(homes / "Bern", "Bern", PolicyChanged(NOBODY), now_us=NOW_US)
    for home in (old, homes / "Bern", old):
        gathering.add_ledger(home)
    (log,) = gathering.evidence().logs
    assert log.size == len(log.leaves) == 23


def test_a_copy_of_the_audited_ledger_binds_it(homes: Path) -> None:
    copy = Path(shutil.copytree(homes / ME, homes / "copy"))
    append(copy, ME, PolicyChanged(NOBODY), now_us=NOW_US - DAY_US)
    assert codes(audit_home(homes, peers=["copy"])) >= {"log.behind"}


def test_a_damaged_copy_of_the_audited_ledger_says_nothing(homes: Path) -> None:
    copy = Path(shutil.copytree(homes / ME, homes / "copy"))
    flip(copy, 7, 60)
    assert codes(audit_home(homes, peers=["copy"])) == {"peer.unreadable"}


# -- witness.db ------------------------------------------------------------------------------------


def test_what_was_mirrored_is_enough_to_compare(homes: Path) -> None:
    for name in OTHERS:
        shutil.rmtree(homes / name)
    report = audit_home(homes, peers=())
    assert is_clean(report)
    counts = {check.id: check.count for check in report.checks}
    assert counts["sent"] == 6
    assert counts["conduct"] == 2


def test_a_witness_database_that_is_none_is_a_problem(homes: Path) -> None:
    (homes / ME / "witness.db").write_bytes(b"no database")
    assert codes(audit_home(homes, peers=OTHERS)) == {"peer.unreadable"}


def test_a_witness_database_with_damaged_rows_is_a_problem(homes: Path) -> None:
    with closing(sqlite3.connect(homes / ME / "witness.db")) as connection, connection:
        connection.execute("UPDATE own_cosignature SET root = 7")
        connection.execute("UPDATE node SET h = 'text'")
    assert "peer.unreadable" in codes(audit_home(homes, peers=OTHERS))


def test_a_mirror_before_the_genesis_entry_is_no_log(homes: Path) -> None:
    with closing(sqlite3.connect(homes / ME / "witness.db")) as connection, connection:
        connection.execute("DELETE FROM entry WHERE seq = 0")
    evidence = gather_peers(Home(homes / ME), roster_of(homes), [])
    assert evidence.logs == ()
    assert {head.log_id for head in evidence.heads} <= {identity_of(homes / ME).log_id}


def test_a_mirror_whose_newest_head_does_not_cover_its_leaves_is_no_log(homes: Path) -> None:
    before = gather_peers(Home(homes / ME), roster_of(homes), [])
    assert before.logs
    with closing(sqlite3.connect(homes / ME / "witness.db")) as connection, connection:
        connection.execute("UPDATE node SET h = randomblob(32) WHERE lvl = 0 AND idx = 1")
    assert gather_peers(Home(homes / ME), roster_of(homes), []).logs == ()


def test_a_mirrored_entry_that_was_altered_is_not_believed(homes: Path) -> None:
    with closing(sqlite3.connect(homes / ME / "witness.db")) as connection, connection:
        rows = connection.execute("SELECT log, data FROM entry WHERE seq = 7").fetchall()
        for log, data in rows:
            altered = data[:-1] + bytes([data[-1] ^ 1])
            connection.execute(
                "UPDATE entry SET data = ? WHERE seq = 7 AND log = ?", (altered, log)
            )
    evidence = gather_peers(Home(homes / ME), roster_of(homes), [])
    assert all(7 not in log.timeline.times for log in evidence.logs)


def test_a_witness_database_alone_speaks_for_nobody_in_particular(homes: Path) -> None:
    roster = roster_of(homes)
    for name in ("ledger.db", "heads.log"):
        for path in (homes / "Chur").glob(f"{name}*"):
            path.unlink()
    for path in (homes / "Chur", homes / "Chur" / "witness.db"):
        evidence = gather_peers(Home(homes / ME), roster, [path])
        assert any(head.holder == b"" for head in evidence.heads)


def test_without_a_roster_no_witness_is_known(homes: Path) -> None:
    (homes / ME / "roster" / "current.roster").unlink()
    report = audit_home(homes, peers=OTHERS)
    assert report.context.peers is not None
    assert not any(head.cosigned for head in report.context.peers.heads)


# -- proofs ----------------------------------------------------------------------------------------


def proof_of(honest: Path, name: str = ME) -> bytes:
    keys, identity = SiteSigners.of(name), identity_of(honest / name)
    texts = [Checkpoint(identity.origin, 5, digest(which)).text for which in "ab"]
    notes = [note_sign(text, identity.origin, keys.log) for text in texts]
    proof = fork_of_heads(identity.verifier_key, notes[0], notes[1])
    assert proof is not None
    return encode_fork(proof)


def witness_proof(honest: Path) -> bytes:
    signer, identity = SiteSigners.of("Bern").witness, identity_of(honest / ME)
    key = VerifierKey(witness_name("Bern"), KeyType.COSIGNATURE_V1, signer.public_key)
    texts = [Checkpoint(identity.origin, 5, digest(which)).text for which in "ab"]
    notes = [note_with(text, cosign(text, key.name, signer, 5)) for text in texts]
    proof = fork_of_cosignatures(key, notes[0], notes[1])
    assert proof is not None
    return encode_fork(proof)


def test_a_proof_about_a_known_log_counts(gathering: Gathering, honest: Path) -> None:
    assert gathering.add_fork(proof_of(honest))
    (fork,) = gathering.evidence().forks
    assert fork.form == "K1"
    assert fork.about == identity_of(honest / ME).log_id


def test_a_proof_about_a_known_witness_counts(gathering: Gathering, honest: Path) -> None:
    assert gathering.add_fork(witness_proof(honest))
    (fork,) = gathering.evidence().forks
    assert (fork.form, fork.about) == ("K4", site_id("Bern"))


def test_a_proof_about_a_strangers_key_does_not_count(gathering: Gathering, honest: Path) -> None:
    assert not gathering.add_fork(proof_of(honest, "Bern"))
    assert not gathering.add_fork(b"no proof")


def test_a_proof_is_given_as_a_file_or_found_in_a_witness_database(homes: Path) -> None:
    (homes / "fork").write_bytes(proof_of(homes))
    assert "fork.proven" in codes(audit_home(homes, peers=["fork"]))
    store = opened(homes / "Bern")
    store.put_fork(proof_of(homes))
    store.close()
    assert "fork.proven" in codes(audit_home(homes, peers=["Bern"]))


@pytest.mark.parametrize("name", ["missing", "empty", "text"])
def test_a_path_that_holds_nothing_to_compare_with_is_refused(homes: Path, name: str) -> None:
    (homes / "empty").mkdir()
    (homes / "text").write_text("hello")
    with pytest.raises(OperatorError, match=name):
        audit_home(homes, peers=[name])


def test_an_own_ledger_that_cannot_be_read_is_the_reports_business(homes: Path) -> None:
    flip(homes / ME, 0, 100)
    cut_heads(homes / ME, 1)
    assert "log.genesis-invalid" in codes(audit_home(homes, peers=OTHERS))


def test_there_is_no_report_about_nothing(tmp_path: Path) -> None:
    (tmp_path / "Basel").mkdir()
    with pytest.raises(NoLedger):
        audit_home(tmp_path)


def test_a_store_that_never_stands_still_is_a_named_problem(
    homes: Path, gathering: Gathering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As beside a node that writes all the time; one that writes once is copied again."""
    path, copy, writes = homes / "Bern" / "witness.db", shutil.copyfile, [0]

    def copy_while_written(source: Path, target: Path) -> None:
        copy(source, target)
        if writes[0]:
            writes[0] -= 1
            os.utime(path, ns=(writes[0], writes[0]))

    monkeypatch.setattr(shutil, "copyfile", copy_while_written)
    writes[0] = 1
    gathering.add_witness(path, site_id("Bern"))
    assert gathering.problems == []
    writes[0] = 1_000
    gathering.add_witness(path, site_id("Bern"))
    (problem,) = gathering.problems
    assert "changes while it is read" in problem


def test_a_store_that_would_fill_the_disk_is_not_copied(homes: Path, gathering: Gathering) -> None:
    """A file of holes takes a few blocks where it lies; its copy is as long as it says."""
    path = homes / "Bern" / "witness.db"
    os.truncate(path, shutil.disk_usage(tempfile.gettempdir()).free)
    gathering.add_witness(path, site_id("Bern"))
    (problem,) = gathering.problems
    assert "a copy of it takes" in problem
    assert "TMPDIR" in problem
