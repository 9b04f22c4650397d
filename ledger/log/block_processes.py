"""Blocks of a log checked by processes beside this one, which take turns.

Responsible for: starting and ending the processes, and the form of their answers.
Must not know: what makes a block sound, or what to do about one that is not.

An answer is u32be length ‖ msgpack[prev, leaves one after the other, is_watched]; length 0 if the
process does not vouch for the block. The pipe holds few answers, so no process runs far ahead.
"""

import os
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgpack

from ledger.log.block_check import Blocks, SoundBlock
from ledger.log.findings import SigCheck
from ledger.log.tree import HASH_BYTES
from ledger.log.tree_check import BLOCK_LEAVES

MODULE = "ledger.log.block_process"
PROCESSES_MAX = 8
_LENGTH_BYTES = 4
# Starting a process costs as much as this many entries; for fewer it is not worth it.
_WORTH_IT = {SigCheck.ALL: 4_096, SigCheck.HEADS: 32_768, SigCheck.NONE: 32_768}


def blocks_of(first: int, step: int, size: int) -> Iterator[tuple[int, int]]:
    """(first entry, one after the last) of every `step`-th block from number `first` on."""
    for start in range(first * BLOCK_LEAVES, size, step * BLOCK_LEAVES):
        yield start, min(start + BLOCK_LEAVES, size)


def packed_answer(block: SoundBlock | None) -> bytes:
    """What a process writes about one block."""
    if block is None:
        return bytes(_LENGTH_BYTES)
    data = bytes(msgpack.packb([block.prev, b"".join(block.leaves), block.is_watched]))
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


def read_answer(answers: IO[bytes]) -> SoundBlock | None:
    """The next answer; None if it does not vouch for its block. Raises EOFError without one."""
    header = answers.read(_LENGTH_BYTES)
    length = int.from_bytes(header, "big")
    data = answers.read(length)
    if len(header) != _LENGTH_BYTES or len(data) != length:
        raise EOFError
    if not length:
        return None
    prev, joined, is_watched = msgpack.unpackb(data)
    leaves = [joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES)]
    return SoundBlock(prev, leaves, is_watched)


class BlockProcesses:
    """Processes that check the blocks of one log, taking turns."""

    def __init__(self, own: Blocks, running: Sequence[subprocess.Popen[bytes]], first: int) -> None:
        """own: answers for a process that has failed. first: number of the first block."""
        self._own = own
        self._running = running
        self._first = first

    def sound(self, first: int, stop: int) -> SoundBlock | None:
        """Entries [first, stop) if nothing is wrong with them; ask in order, each once."""
        turn = (first // BLOCK_LEAVES - self._first) % len(self._running)
        answers = self._running[turn].stdout
        assert answers is not None, "started with a pipe"
        try:
            return read_answer(answers)
        except EOFError:
            return self._own.sound(first, stop)


def cores() -> int:
    """How many cores this process may use."""
    # Not every system says which of its cores are ours.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes_for(entries: int, sigs: SigCheck, cores_free: int) -> int:
    """How many processes should verify so many entries; 0: this one by itself."""
    return min(cores_free, PROCESSES_MAX) if cores_free > 1 and entries >= _WORTH_IT[sigs] else 0


@contextmanager
def checked_beside(
    own: Blocks,
    home: Path,
    sigs: SigCheck,
    watched: Collection[str],
    entries: range,
    count: int,
) -> Iterator[Blocks]:
    """`count` processes that check `entries`; `own` where there are to be none, or cannot be.

    entries: from a multiple of BLOCK_LEAVES on, to the log's size.
    """
    if not count:
        yield own
        return
    arguments = [str(home), str(entries.stop), sigs.value, ",".join(sorted(watched))]
    first = entries.start // BLOCK_LEAVES
    running: list[subprocess.Popen[bytes]] = []
    try:
        with suppress(OSError):
            for number in range(first, first + count):
                running.append(_started([*arguments, str(number), str(count)]))
        yield BlockProcesses(own, running, first) if len(running) == count else own
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.communicate()


def _started(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    # -P: a folder called `ledger` where the user happens to be is not ours.
    return subprocess.Popen(  # noqa: S603 -- this interpreter, our module; no shell
        [sys.executable, "-P", "-m", MODULE, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
