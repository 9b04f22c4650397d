"""The doctor's look at witnessing: who vouches for the own ledger, and could it be recovered?"""

from __future__ import annotations

from contextlib import closing
from typing import Final

from gossip.keys import read_keys
from ledger.log import LedgerError, LogId, LogReader, OnDamage, WitnessDatabase
from ledger.log.witness_store import WITNESS_NAME
from p2pfl.runtime.commands.doctoring import Checks, fail, ok, warn
from p2pfl.runtime.commands.ledger_witnesses import WitnessStatus, witness_status
from p2pfl.runtime.commands.opening import installed_roster
from p2pfl.runtime.home import Home

SILENT_S: Final = 24 * 3_600
NAMES_SHOWN: Final = 5


def check_witnesses(home: Home, *, now_us: int) -> Checks:
    """A forked, shortened or unknown own log; proofs; a head that a quorum has not cosigned;
    witnesses that are silent."""
    roster = installed_roster(home)
    if roster is None or not (home.path / WITNESS_NAME).is_file() or not home.ledger_db.is_file():
        return  # no consortium or no node so far; a missing ledger is another check's
    site = read_keys(home.keys).site
    with closing(LogReader.open(home.path, on_damage=OnDamage.SHOW)) as reader:
        size, log_id, frozen = reader.checkpoint.size, reader.log_id, reader.frozen
    if site in roster and roster.member(site).log_id != log_id:
        yield warn(
            "witnesses",
            "The roster in force names an older ledger of this site.",
            "Have every member sign the next roster: `p2pfl roster renew` with this site's card.",
        )
        return
    if frozen is not None:
        yield fail(
            "witnesses",
            "This site's ledger was proven to tell two histories and is frozen.",
            "Find out how it happened, then `p2pfl ledger new-incarnation`.",
        )
        return
    held = _held_of_own(home, log_id)
    if held > size:
        yield fail(
            "witnesses",
            f"The ledger has {size} entries, but a head of {held} was released: its end is lost.",
            "Stop the node, then `p2pfl ledger recover`.",
        )
        return
    seen = witness_status(home, now_us=now_us)
    if seen.forks:
        yield warn(
            "witnesses",
            f"{len(seen.forks)} proof(s) of two histories, or of a false witness, are kept.",
            "`p2pfl ledger status` names their files and who is accused; ask that site.",
        )
    yield from _cosigned(seen, len(roster.members))
    yield from _silent(seen)


def _cosigned(seen: WitnessStatus, members: int) -> Checks:
    if members < 2 or seen.witnessed_size == seen.size:
        yield ok("witnesses", f"{len(seen.cosigned_by)} sites cosigned the newest head")
        return
    yield warn(
        "witnesses",
        f"{seen.size - seen.witnessed_size} of {seen.size} entries are not cosigned yet by the "
        f"{seen.needed} sites that it takes.",
        "Start the node while the others' nodes run; `p2pfl ledger status` shows who is missing.",
    )


def _silent(seen: WitnessStatus) -> Checks:
    """A site that runs cosigns again every few minutes, also where nothing is new."""
    silent = [peer.name for peer in seen.peers if not 0 <= peer.cosigned_own_s < SILENT_S]
    if silent:
        shown = ", ".join(silent[:NAMES_SHOWN]) + (" and others" if silent[NAMES_SHOWN:] else "")
        yield warn(
            "witnesses",
            f"{len(silent)} of {len(seen.peers)} sites cosigned nothing of this ledger in the "
            f"last day: {shown}.",
            "Ask whether their nodes run, and whether they reach this one: `p2pfl node status`.",
        )


def _held_of_own(home: Home, log_id: bytes) -> int:
    """The largest own head that others showed to this site's witness; 0 if there is none."""
    try:
        with closing(WitnessDatabase.open(home.path / WITNESS_NAME)) as book:
            held = book.head_of(LogId(log_id))
            return 0 if held is None else held.size
    except LedgerError:
        return 0
