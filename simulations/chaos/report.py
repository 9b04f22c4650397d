"""The judgement as a table of at most 80 columns, and as JSON."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from simulations.chaos.judging import Finding
from simulations.chaos.node import Life, Node
from simulations.chaos.plan import Planned, words
from simulations.chaos.run import Course

WRONG_SHOWN: Final = 5
WIDTH: Final = 30


def plan_lines(planned: Sequence[Planned]) -> list[str]:
    """One line per fault."""
    return [f"{one.at_s:7.1f} s  {words(one.fault)}" for one in planned]


def table(findings: Sequence[Finding], course: Course) -> list[str]:
    """What holds, what does not, and figures that nothing is demanded of."""
    lines = []
    for finding in findings:
        lines.append(
            f"{'WRONG' if finding.wrong else 'ok':<5} {finding.what:<{WIDTH}} {finding.shown}"
        )
        lines += [f"      → {sentence}" for sentence in finding.wrong[:WRONG_SHOWN]]
        if (more := len(finding.wrong) - WRONG_SHOWN) > 0:
            lines.append(f"      → and {more} more")
    for healed in course.healed:
        after = "not before the next fault" if healed.after_s is None else f"{healed.after_s:.1f} s"
        lines.append(f"      a round with everybody: {after}, after: {healed.fault}")
    lines.append(f"      commands typed again: {course.typed_again}")
    return lines


def write_json(
    path: Path,
    findings: Sequence[Finding],
    course: Course,
    planned: Sequence[Planned],
    homes: Sequence[Node],
    **run: object,
) -> None:
    """Everything the table says, the plan, each node's memory, and how busy the machine was."""
    result = {
        **run,
        "load": os.getloadavg(),
        "plan": [
            {"at_s": p.at_s, "kind": type(p.fault).__name__, **asdict(p.fault)} for p in planned
        ],
        "findings": [asdict(finding) for finding in findings],
        "course": asdict(course),
        "memory": {node.name: [_memory(life) for life in node.lives] for node in homes},
    }
    path.write_text(json.dumps(result, indent=1) + "\n")


def _memory(life: Life) -> dict[str, object]:
    """One life of a process: (second, resident MB), as often as it was looked at."""
    samples = [(round(one.at_s, 1), round(one.resident_mb, 1)) for one in life.samples]
    return {"started_s": life.started_s, "ended": life.ended, "resident_mb": samples}
