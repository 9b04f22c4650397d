"""A word to whoever was a member: why nobody here talks to it any more.

Who was removed while it was away goes on dialling, and would never learn why it is turned away. Its
handshake proves who it is; then it gets one push frame, the roster's next versions under the other
members' signatures, which it verifies by itself. Nothing that it sends is read.
"""

import contextlib
from typing import Any, Final

import trio
from libp2p.custom_types import TProtocol
from libp2p.protocol_muxer.multiselect_client import MultiselectClient
from libp2p.protocol_muxer.multiselect_communicator import MultiselectCommunicator

PUSH: Final = TProtocol("/p2pfl/push/1")
"""Messages between members, and the last one to whoever was a member."""
FAREWELL_S: Final = 4.0
"""How long a former member may take to hear it."""
AGAIN_S: Final = 30.0
"""It is told once in so long, however often it dials."""
READ_S: Final = 1.0
FORMER_MAX: Final = 64


class Farewells:
    """What former members are told, by their peer ids, and who heard it lately."""

    def __init__(self) -> None:
        self._frames: dict[bytes, bytes] = {}
        self._told_s: dict[bytes, float] = {}

    def replace(self, frames: dict[bytes, bytes]) -> None:
        """From now on these. peer id → a sealed envelope as a push frame."""
        self._frames = dict(list(frames.items())[-FORMER_MAX:])

    def knows(self, peer: bytes) -> bool:
        """Whether this peer was a member, and is told so."""
        return peer in self._frames

    def take(self, peer: bytes, now_s: float) -> bytes:
        """What to tell a peer now; empty where it was told a moment ago."""
        last_s = self._told_s.get(peer)
        if peer not in self._frames or (last_s is not None and now_s - last_s < AGAIN_S):
            return b""
        self._told_s[peer] = now_s
        return self._frames[peer]


async def bid_farewell(muxed: Any, frame: bytes) -> None:
    """Push one frame over a connection that is used for nothing else, in bounded time."""
    # Whatever a former member does to its connection costs it no more than what it was to be told.
    with trio.move_on_after(FAREWELL_S), contextlib.suppress(Exception):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(muxed.start)
            await muxed.event_started.wait()
            stream = await muxed.open_stream()
            await MultiselectClient().select_one_of([PUSH], MultiselectCommunicator(stream))
            await stream.write(frame)
            with trio.move_on_after(READ_S):  # until the other end has read it, and hangs up
                await muxed.event_closed.wait()
            nursery.cancel_scope.cancel()
