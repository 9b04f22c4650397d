"""A training process as a test speaks to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from p2pfl.learning.frames import Body, read_frame, write_frame


class Child:
    """A training process and its frames."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.errors = folder / "stderr"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "p2pfl.learning.worker", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def ask(self, op: str, **fields: object) -> Body:
        """Send one request, return its answer."""
        assert self.process.stdin is not None
        write_frame(self.process.stdin, {"op": op, "id": 41, **fields})  # type: ignore[arg-type]
        answer = self.answer()
        assert answer["id"] == 41
        return answer

    def answer(self) -> Body:
        """The next frame."""
        assert self.process.stdout is not None
        return read_frame(self.process.stdout)  # type: ignore[arg-type]

    def send(self, raw: bytes) -> None:
        """Send bytes that may be no frame."""
        assert self.process.stdin is not None
        self.process.stdin.write(raw)
        self.process.stdin.flush()

    def end(self) -> int:
        """Close its stdin and wait for it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(120)
