"""The network survives its own accidents: a dead trio run, crossed dials, taken ports."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
from free_ports import free_ports
from net_libp2p import libp2p_net
from net_stage import MIB, Net, Node

from gossip.errors import FetchFailed, TransportError, TransportStopped, Unreachable
from gossip.libp2p_limits import NetLimits, redial_pause_s
from gossip.libp2p_thread import ThreadDown, TrioThread
from gossip.libp2p_transport import Libp2pTransport


class Boom(Exception):
    pass


def boom() -> None:
    raise Boom


def transport(node: Node) -> Libp2pTransport:
    assert isinstance(node.transport, Libp2pTransport)
    return node.transport


def with_net(
    test: Callable[[Net], Awaitable[None]], limits: NetLimits | None = None, count: int = 4
) -> None:
    async def run() -> None:
        net = libp2p_net(count, limits or NetLimits())
        try:
            async with asyncio.timeout(200):
                await test(net)
        finally:
            await net.stop()

    asyncio.run(run())


def test_a_dead_network_thread_fails_who_waits_and_comes_back(tmp_path: Path) -> None:
    async def run(net: Net) -> None:
        a, b = await net.start(2)
        listening = transport(a).listening
        data = os.urandom(40 * MIB)
        b.offer(data, tmp_path / "served")
        begun = asyncio.Event()
        fetching = asyncio.create_task(
            a.fetch(b, data, tmp_path / "had", lambda had: begun.set() if had else None)
        )
        await begun.wait()
        transport(a)._thread.soon(boom)
        with pytest.raises(FetchFailed):
            await fetching
        await a.inbox.until(lambda inbox: ("disconnected", b.site) in inbox.events)
        with pytest.raises(Unreachable):
            await a.send(b, b"in between")
        await net.meet([a, b])
        assert transport(a).restarts == 1
        assert transport(a).listening == listening
        await a.send(b, b"after")
        await b.inbox.until(lambda inbox: b"after" in inbox.payloads())
        steps: list[int] = []
        await a.fetch(b, data, tmp_path / "had", steps.append)
        assert steps[0] > 0

    with_net(run)


def test_sites_that_dial_each_other_at_once_keep_one_connection() -> None:
    async def run(net: Net) -> None:
        a, b = await net.start(2)
        sent = [n.to_bytes(2, "big") for n in range(300)]
        for raw in sent:
            await a.send(b, raw)
            await b.send(a, raw)
        for node, other in ((a, b), (b, a)):
            await node.inbox.until(lambda inbox: len(inbox.got) == len(sent))
            assert node.inbox.payloads() == sent
            assert node.inbox.events == [("connected", other.site)]
        async with asyncio.timeout(40):
            # The connections are another thread's: nothing here is told when they change.
            while await connections(a) + await connections(b) > 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    for _ in range(3):
        with_net(run, NetLimits(yield_s=0.0))


TURNS = 20


def test_cancelling_again_and_again_does_not_break_the_connection(tmp_path: Path) -> None:
    async def run(net: Net) -> None:
        a, b = await net.start(2)
        data = os.urandom(32 * MIB)
        b.offer(data, tmp_path / "served")
        # What each leaves unread would together be more than a connection may hold.
        for turn in range(TURNS):
            enough = asyncio.Event()

            def progress(had: int, enough: asyncio.Event = enough, turn: int = turn) -> None:
                if had > turn * MIB:
                    enough.set()

            fetching = asyncio.create_task(a.fetch(b, data, tmp_path / "had", progress))
            waiting = asyncio.create_task(enough.wait())
            # A fast machine may have it all before it is told to stop: then there is no progress.
            await asyncio.wait([fetching, waiting], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            fetching.cancel()
            await asyncio.wait([fetching])
            await a.send(b, b"%d" % turn)
        await a.fetch(b, data, tmp_path / "had")
        await b.inbox.until(lambda inbox: len(inbox.got) == TURNS)
        assert a.inbox.events == [("connected", b.site)]

    with_net(run)


async def connections(node: Node) -> int:
    async def count() -> int:
        running = transport(node)._running
        assert running is not None
        return len(running.host.get_network().get_connections())

    return await transport(node)._thread.call(count)


def test_a_taken_port_is_an_error_at_start() -> None:
    async def run(net: Net) -> None:
        a = net.nodes[0]
        await a.start()
        twin = Libp2pTransport(net.nodes[1].keys.transport, net.roster, a.address)
        with pytest.raises(TransportError, match="cannot listen"):
            await twin.start(a.inbox)
        with pytest.raises(TransportStopped):
            await twin.broadcast(b"x")

    with_net(run)


@pytest.mark.parametrize("listen", ["127.0.0.1:0", ":0", "[::1]:0", "localhost:0"])
def test_a_free_port_is_found_and_told(listen: str) -> None:
    async def run(net: Net) -> None:
        a = net.nodes[0]
        alone = Libp2pTransport(a.keys.transport, net.roster, listen)
        try:
            await alone.start(a.inbox)
        except TransportError:
            if "::" in listen and not socket.has_dualstack_ipv6():
                pytest.skip("no IPv6 here")
            raise
        assert not alone.listening.endswith(":0")
        with pytest.raises(TransportStopped):
            await alone.start(a.inbox)
        await alone.stop()

    with_net(run)


@pytest.mark.parametrize("listen", ["127.0.0.1", "127.0.0.1:http", "no.such.host.invalid:0"])
def test_nonsense_to_listen_on_is_an_error_at_start(listen: str) -> None:
    async def run(net: Net) -> None:
        a = net.nodes[0]
        with pytest.raises(TransportError, match="cannot listen"):
            await Libp2pTransport(a.keys.transport, net.roster, listen).start(a.inbox)

    with_net(run)


def test_names_are_resolved() -> None:
    async def run() -> None:
        net = Net(
            lambda node, roster: Libp2pTransport(
                node.keys.transport, roster, node.address.replace("localhost", "127.0.0.1")
            ),
            [f"localhost:{port}" for port in free_ports(2)],
        )
        try:
            await net.start(2)
        finally:
            await net.stop()

    asyncio.run(run())


def test_four_nodes_meet_within_a_second_of_the_last_ones_start() -> None:
    async def run(net: Net) -> None:
        await asyncio.gather(*(node.start() for node in net.nodes[:3]))
        await net.meet(net.nodes[:3])
        await net.nodes[3].start()
        async with asyncio.timeout(2.0):  # a second, and one for a busy machine
            await net.meet(net.nodes)

    with_net(run)


def test_a_connection_that_says_good_bye_is_made_again() -> None:
    async def run(net: Net) -> None:
        a, b = await net.start(2)

        async def cut() -> None:
            running = transport(a)._running
            assert running is not None
            for conn in running.host.get_network().get_connections():
                await conn.close()

        await transport(a)._thread.call(cut)
        await a.inbox.until(lambda inbox: len(inbox.events) >= 3)
        await net.meet([a, b])
        await b.send(a, b"again")
        await a.inbox.until(lambda inbox: b"again" in inbox.payloads())

    with_net(run)


def test_importing_the_package_does_not_load_libp2p() -> None:
    code = (
        "import sys, gossip, gossip.transport, gossip.memory_transport, gossip.blob_protocol;"
        "sys.exit(any(name.split('.')[0] in ('libp2p', 'trio') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# The thread


def test_a_thread_that_is_not_there_says_so() -> None:
    async def run() -> None:
        async def forever(_nursery: trio.Nursery, halt: trio.Event) -> None:
            await halt.wait()

        thread = TrioThread(forever, name="test", on_death=lambda error: None)
        with pytest.raises(ThreadDown):
            await thread.call(trio.sleep, 0)
        thread.start()
        await thread.stop()
        with pytest.raises(ThreadDown):
            thread.soon(boom)
        await thread.stop()

    asyncio.run(run())


def test_a_job_that_is_cancelled_is_cancelled_there_too() -> None:
    async def run() -> None:
        ready = asyncio.get_running_loop().create_future()
        ended: list[str] = []

        async def main(_nursery: trio.Nursery, halt: trio.Event) -> None:
            thread.post(ready.set_result, None)
            await halt.wait()

        async def endless() -> None:
            try:
                await trio.sleep_forever()
            finally:
                ended.append("cancelled")

        thread = TrioThread(main, name="test", on_death=lambda error: None)
        thread.start()
        await ready
        job = asyncio.create_task(thread.call(endless))
        await asyncio.sleep(0)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        with pytest.raises(Boom):
            await thread.call(_raise)
        await thread.stop()
        assert ended == ["cancelled"]
        assert thread.deaths == 0

    async def _raise() -> None:
        raise Boom

    asyncio.run(run())


def test_redialling_is_quick_at_first_and_slows_down_to_seconds() -> None:
    limits = NetLimits()
    pauses = [redial_pause_s(attempt, limits, 0.0) for attempt in range(30)]
    assert sum(pauses[: limits.redial_fast_attempts]) < 2.0
    assert pauses == sorted(pauses)
    assert pauses[-1] == limits.redial_s_max
    for attempt in range(30):
        assert 0.1 <= redial_pause_s(attempt, limits, 0.999) <= limits.redial_s_max
