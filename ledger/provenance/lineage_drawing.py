"""Pictures of a lineage as inline SVG: the graph from datasets to the model, and the rounds.

Colours and fonts come from the page's style sheet. Every text that a ledger brought is escaped."""

from collections.abc import Iterator
from html import escape
from itertools import groupby

from ledger.provenance.fields import MICRO
from ledger.provenance.findings import AuditContext
from ledger.provenance.lineage import Lineage, SiteLine, Source, TheirData
from ledger.provenance.moments import day_of

WIDTH = 1000
ROW = 30
_DATA_X, _DATA_W = 0, 240
_SITE_X, _SITE_W = 285, 215
_BAR_X, _BAR_W = 508, 96
_OUT_X = 642
_MIX_X, _MIX_W = 725, 120
_MODEL_X, _MODEL_W = 870, 129
_TOP = 30
_SOURCE_H = 62


def draw_graph(lineage: Lineage, context: AuditContext) -> str:
    """Datasets → sites → averages → released model, lines as thick as the contribution."""
    rows = len(lineage.sites) + (lineage.more_sites > 0)
    height = max(_row_y(lineage, rows) + 8, _TOP + 120)
    middle = (_TOP + height) / 2
    parts = [
        *_heads(),
        *_links(lineage, middle),
        *_sources(lineage, context),
        *_sites(lineage, context),
        *_ends(lineage, middle),
    ]
    label = f"{rows} sites contributed to the model of round {lineage.release.round}"
    return _svg(height, label, parts)


def _heads() -> Iterator[str]:
    for x, text in (
        (_DATA_X, "data, ε of this study, approval"),
        (_SITE_X, "sites, and how many averages used their update"),
        (_MIX_X, "averaging"),
        (_MODEL_X, "result"),
    ):
        yield f'<text class="head" x="{x}" y="14">{text}</text>'


def _own_h(lineage: Lineage) -> float:
    """How high the boxes of this site's own datasets are together; its own row lies beside."""
    return max(1, len(lineage.sources)) * (_SOURCE_H + 10)


def _row_y(lineage: Lineage, at: int) -> float:
    if at == 0:
        return _TOP + (_own_h(lineage) - ROW) / 2
    return _TOP + _own_h(lineage) + (at - 1) * ROW


def _links(lineage: Lineage, middle: float) -> Iterator[str]:
    """Lines first, so that boxes cover their ends."""
    most = max((line.used for line in lineage.sites), default=0) or 1
    for at, line in enumerate(lineage.sites):
        if line.used:
            width = 1 + 5 * line.used / most
            own = " own" if line.own else ""
            yield _curve(_OUT_X, _row_y(lineage, at) + 12, _MIX_X, middle, width, own)
    if lineage.more_used:
        y = _row_y(lineage, len(lineage.sites)) + 12
        yield _curve(_OUT_X, y, _MIX_X, middle, 1, "")
    for at in range(len(lineage.sources)):
        y = _TOP + at * (_SOURCE_H + 10) + _SOURCE_H / 2
        yield _curve(_DATA_X + _DATA_W, y, _SITE_X, _row_y(lineage, 0) + 12, 4, " own")
    for at, line in enumerate(lineage.sites):
        if line.data:
            y = _row_y(lineage, at) + 12
            yield _curve(_DATA_X + _DATA_W, y, _SITE_X, y, 2, "")
    if lineage.averages:
        yield _curve(_MIX_X + _MIX_W, middle, _MODEL_X, middle, 6, " own")


def _curve(x1: float, y1: float, x2: float, y2: float, width: float, own: str) -> str:
    bend = (x1 + x2) / 2
    path = f"M{x1:g} {y1:g}C{bend:g} {y1:g} {bend:g} {y2:g} {x2:g} {y2:g}"
    return f'<path class="link{own}" d="{path}" stroke-width="{width:.1f}"/>'


def _sources(lineage: Lineage, context: AuditContext) -> Iterator[str]:
    for at, source in enumerate(lineage.sources):
        y = _TOP + at * (_SOURCE_H + 10)
        lines = _source_lines(source, context)
        yield _box(_DATA_X, y, _DATA_W, _SOURCE_H, "data", lines)
    if not lineage.sources:
        yield _quiet(_row_y(lineage, 0) + 16, "Nothing was trained here.")
    for at, line in enumerate(lineage.sites):
        if line.own:
            continue
        top = _row_y(lineage, at)
        if line.data:
            yield _box(_DATA_X, top, _DATA_W, ROW - 6, "data", (_their_line(line.data),))
        elif line.data is None:
            yield _quiet(top + 16, "not seen by this audit")
        else:
            yield _quiet(top + 16, "no training on record there")


def _quiet(y: float, text: str) -> str:
    return f'<text class="quiet" x="{_DATA_X + 8}" y="{y:g}">{text}</text>'


def _their_line(data: tuple[TheirData, ...]) -> str:
    """Short: the table beside the picture has the whole of it."""
    if len(data) > 1:
        return f"{len(data)} datasets, ε up to {max(one.eps_u for one in data) / MICRO:.3f}"
    (one,) = data
    epsilon = f"ε {one.eps_u / MICRO:.3f}" if one.eps_u else "no privacy"
    approved = f"approved {day_of(one.approved_us)}" if one.approved_seq >= 0 else "not approved"
    return f"{epsilon}, {approved}"


def _source_lines(source: Source, context: AuditContext) -> tuple[str, ...]:
    epsilon = f"ε {source.eps_u / MICRO:.3f}" if source.eps_u else "no privacy protection"
    approval = "no approval on record"
    if source.approvals:
        last = source.approvals[-1]
        approval = f"approved {day_of(last.time_us)} (entry {last.seq})"
    counted = f"{source.trainings} trainings, {epsilon}"
    return (context.dataset_name(source.ds), counted, approval)


def _sites(lineage: Lineage, context: AuditContext) -> Iterator[str]:
    scale = _BAR_W / max(lineage.averages, 1)
    for at, line in enumerate(lineage.sites):
        name = context.site_name(line.site) + (" (this site)" if line.own else "")
        sort = "own" if line.own else "site"
        top = _row_y(lineage, at)
        yield _box(_SITE_X, top, _SITE_W, ROW - 6, sort, (name,))
        yield from _bar(line, top + 6, scale)
        x, y = _OUT_X - 4, top + 16
        yield f'<text class="count" x="{x}" y="{y:g}">{line.used}</text>'
    if lineage.more_sites:
        text = f"{lineage.more_sites} more sites, counted {lineage.more_used} times"
        y = _row_y(lineage, len(lineage.sites))
        yield _box(_SITE_X, y, _SITE_W, ROW - 6, "site", (text,))


def _bar(line: SiteLine, y: float, scale: float) -> Iterator[str]:
    """What became of a site's updates, to the scale of all averages."""
    x: float = _BAR_X
    parts = (("kept", line.kept), ("clipped", line.clipped), ("dropped", line.dropped))
    words = f"{line.kept} used in full, {line.clipped} limited, {line.dropped} left out"
    yield f"<g><title>{words}</title>"
    for sort, count in parts:
        width = count * scale
        yield f'<rect class="m-{sort}" x="{x:.1f}" y="{y:g}" width="{width:.1f}" height="12"/>'
        x += width
    yield "</g>"


def _ends(lineage: Lineage, middle: float) -> Iterator[str]:
    release = lineage.release
    if lineage.averages:
        rounds = f"rounds {lineage.columns[0][0]}–{lineage.columns[-1][1]}"
        counted = (f"{lineage.averages} averages", rounds)
        yield _box(_MIX_X, middle - 26, _MIX_W, 52, "mix", counted)
    lines = ("Released model", f"after round {release.round}", day_of(release.time_us))
    yield _box(_MODEL_X, middle - 34, _MODEL_W, 68, "model", lines)


def _box(x: float, y: float, width: float, height: float, sort: str, lines: tuple[str, ...]) -> str:
    """A box with its lines of text, the first one bold; what is too long is cut, not lost."""
    room = int(width / 7.2) - 2
    if sort in ("own", "site"):
        room = 27
    texts = "".join(
        f'<text x="{x + 8:g}" y="{y + 16 + at * 18:g}"{_bold(at)}>{escape(_cut(line, room))}</text>'
        for at, line in enumerate(lines)
    )
    title = escape(" · ".join(lines))
    rect = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5"/>'
    return f'<g class="box {sort}"><title>{title}</title>{rect}{texts}</g>'


def _bold(at: int) -> str:
    return ' class="first"' if at == 0 else ""


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"


def draw_rounds(lineage: Lineage, context: AuditContext) -> str:
    """One line per site, one column per round: what became of its update."""
    left, cell_h, top = 190, 14, 8
    columns = len(lineage.columns)
    step = (WIDTH - left) / max(columns, 1)
    height = top + len(lineage.sites) * cell_h + 26
    parts = []
    for at, line in enumerate(lineage.sites):
        y = top + at * cell_h
        name = escape(_cut(context.site_name(line.site), 25))
        parts.append(f'<text class="tick" x="{left - 8}" y="{y + 10}">{name}</text>')
        parts += _runs(line, left, y, step, cell_h - 3)
    for at in _ticks(columns):
        x = left + at * step
        base = top + len(lineage.sites) * cell_h + 14
        parts.append(f'<text class="axis" x="{x:.1f}" y="{base}">{lineage.columns[at][0]}</text>')
    label = "For each site and round: update used, used with limited influence, left out, or none"
    return _svg(height, label, parts)


def _runs(line: SiteLine, left: float, y: float, step: float, height: float) -> Iterator[str]:
    """Equal neighbours as one rectangle: thousands of cells stay a small page."""
    at = 0
    for mark, run in groupby(line.marks):
        count = len(list(run))
        if mark:
            x, width = left + at * step, count * step
            yield (
                f'<rect class="m-{mark}" x="{x:.1f}" y="{y:g}" '
                f'width="{max(width - 0.6, 0.6):.1f}" height="{height:g}"/>'
            )
        at += count


def _ticks(columns: int) -> list[int]:
    step = max(1, -(-columns // 10))
    return list(range(0, columns, step))


def _svg(height: float, label: str, parts: list[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(label)}">'
        + "".join(parts)
        + "</svg>"
    )
