"""One thread that runs trio for an asyncio program, is watched, and is started again when it dies.

libp2p needs trio, the node is asyncio. Work crosses over by `TrioToken.run_sync_soon` in one
direction and by `loop.call_soon_threadsafe` in the other. Whatever ends a trio run (a defect of
libp2p, say), every caller that waits gets an error, and a new run begins after a short pause.
This module knows nothing of libp2p.
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import trio

T = TypeVar("T")

HALT_S = 5.0
"""How long a run may take to end in good order."""


class ThreadDown(Exception):
    """The trio run is not there now; it may come back."""


@dataclass(eq=False, slots=True)
class Reply:
    """What an asyncio caller waits for: settled exactly once, from either thread."""

    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def settle(self, value: object, error: BaseException | None) -> None:
        """Hand over the outcome; a caller that has gone away does not mind."""
        # A closed loop means that nobody waits any more.
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._set, value, error)

    def _set(self, value: object, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(value)
        else:
            self.future.set_exception(error)


class TrioThread:
    """Runs `main` in trio in a thread of its own, again and again until `stop`.

    main: gets a nursery for the jobs of `call`, and an event that asks it to end in good order; it
        is cancelled HALT_S later. A run that ends before that counts as dead, raised or not.
    on_death: called on the asyncio loop with the error after each unwanted end.
    pause_s: between a death and the next run.
    """

    def __init__(
        self,
        main: Callable[[trio.Nursery, trio.Event], Awaitable[None]],
        *,
        name: str,
        on_death: Callable[[BaseException], None],
        pause_s: float = 1.0,
    ) -> None:
        self._main = main
        self._name = name
        self._on_death = on_death
        self._pause_s = pause_s
        self._lock = threading.Lock()
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None
        self._halt: trio.Event | None = None
        self._waiting: set[Reply] = set()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.deaths = 0

    def start(self) -> None:
        """Start the thread; call it on the asyncio loop."""
        self._loop = asyncio.get_running_loop()
        # Daemonic, so that a program that forgets `stop` still ends.
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End the run, fail who still waits, and wait for the thread."""
        self._stopping.set()
        with contextlib.suppress(ThreadDown):
            self.soon(self._begin_halt)
        thread = self._thread
        if thread is not None and thread.is_alive():
            await asyncio.to_thread(thread.join)

    def soon(self, work: Callable[..., object], *args: object) -> None:
        """Run a plain function in the trio thread, in order of the calls. Raises ThreadDown."""
        with self._lock:
            token = self._token
        if token is None:
            raise ThreadDown("the network thread is not running")
        try:
            token.run_sync_soon(work, *args)
        except trio.RunFinishedError as error:
            raise ThreadDown("the network thread is not running") from error

    def post(self, work: Callable[..., object], *args: object) -> None:
        """Run a plain function on the asyncio loop, in order of the calls; from any thread."""
        # The loop may be closed while the last connections end.
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(work, *args)

    def expect(self) -> Reply:
        """A reply that is sure to be settled: by whoever gets it, or when the run ends.

        Raises ThreadDown.
        """
        loop = asyncio.get_running_loop()
        reply = Reply(loop=loop, future=loop.create_future())
        with self._lock:
            if self._token is None:
                raise ThreadDown("the network thread is not running")
            self._waiting.add(reply)
        reply.future.add_done_callback(lambda _: self._forget(reply))
        return reply

    def _forget(self, reply: Reply) -> None:
        with self._lock:
            self._waiting.discard(reply)

    async def call(self, work: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run an async function in trio and return its result; cancelling cancels it there.

        Raises ThreadDown, or what `work` raises.
        """
        reply = self.expect()
        self.soon(self._start_job, reply, work, args)
        try:
            result: T = await reply.future
        except asyncio.CancelledError:
            with contextlib.suppress(ThreadDown):
                self.soon(reply.scope.cancel)
            raise
        return result

    def _start_job(
        self, reply: Reply, work: Callable[..., Awaitable[object]], args: tuple[object, ...]
    ) -> None:
        if self._nursery is None:
            reply.settle(None, ThreadDown("the network is starting"))
            return
        self._nursery.start_soon(self._job, reply, work, args)

    async def _job(
        self, reply: Reply, work: Callable[..., Awaitable[object]], args: tuple[object, ...]
    ) -> None:
        try:
            with reply.scope:
                reply.settle(await work(*args), None)
        except Exception as error:
            # The error belongs to the caller; here it would end everybody's run.
            reply.settle(None, error)

    def _begin_halt(self) -> None:
        if self._nursery is not None and self._halt is not None:
            self._halt.set()
            self._nursery.cancel_scope.deadline = trio.current_time() + HALT_S

    def _run(self) -> None:
        while not self._stopping.is_set():
            error: BaseException = ThreadDown("the network ended by itself")
            try:
                trio.run(self._supervise)
            except BaseException as raised:
                error = raised
            self._end_run(error)
            if not self._stopping.is_set():
                self.deaths += 1
                self.post(self._on_death, error)
                self._stopping.wait(self._pause_s)

    def _end_run(self, error: BaseException) -> None:
        with self._lock:
            self._token = None
            self._nursery = None
            waiting, self._waiting = self._waiting, set()
        for reply in waiting:
            down = ThreadDown("the network thread ended")
            down.__cause__ = error
            reply.settle(None, down)

    async def _supervise(self) -> None:
        async with trio.open_nursery() as nursery:
            with self._lock:
                self._token = trio.lowlevel.current_trio_token()
                self._nursery = nursery
                self._halt = trio.Event()
            if not self._stopping.is_set():
                await self._main(nursery, self._halt)
            nursery.cancel_scope.cancel()
