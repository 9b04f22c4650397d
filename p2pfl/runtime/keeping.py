"""Which models stay on disk: what studies and the policy need, and no more than the budget.

A model goes only when every round on record that names it lies behind what its study still needs
and behind what the policy keeps for audits. Released models and those that manifests name stay.
The ledger is never touched: an audit says of a model that went that it is not kept any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from p2pfl.core import effects as fx
from p2pfl.core.encoding import blob_size_bytes
from p2pfl.core.history import History, StudyHistory
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import ModelHash, StudyId
from p2pfl.core.node import NodeCore
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.errors import EXIT_REFUSED, OperatorError
from p2pfl.runtime.jsonable import Json
from p2pfl.runtime.leftovers import Parts, unnamed

LIVE_ROUNDS: Final = 4
"""Newest rounds that always stay: updates still offered, late neighbours, a resumption."""
SWEEP_S: Final = 20.0
GB: Final = 1_000_000_000
RESERVE_BYTES: Final = 64 * 1024 * 1024
"""Studies that take less are not asked about the disk when they are approved."""


class NoRoom(OSError):
    """A model would exceed the budget for models of config.toml."""


@dataclass(frozen=True, slots=True)
class Keep:
    """What a site keeps. rounds: of each study, for audits; None: all. bytes_max: 0: no limit."""

    rounds: int | None = None
    bytes_max: int = 0

    def window(self, staleness: int = 0) -> int | None:
        """How many of a study's newest rounds stay; None: all.

        staleness: how old an update may be that stands in for a missing one.
        """
        return None if self.rounds is None else max(self.rounds, LIVE_ROUNDS + staleness)


EVERYTHING: Final = Keep()


def disused(
    history: History, keep: Keep, manifests: Iterable[Manifest], held: Iterable[bytes]
) -> frozenset[bytes]:
    """Models on record that nothing needs any more.

    manifests: of every study that is kept; held: not on record yet, but waiting for their round.
    """
    by_study = {StudyId(manifest.study_id): manifest for manifest in manifests}
    old: set[bytes] = set()
    kept = {*held, *(model for found in by_study.values() for model in found.named_models)}
    for study, past in history.studies.items():
        manifest = by_study.get(study)
        window = keep.window(0 if manifest is None else manifest.averaging.staleness)
        if window is None:
            return frozenset()
        by_round = list(_models(past))
        newest = max((round_ for round_, _ in by_round), default=0)
        for round_, model in by_round:
            (kept if round_ > newest - window else old).add(model)
        if past.released is not None:
            kept.add(past.released)
        if past.kept is not None:
            kept.add(past.kept.hash)
    return frozenset(old - kept)


def _models(past: StudyHistory) -> Iterable[tuple[int, bytes]]:
    """Every model of a study's rounds, with its round."""
    for round_, published in past.published.items():
        yield round_, published.model
    for (round_, _), received in past.received.items():
        yield round_, received.hash
    yield from past.averaged.items()


def bytes_used(folder: Path) -> tuple[int, int]:
    """How many files lie in a folder of models, and their bytes."""
    count = size = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                size += entry.stat(follow_symlinks=False).st_size
                count += 1
    return count, size


def bytes_of_study(manifest: Manifest, keep: Keep) -> int:
    """The most that a study's models take here while it runs."""
    terms, d = manifest.averaging, manifest.study.parameters
    neighbours = terms.degree or len(manifest.study.sites) - 1
    plain = blob_size_bytes(d)
    trained = (1 + neighbours) * blob_size_bytes(d, terms.encoding) + plain
    mixed = (1 + neighbours) * plain + plain
    rounds, consensus = manifest.study.rounds, manifest.study.consensus_rounds
    window = keep.window(terms.staleness)
    if window is None:
        return rounds * trained + consensus * mixed + 2 * plain
    # One more round is under way than is kept.
    at_once = min(window + 1, rounds + consensus)
    return at_once * max(trained, mixed if consensus else 0) + 2 * plain


def require_room(folder: Path, manifest: Manifest, keep: Keep) -> None:
    """Whether a study's models fit. Raises OperatorError: before anything is trained."""
    _, used = bytes_used(folder)
    needed, free = bytes_of_study(manifest, keep), shutil.disk_usage(folder).free
    fix = (
        "Keep fewer rounds (keep_rounds in policy.toml), free disk space, or raise models_gb in "
        "config.toml; then approve again. Nothing was recorded."
    )
    if keep.bytes_max and used + needed > keep.bytes_max:
        raise OperatorError(
            f"The study's models may take {_gb(needed)} here; {_gb(used)} of the budget of "
            f"{_gb(keep.bytes_max)} are used.",
            fix=fix,
            exit_code=EXIT_REFUSED,
        )
    # A small study meets a full disk when it writes: that is said there, with what was kept.
    if needed > max(free, RESERVE_BYTES):
        raise OperatorError(
            f"The study's models may take {_gb(needed)} here; the disk has {_gb(free)} left.",
            fix=fix,
            exit_code=EXIT_REFUSED,
        )


def require_room_for(folder: Path, size_bytes: int, keep: Keep) -> None:
    """Whether one more model fits the budget. Raises NoRoom."""
    if keep.bytes_max and bytes_used(folder)[1] + size_bytes > keep.bytes_max:
        raise NoRoom(f"{_gb(size_bytes)} more would exceed models_gb, {_gb(keep.bytes_max)}")


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / GB:.3g} GB"


@dataclass(slots=True)
class Keeper:
    """Removes what is not needed any more, while a node runs. Used from its loop."""

    core: NodeCore
    blobs: BlobStore
    keep: Keep
    show: Callable[[StudyId | None, fx.Notice], None]
    parts: Parts
    busy: Callable[[], frozenset[StudyId]]
    """Studies with a transfer under way."""
    now_s: Callable[[], float]
    removed: int = 0
    removed_bytes: int = 0
    parts_removed: int = 0
    _seen: int = field(default=-1, init=False)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.sweep()
            await asyncio.sleep(SWEEP_S)

    def status(self) -> Json:
        """What models take of the disk, and what has been removed since the start."""
        files, size = bytes_used(self.blobs.directory)
        return {
            "files": files,
            "bytes": size,
            "bytes_max": self.keep.bytes_max,
            "keep_rounds": self.keep.rounds,
            "removed": self.removed,
            "removed_bytes": self.removed_bytes,
            "parts_removed": self.parts_removed,
        }

    async def sweep(self) -> None:
        """Remove what nothing needs any more."""
        held = {s: run.gathering.models for s, run in self.core.runs.items()}
        await self._sweep_parts(held)
        if self.core.history.size == self._seen:
            return  # nothing was recorded since
        is_first, self._seen = self._seen < 0, self.core.history.size
        manifests = [proposal.manifest for proposal in self.core.proposals.values()]
        needed = frozenset(m for models in held.values() for m in models)
        old = disused(self.core.history, self.keep, manifests, needed)
        if is_first:
            named = needed.union(*(manifest.named_models for manifest in manifests))
            files = await asyncio.to_thread(lambda: list(self.blobs.directory.iterdir()))
            old |= unnamed(files, self.core.history, named, self.now_s())
        count, size = await asyncio.to_thread(_remove, self.blobs, old)
        if count:
            self.removed, self.removed_bytes = self.removed + count, self.removed_bytes + size
            sentence = f"{count} models of earlier rounds are not kept any more: {_gb(size)}"
            fields = (("models", str(count)), ("bytes", str(size)))
            self.show(None, fx.Happened("models_removed", sentence, fields))

    async def _sweep_parts(self, held: Mapping[StudyId, frozenset[ModelHash]]) -> None:
        """Half-fetched models that no running study will ask for again."""
        proposals, wanted = self.core.proposals, dict[StudyId, frozenset[bytes] | None]()
        for study, past in self.core.history.studies.items():
            if past.is_reserved:
                # Not running yet, after a start: everything may be resumed.
                wanted[study] = None
                if study in held and study in proposals:
                    wanted[study] = held[study] | proposals[study].manifest.named_models
        self.parts_removed += await asyncio.to_thread(self.parts.sweep, wanted, self.busy())


def _remove(blobs: BlobStore, old: frozenset[bytes]) -> tuple[int, int]:
    count = size = 0
    for digest in sorted(old & blobs.digests()):
        path = blobs.path(digest)
        with contextlib.suppress(OSError):
            bytes_freed = path.stat().st_size
            path.unlink()
            count, size = count + 1, size + bytes_freed
    return count, size
