"""Whose log it is: its name, the keys it was founded with, and the log keys it had since.

Responsible for: the names of a log, and which key signs which entry and head.
Must not know: how an entry is encoded or stored.

Entry `n` is signed by the key in force at `n`; so is the head of size `n`. A `key.rotated` entry
is still signed by the old key, every entry after it, and every head that covers it, by the new.
"""

import re
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import NewType

from ledger.log.errors import GenesisInvalid
from ledger.log.notes import KeyType, VerifierKey, key_id_of

LogId = NewType("LogId", bytes)

_is_deployment = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class LogKey:
    """A log key, the number of the first entry it signs, and the four bytes that name it."""

    first_seq: int
    public_key: bytes
    key_id: bytes


@dataclass(frozen=True, slots=True)
class Previous:
    """The log that this one goes on from, after a loss or a fork.

    note: the last witnessed head of it, with its cosignatures; empty if nobody held one.
    missing_from: the first of its entries that the site lost; the head's size if it lost none.
    """

    log_id: LogId
    note: bytes
    missing_from: int


@dataclass(frozen=True, slots=True)
class LogIdentity:
    """Whose log it is, as bound by its genesis entry, and its log keys, oldest first."""

    log_id: LogId
    origin: str
    deployment: str
    identity_pk: bytes
    witness_pk: bytes
    nonce: bytes
    keys: tuple[LogKey, ...]
    previous: Previous | None

    @property
    def log_pk(self) -> bytes:
        """The log key in force now."""
        return self.keys[-1].public_key

    @property
    def key_id(self) -> bytes:
        """How entries name the log key in force now."""
        return self.keys[-1].key_id

    @property
    def verifier_key(self) -> VerifierKey:
        """The key that signs this log's next checkpoints."""
        return self.verifier_key_at(self.keys[-1].first_seq)

    def key_at(self, number: int) -> LogKey:
        """The key of entry `number`, and of the head of that size. number: 0 or more."""
        key = self.keys[-1]
        if number < key.first_seq:
            key = next(key for key in reversed(self.keys) if key.first_seq <= number)
        return key

    def verifier_key_at(self, size: int) -> VerifierKey:
        """The key that signs this log's checkpoint of `size` entries."""
        return VerifierKey(self.origin, KeyType.ED25519, self.key_at(size).public_key)

    def with_key(self, public_key: bytes, first_seq: int) -> "LogIdentity":
        """The same log once `public_key` signs its entries from `first_seq` on."""
        return replace(self, keys=(*self.keys, log_key_of(self.origin, public_key, first_seq)))


def log_key_of(origin: str, public_key: bytes, first_seq: int) -> LogKey:
    """`public_key` as a log key of the log called `origin`."""
    return LogKey(first_seq, public_key, key_id_of(origin, KeyType.ED25519, public_key))


def log_id_of(identity_pk: bytes, nonce: bytes) -> LogId:
    """SHA256("dl-ledger/log-id/v1\\0" ‖ identity key ‖ nonce)."""
    return LogId(sha256(b"dl-ledger/log-id/v1\0" + identity_pk + nonce).digest())


def origin_of(deployment: str, log_id: bytes) -> str:
    """`<deployment>/dl-ledger/<hex log id>`. Raises GenesisInvalid for an unusable deployment."""
    if not _is_deployment(deployment):
        raise GenesisInvalid("deployment", expected="[a-z0-9.-]{1,63}", actual=deployment[:80])
    return f"{deployment}/dl-ledger/{log_id.hex()}"
