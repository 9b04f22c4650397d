"""Who contributed to a released model, condensed to what one page can show.

Responsible for counting and ordering. Draws nothing; judges nothing."""

from dataclasses import dataclass

from ledger.provenance.audit import AuditReport
from ledger.provenance.sections import Happening, Release, Step

ROWS_MAX = 40
COLUMNS_MAX = 240
KEPT, CLIPPED, DROPPED, ABSENT = "kept", "clipped", "dropped", ""
_WEIGHTIER = (DROPPED, CLIPPED, KEPT, ABSENT)
"""Where several rounds share a column, the rarest news wins."""


@dataclass(frozen=True, slots=True)
class SiteLine:
    """One site's part: in how many averages its update counted, and how, column by column.

    marks: per column of rounds the verdict on this site's update, "" where there was none."""

    site: bytes
    own: bool
    kept: int
    clipped: int
    dropped: int
    marks: tuple[str, ...]

    @property
    def used(self) -> int:
        return self.kept + self.clipped


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset of this site behind the model. eps_u: this study's ε on it, micro-units."""

    ds: bytes
    trainings: int
    eps_u: int
    approvals: tuple[Happening, ...]


@dataclass(frozen=True, slots=True)
class Lineage:
    """A released model with its sites, their rounds and this site's datasets.

    columns: (first, last) round of each; more_sites: how many are left out, with the fewest
    contributions; more_used: in how many averages those counted together."""

    release: Release
    columns: tuple[tuple[int, int], ...]
    sites: tuple[SiteLine, ...]
    sources: tuple[Source, ...]
    more_sites: int = 0
    more_used: int = 0

    @property
    def averages(self) -> int:
        return len(self.release.steps)


def lineage_of(report: AuditReport, release: Release) -> Lineage:
    """The lineage of one of the report's released models."""
    columns = _columns([step.round for step in release.steps])
    place = {round_: at for at, (a, b) in enumerate(columns) for round_ in range(a, b + 1)}
    marks = _marks(release.steps, place, len(columns))
    own = _own_line(report.context.site, release.steps, place, len(columns))
    others = [
        SiteLine(by.site, False, by.kept, by.clipped, by.dropped, tuple(marks[by.site]))
        for by in release.contributors
    ]
    others.sort(key=lambda line: (-line.used, report.context.site_name(line.site), line.site))
    shown, more = others[: ROWS_MAX - 1], others[ROWS_MAX - 1 :]
    return Lineage(
        release=release,
        columns=columns,
        sites=(own, *shown),
        sources=_sources(report, release),
        more_sites=len(more),
        more_used=sum(line.used for line in more),
    )


def _columns(rounds: list[int]) -> tuple[tuple[int, int], ...]:
    """Rounds from the first to the last in at most COLUMNS_MAX columns of equal width."""
    if not rounds:
        return ()
    first, last = min(rounds), max(rounds)
    width = -(-(last - first + 1) // COLUMNS_MAX)
    return tuple((at, min(at + width - 1, last)) for at in range(first, last + 1, width))


def _marks(steps: tuple[Step, ...], place: dict[int, int], columns: int) -> dict[bytes, list[str]]:
    marks: dict[bytes, list[str]] = {}
    for step in steps:
        for used in step.inputs:
            line = marks.setdefault(used.site, [ABSENT] * columns)
            at = place[step.round]
            line[at] = min(line[at], used.verdict, key=_WEIGHTIER.index)
    return marks


def _own_line(
    site: bytes, steps: tuple[Step, ...], place: dict[int, int], columns: int
) -> SiteLine:
    """The own part: kept in each average that began with an own training."""
    marks = [ABSENT] * columns
    trained = [step for step in steps if step.train_seq >= 0]
    for step in trained:
        marks[place[step.round]] = KEPT
    return SiteLine(site, True, len(trained), 0, 0, tuple(marks))


def _sources(report: AuditReport, release: Release) -> tuple[Source, ...]:
    trained = [step for step in release.steps if step.ds]
    approvals = [
        told
        for told in report.decisions
        if told.kind == "study.approved" and told.study == release.study
    ]
    return tuple(
        Source(
            ds=ds,
            trainings=sum(step.ds == ds for step in trained),
            eps_u=max(step.eps_u for step in trained if step.ds == ds),
            approvals=tuple(told for told in approvals if told.ds == ds),
        )
        for ds in sorted({step.ds for step in trained})
    )
