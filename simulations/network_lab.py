"""An Ethernet switch of our own between network namespaces: delay, loss and cuts without netem.

Each namespace gets a TAP device whose other end is held here; one thread carries every frame from
one to the other, late, not at all, or nowhere while its place is cut off. Root only.
"""

import contextlib
import ctypes
import fcntl
import heapq
import os
import random
import selectors
import struct
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

_SETNS_NETWORK = 0x4000_0000
_TUNSETIFF = 0x4004_54CA
_TAP_WITHOUT_HEADER = 0x0002 | 0x1000
_FRAME_BYTES_MAX = 65_536
_FRAMES_AT_ONCE = 64
_QUEUE_S_MAX = 0.25
_TICK_S = 0.05
_GROUP_BIT = 1


@dataclass(frozen=True, slots=True)
class Line:
    """How a place is connected. delay_s: one way; loss: share of frames; rate_bps: of sending."""

    delay_s: float
    loss: float
    rate_bps: float


@dataclass(slots=True)
class NetworkLab:
    """`count` places on one wire, named PREFIX1, PREFIX2 …; the caller closes it.

    delay_s: one way. loss: share of frames, 0 to 1. rate_bps: what each place can send.
    What is cut, parted or slowed may be changed at any time, by assigning a new value."""

    count: int
    prefix: str
    delay_s: float = 0.02
    loss: float = 0.0
    rate_bps: float = 100e6
    seed: int = 0
    cut: set[int] = field(default_factory=set)
    """Places that nothing reaches, and that reach nobody."""
    parted: set[int] = field(default_factory=set)
    """One side of a partition: its places reach each other, the others each other."""
    one_way: frozenset[tuple[int, int]] = frozenset()
    """(sender, receiver): what the first sends never reaches the second; the other way it does."""
    slowed: Mapping[int, Line] = field(default_factory=dict)
    """Places with a line of their own, worse than the others'."""
    carried: int = 0
    _devices: list[int] = field(default_factory=list)
    _places: dict[bytes, int] = field(default_factory=dict)
    _free_s: list[float] = field(default_factory=list)
    _late: list[tuple[float, int, int, bytes]] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def open(self) -> None:
        """Make the namespaces and start to carry frames."""
        for place in range(self.count):
            name = self.name(place)
            _ip("netns", "add", name)
            self._devices.append(_tap_inside(name))
            _ip("-n", name, "addr", "add", f"{self.host(place)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", name, "link", "set", device, "up")
        self._free_s = [0.0] * self.count
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop carrying and remove what `open` made, as far as it came."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        for device in self._devices:
            os.close(device)
        for place in range(self.count):
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", self.name(place))

    def name(self, place: int) -> str:
        """The namespace of a place."""
        return f"{self.prefix}{place + 1}"

    def host(self, place: int) -> str:
        """The address of a place on the wire."""
        return f"10.99.0.{place + 1}"

    def inside(self, place: int) -> tuple[str, ...]:
        """What to put before a command that is to run at a place."""
        return ("ip", "netns", "exec", self.name(place))

    def _carry(self) -> None:
        drawn = random.Random(self.seed)  # noqa: S311 - which frames are lost
        with selectors.DefaultSelector() as waiting:
            for place, device in enumerate(self._devices):
                waiting.register(device, selectors.EVENT_READ, place)
            while not self._ending.is_set():
                due_s = self._late[0][0] - time.monotonic() if self._late else _TICK_S
                for key, _ in waiting.select(max(0.0, min(_TICK_S, due_s))):
                    self._take(key.data, drawn)
                self._deliver()

    def _take(self, sender: int, drawn: random.Random) -> None:
        """Read what a place sends, and put it on the way to whoever it is for."""
        for _ in range(_FRAMES_AT_ONCE):
            try:
                frame = os.read(self._devices[sender], _FRAME_BYTES_MAX)
            except OSError:
                return
            self._places[frame[6:12]] = sender
            now_s = time.monotonic()
            begins_s = max(now_s, self._free_s[sender])
            if begins_s - now_s > _QUEUE_S_MAX:
                continue
            line = self._line(sender)
            self._free_s[sender] = begins_s + len(frame) * 8 / line.rate_bps
            for receiver in self._receivers(frame, sender):
                if self._joins(sender, receiver) and drawn.random() >= line.loss:
                    self.carried += 1
                    arrives_s = self._free_s[sender] + line.delay_s
                    heapq.heappush(self._late, (arrives_s, self.carried, receiver, frame))

    def _line(self, sender: int) -> Line:
        return self.slowed.get(sender) or Line(self.delay_s, self.loss, self.rate_bps)

    def _joins(self, sender: int, receiver: int) -> bool:
        is_parted = (sender in self.parted) != (receiver in self.parted)
        is_cut = (sender, receiver) in self.one_way or {sender, receiver} & self.cut
        return not is_parted and not is_cut

    def _receivers(self, frame: bytes, sender: int) -> list[int]:
        known = self._places.get(frame[:6])
        if frame[0] & _GROUP_BIT or known is None:
            return [place for place in range(self.count) if place != sender]
        return [known] if known != sender else []

    def _deliver(self) -> None:
        while self._late and self._late[0][0] <= time.monotonic():
            _, _, receiver, frame = heapq.heappop(self._late)
            with contextlib.suppress(OSError):  # the other end is full: a lost frame
                os.write(self._devices[receiver], frame)


def _ip(*words: str) -> None:
    # Fixed words and names of our own; root's PATH finds the program.
    subprocess.run(("ip", *words), check=True, capture_output=True)  # noqa: S603, S607


def _tap_inside(name: str) -> int:
    """A TAP device `eth0` in a namespace; returns our end of it."""
    library = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    other = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        if library.setns(other, _SETNS_NETWORK):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", b"eth0", _TAP_WITHOUT_HEADER))
        finally:
            if library.setns(own, _SETNS_NETWORK):
                raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(own)
        os.close(other)
    return device
