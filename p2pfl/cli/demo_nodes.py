"""The demonstration's nodes: `p2pfl node start` once per hospital, watched through their logs."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from p2pfl.cli.demo_stage import DemoSite
from p2pfl.runtime.errors import EXIT_UNAVAILABLE, OperatorError

STOP_S: Final = 20.0
PIPED_EVERY_S: Final = 2.0
ENDED: Final = ("study_complete", "study_left")


@dataclass(slots=True)
class Watched:
    """One running node and what its log has said so far."""

    site: DemoSite
    process: subprocess.Popen[bytes]
    rounds: list[dict[str, Any]] = field(default_factory=list)
    state: str = "starting"
    is_complete: bool = False
    has_ended: bool = False
    position: int = 0
    is_segmentation: bool = False
    """Then rounds are told by Dice, and not by AUC."""

    def read_log(self) -> bool:
        """Take in new lines of the node's log; True if there were any."""
        path = self.site.home / "logs" / "node.jsonl"
        if not path.is_file():
            return False
        with path.open("rb") as file:
            file.seek(self.position)
            new = file.read()
        whole = new.rpartition(b"\n")[0]
        self.position += len(whole) + 1 if whole else 0
        for line in whole.splitlines():
            self._take(json.loads(line))
        return bool(whole)

    def _take(self, line: dict[str, Any]) -> None:
        match line["event"]:
            case "round_done":
                self.rounds.append(line)
            case "study_waits" | "study_decision":
                self.state = line["sentence"]
            case "node_ready":
                self.state = "listens"
            case event if event in ENDED:
                self.has_ended, self.is_complete = True, event == "study_complete"
                self.state = line["sentence"]

    def line(self) -> str:
        """The progress of this hospital in at most 80 columns."""
        if not self.rounds or (self.has_ended and not self.is_complete):
            return f"{self.site.name:<12} {self.state[:66]}"
        done = self.rounds[-1]
        eps = f"ε {done['eps_total_u'] / 1e6:.2f}" if done["eps_total_u"] else "no DP"
        work = f"loss {done['loss']:6.3f}" if done["phase"] == "training" else "mixing only"
        return (
            f"{self.site.name:<12} round {done['round'] + 1:>3}/{done['rounds']}  "
            f"{work}  {self._score(done)}  heard {done['heard']}/{done['expected']}  {eps}"
        )

    def _score(self, done: dict[str, Any]) -> str:
        """On the own hold-out."""
        if self.is_segmentation:
            return f"Dice {done['accuracy']:.3f}"
        return "AUC   –  " if done["auc"] is None else f"AUC {done['auc']:.3f}"


@contextlib.contextmanager
def running_nodes(sites: Sequence[DemoSite]) -> Iterator[list[Watched]]:
    """Start every site's node; stop them all, whatever happens."""
    watched: list[Watched] = []
    before = signal.signal(signal.SIGTERM, _end)
    try:
        for site in sites:
            console = site.home / "logs" / "console.log"
            with console.open("ab") as output:
                # Our own program, started as its user would start it.
                process = subprocess.Popen(  # noqa: S603
                    [*program(), "--home", str(site.home), "node", "start"],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            watched.append(Watched(site, process))
        yield watched
    finally:
        _stop(watched)
        signal.signal(signal.SIGTERM, before)


def _end(_number: int, _frame: object) -> None:
    """SIGTERM ends the demonstration as Ctrl-C does: its nodes must not outlive it."""
    raise KeyboardInterrupt


def program() -> list[str]:
    """How to start p2pfl in a process of its own: the installed script, else the module."""
    script = Path(sys.executable).with_name("p2pfl")
    return [str(script)] if script.is_file() else [sys.executable, "-m", "p2pfl.cli.main"]


def watch(watched: Sequence[Watched], *, limit_s: float) -> None:
    """Show one line per hospital until every study has ended.

    Raises OperatorError if a node dies or time runs out."""
    end_s = time.monotonic() + limit_s
    with _screen() as show:
        while not all(node.has_ended for node in watched):
            for node in watched:
                _check_alive(node)
            if time.monotonic() > end_s:
                waiting = "; ".join(node.line() for node in watched if not node.has_ended)
                raise OperatorError(
                    f"The study did not end within {limit_s:g} s: {waiting}.",
                    fix="Look at logs/node.jsonl in the homes (keep them with --keep).",
                    exit_code=EXIT_UNAVAILABLE,
                )
            if any([node.read_log() for node in watched]):
                show([node.line() for node in watched])
            time.sleep(0.1)
        show([node.line() for node in watched])
    for node in watched:
        if not node.is_complete:
            raise OperatorError(
                f"{node.site.name} left the study: {node.state}",
                fix="Choose other options, such as a smaller ε or fewer rounds.",
            )


@contextlib.contextmanager
def _screen() -> Iterator[Any]:
    """Lines that replace each other on a terminal, and follow each other elsewhere."""
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False, markup=False)
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            yield lambda lines: live.update("\n".join(lines), refresh=True)
        return
    printed_s, latest, printed = float("-inf"), [""], [""]

    def print_seldom(lines: list[str]) -> None:
        nonlocal printed_s, latest, printed
        latest, now_s = lines, time.monotonic()
        if lines != printed and now_s - printed_s >= PIPED_EVERY_S:
            sys.stdout.write("\n".join(lines) + "\n\n")
            sys.stdout.flush()
            printed_s, printed = now_s, lines

    yield print_seldom
    if latest != printed:
        sys.stdout.write("\n".join(latest) + "\n")


def _check_alive(node: Watched) -> None:
    if node.process.poll() is None:
        return
    console = node.site.home / "logs" / "console.log"
    said = console.read_text("utf-8", "replace").strip().splitlines()[-3:]
    raise OperatorError(
        f"The node of {node.site.name} ended with status {node.process.returncode}: "
        f"{' '.join(said)}",
        fix="Its log is logs/node.jsonl in its home (keep the homes with --keep).",
        exit_code=EXIT_UNAVAILABLE,
    )


def _stop(watched: Sequence[Watched]) -> None:
    for node in watched:
        if node.process.poll() is None:
            node.process.send_signal(signal.SIGTERM)
    for node in watched:
        try:
            node.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            node.process.kill()
            node.process.wait()
