"""What every transport must do, whatever carries its bytes. Subclassed by one test file each."""

import asyncio
import os
import time
from pathlib import Path

import pytest
from net_stage import MIB, Net, left_behind, on_net

from gossip.errors import (
    BlobMismatch,
    BlobNotServed,
    FetchBusy,
    FetchFailed,
    TransportStopped,
    Unreachable,
)
from gossip.identifiers import SiteId, digest_of
from gossip.limits import ENVELOPE_BYTES_MAX


class TransportConformance:
    def net(self, count: int) -> Net:
        raise NotImplementedError

    # Messages

    @on_net
    async def test_messages_arrive_in_order_with_their_source(self, net: Net, tmp: Path) -> None:
        a, b = await net.start(2)
        sent = [f"{n} ".encode() * (1 + n * 31 % 997) for n in range(150)]
        sent.append(os.urandom(ENVELOPE_BYTES_MAX))
        for raw in sent:
            await a.send(b, raw)
        await b.inbox.until(lambda inbox: len(inbox.got) == len(sent))
        assert b.inbox.got == [(a.site, raw) for raw in sent]

    @on_net
    async def test_many_sends_at_once_all_arrive(self, net: Net, tmp: Path) -> None:
        a, b, c = await net.start(3)
        sent = [n.to_bytes(2, "big") * 1500 for n in range(100)]
        await asyncio.gather(*(a.send(other, raw) for raw in sent for other in (b, c)))
        for other in (b, c):
            await other.inbox.until(lambda inbox: len(inbox.got) == len(sent))
            assert sorted(other.inbox.payloads()) == sorted(sent)

    @on_net
    async def test_a_broadcast_reaches_everybody_else_and_not_oneself(
        self, net: Net, tmp: Path
    ) -> None:
        nodes = await net.start(4)
        await nodes[0].transport.broadcast(b"a study is proposed")
        for node in nodes[1:]:
            await node.inbox.until(lambda inbox: b"a study is proposed" in inbox.payloads())
        await nodes[1].send(nodes[0], b"the end")
        await nodes[0].inbox.until(lambda inbox: bool(inbox.got))
        assert nodes[0].inbox.payloads() == [b"the end"]

    @on_net
    async def test_a_burst_of_broadcasts_arrives_also_from_a_restarted_site(
        self, net: Net, tmp: Path
    ) -> None:
        nodes = await net.start(4)
        for turn in range(2):
            sent = {b"turn %d, decision %d" % (turn, n) for n in range(40)}
            for raw in sorted(sent):
                await nodes[0].transport.broadcast(raw)
            for node in nodes[1:]:
                await node.inbox.until(lambda inbox, sent=sent: sent <= set(inbox.payloads()))
            if turn == 0:
                await nodes[0].stop()
                for node in nodes[1:]:
                    await node.inbox.until(lambda inbox: nodes[0].site not in inbox.online)
                await nodes[0].start()
                await net.meet(nodes)

    @on_net
    async def test_too_large_and_empty_messages_are_our_own_bug(self, net: Net, tmp: Path) -> None:
        a, b = await net.start(2)
        for raw in (b"", bytes(ENVELOPE_BYTES_MAX + 1)):
            with pytest.raises(ValueError, match="bytes"):
                await a.send(b, raw)
            with pytest.raises(ValueError, match="bytes"):
                await a.transport.broadcast(raw)

    # Connections

    @on_net
    async def test_every_member_is_reported_once(self, net: Net, tmp: Path) -> None:
        nodes = await net.start(4)
        for node in nodes:
            others = {other.site for other in nodes if other is not node}
            assert node.transport.connected_sites() == others
            assert sorted(node.inbox.events) == sorted(("connected", site) for site in others)

    @on_net
    async def test_a_peer_that_stops_is_noticed(self, net: Net, tmp: Path) -> None:
        a, b = await net.start(2)
        await b.stop()
        await a.inbox.until(lambda inbox: not inbox.online, wait_s=5.0)
        assert a.transport.connected_sites() == frozenset()
        with pytest.raises(Unreachable):
            await a.send(b, b"hello")

    @on_net
    async def test_a_peer_that_restarts_is_met_again(self, net: Net, tmp: Path) -> None:
        a, b = await net.start(2)
        for turn in range(2):
            await b.stop()
            await a.inbox.until(lambda inbox: not inbox.online)
            await b.start()
            await net.meet([a, b])
            await a.send(b, b"to the restarted %d" % turn)
            await b.send(a, b"from the restarted %d" % turn)
            await b.inbox.until(lambda inbox: len(inbox.got) == 1)
            await a.inbox.until(lambda inbox, n=turn + 1: len(inbox.got) == n)
        whats = [what for what, _ in a.inbox.events]
        assert whats == ["connected", "disconnected"] * 2 + ["connected"]

    @on_net
    async def test_who_is_not_there_is_unreachable_at_once(self, net: Net, tmp: Path) -> None:
        a, _b = await net.start(2)
        absent = net.nodes[3]
        began_s = time.monotonic()
        with pytest.raises(Unreachable):
            await a.send(absent, b"hello")
        with pytest.raises(Unreachable):
            await a.transport.send(SiteId(bytes(32)), b"hello")
        with pytest.raises(Unreachable):
            await a.fetch(absent, b"data", tmp / "x")
        with pytest.raises(Unreachable):
            await a.send(a, b"to myself")
        assert time.monotonic() - began_s < 5.0

    @on_net
    async def test_a_removed_member_is_cut_off(self, net: Net, tmp: Path) -> None:
        a, b, c = await net.start(3)
        later = net.roster_of([a, b], version=2)
        a.transport.set_roster(later)
        b.transport.set_roster(later)
        await a.inbox.until(lambda inbox: inbox.online == {b.site})
        await c.inbox.until(lambda inbox: not inbox.online)
        with pytest.raises(Unreachable):
            await a.send(c, b"hello")
        await a.send(b, b"still here")
        await b.inbox.until(lambda inbox: b"still here" in inbox.payloads())

    @on_net
    async def test_who_was_removed_while_away_is_told_when_it_dials(
        self, net: Net, tmp: Path
    ) -> None:
        a, b, c = net.nodes[:3]
        later, farewell = net.roster_of([a, b], version=2), os.urandom(ENVELOPE_BYTES_MAX)
        await asyncio.gather(a.start(later), b.start(later))
        await net.meet([a, b])
        assert a.transport is not None
        a.transport.set_farewells({c.card.transport_pk: farewell})
        await c.start()  # with the roster that it knows
        await c.inbox.until(lambda inbox: (a.site, farewell) in inbox.got)
        assert a.inbox.online == {b.site}
        assert not a.inbox.got

    @on_net
    async def test_a_new_member_is_met_after_the_roster_names_it(self, net: Net, tmp: Path) -> None:
        a, b, c, d = net.nodes
        both = net.roster_of([a, b])
        await asyncio.gather(a.start(both), b.start(both))
        await net.meet([a, b])
        await c.start()
        later = net.roster_of([a, b, c, d], version=2)
        a.transport.set_roster(later)
        b.transport.set_roster(later)
        await net.meet([a, b, c])

    @on_net
    async def test_nothing_comes_after_stop(self, net: Net, tmp: Path) -> None:
        a, b = await net.start(2)
        await b.send(a, b"before")
        await a.inbox.until(lambda inbox: bool(inbox.got))
        await a.stop()
        seen = (list(a.inbox.events), list(a.inbox.got))
        await a.stop()
        await b.inbox.until(lambda inbox: not inbox.online)
        assert (a.inbox.events, a.inbox.got) == seen
        with pytest.raises(TransportStopped):
            await a.send(b, b"hello")
        with pytest.raises(TransportStopped):
            await a.transport.broadcast(b"hello")
        with pytest.raises(TransportStopped):
            await a.fetch(b, b"data", tmp / "x")

    # Blobs

    @on_net
    async def test_blobs_of_all_sizes_are_fetched(self, net: Net, tmp: Path) -> None:
        a, b = await net.start(2)
        for size in (0, 1, 65_507, MIB - 1, MIB, MIB + 1, 3 * MIB + 17):
            data = os.urandom(size)
            b.offer(data, tmp / f"served-{size}")
            steps: list[int] = []
            await a.fetch(b, data, tmp / f"had-{size}", steps.append)
            assert (tmp / f"had-{size}").read_bytes() == data
            assert steps == sorted(steps)
        assert not left_behind(tmp, "*.part")

    @on_net
    async def test_20_MB_come_while_messages_flow(self, net: Net, tmp: Path) -> None:
        a, b = await net.start(2)
        data = os.urandom(20_000_000)
        b.offer(data, tmp / "served")
        steps: list[int] = []
        fetching = asyncio.create_task(a.fetch(b, data, tmp / "had", steps.append))
        for n in range(50):
            await b.send(a, b"meanwhile %d" % n)
        await fetching
        await a.inbox.until(lambda inbox: len(inbox.got) == 50)
        assert digest_of((tmp / "had").read_bytes()) == digest_of(data)
        assert steps[-1] == len(data)

    @on_net
    async def test_several_fetches_at_once_from_one_peer(self, net: Net, tmp: Path) -> None:
        a, b = await net.start(2)
        blobs = [os.urandom(300_000 + n) for n in range(6)]
        for n, data in enumerate(blobs):
            b.offer(data, tmp / f"served-{n}")
        await asyncio.gather(*(a.fetch(b, data, tmp / f"{n}") for n, data in enumerate(blobs)))
        assert [(tmp / f"{n}").read_bytes() for n in range(6)] == blobs

    @on_net
    async def test_other_bytes_than_announced_are_refused(self, net: Net, tmp: Path) -> None:
        a, b = await net.start(2)
        data = os.urandom(2 * MIB)
        b.offer(data, tmp / "served", content=data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(BlobMismatch):
            await a.fetch(b, data, tmp / "had")
        assert not (tmp / "had").exists()
        assert not (tmp / "had.part").exists()

    @on_net
    async def test_a_shorter_file_than_announced_is_refused(self, net: Net, tmp: Path) -> None:
        a, b = await net.start(2)
        data = os.urandom(2 * MIB)
        b.offer(data, tmp / "served", content=data[: MIB + 5])
        with pytest.raises(BlobMismatch):
            await a.fetch(b, data, tmp / "had")
        assert not (tmp / "had").exists()

    @on_net
    async def test_what_is_not_served_is_said_so(self, net: Net, tmp: Path) -> None:
        a, b, c = await net.start(3)
        data = os.urandom(1000)
        with pytest.raises(BlobNotServed):
            await a.fetch(b, data, tmp / "missing")
        b.offer(data, tmp / "served")
        b.inbox.may_have = lambda site, _times: site == c.site
        with pytest.raises(BlobNotServed):
            await a.fetch(b, data, tmp / "forbidden")
        await c.fetch(b, data, tmp / "allowed")
        b.inbox.files[digest_of(data)] = tmp / "deleted meanwhile"
        with pytest.raises(BlobNotServed):
            await c.fetch(b, data, tmp / "gone")
        assert (tmp / "allowed").read_bytes() == data

    @on_net
    async def test_a_revocation_stops_a_transfer_in_the_middle(self, net: Net, tmp: Path) -> None:
        a, b = await net.start(2)
        data = os.urandom(12 * MIB)
        b.offer(data, tmp / "served")
        b.inbox.may_have = lambda _site, times: times <= 3
        with pytest.raises(BlobNotServed):
            await a.fetch(b, data, tmp / "had")
        assert not (tmp / "had").exists()

    @on_net
    async def test_a_part_is_resumed_without_fetching_it_again(self, net: Net, tmp: Path) -> None:
        a, b = await net.start(2)
        data = os.urandom(4 * MIB + 99)
        # What is there already would be wrong if it were fetched again.
        b.offer(data, tmp / "served", content=bytes(3 * MIB) + data[3 * MIB :])
        (tmp / "had.part").write_bytes(data[: 3 * MIB])
        steps: list[int] = []
        await a.fetch(b, data, tmp / "had", steps.append)
        assert (tmp / "had").read_bytes() == data
        assert steps[0] == 3 * MIB
        assert not (tmp / "had.part").exists()

    @on_net
    async def test_a_garbled_part_is_fetched_afresh_and_nobody_blamed(
        self, net: Net, tmp: Path
    ) -> None:
        a, b = await net.start(2)
        data = os.urandom(2 * MIB)
        b.offer(data, tmp / "served")
        for part in (bytes(MIB), bytes(2 * MIB), bytes(3 * MIB)):
            (tmp / "had.part").write_bytes(part)
            await a.fetch(b, data, tmp / "had")
            assert (tmp / "had").read_bytes() == data

    @on_net
    async def test_a_garbled_part_does_not_excuse_a_liar(self, net: Net, tmp: Path) -> None:
        a, b = await net.start(2)
        data = os.urandom(2 * MIB)
        b.offer(data, tmp / "served", content=bytes(2 * MIB))
        (tmp / "had.part").write_bytes(bytes(MIB))
        with pytest.raises(BlobMismatch):
            await a.fetch(b, data, tmp / "had")

    @on_net
    async def test_one_target_is_fetched_once_at_a_time(self, net: Net, tmp: Path) -> None:
        a, b = await net.start(2)
        data = os.urandom(4 * MIB)
        b.offer(data, tmp / "served")
        results = await asyncio.gather(
            a.fetch(b, data, tmp / "had"), a.fetch(b, data, tmp / "had"), return_exceptions=True
        )
        # Which of two calls made at once comes first is nobody's promise.
        assert {type(result) for result in results} == {type(None), FetchBusy}
        assert (tmp / "had").read_bytes() == data

    @on_net
    async def test_a_target_that_cannot_be_written_is_a_failed_fetch(
        self, net: Net, tmp: Path
    ) -> None:
        a, b = await net.start(2)
        b.offer(b"data", tmp / "served")
        with pytest.raises(FetchFailed, match="stored"):
            await a.fetch(b, b"data", tmp / "no such folder" / "had")
        (tmp / "had.part").symlink_to(tmp / "served")
        with pytest.raises(FetchFailed, match="stored"):
            await a.fetch(b, b"data", tmp / "had")

    @on_net
    async def test_an_absurd_size_is_refused_before_anything_is_asked(
        self, net: Net, tmp: Path
    ) -> None:
        a, b = await net.start(2)
        with pytest.raises(FetchFailed, match="too many"):
            await a.transport.fetch(b.site, digest_of(b""), 2**60, tmp / "had", lambda had: None)
        assert not left_behind(tmp, "had*")

    @on_net
    async def test_a_peer_that_stops_mid_transfer_is_resumed_after_its_restart(
        self, net: Net, tmp: Path
    ) -> None:
        a, b = await net.start(2)
        data = os.urandom(24 * MIB)
        b.offer(data, tmp / "served")
        begun = asyncio.Event()
        fetching = asyncio.create_task(
            a.fetch(b, data, tmp / "had", lambda had: begun.set() if had else None)
        )
        await begun.wait()
        await b.stop()
        with pytest.raises((FetchFailed, Unreachable)):
            await fetching
        kept = (tmp / "had.part").stat().st_size
        await b.start()
        b.offer(data, tmp / "served")
        await net.meet([a, b])
        steps: list[int] = []
        await a.fetch(b, data, tmp / "had", steps.append)
        assert steps[0] == kept > 0
        assert digest_of((tmp / "had").read_bytes()) == digest_of(data)

    @on_net
    async def test_a_cancelled_fetch_leaves_everything_working(self, net: Net, tmp: Path) -> None:
        a, b = await net.start(2)
        data = os.urandom(24 * MIB)
        b.offer(data, tmp / "served")
        begun = asyncio.Event()
        fetching = asyncio.create_task(
            a.fetch(b, data, tmp / "had", lambda had: begun.set() if had else None)
        )
        await begun.wait()
        fetching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetching
        await a.send(b, b"still there")
        await b.inbox.until(lambda inbox: b"still there" in inbox.payloads())
        assert ("disconnected", b.site) not in a.inbox.events
