"""An audit as one HTML page for people: no network, no script, printable, light and dark.

Responsible for choosing what stands on the page and how much of it; the JSON has everything.
Whatever came from a ledger is escaped by the template (autoescape) or by the drawings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ledger.log import ExitCode
from ledger.provenance.audit import AuditReport
from ledger.provenance.fields import MICRO
from ledger.provenance.findings import Verdict
from ledger.provenance.kinds import GENESIS_KIND
from ledger.provenance.lineage import Lineage, lineage_of
from ledger.provenance.lineage_drawing import draw_graph, draw_rounds
from ledger.provenance.moments import day_of, minute_of, moment_of
from ledger.provenance.sections import Happening
from ledger.provenance.timeline_drawing import (
    LANES_MAX,
    LEGEND,
    draw_budget,
    draw_timeline,
    lanes_of,
)

if TYPE_CHECKING:
    from markupsafe import Markup

FOLDER = Path(__file__).with_name("html")
LINES_MAX = 200
RELEASES_MAX = 12
AVERAGES_MAX = 10
UNSEEN_MAX = 8

_TONES = {
    ExitCode.CLEAN: ("good", "✓", "In order"),
    ExitCode.EVIDENCE_INCOMPLETE: ("warn", "!", "Incomplete"),
}
_MARKS = {
    Verdict.PASSED: ("good", "✓", "in order"),
    Verdict.FAILED: ("bad", "×", "broken"),
    Verdict.INCOMPLETE: ("warn", "!", "incomplete"),
    Verdict.NOT_CHECKED: ("quiet", "–", "not checked"),
}
_SORTS = (
    ("Forks: a log that showed two histories", "forks", ("fork.found",)),
    (
        "New incarnations: a log that began again",
        "new incarnations",
        (GENESIS_KIND,),
    ),
    ("Keys that changed", "changed keys", ("key.rotated", "key.compromised")),
    ("Redactions: secrets that were erased", "redactions", ("redacted",)),
    (
        "Gaps: skipped rounds, clock jumps, starts without peers",
        "gaps",
        ("round.skipped", "clock.anomaly", "node.offline_start"),
    ),
)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A released model with its pictures (SVG, every text in them escaped)."""

    lineage: Lineage
    graph: str
    rounds: str


@dataclass(frozen=True, slots=True)
class Group:
    """Incidents of one sort, the newest ones where there are too many."""

    title: str
    nothing: str
    told: Sequence[Happening]
    more: int


def to_html(report: AuditReport) -> str:
    """The page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    templates = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {
        "moment": moment_of,
        "minute": minute_of,
        "day": day_of,
        "eps": _epsilon,
        "words": _words,
    }
    groups = _groups(report)
    tone, sign, word = _TONES.get(report.exit_code, ("bad", "×", "Not in order"))
    return templates.get_template("report.html").render(
        report=report,
        context=report.context,
        witnessing=report.context.witnessing,
        tone=tone,
        sign=sign,
        word=word,
        next_step=next_step(report),
        style=Markup((FOLDER / "report.css").read_text(encoding="utf-8")),  # noqa: S704 -- our own file
        svg=Markup,
        marks=_MARKS,
        legend=LEGEND,
        drawn=[_drawn(report, at) for at in range(min(len(report.releases), RELEASES_MAX))],
        timeline=draw_timeline(report) if report.decisions else "",
        lanes_left_out=max(0, len(lanes_of(report)) - LANES_MAX),
        draw_budget=draw_budget,
        groups=groups,
        nothing_of=[group.nothing for group in groups if not group.told],
        lines_max=LINES_MAX,
        averages_max=AVERAGES_MAX,
        lines_shown=UNSEEN_MAX,
        exit_word=report.exit_code.name.lower().replace("_", " "),
        check_script=(FOLDER / "check_proofs.txt").read_text(encoding="utf-8").rstrip(),
    )


def next_step(report: AuditReport) -> str:
    """What the reader should do now, in a sentence or two."""
    match report.exit_code:
        case ExitCode.CLEAN:
            return (
                "Nothing has to be done. Keep this page, and the JSON form of it, with the records "
                "of the studies it speaks of."
            )
        case ExitCode.EVIDENCE_INCOMPLETE:
            return _first_action(report, ExitCode.EVIDENCE_INCOMPLETE)
        case _:
            return _first_action(report, report.exit_code)


def _first_action(report: AuditReport, code: ExitCode) -> str:
    worst = [found for found in report.findings if found.exit_code is code]
    if worst:
        return worst[0].action
    return (
        "Keep a copy of the whole home as it is, and run `p2pfl ledger verify` to see the damage."
    )


def _drawn(report: AuditReport, at: int) -> Drawn:
    lineage = lineage_of(report, report.releases[at])
    rounds = draw_rounds(lineage, report.context) if lineage.columns else ""
    return Drawn(lineage, draw_graph(lineage, report.context), rounds)


def _groups(report: AuditReport) -> list[Group]:
    known = {kind for _, _, kinds in _SORTS for kind in kinds}
    groups = [
        _group(title, nothing, [told for told in report.incidents if told.kind in kinds])
        for title, nothing, kinds in _SORTS
    ]
    other = [told for told in report.incidents if told.kind not in known]
    return [*groups, _group("Other events", "other events", other)]


def _group(title: str, nothing: str, told: Sequence[Happening]) -> Group:
    return Group(title, nothing, told[-LINES_MAX:], max(0, len(told) - LINES_MAX))


def _words(text: str) -> "Markup":
    """A sentence whose `commands` stand in the type of commands."""
    from markupsafe import Markup, escape

    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if at % 2 else escape(part)
        for at, part in enumerate(parts)
    )


def _epsilon(micro: int) -> str:
    return f"{micro / MICRO:.4f}"
