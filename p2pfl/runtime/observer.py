"""What people and logs see of a running node: one readable line and one JSON line per decision.

Never keys, tensors, patients or file names. Nothing here ever raises: neither a full disk nor a
terminal that was closed may stop a node."""

import contextlib
import logging
import logging.handlers
import math
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, assert_never

import structlog

from gossip.rate import TokenBucket
from p2pfl.core import effects as fx
from p2pfl.core.names import StudyId

LOG_BYTES_MAX: Final = 16 << 20
LOG_FILES_KEPT: Final = 8
BUGS_BYTES_MAX: Final = 4 << 20
TEXT_CHARACTERS_MAX: Final = 600
"""Of a sentence that may quote what a peer sent."""
LINES_PER_S: Final = 1.0
LINES_BURST: Final = 200.0
"""Lines of one name; more of them are counted. Members decide how often some of these happen, and
must not push everything else out of the log."""
CATCH_UP: Final = "catch-up"
ALARMS: Final = frozenset({"false_witness", "fork_found", "own_log_behind", "own_log_forked"})
"""Errors in the log: somebody has to do something."""
SOURCES_MAX: Final = 1024
"""Different (source, reason) pairs that are told apart; the rest is told together."""


class QuietHandler(logging.handlers.RotatingFileHandler):
    """A log file whose disk may fail: the line is lost, the node goes on."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: standard error is the terminal of somebody who cannot help it."""


def open_log(path: Path) -> structlog.stdlib.BoundLogger:
    """A structured log: JSON lines, rotated so that months of running cannot fill a disk."""
    handler = QuietHandler(
        path, maxBytes=LOG_BYTES_MAX, backupCount=LOG_FILES_KEPT, encoding="utf-8"
    )
    handler.setFormatter(logging.Formatter("%(message)s"))
    target = logging.getLogger(f"p2pfl.node.{path}")
    target.handlers, target.propagate = [handler], False
    target.setLevel(logging.INFO)
    log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        target,
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return log


class NodeObserver:
    """Writes the node's log, and tells the person at the terminal through `echo`."""

    def __init__(
        self,
        log: structlog.stdlib.BoundLogger,
        echo: Callable[[str], None],
        bugs: Path,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.log = log
        self._clock_s = clock_s
        self._rates: dict[str, TokenBucket] = {}
        self._left_out: Counter[str] = Counter()
        self._print = echo
        self._bugs = bugs
        self._refusals: dict[tuple[str, str], int] = {}

    def show(self, study: StudyId | None, notice: fx.Notice) -> None:
        """One notice of the core."""
        name: dict[str, object] = {"study": study.hex()} if study is not None else {}
        match notice:
            case fx.RoundDone():
                self.log.info("round_done", **name, **_round_fields(notice))
                self._echo(round_text(notice))
            case fx.Waiting(code=code, sentence=sentence):
                self.log.info("study_waits", **name, code=code, sentence=printable(sentence))
                self._echo(f"… {sentence}")
            case fx.Happened(name=event, sentence=sentence, fields=fields):
                self._happened(name, event, sentence, fields)
            case _:
                assert_never(notice)

    def _happened(
        self,
        name: Mapping[str, object],
        event: str,
        sentence: str,
        fields: tuple[tuple[str, str], ...],
    ) -> None:
        rate = self._rates.setdefault(event, TokenBucket(LINES_PER_S, LINES_BURST))
        if not rate.take(self._clock_s()):
            self._left_out[event] += 1
            return
        told: dict[str, object] = {key: printable(value) for key, value in fields}
        if left_out := self._left_out.pop(event, 0):
            told["left_out"] = left_out
        told_of = self.log.error if event in ALARMS else self.log.info
        told_of(event, **{**name, **told, "sentence": printable(sentence)})
        self._echo(sentence)

    def started(self, name: str, listen: str, others: int, ready_s: float) -> None:
        """The node listens."""
        self._echo(f"{name} listens on {listen}, ready in {ready_s:.1f} s; {others} other members")
        self._echo("stop it with Ctrl-C or SIGTERM; its log is logs/node.jsonl in the home")

    def refused(self, address_or_site: str, reason: str) -> None:
        """Somebody was turned away; repeated refusals are counted, not repeated."""
        host, reason = address_or_site.rpartition(":")[0] or address_or_site, printable(reason)
        if (host, reason) not in self._refusals and len(self._refusals) >= SOURCES_MAX:
            # Whoever has many addresses must not fill log and terminal with them.
            host, reason = "many others", "various reasons"
        count = self._refusals[host, reason] = self._refusals.get((host, reason), 0) + 1
        if count == 10 ** (len(str(count)) - 1):
            self.log.warning("refused", source=host, reason=reason, count=count)
            self._echo(f"turned away {host}: {reason} (×{count})")

    def failed(self, sentence: str) -> None:
        """The node cannot go on; the person at the terminal is told when it has stopped."""
        self.log.error("node_failed", sentence=printable(sentence))

    def bug(self, error: BaseException) -> None:
        """Something of ours failed: one line here, the traceback in a file of its own."""
        self.log.error("internal_error", error=type(error).__name__)
        with contextlib.suppress(OSError):
            _append_bug(self._bugs, "".join(traceback.format_exception(error)))
        self._echo(f"an error of our own ({type(error).__name__}); details are in {self._bugs}")

    def _echo(self, line: str) -> None:
        # The terminal may be gone (closed window, `| head`): the log still has every line.
        with contextlib.suppress(OSError, ValueError):
            self._print(printable(line))


def printable(text: str) -> str:
    """A text that may quote a peer, safe for a terminal: no control or direction characters.

    >>> printable("round\\x1b[2J 3")
    'round�[2J 3'"""
    shortened = text if len(text) <= TEXT_CHARACTERS_MAX else text[:TEXT_CHARACTERS_MAX] + " …"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shortened)


def _append_bug(path: Path, report: str) -> None:
    if path.exists() and path.stat().st_size > BUGS_BYTES_MAX:
        path.replace(path.with_name(path.name + ".1"))
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(report)


def round_text(done: fx.RoundDone) -> str:
    """The progress line of a round, at most 80 columns."""
    auc = f"{done.auc:.3f}" if done.auc is not None else "  –  "
    phase = _phase(done)
    words = {"training": f"loss {done.loss:6.3f}", CATCH_UP: "caught up  "}
    loss = words.get(phase, "mixing only")
    # Only a round that trained without spending says that nothing protects the patients.
    is_open = phase == "training" and not done.eps_total_u
    eps = "no DP" if is_open else f"ε {done.eps_total_u / 1e6:.3f}/{done.cap_u / 1e6:g}"
    return (
        f"round {done.round + 1:>3}/{done.rounds:<3} {loss}  AUC {auc}  "
        f"heard {done.heard}/{done.expected}  {eps}  {done.phases_s.total:.2f} s"
    )


def _phase(done: fx.RoundDone) -> str:
    """The core's word, but for a round adopted from neighbours that had gone on without us:
    it has no training, thus neither a loss nor a time for it. A site that stopped training mixes:
    it has an update of its own to record."""
    has_trained = done.loss != 0.0 or done.phases_s.train > 0.0
    if done.phase != "training" or has_trained:
        return done.phase
    return "consensus" if done.phases_s.record > 0.0 else CATCH_UP


def _round_fields(done: fx.RoundDone) -> dict[str, object]:
    phases = done.phases_s
    return {
        "round": done.round,
        "rounds": done.rounds,
        "phase": (phase := _phase(done)),
        # JSON knows no NaN: a training that diverged has no loss.
        "loss": round(done.loss, 6) if math.isfinite(done.loss) and phase != CATCH_UP else None,
        "auc": None if done.auc is None else round(done.auc, 4),
        "accuracy": round(done.accuracy, 4),
        **({"measures": dict(done.measures)} if done.measures else {}),
        "heard": done.heard,
        "expected": done.expected,
        "eps_total_u": done.eps_total_u,
        "cap_u": done.cap_u,
        "round_s": round(phases.total, 6),
        "train_s": round(phases.train, 6),
        "record_s": round(phases.record, 6),
        "gather_s": round(phases.gather, 6),
        "average_s": round(phases.average, 6),
        "close_s": round(phases.close, 6),
    }
