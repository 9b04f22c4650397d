"""A log's keys as its own entries prove them: which there were, and which were disowned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger.log import KeyType, LogId, LogIdentity, VerifierKey, follow, parse_entry, verify_entry
from ledger.log.genesis import parse_genesis
from ledger.log.own_kinds import compromised_by


@dataclass(frozen=True, slots=True)
class LogKeys:
    """keys: all of a log's, the newest last. disowned: of those, which others may have had."""

    keys: tuple[VerifierKey, ...] = ()
    disowned: frozenset[VerifierKey] = frozenset()

    @property
    def believed(self) -> tuple[VerifierKey, ...]:
        """Those that nobody disowned."""
        return tuple(key for key in self.keys if key not in self.disowned)


def keys_of_lineage(log_id: LogId, origin: str, entries: Sequence[bytes]) -> LogKeys:
    """From the genesis entry and those that changed the keys, raw; nothing for another log's.

    origin: the log's name in checkpoints. Raises: LedgerError unless they prove themselves."""
    identity: LogIdentity | None = None
    disowned = set[bytes]()
    for raw in entries:
        entry = parse_entry(raw)
        identity = identity or parse_genesis(raw)
        verify_entry(entry, identity)
        identity = follow(identity, entry)
        if lost := compromised_by(identity, entry):
            disowned.add(lost.public_key)
    if identity is None or identity.log_id != log_id:
        return LogKeys()
    keys = {key.public_key: _named(origin, key.public_key) for key in identity.keys}
    return LogKeys(tuple(keys.values()), frozenset(keys[public] for public in disowned))


def _named(origin: str, public_key: bytes) -> VerifierKey:
    return VerifierKey(origin, KeyType.ED25519, public_key)
