"""Entries of a log: what is signed, how it is chained, and how bytes become an Entry.

Responsible for: the byte format of an entry, its signature, chain link and leaf hash.
Must not know: what a kind means, or where entries are stored.

    body = dm1{a: actor, b: {…}, k: kind, l: log id, p: prev, s: seq, t: µs UTC, v: 1}
    raw  = msgpack[body, keyid4, Ed25519(L, "dl-ledger/entry/v1\\0" ‖ body)]
    leaf = SHA256(0x00 ‖ raw), prev = leaf of entry seq−1 (32 zero bytes at seq 0)
Source: LEDGER.md, Formulas.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NewType, cast

import msgpack

from ledger.log.dm1 import BYTES_MAX, INT_MAX, Value, decode, encode
from ledger.log.ed25519 import SIGNATURE_BYTES, Signer, verify
from ledger.log.errors import (
    ChainBroken,
    EntryFieldWrong,
    EntryKeyUnknown,
    EntryMalformed,
    EntrySignatureInvalid,
    ForeignEntry,
    SequenceGap,
    TooManyBytes,
)
from ledger.log.identity import LogId, LogIdentity
from ledger.log.notes import KEY_ID_BYTES
from ledger.log.tree import HASH_BYTES, leaf_hash

Digest = NewType("Digest", bytes)

FORMAT_VERSION = 1
ENTRY_DOMAIN = b"dl-ledger/entry/v1\0"
GENESIS_KIND = "log.genesis"
NO_PREVIOUS = bytes(HASH_BYTES)
# An entry's overhead around its body: array, three bin headers, key id, signature.
RAW_BYTES_MAX = BYTES_MAX + 96

# Kinds and actors repeat; hostile ones only push each other out of the cache.
_is_kind = lru_cache(1024)(re.compile(r"[a-z_]{1,32}(\.[a-z_]{1,32}){0,2}", re.ASCII).fullmatch)
_is_actor = lru_cache(1024)(re.compile(r"[A-Za-z0-9._:@/-]{1,128}", re.ASCII).fullmatch)
_BODY_KEYS = ("a", "b", "k", "l", "p", "s", "t", "v")
_BODY_TYPES = (str, dict, str, bytes, bytes, int, int, int)
_BodyValues = tuple[str, dict[str, Value], str, bytes, bytes, int, int, int]
# How many bytes of an entry precede its body, by the msgpack type of the body's length.
_BODY_STARTS = {0xC4: 3, 0xC5: 4, 0xC6: 6}
_TAIL_BYTES = 2 + KEY_ID_BYTES + 2 + SIGNATURE_BYTES


@dataclass(frozen=True, slots=True)
class Draft:
    """What a caller wants appended. The log adds number, chain link, time and signature.

    kind: dotted lower-case words; actor: a pseudonym or role, never a person's name.
    """

    kind: str
    actor: str
    body: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Entry:
    """One parsed entry. `raw` is what is stored and hashed, `leaf` its leaf hash."""

    log_id: LogId
    seq: int
    prev: bytes
    time_us: int
    kind: str
    actor: str
    body: Mapping[str, Value]
    key_id: bytes
    signature: bytes
    raw: bytes
    leaf: bytes


def sign_entry(
    draft: Draft, *, identity: LogIdentity, seq: int, prev: bytes, time_us: int, log: Signer
) -> bytes:
    """The raw bytes of `draft` as entry `seq`: see `signed_entry`."""
    return signed_entry(draft, identity=identity, seq=seq, prev=prev, time_us=time_us, log=log).raw


def signed_entry(
    draft: Draft, *, identity: LogIdentity, seq: int, prev: bytes, time_us: int, log: Signer
) -> Entry:
    """`draft` as entry `seq`, signed by the key that `identity` has then: what `parse_entry`
    makes of its raw bytes.

    Raises: EntryFieldWrong or a subclass of EncodingError; nothing is ever signed in part.
    """
    _check_fields(draft.kind, draft.actor, seq, time_us)
    body = encode(
        {
            "a": draft.actor,
            "b": dict(draft.body),
            "k": draft.kind,
            "l": identity.log_id,
            "p": prev,
            "s": seq,
            "t": time_us,
            "v": FORMAT_VERSION,
        }
    )
    signature, key_id = log.sign(ENTRY_DOMAIN + body), identity.key_at(seq).key_id
    raw = bytes(msgpack.packb([body, key_id, signature]))
    return Entry(
        identity.log_id,
        seq,
        prev,
        time_us,
        draft.kind,
        draft.actor,
        dict(sorted(draft.body.items())),
        key_id,
        signature,
        raw,
        leaf_hash(raw),
    )


def parse_entry(raw: bytes) -> Entry:
    """The entry that `raw` encodes. Its signature is *not* verified here.

    Raises: TooManyBytes, EntryMalformed, EntryFieldWrong, or a subclass of EncodingError.
    """
    body_bytes, key_id, signature = split_raw(raw)
    fields = decode(body_bytes)
    if not isinstance(fields, dict) or tuple(fields) != _BODY_KEYS:
        raise EntryFieldWrong(expected="keys a b k l p s t v")
    values = tuple(fields.values())
    if tuple(map(type, values)) != _BODY_TYPES:
        raise EntryFieldWrong("types")
    actor, body, kind, log_id, prev, seq, time_us, version = cast(_BodyValues, values)
    if version != FORMAT_VERSION:
        raise EntryFieldWrong("v", expected=FORMAT_VERSION, actual=version)
    if len(log_id) != HASH_BYTES or len(prev) != HASH_BYTES:
        raise EntryFieldWrong("l and p", expected="32 bytes each")
    _check_fields(kind, actor, seq, time_us)
    return Entry(
        LogId(log_id), seq, prev, time_us, kind, actor, body, key_id, signature, raw, leaf_hash(raw)
    )


def split_raw(raw: bytes) -> tuple[bytes, bytes, bytes]:
    """(body, key id, signature) of an entry, without looking into the body.

    Raises: TooManyBytes, EntryMalformed.
    """
    if len(raw) > RAW_BYTES_MAX:
        raise TooManyBytes(expected=f"at most {RAW_BYTES_MAX}", actual=len(raw))
    start = _BODY_STARTS.get(raw[1] if len(raw) > 1 else 0, 0)
    body = raw[start : len(raw) - _TAIL_BYTES]
    key_id = raw[len(raw) - SIGNATURE_BYTES - 2 - KEY_ID_BYTES : len(raw) - SIGNATURE_BYTES - 2]
    signature = raw[len(raw) - SIGNATURE_BYTES :]
    # Packing the parts again proves every header byte and length at once.
    if not start or msgpack.packb([body, key_id, signature]) != raw:
        raise EntryMalformed(actual=raw[:40])
    return body, key_id, signature


def _check_fields(kind: str, actor: str, seq: int, time_us: int) -> None:
    if not _is_kind(kind):
        raise EntryFieldWrong("kind", expected="dotted lower-case words", actual=kind[:80])
    if not _is_actor(actor):
        raise EntryFieldWrong("actor", expected="[A-Za-z0-9._:@/-]{1,128}", actual=actor[:80])
    if not 0 <= seq <= INT_MAX:
        raise EntryFieldWrong("seq", expected="0 … 2^63−1", actual=seq)
    if not 0 <= time_us <= INT_MAX:
        raise EntryFieldWrong("time", expected="0 … 2^63−1 µs", actual=time_us)


def verify_entry(entry: Entry, identity: LogIdentity) -> None:
    """Check that `entry` is signed by the log key in force at its number, and is its own log's.

    Raises: ForeignEntry, EntryKeyUnknown, EntrySignatureInvalid.
    """
    if entry.log_id != identity.log_id:
        raise ForeignEntry(expected=identity.log_id, actual=entry.log_id)
    key = identity.key_at(entry.seq)
    if entry.key_id != key.key_id:
        raise EntryKeyUnknown(expected=key.key_id, actual=entry.key_id)
    body = entry.raw[_BODY_STARTS[entry.raw[1]] : -_TAIL_BYTES]
    if not verify(key.public_key, ENTRY_DOMAIN + body, entry.signature):
        raise EntrySignatureInvalid(actual=f"entry {entry.seq}")


def verify_link(entry: Entry, seq: int, prev: bytes) -> None:
    """Check that `entry` is number `seq` and follows the leaf `prev`.

    Raises: SequenceGap, ChainBroken.
    """
    if entry.seq != seq:
        raise SequenceGap(expected=seq, actual=entry.seq)
    if entry.prev != prev:
        raise ChainBroken(f"entry {seq}", expected=prev, actual=entry.prev)
