"""Reading the node's log: the last lines across rotated files, and new ones as they come.

Responsible for lines as values, whatever stands in the file: a line that a crash cut, or that is
not one of ours, is skipped. Must not know how lines are shown.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pfl.runtime.errors import EXIT_NO_INPUT, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.jsonable import Json
from p2pfl.runtime.observer import LOG_FILES_KEPT

LINE_BYTES_MAX: Final = 1 << 16
READ_BYTES: Final = 1 << 20
NUMBER_MAX: Final = 1e18


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line. time: ISO 8601 UTC as it was written; fields: everything else."""

    event: str
    level: str
    time: str
    fields: Mapping[str, Json]
    raw: str

    def text(self, name: str) -> str:
        """A field as text, "" where it is missing."""
        value = self.fields.get(name)
        return value if isinstance(value, str) else ""

    def number(self, name: str) -> float | None:
        """A field as a number, None where it is missing or null."""
        value = self.fields.get(name)
        if isinstance(value, int | float) and abs(value) < NUMBER_MAX:
            return float(value)
        return None


def require_log(home: Home) -> None:
    """Raises OperatorError if no node ever ran on this home."""
    if not home.node_log.is_file():
        raise OperatorError(
            f"There is no log at {home.node_log}: no node ever ran on this home.",
            fix=f"Start it with `p2pfl --home {home.path} node start`.",
            exit_code=EXIT_NO_INPUT,
        )


def log_lines(home: Home) -> Iterator[LogLine]:
    """Every line that is kept, oldest first, through all rotated files."""
    for number in range(LOG_FILES_KEPT, -1, -1):
        path = home.node_log.with_name(home.node_log.name + (f".{number}" if number else ""))
        try:
            file = path.open("rb")
        except FileNotFoundError:
            continue
        with file:
            for raw in file:
                line = parse_line(raw)
                if line is not None:
                    yield line


def last_lines(lines: Iterator[LogLine], count: int) -> tuple[LogLine, ...]:
    """The last `count` of them."""
    return tuple(deque(lines, maxlen=count))


def parse_line(raw: bytes) -> LogLine | None:
    """One line of the file; None if it is not a whole line of the node's."""
    if len(raw) > LINE_BYTES_MAX:
        return None
    text = raw.decode("utf-8", "replace").strip()
    try:
        found: Json = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    event, level, time = (found.pop(name, None) for name in ("event", "level", "timestamp"))
    if not (isinstance(event, str) and isinstance(level, str) and isinstance(time, str)):
        return None
    return LogLine(event, level, time, found, text)


class Follower:
    """New lines of a log that grows and is rotated."""

    def __init__(self, path: Path, *, from_start: bool) -> None:
        """from_start: also what is there already, in the present file."""
        self._path = path
        self._inode, size = self._identity()
        self._position = 0 if from_start else size
        self._rest = b""

    def new_lines(self) -> list[LogLine]:
        """What was written since the last look."""
        inode, size = self._identity()
        if inode != self._inode or size < self._position:
            # Rotated: what was written to the old file since the last look is behind `.1`.
            lines = self._read(self._path.with_name(self._path.name + ".1"))
            self._inode, self._position, self._rest = inode, 0, b""
            return lines + self._read(self._path)
        return self._read(self._path)

    def _read(self, path: Path) -> list[LogLine]:
        lines: list[LogLine] = []
        try:
            with path.open("rb") as file:
                file.seek(self._position)
                while chunk := file.read(READ_BYTES):
                    self._position += len(chunk)
                    *whole, self._rest = (self._rest + chunk).split(b"\n")
                    lines += [line for raw in whole if (line := parse_line(raw)) is not None]
        except FileNotFoundError:
            return []
        return lines

    def _identity(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return 0, 0
        return found.st_ino, found.st_size
