"""Private networks: real nodes under one key, and what becomes of whoever has another or none."""

import asyncio
import os
from pathlib import Path

import pytest
import trio
from free_ports import free_addresses
from net_stage import Net

from gossip.libp2p_cover import CoveredTCPStream, PlainTCPStream
from gossip.libp2p_transport import Libp2pTransport

KEY, OTHER = bytes(range(32)), bytes(32)
HELLO = b"\x13/multistream/1.0.0\n"


def net_with(*keys: bytes | None) -> Net:
    addresses = free_addresses(len(keys))
    by_address = dict(zip(addresses, keys, strict=True))
    return Net(
        lambda node, roster: Libp2pTransport(
            node.keys.transport, roster, node.address, network_key=by_address[node.address]
        ),
        addresses,
    )


def rules(net: Net, at: int) -> set[str]:
    return {reason.partition(":")[0] for _, reason in net.nodes[at].inbox.turned_away}


async def stopped(net: Net) -> None:
    await asyncio.gather(*(node.stop() for node in net.nodes))


def test_members_with_the_key_talk_and_fetch_as_ever(tmp_path: Path) -> None:
    async def run() -> None:
        net = net_with(KEY, KEY)
        one, two = net.nodes
        try:
            await asyncio.gather(one.start(), two.start())
            await one.inbox.until(lambda inbox: two.site in inbox.online)
            await one.send(two, b"covered")
            await two.inbox.until(lambda inbox: b"covered" in inbox.payloads())
            data = os.urandom(3_000_000)
            two.offer(data, tmp_path / "offered")
            await one.fetch(two, data, tmp_path / "fetched")
            assert (tmp_path / "fetched").read_bytes() == data
        finally:
            await stopped(net)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("second", "at_first", "at_second"),
    [(None, "NoNetworkKey", "NotLibp2p"), (OTHER, "OtherNetworkKey", "OtherNetworkKey")],
    ids=["none", "another"],
)
def test_whoever_has_no_key_or_another_is_named_and_never_met(
    second: bytes | None, at_first: str, at_second: str
) -> None:
    async def run() -> None:
        net = net_with(KEY, second)
        one, two = net.nodes
        try:
            await asyncio.gather(one.start(), two.start())
            await one.inbox.until(lambda _: at_first in rules(net, 0))
            await two.inbox.until(lambda _: at_second in rules(net, 1))
            assert not one.inbox.online
            assert not two.inbox.online
            told = [reason for _, reason in one.inbox.turned_away if reason.startswith(at_first)]
            assert "network key" in told[0]
        finally:
            await stopped(net)

    asyncio.run(run())


def pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    one, two = trio.socket.socketpair()
    return trio.SocketStream(one), trio.SocketStream(two)


def silent(*_told: str) -> None:
    raise AssertionError(_told)


def test_a_nonce_may_come_byte_by_byte_and_bytes_on_the_wire_say_nothing() -> None:
    async def run() -> None:
        left, wire = pair()
        writer = CoveredTCPStream(left, KEY, silent)
        await writer.write(HELLO)
        await writer.write(b"first")
        covered = await wire.receive_some(1000)
        assert len(covered) == 24 + len(HELLO) + 5
        assert b"multistream" not in covered
        feed, right = pair()
        reader = CoveredTCPStream(right, KEY, silent)
        found = bytearray()

        async def drip() -> None:
            for byte in covered:
                await feed.send_all(bytes([byte]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            found += await reader.read(3)
            room = memoryview(bytearray(64))
            while len(found) < len(HELLO) + 5:
                got = await reader.read_into(room)
                found += room[:got]
        assert found == HELLO + b"first"

    trio.run(run)


def test_two_connections_under_one_key_never_look_alike() -> None:
    async def wire_bytes() -> bytes:
        left, wire = pair()
        await CoveredTCPStream(left, KEY, silent).write(HELLO)
        return bytes(await wire.receive_some(1000))

    assert trio.run(wire_bytes) != trio.run(wire_bytes)


@pytest.mark.parametrize(
    ("said", "rule"),
    [(HELLO, "NoNetworkKey"), (bytes(24) + bytes(60), "OtherNetworkKey")],
    ids=["plain", "noise"],
)
@pytest.mark.parametrize("into", [True, False])
def test_a_covered_socket_is_closed_on_who_has_not_the_key(
    said: bytes, rule: str, into: bool
) -> None:
    async def run() -> None:
        told: list[str] = []
        left, wire = pair()
        covered = CoveredTCPStream(left, KEY, lambda _where, of, _words: told.append(of))
        await wire.send_all(said)
        got = await covered.read_into(memoryview(bytearray(99))) if into else await covered.read(99)
        assert not got
        assert told == [rule]
        assert await wire.receive_some(10) == b""

    trio.run(run)


def test_the_end_before_a_nonce_is_just_an_end() -> None:
    async def run() -> None:
        left, wire = pair()
        covered = CoveredTCPStream(left, KEY, silent)
        await wire.send_all(b"short")
        await wire.aclose()
        assert await covered.read(10) == b""

    trio.run(run)


def test_without_a_key_only_whoever_dialled_wonders_what_answers() -> None:
    async def run() -> None:
        for dialled, said, expected in (
            (True, b"\x00", ["NotLibp2p"]),
            (True, HELLO, []),
            (False, b"\x00", []),
        ):
            told: list[str] = []
            left, wire = pair()
            plain = PlainTCPStream(left, lambda _where, of, _words, told=told: told.append(of))
            plain.is_dialled = dialled
            await wire.send_all(said)
            assert await plain.read(1) == said[:1]
            assert told == expected

    trio.run(run)
