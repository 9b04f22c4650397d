"""`p2pfl ledger mirror`: what this site holds of the others' ledgers, and they of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from gossip.keys import read_keys
from ledger.log import LedgerError, LogId, WitnessDatabase
from ledger.log.witness_store import WITNESS_NAME, EntryForm
from p2pfl.runtime.commands.ledger_losses import (
    WAIT_S,
    Dial,
    ask_others,
    names_of,
    own_log,
    require_stopped,
)
from p2pfl.runtime.commands.opening import required_roster
from p2pfl.runtime.errors import EXIT_NO_INPUT, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.lock import hold_home


@dataclass(frozen=True, slots=True)
class MirrorSeen:
    """Another site's ledger as it is held here. entries: without a gap, from the first on."""

    name: str
    site: bytes
    size: int
    """Entries under the newest head held; 0 if none is."""
    leaves: int
    """Leaf hashes that this head confirms."""
    entries: int
    readable: int
    """Of those, in plain: the others only their own site can open."""


@dataclass(frozen=True, slots=True)
class OwnMirrored:
    """The own ledger at the other sites, as they answered just now."""

    size: int
    """Entries under the largest own head that somebody holds."""
    asked: tuple[str, ...]
    silent: tuple[str, ...]
    entries: int
    """Entries that came back …"""
    given_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mirrors:
    """Both directions; own is None unless the others were asked."""

    others: tuple[MirrorSeen, ...]
    own: OwnMirrored | None


def mirrors_here(home: Home) -> Mirrors:
    """What this home holds of the others, also beside a running node. Raises OperatorError."""
    roster, me = required_roster(home), read_keys(home.keys).site
    if not (home.path / WITNESS_NAME).is_file():
        raise OperatorError(
            "No node has mirrored anything in this home yet.",
            fix="Start the node: `p2pfl node start`.",
            exit_code=EXIT_NO_INPUT,
        )
    with closing(WitnessDatabase.open(home.path / WITNESS_NAME)) as book:
        members = sorted(roster.members, key=lambda card: card.name)
        return Mirrors(
            tuple(
                _seen(book, card.name, card.site, LogId(card.log_id))
                for card in members
                if card.site != me
            ),
            None,
        )


def ask_for_own(
    home: Home,
    *,
    wait_s: float = WAIT_S,
    dial: Dial | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Mirrors:
    """Have the others give back this site's whole ledger, as a drill: nothing is changed.

    Raises OperatorError."""
    require_stopped(home)
    with hold_home(home, purpose="ledger mirror"):
        roster = required_roster(home)
        own = own_log(home, read_keys(home.keys), roster, from_start=True)
        found = ask_others(own, dial, wait_s=wait_s, tell=tell)
    collected = found.collected
    mirrored = OwnMirrored(
        found.size,
        names_of(roster, collected.answered),
        found.silent,
        len(collected.entries),
        names_of(roster, tuple(collected.given_by)),
    )
    return Mirrors(mirrors_here(home).others, mirrored)


def _seen(book: WitnessDatabase, name: str, site: bytes, log_id: LogId) -> MirrorSeen:
    try:
        head, leaves = book.head_of(log_id), book.confirmed_size(log_id)
        held = book.first_missing_entry(log_id)
        readable = sum(1 for e in book.entries(log_id, 0, held) if e.form is EntryForm.PLAIN)
    except LedgerError:
        return MirrorSeen(name, site, 0, 0, 0, 0)  # never heard of
    return MirrorSeen(name, site, 0 if head is None else head.size, leaves, held, readable)
