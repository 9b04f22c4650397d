"""Fork proofs: making them where two histories meet, and checking them with nothing but the file.

Responsible for: what contradicts what, and under whose signatures.
Must not know: where heads and proofs are kept, or what is done about a fork.

A proof is never about opinion: it holds two statements under one signature that no honest log (or
witness) makes, because it appends only. Whose key it is, the file shows by itself if it carries
the log's genesis entry (`lineage`); otherwise compare the key with the one you were given.
Source: LEDGER.md, Fork proofs.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import assert_never

from ledger.log.ed25519 import verify
from ledger.log.entries import ENTRY_DOMAIN, GENESIS_KIND, Entry, parse_entry, split_raw
from ledger.log.errors import LedgerError, NoteError, TooManyBytes
from ledger.log.fork_errors import (
    ForkConsistent,
    ForkKeyUnproven,
    ForkMalformed,
    ForkOfOtherLog,
    ForkRefused,
    ForkUnsigned,
)
from ledger.log.fork_proofs import (
    CosignaturesThatDisagree,
    EntriesOfOneNumber,
    ForkKind,
    ForkProof,
    HeadsOfOneSize,
    HeadsThatDisagree,
    decode_fork,
    encode_fork,
    fork_digest,
)
from ledger.log.genesis import identity_from_body
from ledger.log.identity import LogId
from ledger.log.notes import Checkpoint, KeyType, VerifierKey, note_verify
from ledger.log.own_kinds import is_log_rotation, rotated
from ledger.log.tree import Frontier, NodeAt, path_of_roots, roots_of_path

__all__ = [
    "CosignaturesThatDisagree",
    "EntriesOfOneNumber",
    "ForkKind",
    "ForkProof",
    "ForkRefused",
    "ForkVerdict",
    "HeadsOfOneSize",
    "HeadsThatDisagree",
    "check_fork",
    "check_proven",
    "decode_fork",
    "encode_fork",
    "fork_digest",
    "fork_of_cosignatures",
    "fork_of_entries",
    "fork_of_heads",
    "nodes_of",
]

_ORIGIN = re.compile(r"[a-z0-9.-]{1,63}/dl-ledger/([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ForkVerdict:
    """A fork that is proven.

    sizes: of the two heads, or the entry's number twice; keys: whose signatures prove it (compare
    them with the keys you know, unless `bound`); bound: the file itself shows that these are the
    keys of `log_id`; witness: who cosigned both sides (K4), else None.
    """

    kind: ForkKind
    log_id: LogId
    origin: str
    sizes: tuple[int, int]
    keys: tuple[VerifierKey, ...]
    bound: bool
    witness: VerifierKey | None
    sentence: str


def check_fork(data: bytes) -> ForkVerdict:
    """Check a proof's file. Raises: a ForkRefused naming why it proves nothing."""
    return check_proven(decode_fork(data))


def check_proven(proof: ForkProof) -> ForkVerdict:
    """Check a proof. Raises: a ForkRefused naming why it proves nothing."""
    match proof:
        case HeadsOfOneSize(keys, first, second, lineage):
            heads = (_signed_head(keys, first), _signed_head(keys, second))
            _check_contradict(*heads, ())
            return _verdict_of_log(ForkKind.HEADS_OF_ONE_SIZE, keys, heads, lineage)
        case HeadsThatDisagree(keys, older, newer, path, lineage):
            heads = (_signed_head(keys, older), _signed_head(keys, newer))
            if heads[0].size == heads[1].size:
                raise ForkMalformed("two heads of one size are a K1")
            _check_contradict(*heads, path)
            return _verdict_of_log(ForkKind.HEADS_THAT_DISAGREE, keys, heads, lineage)
        case EntriesOfOneNumber():
            return _check_entries(proof)
        case CosignaturesThatDisagree():
            return _check_cosignatures(proof)
        case _:
            assert_never(proof)


def _signed_head(keys: Sequence[VerifierKey], note: bytes) -> Checkpoint:
    try:
        head = Checkpoint.parse(note_verify(note, *keys).text)
    except NoteError as error:
        raise ForkUnsigned(str(error)) from error
    return head


def _check_contradict(older: Checkpoint, newer: Checkpoint, path: Sequence[bytes]) -> None:
    """Raises ForkConsistent unless no tree can have both heads; `path` is needed for two sizes."""
    if older.origin != newer.origin:
        raise ForkOfOtherLog(expected=older.origin, actual=newer.origin)
    if older.size == newer.size:
        if path:
            raise ForkMalformed("path", expected="none for two heads of one size")
        if older.root == newer.root:
            raise ForkConsistent("the two roots are the same", actual=older.root)
        return
    try:
        seen_older, seen_newer = roots_of_path(older.size, newer.size, path)
    except LedgerError as error:
        raise ForkMalformed(f"path: {error}") from error
    if seen_newer != newer.root:
        raise ForkConsistent("path", expected=newer.root, actual=seen_newer)
    if seen_older == older.root:
        raise ForkConsistent(f"the newer head's tree has the older head's root at {older.size}")


def _check_entries(proof: EntriesOfOneNumber) -> ForkVerdict:
    first, second = _signed_entry(proof.keys, proof.first), _signed_entry(proof.keys, proof.second)
    if first.log_id != second.log_id:
        raise ForkOfOtherLog(expected=first.log_id, actual=second.log_id)
    if first.seq != second.seq:
        raise ForkConsistent(f"entries {first.seq} and {second.seq}", expected="one number")
    if first.raw == second.raw:
        raise ForkConsistent("the two entries are the same")
    log_id, bound = _check_keys(proof.keys, proof.keys[0].name, proof.lineage)
    if log_id != first.log_id:
        raise ForkOfOtherLog(expected=log_id, actual=first.log_id)
    return _verdict(
        ForkKind.ENTRIES_OF_ONE_NUMBER,
        proof.keys[0].name,
        (first.seq, first.seq),
        proof.keys,
        bound,
        f"was shown in two histories: its key signed two different entries number {first.seq}.",
    )


def _signed_entry(keys: Sequence[VerifierKey], raw: bytes) -> Entry:
    try:
        entry = parse_entry(raw)
    except LedgerError as error:
        raise ForkMalformed(f"an entry: {error}") from error
    message = ENTRY_DOMAIN + split_raw(raw)[0]
    named = (key for key in keys if key.key_id == entry.key_id)
    if not any(verify(key.public_key, message, entry.signature) for key in named):
        raise ForkUnsigned(f"entry {entry.seq}")
    return entry


def _check_cosignatures(proof: CosignaturesThatDisagree) -> ForkVerdict:
    witness = proof.witness
    if witness.type is not KeyType.COSIGNATURE_V1:
        raise ForkMalformed("keys", expected="a witness's key")
    heads = (_signed_head((witness,), proof.first), _signed_head((witness,), proof.second))
    _check_contradict(*heads, proof.path)
    return _verdict(
        ForkKind.COSIGNATURES_THAT_DISAGREE,
        heads[0].origin,
        (heads[0].size, heads[1].size),
        (witness,),
        False,
        f"has two histories, and {witness.name} cosigned both of them "
        f"(sizes {heads[0].size} and {heads[1].size}): its cosignatures no longer count.",
        witness=witness,
    )


def _verdict_of_log(
    kind: ForkKind,
    keys: tuple[VerifierKey, ...],
    heads: tuple[Checkpoint, Checkpoint],
    lineage: Sequence[bytes],
) -> ForkVerdict:
    origin = heads[0].origin
    _, bound = _check_keys(keys, origin, lineage)
    older, newer = heads[0].size, heads[1].size
    if older == newer:
        claim = f"its key signed two heads of {older} entries with different roots."
    else:
        claim = (
            f"its key signed a head of {newer} entries that does not continue the one of {older}."
        )
    sentence = f"was shown in two histories: {claim}"
    return _verdict(kind, origin, (older, newer), keys, bound, sentence)


def _verdict(
    kind: ForkKind,
    origin: str,
    sizes: tuple[int, int],
    keys: tuple[VerifierKey, ...],
    bound: bool,
    sentence: str,
    *,
    witness: VerifierKey | None = None,
) -> ForkVerdict:
    log_id = _log_id_in(origin)
    return ForkVerdict(
        kind, log_id, origin, sizes, keys, bound, witness, f"The log {origin} {sentence}"
    )


def _log_id_in(origin: str) -> LogId:
    found = _ORIGIN.fullmatch(origin)
    if not found:
        raise ForkMalformed("origin", expected="<deployment>/dl-ledger/<hex>", actual=origin)
    return LogId(bytes.fromhex(found[1]))


def _check_keys(
    keys: Sequence[VerifierKey], origin: str, lineage: Sequence[bytes]
) -> tuple[LogId, bool]:
    """The log whose keys these are, and whether the file itself proves it."""
    for key in keys:
        if key.name != origin or key.type is not KeyType.ED25519:
            raise ForkOfOtherLog(expected=origin, actual=key.name)
    log_id = _log_id_in(origin)
    if not lineage:
        if len(keys) > 1:
            raise ForkKeyUnproven(actual=f"{len(keys)} keys without the entries that name them")
        return log_id, False
    try:
        proven_id, public_keys = _keys_in_force(lineage)
    except LedgerError as error:
        raise ForkKeyUnproven(str(error)) from error
    if proven_id != log_id or not {key.public_key for key in keys} <= public_keys:
        raise ForkKeyUnproven(expected=log_id, actual=proven_id)
    return log_id, True


def _keys_in_force(lineage: Sequence[bytes]) -> tuple[LogId, set[bytes]]:
    """The log that a genesis entry founded, and every key its identity key put in force.

    Rotations may come from both histories: each only has to replace a key that is known already.
    """
    genesis = parse_entry(lineage[0])
    if genesis.kind != GENESIS_KIND:
        raise ForkKeyUnproven(expected=GENESIS_KIND, actual=genesis.kind)
    founded = identity_from_body(genesis.body)
    known = {founded.log_pk: founded}
    for raw in lineage[1:]:
        entry = parse_entry(raw)
        old = entry.body.get("old")
        before = known.get(old) if isinstance(old, bytes) else None
        if before is None or not is_log_rotation(entry.kind, entry.body):
            raise ForkKeyUnproven(f"entry {entry.seq}", expected="a rotation of a known key")
        after = rotated(before, entry.seq, entry.body)
        known[after.log_pk] = after
    return founded.log_id, set(known)


# --- makers ---------------------------------------------------------------------------------------


def nodes_of(leaves: Iterable[bytes]) -> NodeAt:
    """The complete subtrees over `leaves` (leaf hashes), in memory: 64 bytes for each leaf."""
    frontier, nodes = Frontier(), {}
    for index, leaf in enumerate(leaves):
        nodes[0, index] = leaf
        for level, position, node in frontier.append(leaf):
            nodes[level, position] = node
    return lambda level, index: nodes[level, index]


def fork_of_heads(
    keys: VerifierKey | Sequence[VerifierKey],
    note_a: bytes,
    note_b: bytes,
    node_at: NodeAt | None = None,
    *,
    lineage: Sequence[bytes] = (),
) -> HeadsOfOneSize | HeadsThatDisagree | None:
    """A proof that two signed heads of one log contradict each other, or None.

    node_at: the tree under the larger head; without it only heads of one size can be compared.
    Raises: ForkUnsigned if a note is not signed by one of `keys`.
    """
    names = (keys,) if isinstance(keys, VerifierKey) else tuple(keys)
    older, newer = sorted((note_a, note_b), key=lambda note: _signed_head(names, note).size)
    old, new = _signed_head(names, older), _signed_head(names, newer)
    proof: HeadsOfOneSize | HeadsThatDisagree
    if old.size == new.size:
        proof = HeadsOfOneSize(names, older, newer, tuple(lineage))
    elif node_at is None or old.size == 0:
        return None
    else:
        path = path_of_roots(old.size, new.size, node_at)
        proof = HeadsThatDisagree(names, older, newer, path, tuple(lineage))
    return proof if _is_proven(proof) else None


def fork_of_entries(
    keys: VerifierKey | Sequence[VerifierKey],
    raw_a: bytes,
    raw_b: bytes,
    *,
    lineage: Sequence[bytes] = (),
) -> EntriesOfOneNumber | None:
    """A proof that two entries contradict each other, or None."""
    names = (keys,) if isinstance(keys, VerifierKey) else tuple(keys)
    proof = EntriesOfOneNumber(names, raw_a, raw_b, tuple(lineage))
    return proof if _is_proven(proof) else None


def fork_of_cosignatures(
    witness: VerifierKey, note_a: bytes, note_b: bytes, node_at: NodeAt | None = None
) -> CosignaturesThatDisagree | None:
    """A proof that a witness cosigned two heads that contradict each other, or None.

    node_at: the tree under the larger head. Raises: ForkUnsigned if a cosignature is missing.
    """
    first, second = sorted((note_a, note_b), key=lambda note: _signed_head((witness,), note).size)
    m, n = _signed_head((witness,), first).size, _signed_head((witness,), second).size
    path: tuple[bytes, ...] = ()
    if 0 < m < n and node_at is not None:
        path = path_of_roots(m, n, node_at)
    proof = CosignaturesThatDisagree(witness, first, second, path)
    return proof if _is_proven(proof) else None


def _is_proven(proof: ForkProof) -> bool:
    """True if the proof holds and fits into a file."""
    try:
        check_proven(proof)
        encode_fork(proof)
    except (ForkRefused, TooManyBytes):
        return False
    return True
