"""Files of models that nothing asks for any more: half-fetched ones, and some that no entry names.

A part of a running study stays while its update may yet be resumed; with its study, or after it was
of no use at several looks, it goes. A whole model that the own ledger never named (a crash came
between the file and the entry) goes after a month: until then it may belong to a study that a
researcher has drafted and not proposed yet. It decides about files, never about entries."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from p2pfl.core.history import History
from p2pfl.core.names import StudyId

LOOKS: Final = 3
"""So often in a row is a part found to be of no use before it goes: after a start neighbours have
to tell again what they offer."""
UNNAMED_S: Final = 30 * 86_400.0


@dataclass(slots=True)
class Parts:
    """Half-fetched models under `incoming/<study>/<site>/`. Blocking: use it in a thread."""

    folder: Path
    _useless: dict[Path, int] = field(default_factory=dict, init=False)

    def sweep(
        self, wanted: Mapping[StudyId, frozenset[bytes] | None], busy: frozenset[StudyId]
    ) -> int:
        """Remove what is of no use. Returns how many files went.

        wanted: of each study that goes on, the models that may be fetched yet, None: any; busy:
        studies with a transfer under way, which are left alone."""
        removed, useless = 0, dict[Path, int]()
        for folder in _inside(self.folder):
            study = _study_of(folder)
            if study in busy:
                continue
            if study is None or study not in wanted:
                removed += sum(1 for path in folder.rglob("*") if path.is_file())
                shutil.rmtree(folder, ignore_errors=True)
                continue
            for path in _without(folder, wanted[study]):
                useless[path] = self._useless.get(path, 0) + 1
                if useless[path] >= LOOKS:
                    with contextlib.suppress(OSError):
                        path.unlink()
                        removed += 1
        self._useless = useless
        return removed


def _without(folder: Path, wanted: frozenset[bytes] | None) -> list[Path]:
    """Files of one study that are no part of a wanted model."""
    if wanted is None:
        return []
    names = {model.hex() for model in wanted}
    found = (path for site in _inside(folder) for path in _inside(site))
    return [path for path in found if path.name[:64] not in names]


def unnamed(
    files: Iterable[Path], history: History, named: frozenset[bytes], now_s: float
) -> frozenset[bytes]:
    """Models that lie under their digests for a month and that no round on record names.

    named: what manifests, released models and rounds under way need."""
    known = named | frozenset(_of_rounds(history))
    found = []
    for path in files:
        with contextlib.suppress(OSError, ValueError):
            digest = bytes.fromhex(path.name)
            is_unknown = len(digest) == 32 and digest not in known
            if is_unknown and now_s - path.stat().st_mtime > UNNAMED_S:
                found.append(digest)
    return frozenset(found)


def _of_rounds(history: History) -> Iterable[bytes]:
    for past in history.studies.values():
        yield from (own.model for own in past.published.values())
        yield from (received.hash for received in past.received.values())
        yield from past.averaged.values()
        yield from () if past.released is None else (past.released,)


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _study_of(folder: Path) -> StudyId | None:
    try:
        return StudyId(bytes.fromhex(folder.name))
    except ValueError:
        return None
