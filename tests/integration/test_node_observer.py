"""What people see of a node: never dangerous to their terminal, their disk or the node."""

import json
import logging
import math
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from p2pfl.core import effects as fx
from p2pfl.core.names import Round
from p2pfl.runtime.node_status import memory_peak_kib
from p2pfl.runtime.observer import (
    LINES_BURST,
    SOURCES_MAX,
    TEXT_CHARACTERS_MAX,
    NodeObserver,
    open_log,
    printable,
)


class Terminal:
    """What was printed; a closed one raises, as a broken pipe does."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.is_closed = False

    def echo(self, line: str) -> None:
        if self.is_closed:
            raise BrokenPipeError
        self.lines.append(line)


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


@pytest.fixture
def now_s() -> list[float]:
    return [0.0]


@pytest.fixture
def observer(tmp_path: Path, terminal: Terminal, now_s: list[float]) -> NodeObserver:
    log = open_log(tmp_path / "node.jsonl")
    return NodeObserver(log, terminal.echo, tmp_path / "bugs.log", lambda: now_s[0])


def logged(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "node.jsonl").read_text().splitlines()]


def happened(name: str, sentence: str, **fields: str) -> fx.Happened:
    return fx.Happened(name, sentence, tuple(fields.items()))


def test_a_closed_terminal_does_not_stop_the_node(
    observer: NodeObserver, terminal: Terminal, tmp_path: Path
) -> None:
    terminal.is_closed = True
    observer.started("a", "127.0.0.1:1", 3, 0.1)
    observer.show(None, happened("x", "y"))
    observer.show(None, fx.Waiting("code", "waits"))
    observer.refused("1.2.3.4:5", "NotOnRoster")
    observer.bug(ValueError("z"))
    assert [line["event"] for line in logged(tmp_path)] == [
        "x",
        "study_waits",
        "refused",
        "internal_error",
    ]


def test_a_full_disk_does_not_stop_the_node(
    observer: NodeObserver, terminal: Terminal, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        observer.show(None, happened("x", "something happened"))
        observer.bug(ValueError("z"))
        observer.failed("no space left")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "something happened" in terminal.lines
    assert capfd.readouterr().err == ""  # no traceback of the log's own either


def test_a_peer_cannot_steer_the_terminal_or_make_lines_long(
    observer: NodeObserver, terminal: Terminal, tmp_path: Path
) -> None:
    hostile = "before\x1b[2J\x07\r\n\u202e\u0000after" + "x" * 5000
    observer.show(None, happened("refused", hostile, detail=hostile))
    observer.refused("1.2.3.4:5", f"Garbled: {hostile}")
    (line, refused) = terminal.lines
    for text in (line, refused, *map(str, logged(tmp_path)[0].values())):
        assert text.isprintable(), text
        assert len(text) < TEXT_CHARACTERS_MAX + 100
    assert printable("ε = 3, größer als δ → gut") == "ε = 3, größer als δ → gut"


def test_many_addresses_fill_neither_log_nor_memory(
    observer: NodeObserver, terminal: Terminal
) -> None:
    for number in range(20_000):
        observer.refused(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:99", "NotOnRoster")
    assert len(terminal.lines) <= SOURCES_MAX + 6
    assert "many others" in terminal.lines[-1]


def test_what_members_make_happen_often_is_counted_instead_of_told(
    observer: NodeObserver, terminal: Terminal, tmp_path: Path, now_s: list[float]
) -> None:
    for number in range(5000):
        observer.show(None, happened("study_decision", f"decision {number}"))
    observer.show(None, happened("study_left", "left the study"))
    assert len(terminal.lines) == LINES_BURST + 1
    assert terminal.lines[-1] == "left the study"
    now_s[0] += 10.0
    observer.show(None, happened("study_decision", "one more"))
    assert logged(tmp_path)[-1]["left_out"] == 5000 - LINES_BURST


def test_a_loss_that_is_no_number_stays_valid_json(observer: NodeObserver, tmp_path: Path) -> None:
    phases = fx.PhaseTimes(0.1, 0.1, 0.1, 0.1, 0.1)
    observer.show(
        None, fx.RoundDone(Round(0), 3, "training", math.nan, None, 0.5, 1, 2, 0, 0, phases)
    )
    text = (tmp_path / "node.jsonl").read_text()
    assert json.loads(text, parse_constant=_refuse)["loss"] is None


def test_a_round_adopted_from_others_has_no_loss_and_keeps_its_epsilon(
    observer: NodeObserver, terminal: Terminal, tmp_path: Path
) -> None:
    phases = fx.PhaseTimes(0.0, 0.0, 0.0, 0.1, 0.1)
    adopted = fx.RoundDone(Round(4), 30, "training", 0.0, 0.8, 0.7, 3, 3, 0, 8_000_000, phases)
    observer.show(None, adopted)
    assert "caught up" in terminal.lines[-1]
    assert "ε 0.000/8" in terminal.lines[-1]
    (line,) = logged(tmp_path)
    assert (line["phase"], line["loss"]) == ("catch-up", None)


def test_files_of_logs_and_bugs_are_bounded(observer: NodeObserver, tmp_path: Path) -> None:
    for _ in range(30):
        observer.bug(ValueError("x" * 1_000_000))
    kept = sum(path.stat().st_size for path in tmp_path.glob("bugs.log*"))
    assert kept < 12 << 20
    assert (tmp_path / "bugs.log").stat().st_mode & 0o077 == 0


def test_peak_memory_is_this_processes_own() -> None:
    assert 1_000 < memory_peak_kib() <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + 1024


def _refuse(constant: str) -> Callable[[], None]:
    raise AssertionError(constant)


def test_a_log_of_its_own_per_home(tmp_path: Path) -> None:
    one, other = (open_log(tmp_path / name) for name in ("a", "b"))
    one.info("only here")
    logging.shutdown([])
    assert (tmp_path / "a").read_text()
    assert not (tmp_path / "b").read_text()
    other.info("and there")
