"""Replacing the log key, and erasing a value that an entry commits to. Both stay on record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from ledger.log import Committed, Log, Signer, compromise_draft, sign_rotation
from ledger.provenance.moments import moment_of
from p2pfl.runtime.commands.codes import checked_code
from p2pfl.runtime.commands.log_keys import keep_next_log_key, settle_log_key
from p2pfl.runtime.commands.opening import Site
from p2pfl.runtime.errors import EXIT_REFUSED, EXIT_USAGE, OperatorError


@dataclass(frozen=True, slots=True)
class RotateKey:
    """Replace the log key. compromised_since_us: from when on others may have used the old one.

    0: it is replaced for another reason."""

    confirmed: bool
    compromised_since_us: int = 0


@dataclass(frozen=True, slots=True)
class KeyRotated:
    """The log goes on under another key."""

    seq: int
    old: bytes
    new: bytes
    compromised_since_us: int


def rotate_key(site: Site, request: RotateKey) -> KeyRotated:
    """A new log key: durable first, then on record, then in force. Raises OperatorError."""
    if request.compromised_since_us > site.now_us():
        raise OperatorError(
            f"{moment_of(request.compromised_since_us)} is in the future.",
            fix="Name the time, UTC, since which somebody else may have had the key.",
            exit_code=EXIT_USAGE,
        )
    if not request.confirmed:
        raise OperatorError(
            "The log key would be replaced for good: entries from now on are signed by a new one.",
            fix="Do it with --yes, then make a new key backup: the old one no longer opens the "
            "ledger.",
            exit_code=EXIT_REFUSED,
        )
    seed = site.random_bytes(32)
    new, identity = Signer(seed), site.ledger.identity
    statement = sign_rotation(
        identity.log_id,
        old_pk=identity.log_pk,
        new_pk=new.public_key,
        identity=Signer(site.keys.identity),
    )
    keep_next_log_key(site.home, seed)

    def rotate(log: Log, now_us: int) -> Committed:
        return log.rotate(new, statement, now_us, actor="operator")

    try:
        (entry,) = site.ledger.change(rotate)
    finally:
        settle_log_key(site.home)
    if request.compromised_since_us:
        since_us = request.compromised_since_us
        site.record(compromise_draft(identity.log_pk, since_us, "operator"))
    return KeyRotated(entry.seq, identity.log_pk, new.public_key, request.compromised_since_us)


@dataclass(frozen=True, slots=True)
class Redact:
    """Erase the value behind a commitment. basis: a code for the legal ground."""

    seq: int
    field: str
    basis: str
    confirmed: bool


@dataclass(frozen=True, slots=True)
class Redacted:
    """The value is gone; the entry that committed to it stays. recorded_as −1: it was before."""

    seq: int
    field: str
    recorded_as: int


def redact(site: Site, request: Redact) -> Redacted:
    """Erase a value for good, with the entry that says so. Raises OperatorError, LedgerError."""
    field, basis = checked_code(request.field), checked_code(request.basis)
    if not request.confirmed:
        raise OperatorError(
            f'"{field}" of entry {request.seq} would be erased for good: nobody can open the '
            "entry's commitment afterwards.",
            fix="Erase it with --yes. Backups of the home still hold it: erase it there, too.",
            exit_code=EXIT_REFUSED,
        )

    def erase(log: Log, now_us: int) -> Committed | None:
        return log.redact(request.seq, field, basis=basis, now_us=now_us, actor="data-manager")

    recorded = site.ledger.change(erase)
    return Redacted(request.seq, field, recorded[0].seq if recorded else -1)


def time_us_of(text: str) -> int:
    """µs UTC of a moment as people write it; 0 for an empty text. Raises OperatorError.

    >>> time_us_of("1970-01-01T00:00:01Z")
    1000000
    """
    if not text:
        return 0
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise OperatorError(
            f'"{text[:40]}" is no time.',
            fix="Write it like 2026-03-01T14:30:00Z (UTC).",
            exit_code=EXIT_USAGE,
        ) from error
    aware = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1_000_000)
