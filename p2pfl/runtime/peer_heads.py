"""The newest signed heads of other sites' logs, kept durably; a fork's evidence is never lost.

Members send heads as fast as they like: only the newest one of each log waits for the disk."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ledger.log import Log
from ledger.log.errors import PeerHeadConflict
from p2pfl.core import effects as fx
from p2pfl.runtime.home import write_durably

FORK_NOTES_MAX: Final = 64
"""Notes kept per forked log: two of one size prove the fork, more add little."""


class PeerHeads:
    """Writes heads one after the other, off the loop. Used from the node's loop."""

    def __init__(
        self,
        log: Log,
        evidence: Path,
        on_fork: Callable[[bytes], None],
        fail: Callable[[Exception], None],
    ) -> None:
        """evidence: directory of conflicting notes. on_fork: told the log's id.
        fail: told when the disk refuses."""
        self._log = log
        self._evidence = evidence
        self._on_fork = on_fork
        self._fail = fail
        self._waiting: dict[bytes, tuple[fx.KeepPeerHead, ...]] = {}
        """Per log the largest head, or two that contradict each other."""
        self._writing: asyncio.Task[None] | None = None

    def keep(self, head: fx.KeepPeerHead) -> None:
        """Have a verified head written. Returns at once."""
        self._waiting[head.log_id] = _both(self._waiting.get(head.log_id, ()), head)
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def stop(self) -> None:
        """Forget what waits: heads are told again."""
        self._waiting.clear()
        if self._writing is not None:
            await self._writing

    async def _write(self) -> None:
        try:
            while self._waiting:
                log_id = next(iter(self._waiting))
                heads = self._waiting.pop(log_id)
                if await asyncio.to_thread(self._has_forked, heads):
                    self._on_fork(log_id)
        except Exception as error:
            self._fail(error)
        finally:
            self._writing = None

    def _has_forked(self, heads: tuple[fx.KeepPeerHead, ...]) -> bool:
        """Store heads of one log; True if one contradicts what is held."""
        has_forked = False
        for head in heads:
            try:
                self._log.put_peer_head(head.log_id, head.note, head.size, head.root)
            except PeerHeadConflict:
                has_forked = True
                self._keep_evidence(head)
        return has_forked

    def _keep_evidence(self, head: fx.KeepPeerHead) -> None:
        """Both notes, in files of their own: a larger head will replace the one in the ledger."""
        folder = self._evidence / head.log_id.hex()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if len(list(folder.iterdir())) >= FORK_NOTES_MAX:
            return
        held = [known for known in self._log.peer_heads() if known.log_id == head.log_id]
        for note, size, root in [
            *((known.note, known.size, known.root) for known in held),
            (head.note, head.size, head.root),
        ]:
            write_durably(folder / f"{size}-{root.hex()[:16]}.note", note)


def _both(
    waiting: tuple[fx.KeepPeerHead, ...], head: fx.KeepPeerHead
) -> tuple[fx.KeepPeerHead, ...]:
    """What has to reach the disk of what waits and a new head."""
    if not waiting:
        return (head,)
    first = waiting[0]
    if len(waiting) > 1 or head.size < first.size:
        return waiting
    if head.size > first.size:
        return (head,)
    return waiting if head.root == first.root else (first, head)
