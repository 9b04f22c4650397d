"""What people and logs see of a running node: one readable line and one JSON line per decision.

Never keys, tensors, patients or file names."""

import logging
import logging.handlers
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final, assert_never

import structlog

from p2pfl.core import effects as fx
from p2pfl.core.names import StudyId

LOG_BYTES_MAX: Final = 16 << 20
LOG_FILES_KEPT: Final = 8


def open_log(path: Path) -> structlog.stdlib.BoundLogger:
    """A structured log: JSON lines, rotated so that months of running cannot fill a disk."""
    handler = logging.handlers.RotatingFileHandler(
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
        self, log: structlog.stdlib.BoundLogger, echo: Callable[[str], None], bugs: Path
    ) -> None:
        self.log = log
        self._echo = echo
        self._bugs = bugs
        self._refusals: dict[tuple[str, str], int] = {}

    def show(self, study: StudyId | None, notice: fx.Notice) -> None:
        """One notice of the core."""
        name = {"study": study.hex()} if study is not None else {}
        match notice:
            case fx.RoundDone():
                self.log.info("round_done", **name, **_round_fields(notice))
                self._echo(round_text(notice))
            case fx.Waiting(code=code, sentence=sentence):
                self.log.info("study_waits", **name, code=code, sentence=sentence)
                self._echo(f"… {sentence}")
            case fx.Happened(name=event, sentence=sentence, fields=fields):
                self.log.info(event, **{**name, **dict(fields)}, sentence=sentence)
                self._echo(sentence)
            case _:
                assert_never(notice)

    def started(self, name: str, listen: str, others: int, ready_s: float) -> None:
        """The node listens."""
        self._echo(f"{name} listens on {listen}, ready in {ready_s:.1f} s; {others} other members")
        self._echo("stop it with Ctrl-C or SIGTERM; its log is logs/node.jsonl in the home")

    def refused(self, address_or_site: str, reason: str) -> None:
        """Somebody was turned away; repeated refusals are counted, not repeated."""
        host = address_or_site.rpartition(":")[0] or address_or_site
        if len(self._refusals) >= 1024:
            self._refusals.clear()
        count = self._refusals[host, reason] = self._refusals.get((host, reason), 0) + 1
        if count == 10 ** (len(str(count)) - 1):
            self.log.warning("refused", source=host, reason=reason, count=count)
            self._echo(f"turned away {host}: {reason} (×{count})")

    def bug(self, error: BaseException) -> None:
        """Something of ours failed: one line here, the traceback in a file of its own."""
        self.log.error("internal_error", error=type(error).__name__)
        with self._bugs.open("a", encoding="utf-8") as file:
            file.write("".join(traceback.format_exception(error)))
        self._echo(f"an error of our own ({type(error).__name__}); details are in {self._bugs}")


def round_text(done: fx.RoundDone) -> str:
    """The progress line of a round, at most 80 columns."""
    auc = f"{done.auc:.3f}" if done.auc is not None else "  –  "
    loss = f"loss {done.loss:6.3f}" if done.phase == "training" else "mixing only"
    eps = f"ε {done.eps_total_u / 1e6:.3f}/{done.cap_u / 1e6:g}" if done.eps_total_u else "no DP"
    return (
        f"round {done.round + 1:>3}/{done.rounds:<3} {loss}  AUC {auc}  "
        f"heard {done.heard}/{done.expected}  {eps}  {done.phases_s.total:.2f} s"
    )


def _round_fields(done: fx.RoundDone) -> dict[str, object]:
    phases = done.phases_s
    return {
        "round": done.round,
        "rounds": done.rounds,
        "phase": done.phase,
        "loss": round(done.loss, 6),
        "auc": None if done.auc is None else round(done.auc, 4),
        "accuracy": round(done.accuracy, 4),
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
