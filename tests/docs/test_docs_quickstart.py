"""The quickstart, typed as it is written: real processes, one shell per terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs_blocks import ROOT, Block, blocks
from free_ports import free_ports

QUICKSTART = ROOT / "docs" / "quickstart.md"
PORTS = ("7101", "7102", "7103", "7104")
LISTENS = "listens on 127.0.0.1:"
BLOCK_S = 90.0
START_S = 60.0


class Terminal:
    """One shell that lives as long as a person's terminal would, its output in a file."""

    def __init__(self, folder: Path, output: Path) -> None:
        self.output = output
        environment = {k: v for k, v in os.environ.items() if not k.startswith("P2PFL_")}
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        self.process = subprocess.Popen(
            ["bash", "-e"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def said(self) -> str:
        return self.output.read_text("utf-8", "replace")

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def wait_for(self, sentence: str, limit_s: float) -> None:
        """Until the terminal shows it; the shell ends at the first command that fails."""
        end_s = time.monotonic() + limit_s
        while sentence not in self.said():
            status = self.process.poll()
            assert status is None, f"ended with {status}:\n{self.said()}"
            assert time.monotonic() < end_s, f"no “{sentence}”:\n{self.said()}"
            time.sleep(0.02)  # polls a file that another process writes

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(80)


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[dict[str, Terminal]]:
    """The five terminals, standing in `practice` beside `examples` as in a clone."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    folder = tmp_path / "practice"
    folder.mkdir()
    names = ("north", "east", "south", "west", "look")
    opened = {name: Terminal(folder, tmp_path / f"{name}.txt") for name in names}
    yield opened
    for terminal in opened.values():
        terminal.end()


def type_block(block: Block, text: str, number: int, terminals: dict[str, Terminal]) -> None:
    """Type a block in each of its terminals, and wait until it is done, or until a node listens."""
    if block.manner == "in the foreground":
        for name in block.terminals:
            terminals[name].type(text)
        for name in block.terminals:
            terminals[name].wait_for(LISTENS, START_S)
        return
    done = f"[block {number} done]"
    groups = [block.terminals] if block.manner == "at once" else [(n,) for n in block.terminals]
    for group in groups:
        for name in group:
            terminals[name].type(f"{text}\necho '{done}'\n")
        for name in group:
            terminals[name].wait_for(done, BLOCK_S)


@pytest.mark.timeout(960)
def test_the_quickstart_works_as_it_is_written(terminals: dict[str, Terminal]) -> None:
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    for number, block in enumerate(blocks(QUICKSTART)):
        text = re.sub("|".join(PORTS), lambda found: ports[found[0]], block.text)
        type_block(block, text, number, terminals)
    looked = terminals["look"].said()
    assert "is closed; 13 of 13 rounds done" in looked
    assert "3 of 3" in looked  # node status: everybody is connected
    assert "0 findings" in looked
    assert "keeps every rule that was" in looked
    assert re.search(r"^accuracy  [01]\.\d{3}$", looked, re.MULTILINE)
    assert "revoked" in looked
    assert looked.count("has stopped") == 4
    for name in ("north", "east", "south", "west"):
        assert "listens on" in terminals[name].said()


def test_every_block_for_the_shell_is_executed_or_is_the_preparation() -> None:
    shown = [block for block in blocks(QUICKSTART) if block.language == "sh"]
    assert [block.text.split()[:2] for block in shown if not block.terminals] == [["make", "setup"]]
