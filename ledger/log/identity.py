"""Whose log it is: its name, the keys it was founded with, and the log keys it had since.

Responsible for: the names of a log, which key signs which entry and head, and with which keys its
site cosigned other logs' heads.
Must not know: how an entry is encoded or stored.

Entry `n` is signed by the key in force at `n`; so is the head of size `n`. A `key.rotated` entry
is still signed by the old key, every entry after it, and every head that covers it, by the new.
"""

import re
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import NewType

from ledger.log.dm1 import INT_MAX
from ledger.log.errors import GenesisInvalid
from ledger.log.notes import KeyType, VerifierKey, key_id_of

LogId = NewType("LogId", bytes)

FOREVER_US = INT_MAX
_is_deployment = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class LogKey:
    """A log key, the number of the first entry it signs, and the four bytes that name it."""

    first_seq: int
    public_key: bytes
    key_id: bytes


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """A key with which the log's site cosigns other logs' heads.

    until_us: a cosignature that states this time or a later one (µs UTC) does not count: the key
    was replaced then, or others may have had it. is_disowned: others may have had it.
    """

    public_key: bytes
    until_us: int = FOREVER_US
    is_disowned: bool = False


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
    """Whose log it is, as bound by its genesis entry; its log and witness keys, oldest first."""

    log_id: LogId
    origin: str
    deployment: str
    identity_pk: bytes
    witnesses: tuple[WitnessKey, ...]
    nonce: bytes
    keys: tuple[LogKey, ...]
    previous: Previous | None

    @property
    def witness_pk(self) -> bytes:
        """The witness key in force now."""
        return self.witnesses[-1].public_key

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

    def with_witness(self, public_key: bytes, since_us: int) -> "LogIdentity":
        """The same log once its site cosigns under `public_key`; the key before ends then."""
        *earlier, last = self.witnesses
        ended = replace(last, until_us=min(last.until_us, since_us))
        return replace(self, witnesses=(*earlier, ended, WitnessKey(public_key)))

    def without_witness(self, public_key: bytes, since_us: int) -> "LogIdentity":
        """The same log once others may have had this witness key since then."""
        return replace(
            self,
            witnesses=tuple(
                WitnessKey(public_key, min(known.until_us, since_us), True)
                if known.public_key == public_key
                else known
                for known in self.witnesses
            ),
        )


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
