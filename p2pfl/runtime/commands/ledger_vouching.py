"""What other sites vouch for: the cosigned head of the own ledger, for exports and reports.

Reads `witness.db` beside a running node; a home without one has nobody who vouches."""

from __future__ import annotations

from collections.abc import Sequence

from ledger.log import LogId, LogView, VerifierKey
from ledger.log.errors import LedgerError
from ledger.log.heads_file import HEADS_NAME, read_tail, scan_records
from ledger.log.witness_store import WITNESS_NAME, WitnessDatabase
from ledger.provenance.witnessing import Cosigned, PeerLog, Witnessing
from p2pfl.core.witnessing_epochs import epochs_held
from p2pfl.runtime.commands.opening import installed_roster
from p2pfl.runtime.home import Home

WITNESS_NAME_HEX = 16


def cosigned_head(home: Home, log: LogView) -> tuple[bytes, Sequence[VerifierKey]]:
    """The newest own head that was cosigned, as a note with all lines, and the members' keys.

    Nothing where no head was cosigned. Raises LedgerError for a damaged store."""
    roster = installed_roster(home)
    if roster is None or not (home.path / WITNESS_NAME).is_file():
        return b"", ()
    book = WitnessDatabase.open(home.path / WITNESS_NAME)
    try:
        own = book.own_cosignatures()
        epochs = epochs_held(roster.members, book)
    finally:
        book.close()
    note = note_at(home, log, own.size) if own else b""
    if own is None or not note:
        return b"", ()
    lines = (c.line for c in own.cosignatures if epochs.count(c))
    return note + b"".join(lines), epochs.keys


def witnessing_at(home: Home) -> Witnessing | None:
    """Who cosigned the own ledger and what is held of others; None where nothing was witnessed.

    Raises LedgerError for a damaged store."""
    roster = installed_roster(home)
    if roster is None or not (home.path / WITNESS_NAME).is_file():
        return None
    book = WitnessDatabase.open(home.path / WITNESS_NAME)
    try:
        own = book.own_cosignatures()
        names = {_witness_name(card.site): card.name for card in roster.members}
        epochs = epochs_held(roster.members, book)
        cosigned = [c for c in own.cosignatures if epochs.count(c)] if own else []
        peers = [_peer(book, card.name, LogId(card.log_id)) for card in roster.members]
        return Witnessing(
            size=own.size if own else 0,
            cosigned=tuple(Cosigned(names.get(c.witness, c.witness), c.time_s) for c in cosigned),
            peers=tuple(sorted((x for x in peers if x), key=lambda peer: peer.name)),
            forks=len(book.forks()),
        )
    finally:
        book.close()


def _peer(book: WitnessDatabase, name: str, log_id: LogId) -> PeerLog | None:
    try:
        held = book.head_of(log_id)
    except LedgerError:
        return None  # never heard of, or the own log
    return PeerLog(name, held.size, held.seen_us, held.cosigned_us) if held else None


def _witness_name(site: bytes) -> str:
    """The name under which a site cosigns, as `p2pfl.core` makes it."""
    return f"witness-{site.hex()[:WITNESS_NAME_HEX]}"


def note_at(home: Home, log: LogView, size: int) -> bytes:
    """The own released head of this size as a note; empty if heads.log has none."""
    if log.checkpoint.size == size:
        return log.note
    with (home.path / HEADS_NAME).open("rb") as file:
        tail = read_tail(file, log.origin)
        for record in scan_records(file, log.origin, tail):
            if record is not None and record.size == size:
                return record.note(log.identity)
    return b""
