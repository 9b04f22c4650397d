"""Who contributed to a released model, condensed to what one page can show.

Responsible for counting and ordering. Draws nothing; judges nothing."""

from dataclasses import dataclass

from ledger.provenance.audit import AuditReport
from ledger.provenance.kinds import StudyApproved, TrainDone
from ledger.provenance.peers import PeerEvidence
from ledger.provenance.sections import Happening, Release, Step

ROWS_MAX = 40
COLUMNS_MAX = 240
KEPT, CLIPPED, DROPPED, ABSENT = "kept", "clipped", "dropped", ""
_WEIGHTIER = (DROPPED, CLIPPED, KEPT, ABSENT)
"""Where several rounds share a column, the rarest news wins."""


@dataclass(frozen=True, slots=True)
class TheirData:
    """A dataset behind another site's updates, as that site's own ledger says.

    eps_u: this study's ε on it, micro-units. approved_seq, approved_us: the newest approval in
    that ledger; −1 and 0 without one."""

    ds: bytes
    trainings: int
    eps_u: int
    approved_seq: int
    approved_us: int


@dataclass(frozen=True, slots=True)
class SiteLine:
    """One site's part: in how many averages its update counted, and how, column by column.

    marks: per column of rounds the verdict on this site's update, "" where there was none.
    data: what it trained on; None where this audit has not seen that site's entries."""

    site: bytes
    own: bool
    kept: int
    clipped: int
    dropped: int
    marks: tuple[str, ...]
    data: tuple[TheirData, ...] | None = None

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
    def unseen(self) -> tuple[SiteLine, ...]:
        """Other sites whose own entries this audit was not given."""
        return tuple(line for line in self.sites if not line.own and line.data is None)

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
        SiteLine(
            by.site,
            False,
            by.kept,
            by.clipped,
            by.dropped,
            tuple(marks[by.site]),
            their_data(report.context.peers, by.site, release.study),
        )
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


def their_data(
    peers: PeerEvidence | None, site: bytes, study: bytes
) -> tuple[TheirData, ...] | None:
    """What another site trained on in a study; None unless its entries about that are at hand."""
    log = None if peers is None else peers.log_of(site)
    if log is None:
        return None
    trained = [x.record for x in log.timeline.of(TrainDone) if x.record.study == study]
    if not trained and not log.is_whole:
        return None  # a copy without them says nothing
    approved = [x for x in log.timeline.of(StudyApproved) if x.record.study == study]
    found = []
    for ds in sorted({record.ds for record in trained}):
        of_ds = [record for record in trained if record.ds == ds]
        newest = next((x for x in reversed(approved) if x.record.ds == ds), None)
        seq, time_us = (newest.seq, newest.time_us) if newest else (-1, 0)
        found.append(TheirData(ds, len(of_ds), max(r.eps_u for r in of_ds), seq, time_us))
    return tuple(found)


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
