"""A stolen log key, and witnesses with several keys that saw its heads: who bounds their time."""

import pytest
from log_histories import KEY, LOG_ID, OWNER, History, opened
from log_samples import IDENTITY, LOG_KEY, NOW_US, STRANGER
from test_log_witness_keys import (
    EARLY_S,
    FIRST_ENTRY,
    LATER,
    NEXT,
    REPLACED_US,
    STOLEN_US,
    entry_of,
    rotation,
)

from ledger.log import (
    KeyType,
    KnownWitness,
    Signer,
    VerifierKey,
    compromise_draft,
    mirror_errors,
    sign_rotation,
)
from ledger.log.forks import encode_fork, fork_of_heads
from ledger.log.notes import cosign
from ledger.log.own_kinds import rotation_draft


@pytest.fixture
def database(tmp_path):
    database = opened(tmp_path / "witness.db")
    yield database
    database.close()


LOG_NEXT = STRANGER
LOG_STOLEN_US = NOW_US + 3_000_000


def log_key_stolen():
    """The log's own lineage: its log key replaced and disowned, its witness key replaced, too."""
    statement = sign_rotation(
        LOG_ID, old_pk=LOG_KEY.public_key, new_pk=LOG_NEXT.public_key, identity=IDENTITY
    )
    first = entry_of(rotation_draft(OWNER, LOG_NEXT.public_key, statement, "node"), 3)
    later = OWNER.with_key(LOG_NEXT.public_key, 4)
    lost = compromise_draft(LOG_KEY.public_key, LOG_STOLEN_US, "node")
    own = rotation(LATER, of=later)
    return [
        FIRST_ENTRY,
        first,
        entry_of(lost, 5, identity=later, log=LOG_NEXT),
        entry_of(own, 6, identity=later, log=LOG_NEXT),
    ]


OTHER = VerifierKey("tests/other", KeyType.COSIGNATURE_V1, Signer(b"\x31" * 32).public_key)
OTHER_NEXT = VerifierKey("tests/other", KeyType.COSIGNATURE_V1, Signer(b"\x32" * 32).public_key)


def follow_robbed(database):
    """The true log goes on under its second key."""
    true = History(6, branch=1)
    database.admit_lineage(LOG_ID, log_key_stolen())
    assert database.note_seen(LOG_ID, true.note(signer=LOG_NEXT), NOW_US) is None
    assert database.mirror(LOG_ID, 0, true.leaves) is None


def stolen_head(database, *signers):
    """Whether a head under the stolen log key, cosigned early by these, makes a proof."""
    false = History(3, branch=2)
    lines = (cosign(false.head().text, OTHER.name, signer, EARLY_S) for signer in signers)
    try:
        return database.note_seen(LOG_ID, false.note() + b"".join(lines), NOW_US) is not None
    except mirror_errors.KeyDisowned:
        return False


def test_a_witness_with_two_keys_is_one_witness(database):
    """Two lines of one site bound the time of a head no better than one."""
    follow_robbed(database)
    earlier = [KnownWitness(OTHER, REPLACED_US)]
    database.set_witnesses([OTHER_NEXT], 1, earlier)
    both = (Signer(b"\x31" * 32), Signer(b"\x32" * 32))
    assert not stolen_head(database, *both)
    database.set_witnesses([OTHER_NEXT], 0, [KnownWitness(OTHER, REPLACED_US, is_disowned=True)])
    assert not stolen_head(database, both[0]), "a disowned witness key bounds nothing"
    database.set_witnesses([OTHER_NEXT], 0, earlier)
    assert stolen_head(database, both[0])


def test_none_of_the_robbed_sites_own_witness_keys_says_when(database):
    follow_robbed(database)
    key = VerifierKey(OTHER.name, KeyType.COSIGNATURE_V1, LATER.public_key)
    database.set_witnesses([key])
    assert not stolen_head(database, LATER)
    database.set_witnesses([VerifierKey(OTHER.name, KeyType.COSIGNATURE_V1, NEXT.public_key)])
    assert stolen_head(database, NEXT), "another site's does"


def test_a_cosignature_that_was_held_before_its_key_was_disowned_still_counts(database):
    """It came from the witness itself, over a head that the true log now contradicts."""
    early = History(5, branch=2)
    line = cosign(early.head().text, OTHER.name, Signer(b"\x31" * 32), EARLY_S)
    database.set_witnesses([OTHER])
    database.note_seen(LOG_ID, early.note() + line, NOW_US)
    database.admit_lineage(LOG_ID, log_key_stolen())
    database.set_witnesses([OTHER_NEXT], 0, [KnownWitness(OTHER, STOLEN_US, is_disowned=True)])
    proof = database.note_seen(LOG_ID, History(5, branch=1).note(signer=LOG_NEXT), NOW_US)
    assert proof is not None


def test_a_proof_of_heads_counts_the_lines_that_come_with_it(database):
    database.admit_lineage(LOG_ID, log_key_stolen())
    a, b = History(3, branch=2), History(3, branch=3)
    notes = [
        h.note() + cosign(h.head().text, OTHER.name, Signer(b"\x31" * 32), EARLY_S) for h in (a, b)
    ]
    proof = encode_fork(fork_of_heads(KEY, *notes))
    database.set_witnesses([OTHER_NEXT], 0, [KnownWitness(OTHER, STOLEN_US, is_disowned=True)])
    with pytest.raises(mirror_errors.KeyDisowned):
        database.put_fork(proof)
    database.set_witnesses([OTHER_NEXT], 0, [KnownWitness(OTHER, REPLACED_US)])
    assert database.put_fork(proof)
