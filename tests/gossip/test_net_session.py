"""What a connection holds between messages: much while large ones come, little otherwise."""

import tracemalloc
from types import SimpleNamespace
from typing import Any

import trio
from libp2p.peer.id import ID

from gossip.libp2p_session import PLAIN_BYTES_MAX, QuickSession

LARGE = 65_000
SMALL = 300


class Line:
    """The other end: gives what it is handed, as many bytes as fit."""

    def __init__(self) -> None:
        self.given = bytearray()

    async def read_into(self, room: memoryview) -> int:
        await trio.lowlevel.checkpoint()
        got = min(len(room), len(self.given))
        room[:got] = self.given[:got]
        del self.given[:got]
        return got

    def says(self, *messages: bytes) -> None:
        for message in messages:
            self.given += len(message).to_bytes(2, "big") + message


class InTheOpen:
    """A cipher that hides nothing."""

    def decrypt_with_ad(self, _: None, message: memoryview) -> bytes:
        return bytes(message)


def session_on(line: Line) -> QuickSession:
    ciphers = SimpleNamespace(cipher_state_encrypt=None, cipher_state_decrypt=InTheOpen())
    raw: Any = SimpleNamespace(
        noise_state=SimpleNamespace(noise_protocol=ciphers),
        read_writer=SimpleNamespace(read_write_closer=SimpleNamespace(stream=line)),
    )
    given: Any = SimpleNamespace(
        local_peer=ID(b"here"),
        local_private_key=SimpleNamespace(get_public_key=lambda: None),
        remote_peer=ID(b"there"),
        remote_permanent_pubkey=None,
        is_initiator=False,
        conn=raw,
    )
    return QuickSession(given)


def test_after_large_messages_it_holds_as_little_as_before() -> None:
    async def run() -> None:
        line = Line()
        session = session_on(line)
        line.says(*[bytes([value]) * LARGE for value in range(8)])
        for value in range(8):
            assert await session.read(LARGE) == bytes([value]) * LARGE
        assert tracemalloc.get_traced_memory()[0] > 2 * LARGE
        for value in range(100):
            line.says(bytes([value]) * SMALL)
            assert await session.read(SMALL) == bytes([value]) * SMALL
        assert tracemalloc.get_traced_memory()[0] < LARGE

    tracemalloc.start()
    try:
        trio.run(run)
    finally:
        tracemalloc.stop()


def test_what_comes_large_again_is_read_whole() -> None:
    async def run() -> None:
        line = Line()
        session = session_on(line)
        for size in (LARGE, *[SMALL] * 100, PLAIN_BYTES_MAX, *[SMALL] * 70, LARGE, LARGE):
            line.says(b"x" * size)
            assert await session.read(size) == b"x" * size

    trio.run(run)
