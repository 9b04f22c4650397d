"""Checking proofs that somebody hands over as files: that an entry is in a log, that a log grew.

Responsible for: `.tlog-proof` files (C2SP), and files of a consistency proof between two heads.
Must not know: any store. Fork proofs have their own check (see `forks`).

    c2sp.org/tlog-proof@v1           dl-ledger/consistency-proof@v1
    [extra <base64>]                 <base64 hash> …
    index <decimal>                  (blank line)
    <base64 hash> …                  <note of the older head>
    (blank line)                     (blank line)
    <note of the head>               <note of the newer head>
Source: c2sp.org/tlog-proof; RFC 6962 sections 2.1.1 and 2.1.2.
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ledger.log.entries import RAW_BYTES_MAX
from ledger.log.errors import NoteUnsigned, ProofRefused
from ledger.log.notes import (
    NOTE_BYTES_MAX,
    Checkpoint,
    KeyType,
    NoteSignature,
    VerifierKey,
    cosignatures_of,
    decode_base64,
    note_text,
    signature_lines,
)
from ledger.log.tree import HASH_BYTES, leaf_hash, verify_consistency, verify_inclusion

INCLUSION_HEADER = "c2sp.org/tlog-proof@v1"
CONSISTENCY_HEADER = "dl-ledger/consistency-proof@v1"
HASHES_MAX = 64
PROOF_BYTES_MAX = 2 * NOTE_BYTES_MAX + 2 * RAW_BYTES_MAX
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})", re.ASCII)


class ProofFileMalformed(ProofRefused):
    rule = "a proof file is a known header, its fields, hashes, an empty line and signed notes"


class EntryNeeded(ProofRefused):
    rule = "that an entry is in a log can be checked with the entry's bytes only"
    next_step = "Give the entry's file, too."


@dataclass(frozen=True, slots=True)
class InclusionVerdict:
    """The entry with this leaf hash is number `index` under `head`.

    signatures: of the log and of witnesses, among the keys that were given; extra: what the file
    says besides, which nobody signed.
    """

    index: int
    leaf: bytes
    head: Checkpoint
    signatures: tuple[NoteSignature, ...]
    extra: bytes


@dataclass(frozen=True, slots=True)
class ConsistencyVerdict:
    """The log of `newer` only appended to what it was at `older`."""

    older: Checkpoint
    newer: Checkpoint
    signatures: tuple[NoteSignature, ...]


ProofVerdict: TypeAlias = InclusionVerdict | ConsistencyVerdict


def check_proof(
    data: bytes, keys: Sequence[VerifierKey], entry: bytes | None = None
) -> ProofVerdict:
    """Check a proof file under `keys`: the log's, and those of witnesses to look for.

    entry: the bytes that an inclusion proof is about (a raw entry).
    Raises: ProofFileMalformed, EntryNeeded, NoteError, ProofRefused.
    """
    if len(data) > PROOF_BYTES_MAX:
        raise ProofFileMalformed(expected=f"at most {PROOF_BYTES_MAX} bytes", actual=len(data))
    try:
        content = data.decode()
    except UnicodeDecodeError as error:
        raise ProofFileMalformed(actual=error.reason) from None
    top, _, rest = content.partition("\n\n")
    header, *lines = top.split("\n")
    if header == INCLUSION_HEADER:
        return _check_inclusion(lines, rest.encode(), keys, entry)
    if header == CONSISTENCY_HEADER:
        return _check_consistency(lines, rest, keys)
    raise ProofFileMalformed(actual=header[:80])


def consistency_file(proof: Sequence[bytes], older: bytes, newer: bytes) -> bytes:
    """The file of an RFC 6962 consistency proof between two heads, as notes."""
    lines = [CONSISTENCY_HEADER, *map(_base64, proof), "", ""]
    return "\n".join(lines).encode() + older + b"\n" + newer


def inclusion_file(index: int, proof: Sequence[bytes], note: bytes) -> bytes:
    """The `.tlog-proof` file of an RFC 6962 inclusion proof under a head."""
    lines = [INCLUSION_HEADER, f"index {index}", *map(_base64, proof), "", ""]
    return "\n".join(lines).encode() + note


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


def _check_inclusion(
    lines: list[str], note: bytes, keys: Sequence[VerifierKey], entry: bytes | None
) -> InclusionVerdict:
    extra = b""
    if lines and lines[0].startswith("extra "):
        decoded = decode_base64(lines.pop(0).removeprefix("extra "))
        if decoded is None:
            raise ProofFileMalformed("extra", expected="base64")
        extra = decoded
    found = _INDEX.fullmatch(lines[0]) if lines else None
    if found is None:
        raise ProofFileMalformed("index", actual=lines[0][:80] if lines else "nothing")
    proof = _hashes(lines[1:])
    head, signatures = _signed(note, keys)
    if entry is None:
        raise EntryNeeded
    leaf = leaf_hash(entry)
    verify_inclusion(leaf, int(found[1]), head.size, proof, head.root)
    return InclusionVerdict(int(found[1]), leaf, head, signatures, extra)


def _check_consistency(
    lines: list[str], rest: str, keys: Sequence[VerifierKey]
) -> ConsistencyVerdict:
    proof = _hashes(lines)
    parts = rest.split("\n\n")
    if len(parts) != 4:
        raise ProofFileMalformed("notes", expected="two")
    older, _ = _signed("\n\n".join(parts[:2]).encode() + b"\n", keys)
    newer, signatures = _signed("\n\n".join(parts[2:]).encode(), keys)
    if older.origin != newer.origin:
        raise ProofFileMalformed("heads of one log", expected=older.origin, actual=newer.origin)
    verify_consistency(older.size, newer.size, older.root, newer.root, proof)
    return ConsistencyVerdict(older, newer, signatures)


def _hashes(lines: Sequence[str]) -> tuple[bytes, ...]:
    if len(lines) > HASHES_MAX:
        raise ProofFileMalformed(expected=f"at most {HASHES_MAX} hashes", actual=len(lines))
    found = []
    for line in lines:
        node = decode_base64(line)
        if node is None or len(node) != HASH_BYTES:
            raise ProofFileMalformed("hash", expected="base64 of 32 bytes", actual=line[:80])
        found.append(node)
    return tuple(found)


def _signed(
    note: bytes, keys: Sequence[VerifierKey]
) -> tuple[Checkpoint, tuple[NoteSignature, ...]]:
    """The head in a note that the log itself signed, and every signature by one of `keys`."""
    head = Checkpoint.parse(note_text(note))
    signatures = tuple(cosignatures_of(head.text, signature_lines(note), *keys))
    if not any(
        found.key.name == head.origin and found.key.type is KeyType.ED25519 for found in signatures
    ):
        raise NoteUnsigned(expected=f"a signature of {head.origin}")
    return head, signatures
