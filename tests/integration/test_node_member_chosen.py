"""What a member names or repeats as it likes: no node grows by it, or tells others for it."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from node_homes import Consortium
from node_in_process import LocalNode, until

from gossip.envelope import open_envelope, seal
from gossip.identifiers import Digest, SiteId
from gossip.memory_transport import MemoryTransport, Switchboard
from gossip.messages import Decision, StudyDecision, StudySteered, UpdateAnnounced
from gossip.pause_messages import Pause, StudyPaused
from gossip.witness_messages import CosignAnswered, CosignRequested, HeadsHeld
from ledger.log import Checkpoint, Log, Signer, note_sign
from p2pfl.core import events as ev
from p2pfl.core.inbox import OFFERED_ROUNDS
from p2pfl.core.witnessing_terms import log_key
from p2pfl.runtime.driver import EVENTS_AT_ONCE

STUDIES = 60
"""Of three messages each: a member may say so many at once."""
TURNS = 40
HEADS = 150
EVENTS = 400
COSIGNED_S = 10.0


class Ear:
    """A member's inbox that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def connected(self, site: SiteId) -> None:
        pass

    def disconnected(self, site: SiteId) -> None:
        pass

    def received(self, source: SiteId, raw: bytes) -> None:
        self.heard.append(raw)

    def refused(self, address_or_site: str, reason: str) -> None:
        pass

    def blob(self, site: SiteId, digest: Digest) -> Path | None:
        return None


@contextlib.asynccontextmanager
async def talking(
    consortium: Consortium, on_send: Callable[[bytes], None] = lambda raw: None
) -> AsyncIterator[tuple[LocalNode, MemoryTransport]]:
    """A node, and a member that it hears."""
    board = Switchboard()
    node = LocalNode(consortium, 0, board, on_send=on_send)
    member = MemoryTransport(consortium.keys(1).transport, consortium.roster, board)
    await node.start()
    await member.start(Ear())
    await until(member.connected_sites)
    try:
        yield node, member
    finally:
        await member.stop()
        await node.stop()


async def test_words_on_studies_that_nobody_proposed_leave_nothing_behind(
    consortium: Consortium,
) -> None:
    me, roster = consortium.site(1), consortium.roster
    async with talking(consortium) as (node, member):
        for _ in range(STUDIES):
            study = os.urandom(32)
            for message in (
                StudyDecision(study, Decision.APPROVED, 50, 7, bytes(32), 1),
                StudySteered(study, (("lr", "0.1"),), 0, 7, bytes(32)),
                StudyPaused(study, Pause.PAUSED, "", 0, 7, bytes(32)),
            ):
                raw = seal(consortium.keys(1).transport, me, roster.consortium, message)
                await member.send(consortium.site(0), raw)
        for name in ("study_decision", "study_steering", "study_pausing"):
            await node.seen.until(lambda name=name: len(node.seen.happened(name)) == STUDIES)
        await until(lambda: not any(task.get_name() == "lane" for task in asyncio.all_tasks()))
        assert not node.seen.bugs


async def test_a_member_that_comes_and_goes_makes_a_node_repeat_nothing(
    consortium: Consortium,
) -> None:
    """Each of its words could cost everybody's line a model: who comes back is a new neighbour."""
    announced = 0

    def count(raw: bytes) -> None:
        nonlocal announced
        message = open_envelope(raw, consortium.roster).message
        announced += isinstance(message, UpdateAnnounced)

    study = bytes.fromhex(consortium.study)
    async with talking(consortium, count) as (node, member):

        async def say(decision: Decision, seq: int) -> None:
            message = StudyDecision(study, decision, 50, seq, bytes(32), 1)
            sealed = seal(consortium.keys(1).transport, consortium.site(1), "test", message)
            await member.send(consortium.site(0), sealed)

        await say(Decision.APPROVED, 10)
        await node.seen.until(lambda: announced)
        for seq in range(11, 11 + 2 * TURNS, 2):
            await say(Decision.AWAY, seq)
            await say(Decision.APPROVED, seq + 1)
        told = 1 + 2 * TURNS
        await node.seen.until(lambda: len(node.seen.happened("study_decision")) == told)
        await until(lambda: not node.driver.effects_waiting)
        assert announced <= OFFERED_ROUNDS


async def test_what_waits_to_be_looked_at_leaves_the_rest_of_the_node_its_turns(
    consortium: Consortium,
) -> None:
    async with talking(consortium) as (node, _):
        for _ in range(EVENTS):
            node.driver.submit(ev.ClockLept(0.0))
        turns = 0
        while node.driver.events_waiting:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= EVENTS // (2 * EVENTS_AT_ONCE)


async def test_a_flood_of_heads_keeps_nobody_elses_head_from_being_cosigned(
    consortium: Consortium,
) -> None:
    """Each message of one member held sixty heads, and the disk took them one by one."""
    roster, flooder, honest = consortium.roster, consortium.keys(1), consortium.keys(2)
    origin, signer = log_key("test", roster.member(flooder.site)).name, Signer(flooder.log)

    def heads(number: int) -> bytes:
        sizes = range(10**6 + 60 * number, 10**6 + 60 * (number + 1))
        texts = (Checkpoint(origin, size, bytes(32)).text for size in sizes)
        notes = (note_sign(text, origin, signer) for text in texts)
        return seal(flooder.transport, flooder.site, "test", HeadsHeld((b"", *notes)))

    def is_answer(raw: bytes) -> bool:
        return isinstance(open_envelope(raw, roster).message, CosignAnswered)

    with contextlib.closing(Log.open(consortium.home(2).path, log=Signer(honest.log))) as log:
        request = CosignRequested(b"old 0\n\n" + log.note, 0, b"")
    floods = [heads(number) for number in range(HEADS)]
    async with talking(consortium) as (node, member):
        other = MemoryTransport(honest.transport, roster, member._switchboard)
        ear = Ear()
        await other.start(ear)
        await until(other.connected_sites)
        for flood in floods:
            await member.send(consortium.site(0), flood)
        await until(lambda: node.driver.witness.waiting)
        await other.send(consortium.site(0), seal(honest.transport, honest.site, "test", request))
        try:
            async with asyncio.timeout(COSIGNED_S):
                await until(lambda: any(map(is_answer, ear.heard)))
        finally:
            await other.stop()
