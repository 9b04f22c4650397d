"""docs/mistakes.md as the tests read it: one row per mistake, each proved by the test it names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ops_sites import Ran

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "mistakes.md"
GOES_ON = "goes on"
"""Instead of an exit code: nothing ends, it is said and things go on."""

_ROW = re.compile(
    r"\| (?P<did>.+) \| (?P<says>.+) \| (?P<fix>.+) \| (?P<code>.+) \| (?P<proof>.+) \|"
)
_PROOF = re.compile(r"\[(?P<name>\w+)\]\((?P<path>[^)]+)\)")


@dataclass(frozen=True, slots=True)
class Row:
    """A mistake: what p2pfl says (… stands for anything), what to do, and the exit code."""

    did: str
    says: str
    fix: str
    code: str
    proof: str
    path: Path

    def check(self, ran: Ran) -> None:
        """The command ended as the row says: one sentence, one thing to do, no traceback."""
        assert "Traceback" not in ran.err + ran.out
        assert ran.code == int(self.code), ran
        says, _, rest = ran.err.partition("\n")
        assert begins_like(self.says, says), f"{self.says!r} is in the table, said was {says!r}"
        assert rest.startswith("→ "), ran.err
        assert begins_like(self.fix, rest[2:]), f"{self.fix!r} is in the table, said was {rest!r}"


def begins_like(pattern: str, text: str) -> bool:
    """Whether a text begins with a pattern in which … stands for anything."""
    parts = (re.escape(part) for part in pattern.split("…"))
    return re.match(".*?".join(parts), text, re.DOTALL) is not None


def rows() -> dict[str, Row]:
    """All rows of the page, by the name of their proof. Each name is there once."""
    found: dict[str, Row] = {}
    for line in PAGE.read_text("utf-8").splitlines():
        match = _ROW.fullmatch(line)
        if match is None or (proof := _PROOF.fullmatch(match["proof"])) is None:
            continue
        name = proof["name"]
        assert name not in found, f"{name} proves two rows"
        path = (PAGE.parent / proof["path"]).resolve()
        found[name] = Row(match["did"], match["says"], match["fix"], match["code"], name, path)
    return found
