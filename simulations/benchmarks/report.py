"""Lines of a benchmark: what was measured, its unit, its goal, and whether that was met.

Responsible for how benchmarks look, on the terminal and as JSON; measures nothing itself.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Measured:
    """One line of a table. `met` is None where there is no goal."""

    what: str
    value: float
    unit: str
    goal: str = ""
    met: bool | None = None


def at_most(what: str, value: float, unit: str, limit: float) -> Measured:
    """A line whose goal is an upper limit."""
    return Measured(what, value, unit, f"≤ {limit:g}", value <= limit)


def at_least(what: str, value: float, unit: str, limit: float) -> Measured:
    """A line whose goal is a lower limit."""
    return Measured(what, value, unit, f"≥ {limit:g}", value >= limit)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all values do not exceed (nearest rank).

    values: at least one; share in (0, 1].

    >>> percentile([4.0, 1.0, 3.0, 2.0], 0.5)
    2.0
    """
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(what: str, values: Sequence[float], unit: str) -> list[Measured]:
    """Median and 95th percentile of a sample."""
    return [
        Measured(f"{what}, median of {len(values)}", statistics.median(values), unit),
        Measured(f"{what}, 95th percentile", percentile(values, 0.95), unit),
    ]


def machine() -> str:
    """What every table has to say about where it was measured; nothing that names the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    busy = f"; load {os.getloadavg()[0]:.1f} now" if hasattr(os, "getloadavg") else ""
    return f"{cores} cores, {platform.system()}, Python {platform.python_version()}{busy}"


def table(lines: Sequence[Measured]) -> list[str]:
    """The lines as text, one each; widths suit a terminal of 80 columns."""
    verdicts = {True: "met", False: "MISSED", None: ""}
    return [
        f"{line.what:46} {line.value:12,.{_digits(line.unit)}f} {line.unit:5} {line.goal:>7} "
        f"{verdicts[line.met]}".rstrip()
        for line in lines
    ]


def _digits(unit: str) -> int:
    """Scores are compared in the fourth digit; counts, which have no unit, need none."""
    return {"AUC": 4, "": 0}.get(unit, 3)


def print_section(title: str, lines: Sequence[Measured]) -> None:
    """One titled table on standard output, at once."""
    print("\n".join(["", title, *table(lines)]), flush=True)


def write_json(path: Path | None, sections: Mapping[str, Sequence[Measured]]) -> None:
    """Write all numbers to `path`, if there is one, with the machine they were measured on."""
    if path is None:
        return
    numbers = {title: [asdict(line) for line in lines] for title, lines in sections.items()}
    text = json.dumps({"machine": machine(), "measured": numbers}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def exit_status(sections: Mapping[str, Sequence[Measured]]) -> int:
    """1 if a goal was missed, else 0."""
    return int(any(line.met is False for lines in sections.values() for line in lines))
