"""Where a site can be dialled: "host:port", one spelling each, so that equal means the same."""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from gossip.errors import CardInvalid
from gossip.limits import ADDRESS_BYTES_MAX

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_HOST_BYTES_MAX = 253


def split_address(address: str) -> tuple[str, int]:
    """Host (IPv6 without its brackets) and port of a checked address. Raises CardInvalid.

    >>> split_address("node.hospital.example:4001")
    ('node.hospital.example', 4001)
    >>> split_address("[2001:db8::1]:4001")
    ('2001:db8::1', 4001)
    """
    if len(address) > ADDRESS_BYTES_MAX:
        raise CardInvalid("address is too long", expected=ADDRESS_BYTES_MAX, actual=len(address))
    host, colon, port = address.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or int(port) > 65535:
        raise CardInvalid("address", expected="host:port with a port of 1…65535", actual=address)
    if host.startswith("[") and host.endswith("]"):
        return _ipv6(host[1:-1]), int(port)
    return _name_or_ipv4(host), int(port)


def _ipv6(host: str) -> str:
    try:
        parsed = IPv6Address(host)
    except AddressValueError as error:
        raise CardInvalid("address is not IPv6", actual=host) from error
    if parsed.compressed != host or parsed.scope_id is not None:
        raise CardInvalid("IPv6 address", expected=parsed.compressed, actual=host)
    return _dialable(parsed, host)


def _name_or_ipv4(host: str) -> str:
    labels = host.split(".")
    if len(host) > _HOST_BYTES_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        raise CardInvalid("host", expected="a lower-case name or an IP address", actual=host)
    # A name whose last label is a number would be read as IPv4 by some resolvers ("127.1").
    if not labels[-1].isdigit():
        return host
    try:
        return _dialable(IPv4Address(host), host)
    except AddressValueError as error:
        raise CardInvalid("address is not IPv4", actual=host) from error


def _dialable(parsed: IPv4Address | IPv6Address, host: str) -> str:
    if parsed.is_unspecified or parsed.is_multicast:
        raise CardInvalid("nobody can dial this address", actual=host)
    return host
