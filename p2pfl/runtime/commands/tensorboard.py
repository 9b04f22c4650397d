"""A study's rounds for TensorBoard: written on request, inside the home only.

Scores are computed from patients: the files are as private as the node's log, and lie beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from p2pfl.runtime.commands.study_results import ResultsSeen, study_results
from p2pfl.runtime.errors import EXIT_NO_INPUT, OperatorError
from p2pfl.runtime.home import Home, write_durably
from p2pfl.runtime.tensorboard_file import Scalar, event_file

FILE = "events.out.tfevents.p2pfl"


@dataclass(frozen=True, slots=True)
class TensorBoardWritten:
    """Where the file lies, for `tensorboard --logdir`."""

    study: bytes
    name: str
    folder: Path
    numbers: int


def write_tensorboard(home: Home, prefix: str, *, now_s: float) -> TensorBoardWritten:
    """Write a study's numbers by round, in place of an earlier file. Raises OperatorError."""
    seen = study_results(home, prefix)
    scalars = list(_scalars(seen, now_s))
    if not scalars:
        raise OperatorError(
            f"{seen.name} has no rounds here yet.",
            fix="Wait for its first round: `p2pfl study watch` shows how far it is.",
            exit_code=EXIT_NO_INPUT,
        )
    folder = home.logs / "tensorboard" / seen.study.hex()[:12]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(folder / FILE, event_file(scalars, time_s=now_s))
    return TensorBoardWritten(seen.study, seen.name, folder, len(scalars))


def _scalars(seen: ResultsSeen, now_s: float) -> Iterator[Scalar]:
    for row in seen.rounds_seen:
        numbers: dict[str, float | None] = {
            "score/auc": row.auc,
            "score/accuracy": row.accuracy,
            "privacy/epsilon": row.epsilon,
            "round/seconds": row.seconds,
            **{f"score/{name}": value for name, value in sorted(row.measures.items())},
            "round/neighbours_accepted": float(row.accepted),
            "round/neighbours_clipped": float(row.verdicts.get("clipped", 0)),
        }
        for tag, value in numbers.items():
            if value is not None:
                yield Scalar(tag, row.round, value, now_s)
