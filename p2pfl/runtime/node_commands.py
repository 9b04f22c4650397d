"""People's commands on a running node: performed one at a time, off the loop, around its ledger.

A command may take minutes (a table of ε) and may not hold up the node's end: it runs in a thread
of its own that ends with the process. What it had recorded by then stays recorded."""

import asyncio
import contextlib
import functools
import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from gossip.identifiers import SiteId
from gossip.keys import SiteKeys
from ledger.log import Committed, Draft, Entry, Log, LogIdentity
from p2pfl.core import events as ev
from p2pfl.core.manifest import Manifest
from p2pfl.runtime.admission import Admission
from p2pfl.runtime.commands.catalogue import perform_request
from p2pfl.runtime.commands.opening import site_around
from p2pfl.runtime.driver import Driver
from p2pfl.runtime.errors import EXIT_UNAVAILABLE, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.jsonable import Json
from p2pfl.runtime.ledger_writer import Unless
from p2pfl.runtime.membership import NodeVotes
from p2pfl.runtime.status_command import STATUS_COMMAND

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class NodeLedger:
    """The ledger as a person's command sees it while the node holds it. Used from threads."""

    log: Log
    driver: Driver
    loop: asyncio.AbstractEventLoop

    def append(self, drafts: Sequence[Draft]) -> tuple[Entry, ...]:
        """Commit the drafts through the node's own writer, so that the core learns of them."""
        recorded = asyncio.run_coroutine_threadsafe(self.driver.append(drafts), self.loop)
        return recorded.result().entries

    def append_unless(self, drafts: Sequence[Draft], unless: Unless) -> tuple[Entry, ...] | None:
        """Commit the drafts unless something on record by then spoils them: then None."""
        appending = self.driver.append_unless(drafts, unless)
        recorded = asyncio.run_coroutine_threadsafe(appending, self.loop).result()
        return None if recorded is None else recorded.entries

    def change(self, work: Callable[[Log, int], Committed | None]) -> tuple[Entry, ...]:
        """Replace the key or erase a value, between two commits of the node's own writer."""
        changing = self.driver.change_log(work)
        recorded = asyncio.run_coroutine_threadsafe(changing, self.loop).result()
        return () if recorded is None else recorded.entries

    @property
    def identity(self) -> LogIdentity:
        """Whose log it is, with its keys."""
        return self.log.identity

    def entries(self) -> Iterator[Entry]:
        """Everything on record."""
        return self.log.entries()

    def put_secret(self, seq: int, name: str, salt: bytes, value: bytes) -> None:
        """Keep an erasable value."""
        self.log.put_secret(seq, name, salt, value)


@dataclass(frozen=True, slots=True)
class NodeAudience:
    """Tells the running core what a command changed besides the ledger."""

    driver: Driver
    admission: Admission
    loop: asyncio.AbstractEventLoop

    def manifest_kept(self, manifest: Manifest, proposer: SiteId) -> None:
        """A study's manifest was stored and recorded."""
        event = ev.ManifestKept(manifest, proposer)
        self.loop.call_soon_threadsafe(self.driver.submit, event)

    def invitations_changed(self) -> None:
        """Listen for invited sites, or no more. Raises OperatorError."""
        asyncio.run_coroutine_threadsafe(self.admission.refresh(), self.loop).result()


class NodeCommands:
    """What the control socket dispatches to. Used from the node's loop."""

    def __init__(
        self,
        home: Home,
        keys: SiteKeys,
        log: Log,
        driver: Driver,
        admission: Admission,
        *,
        now_us: Callable[[], int],
        status: Callable[[], Awaitable[Json]],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._home = home
        self._keys = keys
        self._ledger = NodeLedger(log, driver, loop)
        self._audience = NodeAudience(driver, admission, loop)
        self._votes = NodeVotes(driver.membership, loop, driver.require_writable)
        self._now_us = now_us
        self._status = status
        self._one_at_a_time = asyncio.Lock()
        self._stopping: asyncio.Future[None] = loop.create_future()

    async def dispatch(self, command: str, arguments: Mapping[str, Json]) -> Json:
        """Perform one command. Raises OperatorError, and whatever is our bug."""
        if command == STATUS_COMMAND:
            return await self._status()
        performing = asyncio.ensure_future(self._perform(command, arguments))
        either: set[asyncio.Future[Any]] = {performing, self._stopping}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if performing.done():
            return await performing
        performing.cancel()
        raise OperatorError(
            "The node was stopped before the command had ended.",
            fix="Look at what is on record with `p2pfl ledger show`, then run the command again.",
            exit_code=EXIT_UNAVAILABLE,
        )

    def stop(self) -> None:
        """Answer whoever waits; what their commands still do ends with the process."""
        if not self._stopping.done():
            self._stopping.set_result(None)

    async def _perform(self, command: str, arguments: Mapping[str, Json]) -> Json:
        def perform() -> Json:
            site = site_around(
                self._home,
                self._keys,
                self._ledger,
                self._audience,
                self._votes,
                self._now_us,
                os.urandom,
            )
            return perform_request(site, command, arguments)

        async with self._one_at_a_time:
            return await in_own_thread(perform, name=f"command {command}")


async def in_own_thread(work: Callable[[], Result], *, name: str) -> Result:
    """Run `work` in a thread that does not keep the process alive. Raises what it raises."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def run() -> None:
        try:
            outcome = functools.partial(_settle, done, work(), None)
        except Exception as error:
            outcome = functools.partial(_settle, done, None, error)
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(outcome)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done


def _settle(done: "asyncio.Future[Any]", result: object, error: Exception | None) -> None:
    if done.done():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)
