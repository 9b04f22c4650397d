"""What the tests of this folder share: homes of a study that ended, whose nodes still run."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from ops_sites import Ran

LIVE_FILES = ("control.sock", "node.pid", "node.lock")


@dataclass(frozen=True, slots=True)
class Finished:
    """A study that ended, at homes whose nodes still run."""

    folder: Path
    homes: tuple[Path, ...]
    tables: tuple[Path, ...]
    study: str
    dataset: str
    started: Ran
    watched: Ran

    @property
    def home(self) -> Path:
        """The first hospital's."""
        return self.homes[0]

    def copy(self, to: Path) -> Path:
        """The first home as a backup of it would be, to be damaged."""
        shutil.copytree(self.home, to, ignore=shutil.ignore_patterns(*LIVE_FILES))
        return to
