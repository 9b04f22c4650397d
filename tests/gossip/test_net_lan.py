"""Members that find each other on a local network, here loopback, whatever their cards say."""

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from free_ports import free_addresses
from net_attack import transport
from net_stage import Net, Node
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from gossip.libp2p_limits import NetLimits
from gossip.libp2p_transport import Libp2pTransport
from p2pfl.runtime.config import Config, make_config, read_config, render_config
from p2pfl.runtime.errors import OperatorError
from p2pfl.runtime.lan import SERVICE, LanDiscovery, dialled, label_of

QUICK = NetLimits(connect_s=1.0)
WAIT_S = 30.0


def moved_net(count: int) -> Net:
    """Sites that listen elsewhere than their cards say."""
    now = iter(free_addresses(count))
    listens: dict[bytes, str] = {}

    def make(node: Node, roster: object) -> Libp2pTransport:
        listen = listens.setdefault(node.site, next(now, ""))
        return Libp2pTransport(node.keys.transport, net.roster, listen, limits=QUICK)

    net = Net(make, free_addresses(count))
    return net


def discovery(node: Node, net: Net) -> LanDiscovery:
    site = transport(node)
    return LanDiscovery(config(site.listening), node.site, lambda: net.roster.sites, site.learn)


def config(listen: str) -> Config:
    return make_config("a", listen, (), "conformance")


async def announce(zeroconf: AsyncZeroconf, label: str, address: str, port: int) -> None:
    info = AsyncServiceInfo(
        SERVICE,
        f"{label}.{SERVICE}",
        addresses=[socket.inet_aton(address)],
        port=port,
        server=f"{label}.local.",
    )
    await zeroconf.async_register_service(info, cooperating_responders=True)


def test_members_whose_addresses_changed_meet_on_the_local_network() -> None:
    async def run() -> None:
        net = moved_net(2)
        a, b = net.nodes
        await asyncio.gather(a.start(), b.start())
        seekers = [discovery(a, net), discovery(b, net)]
        try:
            await asyncio.gather(*(seeker.start() for seeker in seekers))
            await a.inbox.until(lambda inbox: b.site in inbox.online, WAIT_S)
            await b.inbox.until(lambda inbox: a.site in inbox.online, WAIT_S)
        finally:
            await asyncio.gather(*(seeker.stop() for seeker in seekers))
            await asyncio.gather(a.stop(), b.stop())

    asyncio.run(run())


def test_only_members_at_addresses_of_local_networks_are_taken() -> None:
    async def run() -> None:
        net = moved_net(3)
        a, b, c = net.nodes
        learnt: asyncio.Queue[tuple[bytes, tuple[str, ...]]] = asyncio.Queue()
        seeker = LanDiscovery(
            config("127.0.0.1:7100"),
            a.site,
            lambda: net.roster.sites,
            lambda site, addresses: learnt.put_nowait((site, addresses)),
        )
        liar = AsyncZeroconf(interfaces=["127.0.0.1"])
        try:
            await seeker.start()
            await announce(liar, "f" * 32, "127.0.0.1", 7001)  # nobody's name
            await announce(liar, label_of(a.site), "127.0.0.1", 7002)  # our own name
            await announce(liar, label_of(b.site), "8.8.8.8", 7003)  # round the internet
            await announce(liar, label_of(c.site), "10.1.2.3", 7004)
            async with asyncio.timeout(WAIT_S):
                assert await learnt.get() == (c.site, ("10.1.2.3:7004",))
            assert learnt.empty()
        finally:
            await seeker.stop()
            await liar.async_close()

    asyncio.run(run())


def test_hearsay_does_not_make_somebody_else_a_member() -> None:
    async def run() -> None:
        net = moved_net(3)
        a, b, c = net.nodes
        await asyncio.gather(a.start(), b.start())
        try:
            transport(a).learn(c.site, (transport(b).listening,))  # c is said to be where b is
            transport(a).learn(b.site, (transport(b).listening,))
            await a.inbox.until(lambda inbox: b.site in inbox.online, WAIT_S)
            assert a.inbox.online == {b.site}
        finally:
            await asyncio.gather(a.stop(), b.stop())

    asyncio.run(run())


@pytest.mark.parametrize(
    ("addresses", "port", "taken"),
    [
        (["192.168.1.7", "172.16.0.1"], 7100, ("172.16.0.1:7100", "192.168.1.7:7100")),
        (["fd00::7"], 7100, ("[fd00::7]:7100",)),
        (["8.8.8.8", "2001:4860:4860::8888"], 7100, ()),
        (["127.0.0.1", "::1"], 7100, ()),
        (["169.254.169.254", "fe80::1%eth0", "::", "224.0.0.251", "255.255.255.255"], 80, ()),
        (["not an address", ""], 7100, ()),
        (["192.168.1.7"], 0, ()),
        ([f"10.0.0.{n}" for n in range(9)], 1, tuple(f"10.0.0.{n}:1" for n in range(4))),
    ],
)
def test_what_is_announced_is_dialled_only_in_local_networks(
    addresses: list[str], port: int, taken: tuple[str, ...]
) -> None:
    assert dialled(addresses, port, takes_loopback=False) == taken


def test_loopback_is_dialled_only_by_those_that_listen_there() -> None:
    assert dialled(["127.0.0.1"], 7100, takes_loopback=True) == ("127.0.0.1:7100",)


def test_whether_a_site_looks_around_is_written_in_its_configuration(tmp_path: Path) -> None:
    quiet = make_config("a", "127.0.0.1:7100", (), "heart")
    assert b"mdns" not in render_config(quiet)
    path = tmp_path / "config.toml"
    path.write_bytes(render_config(replace(quiet, mdns=True)))
    assert read_config(path) == replace(quiet, mdns=True)
    path.write_bytes(render_config(quiet) + b'mdns = "yes"\n')
    with pytest.raises(OperatorError, match="mdns"):
        read_config(path)
