"""Ports of loopback for one test process: below those that the system hands out by itself.

A port from `bind(0)` may be given to somebody's outgoing connection before the test's node listens
on it, and copies of one founded consortium want the same port again minutes later. So each test
process walks through a stretch of its own, and never gives a port out twice.
"""

import itertools
import os
import socket
from collections.abc import Iterator
from typing import Final

FIRST: Final = 12_000
LAST: Final = 32_000
# Processes that start together have neighbouring ids: far apart, none meets another's stretch soon.
_STRIDE: Final = 7_919

_numbers: Iterator[int] = itertools.count(os.getpid() * _STRIDE)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, and that this process has not given out before."""
    found: list[int] = []
    while len(found) < count:
        port = FIRST + next(_numbers) % (LAST - FIRST)
        if _is_free(port):
            found.append(port)
    return found


def neighbouring_ports(count: int) -> int:
    """The first of `count` such ports in a row."""
    while True:
        found = free_ports(count)
        if found[-1] - found[0] == count - 1:
            return found[0]


def free_addresses(count: int) -> list[str]:
    """Such ports as addresses of loopback."""
    return [f"127.0.0.1:{port}" for port in free_ports(count)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
