"""Pictures of decisions over time and of budgets, as inline SVG.

One lane per study or dataset that was decided on; a bar where a study was approved to run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from ledger.provenance.audit import AuditReport
from ledger.provenance.fields import MICRO
from ledger.provenance.moments import day_of, minute_of, second_of
from ledger.provenance.sections import Happening
from ledger.provenance.spending import DatasetSpending

WIDTH = 1000
LANES_MAX = 24
_LEFT, _RIGHT, _LANE, _TOP = 230, 985, 30, 8
_DAY_US = 86_400 * MICRO

SIGNS = {
    "dataset.registered": ("+", "good", "registered"),
    "dataset.revoked": ("×", "bad", "revoked"),
    "study.proposed": ("?", "plain", "proposed"),
    "study.approved": ("✓", "good", "approved"),
    "code.approved": ("c", "good", "code approved"),
    "study.refused": ("×", "bad", "refused"),
    "study.revoked": ("×", "bad", "revoked"),
    "study.closed": ("■", "plain", "closed"),
    "study.steered": ("~", "plain", "steered"),
    "study.paused": ("‖", "plain", "paused"),
    "study.resumed": ("▸", "good", "resumed"),
    "study.stopped": ("■", "plain", "stopped"),
    "study.away": ("‖", "plain", "away"),
    "study.back": ("▸", "good", "back"),
    "policy.changed": ("p", "plain", "policy changed"),
}
LEGEND = (
    ("+", "good", "dataset registered"),
    ("?", "", "study proposed"),
    ("✓", "good", "approved"),
    ("c", "good", "code approved with it"),
    ("×", "bad", "refused or revoked"),
    ("~", "", "steered"),
    ("‖", "", "paused, or away"),
    ("▸", "good", "resumed, or back"),
    ("■", "", "stopped, or closed"),
    ("p", "", "policy changed"),
)
_ENDS = ("study.refused", "study.revoked", "study.closed")


@dataclass(frozen=True, slots=True)
class Lane:
    """What was decided on one study or dataset, in order."""

    name: str
    told: tuple[Happening, ...]


def lanes_of(report: AuditReport) -> tuple[Lane, ...]:
    """Lanes in the order of their first decision."""
    found: dict[tuple[bytes, bytes], list[Happening]] = {}
    for told in report.decisions:
        key = (told.study, b"") if told.study else (b"", told.ds)
        found.setdefault(key, []).append(told)
    return tuple(
        Lane(_lane_name(report, study, ds), tuple(told)) for (study, ds), told in found.items()
    )


def _lane_name(report: AuditReport, study: bytes, ds: bytes) -> str:
    if study:
        return report.context.study_name(study)
    return report.context.dataset_name(ds) if ds else "the site's policy"


def draw_timeline(report: AuditReport) -> str:
    """Who decided what, when: the newest lanes where there are too many."""
    lanes = lanes_of(report)[-LANES_MAX:]
    height = _TOP + len(lanes) * _LANE + 24
    first = min((told.time_us for lane in lanes for told in lane.told), default=0)
    last = max(report.last_us, first + 1)
    scale = (_RIGHT - _LEFT - 24) / (last - first)

    def place(time_us: int) -> float:
        return _LEFT + 12 + (time_us - first) * scale

    parts = [
        f'<line class="rule" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{height - 20}"/>'
        f'<text class="axis" x="{x:.1f}" y="{height - 5}"{anchor}>{text}</text>'
        for x, text, anchor in _dates(first, last, place(first), place(last))
    ]
    for at, lane in enumerate(lanes):
        y = _TOP + at * _LANE + 14
        name = lane.name if len(lane.name) <= 30 else lane.name[:29] + "…"
        parts.append(
            f'<text class="tick" x="{_LEFT - 8}" y="{y + 4}">{escape(name)}'
            f"<title>{escape(lane.name)}</title></text>"
        )
        parts += [
            f'<rect class="span" x="{place(a):.1f}" y="{y - 5}" '
            f'width="{max(place(b) - place(a), 1):.1f}" height="10"/>'
            for a, b in _spans(lane.told, last)
        ]
        parts += _signs(lane.told, [place(told.time_us) for told in lane.told], y)
    label = "Decisions on datasets and studies over time"
    return _picture(height, label, parts)


def _dates(first: int, last: int, left: float, right: float) -> Iterator[tuple[float, str, str]]:
    show = minute_of if last - first < 5 * _DAY_US else day_of
    if last - first < 10 * 60 * MICRO:
        show = second_of
    for at in range(5):
        anchor = (' text-anchor="start"', "", "", "", ' text-anchor="end"')[at]
        when = first + (last - first) * at // 4
        yield left + (right - left) * at / 4, show(when), anchor


def _spans(told: Sequence[Happening], last: int) -> Iterator[tuple[int, int]]:
    """From each approval to what ended it, or to the end of the log."""
    began: int | None = None
    for one in told:
        if one.kind == "study.approved" and began is None:
            began = one.time_us
        elif one.kind in _ENDS and began is not None:
            yield began, one.time_us
            began = None
    if began is not None:
        yield began, last


def _signs(told: Sequence[Happening], xs: Sequence[float], y: float) -> Iterator[str]:
    """Round signs; those that would cover each other stand side by side."""
    taken = -100.0
    for one, wanted in zip(told, xs, strict=True):
        x = max(wanted, taken + 19)
        taken = x
        sign, tone, word = SIGNS.get(one.kind, ("•", "plain", one.kind))
        title = escape(f"{minute_of(one.time_us)} {word}: {one.sentence} (entry {one.seq})")
        yield (
            f'<g class="sign {tone}"><title>{title}</title>'
            f'<circle cx="{min(x, WIDTH - 10):.1f}" cy="{y}" r="9"/>'
            f'<text x="{min(x, WIDTH - 10):.1f}" y="{y + 4}">{sign}</text></g>'
        )


def draw_budget(budget: DatasetSpending) -> str:
    """A bar up to the cap: declared, reserved, and a mark where the recomputed ε lies."""
    epsilon = budget.epsilon if budget.epsilon is not None else 0.0
    declared, reserved = budget.declared_u / MICRO, budget.reserved_u / MICRO
    cap = max(budget.cap_u, 0) / MICRO
    most = max(cap, declared + reserved, min(epsilon, 1e9)) or 1.0
    scale = (WIDTH - 20) / (most * 1.02)
    over = " over" if declared > cap else ""

    def bar(start: float, length: float, sort: str) -> str:
        x, width = 10 + start * scale, length * scale
        return f'<rect class="{sort}" x="{x:.1f}" y="16" width="{width:.1f}" height="22"/>'

    parts = [bar(0, cap, "cap"), bar(0, declared, "declared" + over)]
    parts.append(bar(declared, reserved, "reserved"))
    if cap:
        x = 10 + cap * scale
        parts.append(f'<line class="limit" x1="{x:.1f}" y1="8" x2="{x:.1f}" y2="46"/>')
    if 0 < epsilon <= most:
        x = 10 + epsilon * scale
        parts.append(f'<path class="mark" d="M{x:.1f} 40l-6 10h12z"/>')
    return _picture(54, f"ε declared {declared:.4f} of at most {cap:.4f}", parts)


def _picture(height: float, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(label)}">'
        + "".join(parts)
        + "</svg>"
    )
