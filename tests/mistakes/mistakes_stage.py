"""Two founded sites with a study to decide on: the first of them makes the mistakes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mistakes_table import Row
from ops_sites import Ran, p2pfl


@dataclass(slots=True)
class Stage:
    """Two sites; the first one makes the mistakes."""

    path: Path
    study: str
    port: int

    @property
    def home(self) -> Path:
        return self.path / "site0"

    @property
    def other(self) -> Path:
        return self.path / "site1"

    @property
    def table(self) -> Path:
        """The registered file of `patients` at the first site."""
        return self.path / "site0.csv"

    @property
    def manifest(self) -> Path:
        return self.path / "study.toml"

    def edit(self, path: Path, old: str, new: str) -> Path:
        """Write `new` instead of `old` into a text file."""
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return path

    def entries(self) -> int:
        head = p2pfl("ledger", "head", "--home", self.home, "--json")
        return int(head.json["size"]) if head.code == 0 else -1

    def refused(self, row: Row, *words: object) -> Ran:
        """A command that ends as the row says, and leaves the ledger as it was."""
        before = self.entries()
        ran = p2pfl(*words, "--home", self.home)
        row.check(ran)
        assert self.entries() == before
        return ran
