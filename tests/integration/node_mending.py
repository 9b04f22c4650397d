"""Losing a ledger and mending it, with nodes in the test's own process."""

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing

from bridged_transport import dialling
from node_homes import Consortium, audit_code, entries, p2pfl, p2pfl_json
from node_in_process import LocalNode

from gossip.memory_transport import Switchboard
from ledger.log import LogId
from ledger.log.mirror_errors import LogUnknown
from ledger.log.witness_store import WitnessDatabase
from p2pfl.core.events import OwnLog
from p2pfl.runtime.commands.incarnations import Incarnated, NewIncarnation, new_incarnation
from p2pfl.runtime.commands.ledger_recovering import LedgerRecovered, Recover, recover
from p2pfl.runtime.home import Home

ASKED_S = 120.0
WAIT_S = 240.0


def now_us() -> int:
    return time.time_ns() // 1000


@asynccontextmanager
async def nodes_of(
    made: Consortium, switchboard: Switchboard, *indices: int, must_ask: bool = False
) -> AsyncIterator[list[LocalNode]]:
    own_log = OwnLog.UNCONFIRMED if must_ask else OwnLog.CONFIRMED
    nodes = [LocalNode(made, index, switchboard, own_log=own_log) for index in indices]
    try:
        for node in nodes:
            await node.start()
        yield nodes
    finally:
        for node in nodes:
            await node.stop()
            assert node.seen.bugs == []


async def until(condition: Callable[[], object]) -> None:
    """Wait for what is on disk: looking at it costs more than the nodes' own work."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.2)


async def mirrored(made: Consortium, switchboard: Switchboard) -> None:
    """Every site holds all entries of every other one."""
    async with nodes_of(made, switchboard, 0, 1, 2):
        await until(lambda: all(_holds_all(made, holder) for holder in range(3)))


def _holds_all(made: Consortium, holder: int) -> bool:
    if not (made.home(holder).path / "witness.db").is_file():
        return False
    with closing(WitnessDatabase.open(made.home(holder).path / "witness.db")) as book:
        for index in set(range(3)) - {holder}:
            log_id = LogId(made.roster.member(made.site(index)).log_id)
            try:
                held = book.first_missing_entry(log_id)
            except LogUnknown:  # its node has just made the file
                return False
            if held < len(entries(made.home(index))):
                return False
    return True


async def recovered(
    home: Home, switchboard: Switchboard, *, confirmed: bool = True
) -> LedgerRecovered:
    dial = dialling(switchboard)
    request = Recover(confirmed, wait_s=ASKED_S)
    return await asyncio.to_thread(recover, home, request, now_us=now_us, dial=dial)


async def incarnated(home: Home, switchboard: Switchboard, *, confirmed: bool = True) -> Incarnated:
    dial = dialling(switchboard)
    return await asyncio.to_thread(
        new_incarnation,
        home,
        NewIncarnation(confirmed, wait_s=ASKED_S),
        now_us=now_us,
        random_bytes=os.urandom,
        dial=dial,
    )


async def healed(made: Consortium, switchboard: Switchboard, others: list[LocalNode]) -> None:
    """The first site takes part again: confirmed, cosigned by the others, its audit clean."""
    async with nodes_of(made, switchboard, 0, must_ask=True) as (node,):
        await until(lambda: node.driver.core.own_log is OwnLog.CONFIRMED)
        await until(lambda: _is_cosigned(made.home(0)))
        assert others[0].driver.core.accused == frozenset()
    assert audit_code(made.home(0)) == 0


def _is_cosigned(home: Home) -> bool:
    seen = p2pfl_json(home, "ledger", "status")
    return bool(seen["quorum_met"] and seen["cosigned_size"] == seen["size"])


def lose_disk(made: Consortium) -> None:
    home = made.home(0)
    for path in (*home.path.glob("ledger.db*"), home.heads_log, home.path / "witness.db"):
        path.unlink(missing_ok=True)


def forget_entries(made: Consortium, holder: int) -> None:
    path = made.home(holder).path / "witness.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM entry")


def sign_next_roster(made: Consortium) -> None:
    """Every member agrees to the first site's new card."""
    following = made.folder / "next.roster"
    following.unlink(missing_ok=True)
    card = made.home(0).card("site0")
    p2pfl(made.home(1), "roster", "renew", str(card), "--out", str(following))
    for home in made.homes:
        p2pfl(home, "roster", "sign", str(following))
    for home in made.homes[:-1]:
        p2pfl(home, "roster", "install", str(following))
