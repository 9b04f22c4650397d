"""Models handed to a training process, one at a time where it runs a researcher's code.

A process of a shipped plan reads the node's store. One that runs a researcher's code in its own
address space gets a folder with copies of what it was asked to work on: models of other studies
are none of its business, and could be copied into what it publishes.
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Final

from p2pfl.core.manifest import Manifest, StudyId
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.errors import BlobError
from p2pfl.runtime.home import Home
from p2pfl.runtime.training_answers import TrainingError

COPIES: Final = 8
"""More than are ever asked for at once: training, a score, and the two of a comparison."""


def runs_inside(manifest: Manifest) -> bool:
    """Whether code that nobody of us wrote runs in the process that opens the data."""
    if manifest.bundle is not None:
        return True
    return manifest.code is not None and manifest.code.gradients != "outside"


class ModelsGiven:
    """Where a study's process finds models. Its methods touch the disk: ask in a thread."""

    def __init__(self, home: Home, blobs: BlobStore) -> None:
        self._home = home
        self._blobs = blobs
        self._lock = threading.Lock()
        self._order: dict[Path, list[str]] = {}
        """Of each study's folder, the copies in the order in which they were asked for."""

    def folder(self, manifest: Manifest) -> Path:
        """What the process may read: the whole store, or this study's own copies."""
        return self._copies(manifest) if runs_inside(manifest) else self._home.blobs

    def begin(self, manifest: Manifest) -> None:
        """Copy what the study begins with. Raises TrainingError, OSError."""
        self.forget(StudyId(manifest.study_id))
        if runs_inside(manifest):
            self._copies(manifest).mkdir(mode=0o700, parents=True)
            for digest in self._kept(manifest):
                self.path(manifest, digest)

    def path(self, manifest: Manifest, digest: bytes) -> Path:
        """The path of a model, its bytes verified where they are copied. Raises TrainingError.

        A few copies stay: what was asked for may still wait for its turn."""
        if not runs_inside(manifest):
            return self._blobs.path(digest)
        target = self._copies(manifest) / digest.hex()
        with self._lock:  # a model is scored while the next training is asked for
            try:
                if not target.exists():
                    self._blobs.copy_to(digest, target)
            except BlobError as error:
                raise TrainingError("model", str(error)) from error
            self._tidy(manifest, target)
        return target

    def _tidy(self, manifest: Manifest, newest: Path) -> None:
        order = self._order.setdefault(newest.parent, [])
        if newest.name in order:
            order.remove(newest.name)
        order.append(newest.name)
        kept = {digest.hex() for digest in self._kept(manifest)}
        for name in [name for name in order if name not in kept][:-COPIES]:
            order.remove(name)
            (newest.parent / name).unlink(missing_ok=True)

    def forget(self, study: StudyId) -> None:
        """Remove all copies of a study."""
        with self._lock:
            self._order.pop(self._folder(study), None)
            shutil.rmtree(self._folder(study), ignore_errors=True)

    def _kept(self, manifest: Manifest) -> list[bytes]:
        """Without materials that are not here yet, of which opening the study says so."""
        return [digest for digest in sorted(manifest.named_models) if self._blobs.has(digest)]

    def _copies(self, manifest: Manifest) -> Path:
        return self._folder(StudyId(manifest.study_id))

    def _folder(self, study: StudyId) -> Path:
        # Beside the process's own folder, which it may write in; this one it may only read.
        return self._home.path / "work" / f"{study.hex()}-models"
