"""Sockets of a private network: every byte is covered by the pre-shared key (`network_key`).

Ours and not py-libp2p 0.8.1's: that one takes Salsa20 with a nonce of 8 bytes where the
specification says XSalsa20 with 24, fails when a nonce comes in two packets, and its connections
lack what the layers above ask them for. A covered socket never speaks to one that is not, so both
cases are told apart here and named for people.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from Crypto.Cipher import Salsa20

from gossip.libp2p_links import GREETING, BoundedTCPStream
from gossip.network_key import NONCE_BYTES, salsa20_parts

NO_NETWORK_KEY: Final = "NoNetworkKey"
OTHER_NETWORK_KEY: Final = "OtherNetworkKey"
NOT_LIBP2P: Final = "NotLibp2p"
_PLAIN_BYTES: Final = 12
"""So many bytes of a plain greeting are no nonce: a random one begins like it never."""
WORDS: Final = {
    NO_NETWORK_KEY: "it speaks without a network key; every member needs keys/swarm.key and "
    "network_key = true",
    OTHER_NETWORK_KEY: "it has another network key, or is a stranger; compare `p2pfl doctor`",
    NOT_LIBP2P: "what answers is not libp2p, or needs a network key (keys/swarm.key)",
}

Told = Callable[[str, str, str], None]
"""Where the other end is, the rule, and words for people."""


class PlainTCPStream(BoundedTCPStream):
    """A socket without a network key, that says so where it meets one."""

    def __init__(self, stream: Any, told: Told) -> None:
        super().__init__(stream)
        self._told: Told | None = told

    async def read(self, n: int | None = None) -> bytes:
        """At most so many bytes."""
        data = await super().read(n)
        if self._told is not None and data:
            if self.is_dialled and data[:1] != GREETING[:1]:
                self._told(self.where(), NOT_LIBP2P, WORDS[NOT_LIBP2P])
            self._told = None
        return data


class CoveredTCPStream(BoundedTCPStream):
    """A socket whose bytes make sense to whoever has the key, and to nobody else."""

    def __init__(self, stream: Any, key: bytes, told: Told) -> None:
        super().__init__(stream)
        self._key = key
        self._told = told
        self._writing: Any = None
        self._reading: Any = None
        self._nonce = bytearray()
        self._greeting: bytearray | None = bytearray()
        """What the other end said first, until it is known to be a greeting."""

    def outgoing(self, data: bytes) -> bytes:
        """Called for each write, in order: covers it, after the nonce where it is the first."""
        first = b""
        if self._writing is None:
            first = os.urandom(NONCE_BYTES)
            self._writing = _cipher(self._key, first)
        covered: bytes = self._writing.encrypt(data)
        return first + covered

    async def read(self, n: int | None = None) -> bytes:
        """At most so many bytes; none at the end, or where the other end has not our key."""
        if self._reading is None and not await self._meet():
            return b""
        data = await super().read(n)
        plain: bytes = self._reading.decrypt(data)
        return plain if await self._is_greeted(plain) else b""

    async def read_into(self, room: memoryview) -> int:
        """As many bytes as there are and as fit; 0 at the end."""
        if self._reading is None and not await self._meet():
            return 0
        got = await super().read_into(room)
        if got:
            self._reading.decrypt(room[:got], output=room[:got])
        return got if await self._is_greeted(room[:got]) else 0

    async def _meet(self) -> bool:
        """Read the other end's nonce, in however many parts it comes."""
        while len(self._nonce) < NONCE_BYTES:
            part = await super().read(NONCE_BYTES - len(self._nonce))
            self._nonce += part
            plain = self._nonce[:_PLAIN_BYTES]
            if len(plain) == _PLAIN_BYTES and GREETING.startswith(plain):
                return await self._refuse(NO_NETWORK_KEY)
            if not part:
                return False
        self._reading = _cipher(self._key, bytes(self._nonce))
        return True

    async def _is_greeted(self, plain: bytes | memoryview) -> bool:
        """Whether what comes first is what every member says first."""
        if self._greeting is None:
            return True
        self._greeting += plain[: len(GREETING) - len(self._greeting)]
        if not GREETING.startswith(self._greeting):
            return await self._refuse(OTHER_NETWORK_KEY)
        if len(self._greeting) == len(GREETING):
            self._greeting = None
        return True

    async def _refuse(self, rule: str) -> bool:
        self._told(self.where(), rule, WORDS[rule])
        await self.close()
        return False


def covering(key: bytes | None, told: Told) -> Callable[[Any], BoundedTCPStream]:
    """What makes a socket of a private network, or of one that is not. key: 32 bytes."""
    if key is None:
        return lambda stream: PlainTCPStream(stream, told)
    return lambda stream: CoveredTCPStream(stream, key, told)


def _cipher(key: bytes, nonce: bytes) -> Any:
    inner, rest = salsa20_parts(key, nonce)
    return Salsa20.new(key=inner, nonce=rest)
