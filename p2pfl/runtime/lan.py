"""Finding members on the same local network by multicast DNS, where config.toml asks for it.

A member is announced by a part of its site's name, which is public in the consortium, with port and
addresses. Whoever is in the network may announce anything: what is heard is one more place to
dial for a member of the roster, after those that its card names, and the handshake proves who
answers. Only addresses of local networks are taken, so nobody can send us round the internet.

Source: RFC 6762, RFC 6763, by the library zeroconf.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import ifaddr
from zeroconf import IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from gossip.identifiers import SiteId
from p2pfl.runtime.config import Config

SERVICE: Final = "_p2pfl._tcp.local."
ADDRESSES_MAX: Final = 4
"""Of one member; more are left aside."""
ASKED_AT_ONCE_MAX: Final = 16
ANSWER_MS: Final = 3000
_LABEL_CHARS: Final = 32
"""Of a site's hex name: a DNS label holds 63."""

Learn = Callable[[SiteId, tuple[str, ...]], None]
IpAddress = IPv4Address | IPv6Address


def label_of(site: SiteId) -> str:
    """The name under which a site is announced."""
    return site.hex()[:_LABEL_CHARS]


class LanDiscovery:
    """Announces this site on the local network, and tells where members are announced."""

    def __init__(
        self, config: Config, me: SiteId, members: Callable[[], Iterable[SiteId]], learn: Learn
    ) -> None:
        """members: of the roster in force. learn: takes a member's local "host:port" addresses."""
        self._port = config.listen_port
        self._own = _own_addresses(config.listen_host)
        self._is_local = all(address.is_loopback for address in self._own)
        self._me = me
        self._members = members
        self._learn = learn
        self._known: dict[SiteId, tuple[str, ...]] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None

    async def start(self) -> None:
        """Announce this site, and listen. Raises OSError where there is no multicast."""
        self._zeroconf = AsyncZeroconf(
            interfaces=[str(address) for address in self._own if address.version == 4],
            ip_version=IPVersion.V4Only,
        )
        info = AsyncServiceInfo(
            SERVICE,
            f"{label_of(self._me)}.{SERVICE}",
            addresses=[address.packed for address in self._own],
            port=self._port,
            server=f"{label_of(self._me)}.local.",
        )
        # The name is a hash of a key: nobody else has it by chance, so there is nothing to probe.
        await self._zeroconf.async_register_service(info, cooperating_responders=True)
        self._browser = AsyncServiceBrowser(
            self._zeroconf.zeroconf, SERVICE, handlers=[self._changed]
        )

    async def stop(self) -> None:
        """Take the announcement back."""
        for task in tuple(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        if self._browser is not None:
            await self._browser.async_cancel()
        if self._zeroconf is not None:
            await self._zeroconf.async_unregister_all_services()
            await self._zeroconf.async_close()

    def _changed(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        """Somebody is announced. Called by the library on the loop, with what anyone may send."""
        site = self._member_called(name.removesuffix(f".{service_type}"))
        is_news = state_change is not ServiceStateChange.Removed and name not in self._asking
        if site is None or not is_news or len(self._asking) >= ASKED_AT_ONCE_MAX:
            return
        task = asyncio.get_running_loop().create_task(self._ask(zeroconf, site, name))
        self._asking[name] = task
        task.add_done_callback(lambda _: self._asking.pop(name, None))

    def _member_called(self, label: str) -> SiteId | None:
        others = (site for site in self._members() if site != self._me)
        return next((site for site in others if label_of(site) == label), None)

    async def _ask(self, zeroconf: Zeroconf, site: SiteId, name: str) -> None:
        info = AsyncServiceInfo(SERVICE, name)
        if not await info.async_request(zeroconf, ANSWER_MS):
            return
        found = dialled(info.parsed_addresses(), info.port or 0, takes_loopback=self._is_local)
        if found and found != self._known.get(site):
            self._known[site] = found
            self._learn(site, found)


def dialled(addresses: Iterable[str], port: int, *, takes_loopback: bool) -> tuple[str, ...]:
    """The "host:port" of what is announced, as far as it is in a local network.

    >>> dialled(["192.168.1.7", "8.8.8.8", "127.0.0.1"], 7100, takes_loopback=False)
    ('192.168.1.7:7100',)
    """
    if not 1 <= port <= 65535:
        return ()
    found = []
    for text in addresses:
        address = _parsed(text)
        if address is not None and _is_near(address, takes_loopback=takes_loopback):
            host = f"[{address.compressed}]" if address.version == 6 else str(address)
            found.append(f"{host}:{port}")
    return tuple(sorted(set(found)))[:ADDRESSES_MAX]


def _parsed(text: str) -> IpAddress | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # An address that holds on one interface only cannot be written into host:port.
    return None if isinstance(address, IPv6Address) and address.scope_id else address


def _is_near(address: IpAddress, *, takes_loopback: bool) -> bool:
    if address.is_loopback:
        return takes_loopback
    is_nowhere = address.is_unspecified or address.is_multicast or address.is_reserved
    return address.is_private and not address.is_link_local and not is_nowhere


def _own_addresses(listen_host: str) -> tuple[IpAddress, ...]:
    """Where this site can be dialled: the address it listens on, or all of this machine's."""
    bound = _parsed(listen_host)
    if bound is not None and not bound.is_unspecified:
        return (bound,)
    every = (
        _parsed(ip.ip if isinstance(ip.ip, str) else ip.ip[0])
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
    )
    near = (one for one in every if one is not None and _is_near(one, takes_loopback=False))
    return tuple(sorted(near, key=lambda one: (one.version, one.packed)))
