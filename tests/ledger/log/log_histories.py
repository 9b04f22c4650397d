"""Logs in memory that can be made to tell two histories, for the tests of witnessing."""

from base64 import b64encode
from hashlib import sha256

from log_samples import IDENTITY, LOG_KEY, NOW_US, WITNESS, draft

from ledger.log import (
    Checkpoint,
    KeyType,
    LogIdentity,
    VerifierKey,
    Witness,
    WitnessDatabase,
    cosign,
    note_sign,
)
from ledger.log.entries import NO_PREVIOUS, sign_entry
from ledger.log.forks import nodes_of
from ledger.log.genesis import genesis_draft, identity_from_body
from ledger.log.mirror_limits import WitnessLimits
from ledger.log.tree import leaf_hash, prove_consistency, root_at

NOW_S = NOW_US // 1_000_000

GENESIS = genesis_draft(
    deployment="tests",
    identity=IDENTITY,
    log_pk=LOG_KEY.public_key,
    witness_pk=WITNESS.public_key,
    nonce=bytes(32),
)
OWNER: LogIdentity = identity_from_body(GENESIS.body)
LOG_ID, ORIGIN = OWNER.log_id, OWNER.origin
KEY = OWNER.verifier_key
WITNESS_NAME = "tests/witness"
WITNESS_KEY = VerifierKey(WITNESS_NAME, KeyType.COSIGNATURE_V1, WITNESS.public_key)


class History:
    """What one reader was shown: entries that `branch` makes differ from number `start` on."""

    def __init__(self, size, *, branch=0, start=1, real=False):
        """real: true entries in a chain; otherwise leaves of nothing, which are quick to make."""
        self.raws = []
        if real:
            self._sign(size, branch, start)
            self.leaves = [leaf_hash(raw) for raw in self.raws]
        else:
            self.leaves = [
                sha256(b"%d/%d" % (seq, branch if seq >= start else 0)).digest()
                for seq in range(size)
            ]
        self.node_at = nodes_of(self.leaves)

    def _sign(self, size, branch, start):
        prev = NO_PREVIOUS
        for seq in range(size):
            number = seq + (1_000 * branch if seq >= start else 0)
            what = draft(number) if seq else GENESIS
            raw = sign_entry(what, identity=OWNER, seq=seq, prev=prev, time_us=NOW_US, log=LOG_KEY)
            prev = leaf_hash(raw)
            self.raws.append(raw)

    def head(self, size=None):
        size = len(self.leaves) if size is None else size
        return Checkpoint(ORIGIN, size, root_at(size, self.node_at))

    def note(self, size=None, *, signer=LOG_KEY):
        return note_sign(self.head(size).text, ORIGIN, signer)

    def cosigned(self, size=None, *, time_s=1_800_000_000):
        """A note with the witness's cosignature."""
        head = self.head(size)
        return self.note(size) + cosign(head.text, WITNESS_NAME, WITNESS, time_s)


def opened(path, **limits):
    database = WitnessDatabase.open(path, WitnessLimits(**limits))
    database.set_logs({LOG_ID: KEY})
    database.set_witnesses([WITNESS_KEY, KEY])
    return database


def follow(database, history, size=None):
    """Hear of a head and mirror its leaves."""
    size = len(history.leaves) if size is None else size
    assert database.note_seen(LOG_ID, history.note(size), NOW_US) is None
    held = database.mirrored_size(LOG_ID)
    assert database.mirror(LOG_ID, held, history.leaves[held:size]) is None


def ask(database, history, old, size, *, proof=None, signer=LOG_KEY):
    if proof is None:
        proof = prove_consistency(old, size, history.node_at) if old else ()
    lines = [f"old {old}", *(b64encode(node).decode() for node in proof)]
    data = "\n".join(lines).encode() + b"\n\n" + history.note(size, signer=signer)
    return Witness(WITNESS_NAME, WITNESS, database).answer(data, NOW_S)
