"""How many sites are asked before a ledger is mended: the count of the gate and of the status."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from node_homes import Consortium, found
from node_lies import witness_lied

from gossip.envelope import seal
from gossip.identifiers import Digest, SiteId
from gossip.keys import SiteKeys
from gossip.roster import Roster
from gossip.transport import Inbox
from gossip.witness_messages import HeadsHeld
from p2pfl.runtime.commands.incarnations import NewIncarnation, new_incarnation
from p2pfl.runtime.commands.ledger_recovering import Recover, recover
from p2pfl.runtime.commands.ledger_witnesses import witness_status
from p2pfl.runtime.errors import OperatorError

SITES = 4


def now_us() -> int:
    return time.time_ns() // 1000


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """Four sites: two words are enough, unless it was agreed that more of them may lie."""
    return found(tmp_path_factory.mktemp("words") / "c", SITES)


@pytest.fixture
def made(four: Consortium, tmp_path: Path) -> Consortium:
    return four.copied(tmp_path / "c")


class Answering:
    """A transport over which some members say at once that they hold nothing of the own log."""

    def __init__(self, made: Consortium, indices: tuple[int, ...]) -> None:
        self._made = made
        self._indices = indices

    async def start(self, inbox: Inbox) -> None:
        loop = asyncio.get_running_loop()
        for index in self._indices:
            keys = self._made.keys(index)
            raw = seal(keys.transport, keys.site, self._made.roster.consortium, HeadsHeld((b"",)))
            loop.call_soon(inbox.connected, keys.site)
            loop.call_soon(inbox.received, keys.site, raw)

    async def stop(self) -> None: ...

    async def send(self, site: SiteId, raw: bytes) -> None: ...

    async def broadcast(self, raw: bytes) -> None: ...

    async def fetch(
        self,
        site: SiteId,
        digest: Digest,
        size_bytes: int,
        into: Path,
        progress: Callable[[int], None],
    ) -> None:
        raise NotImplementedError("a command that mends a ledger fetches no models")


def mend(made: Consortium, command: str, *answering: int) -> str:
    """What a recovery command says that is not confirmed; nothing is changed by it."""

    def dial(keys: SiteKeys, roster: Roster, listen: str) -> Answering:
        return Answering(made, answering)

    home = made.home(0)
    try:
        if command == "recover":
            recover(home, Recover(confirmed=False, wait_s=0.2), now_us=now_us, dial=dial)
        else:
            request = NewIncarnation(confirmed=False, wait_s=0.2)
            new_incarnation(home, request, now_us=now_us, random_bytes=os.urandom, dial=dial)
    except OperatorError as refused:
        return str(refused)
    raise AssertionError(f"{command} went ahead without --yes")


def agree_on_liars(made: Consortium, count: int) -> None:
    policy = made.home(0).policy
    policy.write_text(f"{policy.read_text()}faulty_witnesses = {count}\n")


@pytest.mark.parametrize("command", ["recover", "new-incarnation"])
def test_as_many_sites_are_asked_as_the_policy_says_may_lie(made: Consortium, command: str) -> None:
    done = "Nothing is missing" if command == "recover" else "entries of the old ledger are known"
    assert "Only 1 of the 2 sites" in mend(made, command, 1)
    assert done in mend(made, command, 1, 2)
    agree_on_liars(made, 2)
    assert "Only 2 of the 3 sites" in mend(made, command, 1, 2)
    assert done in mend(made, command, 1, 2, 3)


def test_a_proven_false_witness_is_neither_counted_nor_waited_for(made: Consortium) -> None:
    witness_lied(made, liar=3, owner=1)
    assert "Only 1 of the 2 sites" in mend(made, "recover", 1, 3)
    assert "Nothing is missing" in mend(made, "recover", 1, 2)
    agree_on_liars(made, 2)
    assert "Nothing is missing" in mend(made, "recover", 1, 2)


def test_the_status_asks_for_as_many_cosignatures(made: Consortium) -> None:
    witness_lied(made, liar=3, owner=1)
    assert witness_status(made.home(0), now_us=now_us()).needed == 2
    agree_on_liars(made, 2)
    assert witness_status(made.home(0), now_us=now_us()).needed == 3
