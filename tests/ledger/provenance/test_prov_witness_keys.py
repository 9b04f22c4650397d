"""An audit across sites where one of them replaced its witness key: both keys count, each in its
time, and whoever has the old one proves nothing with it."""

import shutil
from contextlib import closing
from pathlib import Path

import pytest
from prov_books import SiteSigners
from prov_homes import NAMES, NOW_US, audit_home, build_homes, opened, site_id
from prov_homes import witness_name as name_of
from prov_stories import DAY_US, MICRO, codes, digest, is_clean

from ledger.log import Checkpoint, Log, LogIdentity, LogReader, Signer, VerifierKey, cosign
from ledger.log.forks import encode_fork, fork_of_cosignatures
from ledger.log.identity import FOREVER_US
from ledger.log.notes import KeyType, note_with
from ledger.log.own_kinds import WITNESS_KEY, compromise_draft, rotation_draft, sign_rotation
from ledger.provenance.peers import Cosigned, Voucher, cosignatures
from ledger.provenance.peers_files import Gathering

ME, OTHER = "Basel", "Bern"
NEXT = Signer(digest("next witness"))
REPLACED_US = NOW_US - DAY_US + 60 * MICRO
STOLEN_US = REPLACED_US - DAY_US
EARLY_S = STOLEN_US // MICRO - 3600
BETWEEN_S, LATE_S = STOLEN_US // MICRO + 1, REPLACED_US // MICRO + 1


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("epochs")
    build_homes(root)
    return root


@pytest.fixture
def homes(honest: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(honest, tmp_path / "homes"))


def identity_of(home: Path) -> LogIdentity:
    with closing(LogReader.open(home)) as reader:
        return reader.identity


def replaced(home: Path, name: str, new: Signer, *, stolen_us: int = 0) -> None:
    """A site replaces its witness key, on record."""
    signers = SiteSigners.of(name)
    with closing(Log.open(home, log=signers.log)) as log:
        identity = log.identity
        statement = sign_rotation(
            identity.log_id,
            old_pk=identity.witness_pk,
            new_pk=new.public_key,
            identity=signers.identity,
            key=WITNESS_KEY,
        )
        drafts = [rotation_draft(identity, new.public_key, statement, "operator", WITNESS_KEY)]
        if stolen_us:
            lost = compromise_draft(identity.witness_pk, stolen_us, "operator", WITNESS_KEY)
            drafts.append(lost)
        log.append(drafts, REPLACED_US)


def gathered(homes: Path) -> Gathering:
    """What Basel knows once it has read Bern's ledger. Its roster names Bern's first key."""
    witnesses = {SiteSigners.of(name).witness.public_key: site_id(name) for name in NAMES}
    gathering = Gathering(identity_of(homes / ME), witnesses)
    assert gathering.add_ledger(homes / OTHER) == site_id(OTHER)
    return gathering


def counted(gathering: Gathering, signer: Signer, time_s: int, *, own: bool = False) -> bool:
    """Whether Bern's line over a head of Basel's log counts."""
    assert gathering.identity is not None
    text = Checkpoint(gathering.identity.origin, 5, digest("root")).text
    line = cosign(text, name_of(OTHER), signer, time_s)
    found = cosignatures(text, [line], gathering.vouchers, own=own)
    assert found in ((), (Cosigned(site_id(OTHER), time_s),))
    return bool(found)


def test_each_key_vouches_for_its_own_time(homes: Path) -> None:
    replaced(homes / OTHER, OTHER, NEXT)
    gathering = gathered(homes)
    old = SiteSigners.of(OTHER).witness
    assert [counted(gathering, old, at_s) for at_s in (EARLY_S, BETWEEN_S, LATE_S)] == [
        True,
        True,
        False,
    ]
    assert counted(gathering, NEXT, LATE_S)
    assert not counted(gathering, Signer(digest("stranger")), LATE_S)


def test_a_disowned_key_vouches_only_for_what_the_logs_site_got_before(homes: Path) -> None:
    """Whoever stole it can write any time into a line, and hand it over in a file of his own."""
    replaced(homes / OTHER, OTHER, NEXT, stolen_us=STOLEN_US)
    gathering = gathered(homes)
    old = SiteSigners.of(OTHER).witness
    for at_s in (EARLY_S, BETWEEN_S, LATE_S):
        assert not counted(gathering, old, at_s)
        assert counted(gathering, old, at_s, own=True) == (at_s == EARLY_S)


def test_an_audit_across_sites_is_clean_over_both_keys(homes: Path) -> None:
    """Bern cosigned Basel's heads under its first key; now it has another."""
    before = audit_home(homes, peers=[OTHER])
    replaced(homes / OTHER, OTHER, NEXT)
    after = audit_home(homes, peers=[OTHER])
    assert is_clean(after)
    assert before.context.peers is not None
    assert after.context.peers is not None
    log_id = identity_of(homes / ME).log_id
    assert [h.cosigned for h in after.context.peers.heads_of(log_id)] == [
        h.cosigned for h in before.context.peers.heads_of(log_id)
    ]


def test_lines_of_the_new_key_in_the_own_store_count(homes: Path) -> None:
    replaced(homes / OTHER, OTHER, NEXT)
    identity = identity_of(homes / ME)
    with closing(LogReader.open(homes / ME)) as reader:
        head = reader.checkpoint
    line = cosign(head.text, name_of(OTHER), NEXT, LATE_S)
    store = opened(homes / ME)
    store.put_own_cosignature(head.size, head.root, line, LATE_S)
    store.close()
    report = audit_home(homes, peers=[OTHER])
    assert is_clean(report)
    assert report.context.peers is not None
    newest = [h for h in report.context.peers.heads_of(identity.log_id) if h.size == head.size]
    assert Cosigned(site_id(OTHER), LATE_S) in [c for h in newest for c in h.cosigned]


def accusation(homes: Path, signer: Signer, *times_s: int) -> bytes:
    """Two heads of Basel's log that a key of Bern's cosigned."""
    key = VerifierKey(name_of(OTHER), KeyType.COSIGNATURE_V1, signer.public_key)
    origin = identity_of(homes / ME).origin
    notes = [
        note_with(text, cosign(text, key.name, signer, time_s))
        for which, time_s in zip("ab", times_s, strict=True)
        for text in [Checkpoint(origin, 5, digest(which)).text]
    ]
    proof = fork_of_cosignatures(key, *notes)
    assert proof is not None
    return encode_fork(proof)


def test_two_lines_accuse_whoever_has_to_answer_for_their_key(homes: Path, tmp_path: Path) -> None:
    old = SiteSigners.of(OTHER).witness
    stolen = Path(shutil.copytree(homes, tmp_path / "stolen"))
    replaced(homes / OTHER, OTHER, NEXT)
    replaced(stolen / OTHER, OTHER, NEXT, stolen_us=STOLEN_US)
    early, late = accusation(homes, old, EARLY_S, EARLY_S), accusation(homes, old, EARLY_S, LATE_S)
    assert gathered(homes).add_fork(early)
    assert not gathered(homes).add_fork(late)
    assert gathered(homes).add_fork(accusation(homes, NEXT, LATE_S, LATE_S))
    assert not gathered(homes).add_fork(accusation(homes, Signer(digest("x")), LATE_S, LATE_S))
    for proof in (early, late):
        assert not gathered(stolen).add_fork(proof)
    (homes / "fork").write_bytes(early)
    assert "fork.proven" in codes(audit_home(homes, peers=[OTHER, "fork"]))


def test_a_site_names_no_other_sites_key_as_its_own(homes: Path) -> None:
    """Else what Chur cosigned would be laid to Bern."""
    stranger = SiteSigners.of("Chur").witness
    replaced(homes / OTHER, OTHER, stranger)
    whose = gathered(homes).vouchers[stranger.public_key]
    assert whose == Voucher(site_id("Chur"))


def test_a_log_of_no_member_names_no_witness(homes: Path) -> None:
    replaced(homes / OTHER, OTHER, NEXT)
    gathering = Gathering(identity_of(homes / ME), {})
    gathering.add_ledger(homes / OTHER)
    assert gathering.vouchers == {}


def test_of_two_copies_of_a_log_the_earlier_end_of_a_key_counts(homes: Path) -> None:
    short = Path(shutil.copytree(homes / OTHER, homes / "short"))
    replaced(homes / OTHER, OTHER, NEXT, stolen_us=STOLEN_US)
    gathering = gathered(homes)
    gathering.add_ledger(short)
    old = SiteSigners.of(OTHER).witness.public_key
    assert gathering.vouchers[old] == Voucher(site_id(OTHER), STOLEN_US, is_disowned=True)
    assert gathering.vouchers[NEXT.public_key].until_us == FOREVER_US


def test_the_audit_of_the_robbed_site_says_what_its_old_key_is_worth(homes: Path) -> None:
    replaced(homes / ME, ME, NEXT, stolen_us=STOLEN_US)
    report = audit_home(homes, peers=[OTHER])
    assert is_clean(report)
    (check,) = [check for check in report.checks if check.id == "keys"]
    old = SiteSigners.of(ME).witness.public_key.hex()[:16]
    assert [note for note in check.notes if old in note and "does not count" in note]
