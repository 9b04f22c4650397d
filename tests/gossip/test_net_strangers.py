"""Nothing that strangers send ends the node, fills it, or gets them in."""

import asyncio
import contextlib
import os

import pytest
from net_attack import PUSH, counted, transport, with_net
from net_hostile import ask, hostile, multistream
from net_stage import Net

from gossip.addresses import split_address
from gossip.libp2p_limits import NetLimits


def test_a_stranger_with_a_sound_key_is_refused_by_name() -> None:
    async def run(net: Net) -> None:
        a = net.nodes[0]
        async with hostile(os.urandom(32)) as stranger:
            with pytest.raises(Exception, match="fail"):
                await stranger.connect(a)
            await a.inbox.until(lambda inbox: bool(inbox.turned_away))
            who, reason = a.inbox.turned_away[0]
            assert who.startswith("127.0.0.1:")
            assert reason.startswith("NotOnRoster: transport key ")
            assert stranger.peer_id.to_bytes()[6:].hex() in reason
        assert transport(a).counts["NotOnRoster"] == 1

    with_net(run)


def test_who_holds_our_own_key_is_refused() -> None:
    async def run(net: Net) -> None:
        a = net.nodes[0]
        async with hostile(a.keys.transport) as twin:
            with pytest.raises(Exception, match=r"^"):
                await twin.connect(a)
            await counted(a, "NotOnRoster")

    with_net(run)


def test_a_member_that_was_removed_is_refused() -> None:
    async def run(net: Net) -> None:
        a, b, c, _ = net.nodes
        async with hostile(c.keys.transport) as removed:
            await removed.connect(a)
            await a.inbox.until(lambda inbox: c.site in inbox.online)
            stream = await removed.open(a, PUSH)
            transport(a).set_roster(net.roster_of([a, b], version=2))
            await a.inbox.until(lambda inbox: c.site not in inbox.online)
            assert await removed.read(stream, 1) == b""
            with pytest.raises(Exception, match=r"^"):
                await removed.connect(a)
            await counted(a, "NotOnRoster")

    with_net(run)


def test_nothing_but_noise_and_yamux_is_offered() -> None:
    async def run(net: Net) -> None:
        a = net.nodes[0]
        for protocol in ("/plaintext/2.0.0", "/secio/1.0.0", "/tls/1.0.0", "/yamux/1.0.0"):
            assert multistream("na") in await ask(a, protocol)
        listed = await ask(a, "ls")
        assert b"/noise" in listed
        assert not any(word in listed for word in (b"plaintext", b"secio", b"tls"))
        async with hostile(net.nodes[2].keys.transport) as member:
            await member.connect(a)
            for protocol in ("/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", "/meshsub/1.2.0", "/nonsense"):
                with pytest.raises(Exception, match="stream"):
                    await member.open(a, protocol)

    with_net(run)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="http"),
        pytest.param(bytes(100_000), id="zeros"),
        pytest.param(bytes(range(256)) * 400, id="bytes"),
        pytest.param(b"\xff" * 9 + b"\x7f" + b"x" * 1000, id="length of 2**70"),
        pytest.param(multistream("/multistream/1.0.0") + b"\xff" * 1000, id="negotiation"),
        pytest.param(
            multistream("/multistream/1.0.0") + multistream("/noise") + bytes(70_000), id="noise"
        ),
        pytest.param(
            multistream("/multistream/1.0.0")
            + multistream("/noise")
            + (32).to_bytes(2, "big")
            + bytes(range(32))
            + (900).to_bytes(2, "big")
            + bytes(900),
            id="noise handshake",
        ),
        pytest.param(multistream("/multistream/1.0.0") + b"\x03\xff\xfe\n", id="no UTF-8"),
    ],
)
def test_garbage_before_the_handshake_costs_only_its_connection(data: bytes) -> None:
    async def run(net: Net) -> None:
        a = net.nodes[0]
        for _ in range(3):
            _reader, writer = await asyncio.open_connection(*split_address(a.address))
            writer.write(data)
            # The node may have hung up already.
            with contextlib.suppress(ConnectionError, OSError):
                writer.write_eof()
                await writer.drain()
            writer.close()
        await counted(a, "HandshakeError", 3)

    with_net(run)


def test_connections_that_say_nothing_do_not_keep_members_out() -> None:
    async def run(net: Net) -> None:
        a, _, c, _ = net.nodes
        silent = [await asyncio.open_connection(*split_address(a.address)) for _ in range(20)]
        await c.start()
        await net.meet([a, c])
        await counted(a, "HandshakeTooSlow", 10)
        for _, writer in silent:
            writer.close()

    with_net(run, NetLimits(handshakes_max=6))


def test_a_handshake_that_never_ends_is_ended() -> None:
    async def run(net: Net) -> None:
        a = net.nodes[0]
        reader, writer = await asyncio.open_connection(*split_address(a.address))
        writer.write(multistream("/multistream/1.0.0") + multistream("/noise"))
        async with asyncio.timeout(40):
            while await reader.read(1000):
                pass
        await counted(a, "HandshakeTooSlow")
        writer.close()

    with_net(run, NetLimits(connect_s=0.5))
