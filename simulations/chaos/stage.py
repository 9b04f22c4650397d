"""What faults are done to: the nodes of one run, their network, their disks and their clocks.

As root each home has a network namespace and a disk of its own; without, only faults that need
neither are possible, and `can_do` says why."""

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, assert_never

from p2pfl.runtime.home import Home
from simulations.chaos import plan
from simulations.chaos.clocks import Clock, library
from simulations.chaos.disks import Disk
from simulations.chaos.node import Node
from simulations.network_lab import Line, NetworkLab

NETWORK: Final = ("partition", "slow")
PORT: Final = 7100
DELAY_S: Final = 0.005
HOMES: Final = "homes"


def can_do(kinds: Sequence[str]) -> tuple[list[str], list[str]]:
    """Which of these faults this machine can have, and a sentence for each that it cannot."""
    able, sentences = [], []
    is_root = os.geteuid() == 0
    has_namespaces = is_root and Path("/dev/net/tun").exists() and shutil.which("ip") is not None
    for kind in kinds:
        if kind in NETWORK and not has_namespaces:
            sentences.append(f"no `{kind}`: network namespaces need root, `ip` and /dev/net/tun")
        elif kind == "disk" and not is_root:
            sentences.append("no `disk`: a file system per home needs root")
        elif kind == "clock" and library() is None:
            sentences.append("no `clock`: libfaketime is not here (Debian: `faketime`)")
        else:
            able.append(kind)
    return able, sentences


@dataclass(slots=True)
class Stage:
    """The nodes by place, and what can be done to them."""

    folder: Path
    nodes: list[Node]
    addresses: list[str]
    lab: NetworkLab | None
    disks: list[Disk]
    clocks: list[Clock]
    full: set[int] = field(default_factory=set)
    """Places whose disk is full now."""
    was_full: set[int] = field(default_factory=set)
    was_set: set[int] = field(default_factory=set)
    """Places whose clock was wrong at some time."""

    def begin(self, fault: plan.Fault) -> None:
        """Do it."""
        match fault:
            case plan.Kill(place=place, lasts_s=lasts_s):
                self.nodes[place].kill(lasts_s)
            case plan.Pause(place=place):
                self.nodes[place].stand_still(True)
            case plan.Part(places=places):
                self._lab.parted = set(places)
            case plan.OneWay(place=place, other=other):
                self._lab.one_way = frozenset({(place, other)})
            case plan.Slow(place=place):
                line = Line(fault.delay_s, fault.loss, fault.rate_bps)
                self._lab.slowed = {place: line}
            case plan.FullDisk(place=place):
                self.full.add(place)
                self.was_full.add(place)
                self.disks[place].fill()
            case plan.ClockJump(place=place, by_s=by_s):
                self.was_set.add(place)
                self.clocks[place].set(by_s)
            case _:
                assert_never(fault)

    def end(self, fault: plan.Fault) -> None:
        """Put it right again."""
        match fault:
            case plan.Kill():
                pass  # the supervisor has its restart on its list
            case plan.Pause(place=place):
                self.nodes[place].stand_still(False)
            case plan.Part():
                self._lab.parted = set()
            case plan.OneWay():
                self._lab.one_way = frozenset()
            case plan.Slow():
                self._lab.slowed = {}
            case plan.FullDisk(place=place):
                self.disks[place].free()
                self.full.discard(place)
            case plan.ClockJump(place=place):
                self.clocks[place].set(0.0)
            case _:
                assert_never(fault)

    @property
    def homes(self) -> list[Home]:
        return [node.home for node in self.nodes]

    @property
    def _lab(self) -> NetworkLab:
        assert self.lab is not None, "a plan has network faults only where there is a network"
        return self.lab


@contextlib.contextmanager
def opened(folder: Path, count: int, kinds: Sequence[str]) -> Iterator[Stage]:
    """A stage for these faults; whatever happens, no process, namespace or mount is left."""
    with contextlib.ExitStack() as stack:
        lab = None
        if any(kind in NETWORK for kind in kinds):
            lab = NetworkLab(count, prefix=f"p2pfl-chaos{os.getpid()}-", delay_s=DELAY_S)
            stack.callback(lab.close)
            lab.open()
        homes = [Home(folder / HOMES / f"site{place}") for place in range(count)]
        (folder / HOMES).mkdir()
        disks = []
        if "disk" in kinds:
            for home in homes:
                disks.append(Disk(home.path))
                stack.callback(disks[-1].remove)
        preloaded = library() if "clock" in kinds else None
        clocks = [Clock(folder / f"clock{place}") for place in range(count)]
        nodes = [
            Node(
                home,
                folder / f"console{place}.log",
                () if lab is None else lab.inside(place),
                {} if preloaded is None else clocks[place].environment(preloaded),
            )
            for place, home in enumerate(homes)
        ]
        addresses = [f"{lab.host(p)}:{PORT}" for p in range(count)] if lab else _free(count)
        stage = Stage(folder, nodes, addresses, lab, disks, clocks)
        stack.callback(_put_away, stage)
        yield stage


def _put_away(stage: Stage) -> None:
    """End whatever still runs, and take the homes from their disks to where they can be read."""
    for node in stage.nodes:
        node.start_at_s = None
        if node.process is not None:
            node.stand_still(False)
            node.process.kill()
            node.process.wait()
    for disk in stage.disks:
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            disk.free()
            kept = stage.folder / "kept" / disk.folder.name
            shutil.copytree(disk.folder, kept, ignore=shutil.ignore_patterns("cache", "*.sock"))


def _free(count: int) -> list[str]:
    """Loopback addresses that nobody listens on at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
