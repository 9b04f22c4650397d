"""Reading the documents: fenced blocks, which of them are executed, and the commands they name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = tuple(
    sorted(
        [
            *ROOT.glob("*.md"),
            *(ROOT / "docs").rglob("*.md"),
            *(ROOT / "examples").rglob("*.md"),
        ]
    )
)

_FENCE = re.compile(
    r"(?:<!-- run(?P<manner> in the foreground| at once)?: (?P<terminals>[a-z ]+) -->\n)?"
    r"^```(?P<language>[a-z]*)[^\n]*\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. terminals: where it is executed, none if it is only to be read.

    manner: one terminal after the other (""), all at once, or started and left running.
    """

    document: Path
    language: str
    text: str
    terminals: tuple[str, ...]
    manner: str


def named(path: Path) -> str:
    """A path from the repository's root."""
    return path.relative_to(ROOT).as_posix()


def blocks(document: Path) -> Iterator[Block]:
    """All fenced blocks of a document, in order."""
    for found in _FENCE.finditer(document.read_text(encoding="utf-8")):
        yield Block(
            document,
            found["language"],
            found["text"],
            tuple((found["terminals"] or "").split()),
            (found["manner"] or "").strip(),
        )


def command_lines(document: Path) -> Iterator[list[str]]:
    """Every `p2pfl …` that a document shows, in blocks or inside a sentence, as words."""
    text = document.read_text(encoding="utf-8")
    shown = [block.text for block in blocks(document) if block.language in ("sh", "console")]
    sentences = _FENCE.sub("", text)
    inline = [one.replace("\n", " ") for one in re.findall(r"`([^`]+)`", sentences)]
    for piece in [*shown, *inline]:
        for line in piece.replace("\\\n", " ").splitlines():
            yield from _commands(line)


def _commands(line: str) -> Iterator[list[str]]:
    for part in re.split(r"[;|]|&&|\bdo\b", line):
        words = part.split(" #")[0].removeprefix("$ ").split()
        while words and "=" in words[0] and not words[0].startswith("-"):
            words = words[1:]
        if words and words[0].rpartition("/")[2] == "p2pfl":
            yield words[1:]
