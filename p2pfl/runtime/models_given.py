"""Models handed to a training process, one at a time where it runs a researcher's code.

A process of a shipped plan reads the node's store. One that runs a researcher's code in its own
address space gets a folder with copies of what it was asked to work on: models of other studies
are none of its business, and could be copied into what it publishes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from p2pfl.core.manifest import Manifest, StudyId
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.errors import BlobError
from p2pfl.runtime.home import Home
from p2pfl.runtime.training_answers import TrainingError


def runs_inside(manifest: Manifest) -> bool:
    """Whether a researcher's code runs in the process that opens the data."""
    return manifest.code is not None and manifest.code.gradients != "outside"


class ModelsGiven:
    """Where a study's process finds models. Its methods touch the disk: ask in a thread."""

    def __init__(self, home: Home, blobs: BlobStore) -> None:
        self._home = home
        self._blobs = blobs

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
        """The path of a model, its bytes verified where they are copied. Raises TrainingError."""
        if not runs_inside(manifest):
            return self._blobs.path(digest)
        target = self._copies(manifest) / digest.hex()
        if not target.exists():
            try:
                self._blobs.copy_to(digest, target)
            except BlobError as error:
                raise TrainingError("model", str(error)) from error
        return target

    def tidy(self, manifest: Manifest, *needed: bytes) -> None:
        """Remove copies that nobody asks for any more."""
        if runs_inside(manifest):
            names = {digest.hex() for digest in (*needed, *self._kept(manifest))}
            for path in self._copies(manifest).iterdir():
                if path.name not in names:
                    path.unlink(missing_ok=True)

    def forget(self, study: StudyId) -> None:
        """Remove all copies of a study."""
        shutil.rmtree(self._folder(study), ignore_errors=True)

    def _kept(self, manifest: Manifest) -> list[bytes]:
        """Without materials that are not here yet, of which opening the study says so."""
        return [digest for digest in sorted(manifest.named_models) if self._blobs.has(digest)]

    def _copies(self, manifest: Manifest) -> Path:
        return self._folder(StudyId(manifest.study_id))

    def _folder(self, study: StudyId) -> Path:
        # Beside the process's own folder, which it may write in; this one it may only read.
        return self._home.path / "work" / f"{study.hex()}-models"
