"""The handle of a study's training process: start it, ask it, kill it.

The process outlives rounds (importing torch takes seconds) and never the node: it asks the kernel
to be killed with its parent. Torch is imported there and nowhere else."""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

from p2pfl.runtime.frames import FrameError, encode_frame, read_frame

STOP_S = 5.0
_KEPT_VARIABLES = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")


class TrainingError(Exception):
    """The training process refused a request, or is gone. `code` is the process's own word."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class TrainingProcess:
    """One long-lived child. Requests are answered in order; `kill` may come at any time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader = asyncio.create_task(self._read(), name="training-reader")

    @classmethod
    async def start(cls, stderr: Path, scratch: Path) -> "TrainingProcess":
        """Start a process with a clean environment; it answers nothing until `open`."""
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        environment |= {"USER": environment.get("USER", "node"), "OMP_NUM_THREADS": "1"}
        with stderr.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "p2pfl.learning.worker",
                "--parent",
                str(os.getpid()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=environment,
                cwd=scratch,
                start_new_session=True,
            )
        return cls(process)

    @property
    def pid(self) -> int:
        """Process id, for status and for tests."""
        return self._process.pid

    async def ask(self, request: str, **fields: Any) -> dict[str, Any]:
        """Send one request and wait for its answer. Raises TrainingError."""
        number = next(self._ids)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        writer = self._process.stdin
        assert writer is not None, "the process was started with a pipe"
        try:
            writer.write(encode_frame({"op": request, "id": number, **fields}))
            await writer.drain()
        except (ConnectionError, RuntimeError, FrameError) as error:
            self._waiting.pop(number, None)
            raise TrainingError("died", "the training process is gone") from error
        return await answer

    async def close(self) -> None:
        """Ask it to end, then make sure that it has."""
        with contextlib.suppress(TrainingError, TimeoutError):
            await asyncio.wait_for(self.ask("close"), STOP_S)
        await self.kill()

    async def kill(self) -> None:
        """End the process and everything it started, at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        await self._reader

    async def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None, "the process was started with a pipe"
        reason = "the training process ended"
        try:
            while True:
                self._answer(await read_frame(stdout))
        except FrameError as error:
            reason = str(error)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        code = await self._process.wait()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(TrainingError("died", f"{reason} (exit status {code})"))
        self._waiting.clear()

    def _answer(self, message: dict[str, Any]) -> None:
        answer = self._waiting.pop(message.get("id", 0), None)
        if answer is None or answer.done():
            return
        if message.get("op") == "failed":
            code, text = str(message.get("code", "failed")), str(message.get("message", ""))
            answer.set_exception(TrainingError(code[:40], text[:1000]))
        else:
            answer.set_result(message)
