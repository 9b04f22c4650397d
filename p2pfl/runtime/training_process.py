"""The handle of a study's training process: start it, ask it, kill it.

The process outlives rounds (importing torch takes seconds) and never the node: it asks the kernel
to be killed with its parent. Torch is imported there and nowhere else."""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from p2pfl.core.training import LIMITS
from p2pfl.runtime.children import printable
from p2pfl.runtime.confinement.starting import confined_command, parent_seen
from p2pfl.runtime.confinement.terms import Terms
from p2pfl.runtime.frames import FrameError, encode_frame, read_frame
from p2pfl.runtime.training_answers import TrainingError
from p2pfl.runtime.training_watch import Bounds, Look, passed

WORKER: Final = (sys.executable, "-m", "p2pfl.learning.worker")
STOP_S: Final = 5.0
PIPES_S: Final = 1.0
UNASKED_MAX: Final = 64
"""Answers that nobody waits for: a few come late; who sends more floods its node."""
LOG_BYTES_PER_S: Final = 16 << 20
"""What more is said on standard error waits in its pipe, and so does whoever says it."""
LOG_BYTES_MAX: Final = 1 << 20
"""What the process says on standard error: as much again is kept of what it said before."""
_READ_BYTES: Final = 1 << 16
_KEPT_VARIABLES: Final = (
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "TMPDIR",
    "VIRTUAL_ENV",
)


class TrainingProcess:
    """One long-lived child. Requests are answered in order; `kill` may come at any time."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        log: Path,
        companion: "TrainingProcess | None" = None,
    ) -> None:
        """companion: ends with this one."""
        self._process = process
        self._companion = companion
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader = asyncio.create_task(self._read(), name="training-reader")
        self._listener = asyncio.create_task(self._listen(log), name="training-stderr")
        self._watcher: asyncio.Task[None] | None = None
        self._passed: TrainingError | None = None
        self._unasked = 0

    @classmethod
    async def start(
        cls,
        log: Path,
        scratch: Path,
        program: Sequence[str] = WORKER,
        confinement: Terms | None = None,
        *,
        inherited: tuple[int, ...] = (),
        companion: "TrainingProcess | None" = None,
    ) -> "TrainingProcess":
        """Start a process with a clean environment; it answers nothing until `open`.

        log: gets what it says on standard error. scratch: its working directory.
        program: the command line, which begins with our interpreter; the number of the parent it
        will see is added. confinement: what it may reach.
        inherited: open descriptors that it gets. companion: a process that ends with it.
        Raises OSError."""
        environment = _environment()
        if confinement is not None:
            homes = dict.fromkeys(("HOME", "TMPDIR", "MPLCONFIGDIR"), str(scratch))
            environment |= homes | {"JOBLIB_MULTIPROCESSING": "0"}
            program = confined_command(confinement, program[1:], environment)
        process = await asyncio.create_subprocess_exec(
            *program,
            "--parent",
            str(parent_seen(confinement)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            cwd=scratch,
            start_new_session=True,
            pass_fds=inherited,
        )
        return cls(process, log, companion)

    @property
    def pid(self) -> int:
        """Process id of it, or of bubblewrap around it: whoever ends that ends it."""
        return self._process.pid

    @property
    def companion(self) -> "TrainingProcess | None":
        """The process that ends with this one."""
        return self._companion

    def watch(self, bounds: Bounds, folder: Path) -> None:
        """From now on end it, and its companion, as soon as they pass what they may use up.

        folder: where they write. Whatever it is asked is then refused with what was passed."""
        clock_s = asyncio.get_running_loop().time
        pids = [self.pid, *(() if self._companion is None else (self._companion.pid,))]
        look = Look(pids, folder, bounds, clock_s)
        self._watcher = asyncio.create_task(self._watched(look), name="training-watch")

    async def _watched(self, look: Look) -> None:
        self._passed = await passed(look)
        self._kill_group()
        if self._companion is not None:
            self._companion._kill_group()

    async def ask(self, request: str, **fields: Any) -> dict[str, Any]:
        """Send one request and wait for its answer. Raises TrainingError."""
        number = next(self._ids)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        writer = self._process.stdin
        assert writer is not None, "the process was started with a pipe"
        try:
            if self._reader.done():  # nobody would ever answer
                raise self._gone("the training process is gone")
            writer.write(encode_frame({"op": request, "id": number, **fields}))
            await writer.drain()
            return await answer
        except (ConnectionError, RuntimeError, FrameError) as error:
            raise self._gone("the training process is gone") from error
        finally:
            self._waiting.pop(number, None)

    async def close(self) -> None:
        """Ask it to end, then make sure that it has."""
        with contextlib.suppress(TrainingError, TimeoutError):
            await asyncio.wait_for(self.ask("close"), STOP_S)
        await self.kill()

    async def kill(self) -> None:
        """End the process and everything it started, at once."""
        self._kill_group()
        if self._companion is not None:
            await self._companion.kill()
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait({self._watcher})
        tasks = {self._reader, self._listener}
        # Something it started may have left its group and still hold the pipes: not waited for.
        _, holding = await asyncio.wait(tasks, timeout=PIPES_S)
        for task in holding:
            task.cancel()
        await asyncio.gather(*holding, return_exceptions=True)
        # asyncio has no public way to let go of pipes that somebody else holds open.
        self._process._transport.close()  # type: ignore[attr-defined]

    def _kill_group(self) -> None:
        # While the leader was not waited for, its number cannot belong to anybody else.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None, "the process was started with a pipe"
        reason = "the training process ended"
        try:
            while self._unasked <= UNASKED_MAX:
                self._answer(await read_frame(stdout))
            raise FrameError("the training process answers what nobody asked")
        except FrameError as error:
            # It closed its pipe or broke the format: either way nothing it says counts any more.
            reason = str(error)
            self._kill_group()
            reason += f" (exit status {await self._process.wait()})"
        finally:
            if self._watcher is not None:
                self._watcher.cancel()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(self._gone(reason))

    def _gone(self, reason: str) -> TrainingError:
        return self._passed or TrainingError("died", reason)

    def _answer(self, message: dict[str, Any]) -> None:
        number = message.get("id")
        answer = self._waiting.get(number) if type(number) is int else None
        if answer is None or answer.done():
            self._unasked += 1
            return
        if message.get("op") == "failed":
            # A researcher's code may have said it: nothing that a terminal obeys gets through.
            code, text = (
                printable(str(message.get(key, default))[:length])
                for key, default, length in (("code", "failed", 40), ("message", "", 1000))
            )
            # What passes a limit is the node's own finding, and ends up on record.
            answer.set_exception(TrainingError("failed" if code in LIMITS else code, text))
        else:
            answer.set_result(message)

    async def _listen(self, log: Path) -> None:
        """Keep what it says on standard error, but never fill the disk with it."""
        stderr = self._process.stderr
        assert stderr is not None, "the process was started with a pipe"
        # A pipe that is not emptied would stop the process; a disk that is full must not.
        while said := await stderr.read(_READ_BYTES):
            with contextlib.suppress(OSError):
                _append(log, said)
            await asyncio.sleep(len(said) / LOG_BYTES_PER_S)


def _environment() -> dict[str, str]:
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    environment |= {"USER": environment.get("USER", "node"), "OMP_NUM_THREADS": "1"}
    # The same code that runs here, wherever it was started from.
    environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    return environment


def _append(log: Path, said: bytes) -> None:
    with open(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as file:
        if file.tell() + len(said) > LOG_BYTES_MAX:
            log.replace(log.with_name(log.name + ".1"))
        file.write(said)
