"""Nodes inside the test's own process: the real driver, ledger and disk over a memory transport."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from node_homes import Consortium

from gossip.identifiers import Digest, SiteId
from gossip.memory_transport import MemoryTransport, Switchboard
from gossip.transport import Inbox, Transport
from ledger.log import Committed, Draft, Log, Signer
from p2pfl.core import effects as fx
from p2pfl.core.events import OwnLog
from p2pfl.core.manifest import parse_manifest
from p2pfl.core.names import StudyId
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.driver import Driver
from p2pfl.runtime.membership_files import load_membership, roster_in_force
from p2pfl.runtime.study_jobs import DatasetFile
from p2pfl.runtime.surroundings import Surroundings

WAIT_S = 120.0
SCRIPT = Path(__file__).with_name("scripted_worker.py")


def worker(behaviour: str = "well") -> tuple[str, ...]:
    """The command line of a training process without torch."""
    return (sys.executable, str(SCRIPT), behaviour)


class Watcher:
    """An observer that remembers, and lets a test wait for what it is about."""

    def __init__(self) -> None:
        self.notices: list[fx.Notice] = []
        self.bugs: list[BaseException] = []
        self.turned_away: list[tuple[str, str]] = []
        self._changed = asyncio.Event()

    def show(self, study: StudyId | None, notice: fx.Notice) -> None:
        self.notices.append(notice)
        self.nudge()

    def refused(self, address_or_site: str, reason: str) -> None:
        self.turned_away.append((address_or_site, reason))
        self.nudge()

    def bug(self, error: BaseException) -> None:
        self.bugs.append(error)
        self.nudge()

    def nudge(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def happened(self, name: str) -> list[fx.Happened]:
        return [n for n in self.notices if isinstance(n, fx.Happened) and n.name == name]

    async def until(self, condition: Callable[[], object], wait_s: float = WAIT_S) -> None:
        try:
            async with asyncio.timeout(wait_s):
                while not condition():
                    await self._changed.wait()
        except TimeoutError:
            told = "\n".join(map(str, [*self.notices[-20:], *self.bugs]))
            raise AssertionError(f"not within {wait_s:g} s; seen so far:\n{told}") from None


class WatchedLog:
    """A log whose commits a test may hold up, watch and break. Stands in for `Log`."""

    def __init__(self, log: Log, nudge: Callable[[], None]) -> None:
        self._log = log
        self._nudge = nudge
        self.commits: list[list[str]] = []
        self.before: Callable[[Sequence[Draft]], None] = lambda drafts: None

    def append(self, drafts: Sequence[Draft], now_us: int) -> Committed:
        self.before(drafts)
        committed = self._log.append(drafts, now_us)
        self.commits.append([draft.kind for draft in drafts])
        self._nudge()
        return committed

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)


class WatchedTransport:
    """A transport that tells a test of every message before it goes out."""

    def __init__(self, inner: Transport, on_send: Callable[[bytes], None]) -> None:
        self._inner = inner
        self._on_send = on_send

    async def send(self, site: SiteId, raw: bytes) -> None:
        self._on_send(raw)
        await self._inner.send(site, raw)

    async def broadcast(self, raw: bytes) -> None:
        self._on_send(raw)
        await self._inner.broadcast(raw)

    async def start(self, inbox: Inbox) -> None:
        await self._inner.start(inbox)

    async def stop(self) -> None:
        await self._inner.stop()

    async def fetch(
        self,
        site: SiteId,
        digest: Digest,
        size_bytes: int,
        into: Path,
        progress: Callable[[int], None],
    ) -> None:
        await self._inner.fetch(site, digest, size_bytes, into, progress)

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


class LocalNode:
    """One site's driver, started and stopped inside a test."""

    def __init__(
        self,
        made: Consortium,
        index: int,
        switchboard: Switchboard,
        *,
        behaviour: str = "well",
        clock_s: Callable[[], float] = time.time,  # noqa: TID251 - the node's clock
        on_send: Callable[[bytes], None] = lambda raw: None,
        blobs: type[BlobStore] = BlobStore,
        own_log: OwnLog = OwnLog.CONFIRMED,
    ) -> None:
        self.home, self.keys = made.home(index), made.keys(index)
        self.seen = Watcher()
        self.log = WatchedLog(
            Log.open(self.home.path, log=Signer(self.keys.log)),
            _nudge_from_anywhere(self.seen),
        )
        roster = roster_in_force(self.home)
        assert roster is not None
        entries = self.log.entries()  # type: ignore[operator]  # the inner log's
        membership = load_membership(self.home, self.keys, roster, entries)
        transport = MemoryTransport(self.keys.transport, membership.members, switchboard)
        csv = made.folder / f"site{index}.csv"
        self.driver = Driver(
            Surroundings(
                home=self.home,
                site=self.keys.site,
                transport_seed=self.keys.transport,
                membership=membership,
                log=self.log,  # type: ignore[arg-type]  # a log in all that the driver uses
                blobs=blobs(self.home.blobs),
                transport=WatchedTransport(transport, on_send),  # type: ignore[arg-type]
                dataset_file=lambda ds: DatasetFile(csv, ""),
                clock_s=clock_s,
                random=lambda: 0.5,
                observer=self.seen,
                witness=Signer(self.keys.witness),
                own_log=own_log,
                training_program=worker(behaviour),
            )
        )

    async def start(self) -> "LocalNode":
        paths = sorted(self.home.studies.glob("*.toml"))
        await self.driver.start([parse_manifest(path.read_bytes()) for path in paths])
        return self

    async def stop(self) -> None:
        await self.driver.stop()
        self.log.close()  # type: ignore[operator]  # the inner log's

    async def completed(self) -> None:
        await self.seen.until(lambda: self.seen.happened("study_complete"))


def _nudge_from_anywhere(seen: Watcher) -> Callable[[], None]:
    loop = asyncio.get_running_loop()
    return lambda: loop.call_soon_threadsafe(seen.nudge)


ELDER: set[int] = set()
"""Children that were there before the present test: other suites keep nodes for a whole session."""


def living_children() -> list[int]:
    """Process ids of the present test's children that have not ended."""
    found = []
    for status in sorted(Path("/proc").glob("[0-9]*/stat")):
        with contextlib.suppress(OSError):
            state, parent, *_ = status.read_text().rpartition(")")[2].split()
            if int(parent) == os.getpid() and state != "Z":
                found.append(int(status.parent.name))
    return [pid for pid in found if pid not in ELDER]


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that nobody tells of."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - that is what it is for
            await asyncio.sleep(0.002)
