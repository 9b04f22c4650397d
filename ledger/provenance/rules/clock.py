"""Can the times in this log be believed?

Inside a log time does not run back, unless an entry says that the clock was set. From outside,
other sites bound it: what a witness cosigned existed by then, what came later is not older, and
nothing is received before it was published. Clocks of honest sites differ, so that only more than
five minutes count; and no single site's clock proves another one's wrong where one may lie."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import itemgetter

from ledger.provenance.fields import MICRO
from ledger.provenance.findings import AuditContext, AuditFinding, Check, Looked, Rule, Tools
from ledger.provenance.kinds import ClockAnomaly, UpdateReceived
from ledger.provenance.peers import TOLERANCE_US, PeerEvidence, clock_set_at
from ledger.provenance.timeline import Timeline

_ASK_OPERATOR = (
    "Ask the operator whether the clock was wrong (`timedatectl`); a clock that was set is put on "
    "record with `p2pfl ledger accept-clock`. Until it is explained, believe the order of the "
    "entries, not their times."
)
BACKWARDS = Rule("clock.backwards", _ASK_OPERATOR)
AHEAD = Rule("clock.ahead", _ASK_OPERATOR)
BACKDATED = Rule("clock.backdated", _ASK_OPERATOR)
FUTURE = Rule("clock.future", _ASK_OPERATOR)


_BoundAt = Callable[[int], int | None]
Bound = tuple[int, int, bytes]
"""(entry, time in µs, site whose clock says so)"""


def _look_at_own(timeline: Timeline, context: AuditContext, tools: Tools) -> Looked:
    findings = [*_find_backwards(timeline), *_find_ahead(timeline, context)]
    return Looked(timeline.size, "entries", tuple(findings))


def _find_backwards(timeline: Timeline) -> Iterator[AuditFinding]:
    set_at = {x.seq for x in timeline.of(ClockAnomaly) if x.record.delta_us < 0}
    newest_us = 0
    for seq, time_us in timeline.times.items():
        if seq in set_at:
            newest_us = time_us  # from here on the clock is right, whatever it said before
        elif time_us + TOLERANCE_US < newest_us:
            yield BACKWARDS.broken(
                seq,
                f"This entry is dated {_span(newest_us - time_us)} before an entry that precedes "
                "it, and nothing on record says that the clock was set.",
            )
        newest_us = max(newest_us, time_us)


def _find_ahead(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    """Only the first: whatever follows in a log is later, too."""
    set_at = clock_set_at(timeline)
    for seq, time_us in timeline.times.items():
        if seq > set_at and time_us > context.now_us + TOLERANCE_US:
            yield AHEAD.broken(
                seq, f"This entry is dated {_span(time_us - context.now_us)} after this audit."
            )
            return


def _look_at_bounds(timeline: Timeline, context: AuditContext, tools: Tools) -> Looked:
    peers = context.peers
    if peers is None:
        return Looked(0, "bounds", applies=False)
    earliest, latest = _bounds(timeline, context, peers)
    needed = accusers_needed(len(peers.members or {*_sites(earliest), *_sites(latest)}))
    believed = Span(_lowest(earliest, needed), _highest(latest, needed))
    told = Span(_lowest(earliest, 1), _highest(latest, 1))
    findings = tuple(_find_outside(timeline, believed))
    found = {finding.seq for finding in findings}
    doubts = [one for one in _find_outside(timeline, told) if one.seq not in found]
    notes = [_doubt(context, one, needed) for one in doubts] if needed > 1 else []
    return Looked(len(earliest) + len(latest), "bounds", findings, tuple(notes))


def accusers_needed(others: int) -> int:
    """How many sites' clocks have to say the same before this log's is doubted: one of them is
    right even if as many as may lie are wrong. others: members but the audited one.

    >>> [accusers_needed(n) for n in (1, 2, 3, 4, 9)]
    [1, 1, 1, 2, 3]
    """
    return max(0, others - 1) // 3 + 1


def _doubt(context: AuditContext, finding: AuditFinding, needed: int) -> str:
    return (
        f"Entry {finding.seq}: clocks of fewer than {needed} other sites contradict its time; one "
        "of those clocks may have been wrong."
    )


@dataclass(frozen=True, slots=True)
class Span:
    """Between which times others' clocks say that an entry came to be."""

    lowest: _BoundAt
    highest: _BoundAt

    def at(self, seq: int) -> tuple[int | None, int | None]:
        """The bounds of one entry, in order.

        A witness that was cut off vouches late for an old head: whoever saw the entry before that
        shows that it was there already. So where they contradict each other, both are allowed."""
        low_us, high_us = self.lowest(seq), self.highest(seq)
        if low_us is not None and high_us is not None and low_us > high_us:
            return high_us, low_us
        return low_us, high_us


def _find_outside(timeline: Timeline, span: Span) -> Iterator[AuditFinding]:
    """Entries outside their bounds; of several in a row the first."""
    set_at = clock_set_at(timeline)
    was_outside = False
    for seq, time_us in timeline.times.items():
        low_us, high_us = span.at(seq)
        found: AuditFinding | None = None
        if seq <= set_at:
            pass  # explained, and shown among the incidents
        elif low_us is not None and time_us < low_us - TOLERANCE_US:
            found = BACKDATED.broken(
                seq,
                f"This entry is dated {_span(low_us - time_us)} before something that other "
                "sites' clocks say was there first.",
            )
        elif high_us is not None and time_us > high_us + TOLERANCE_US:
            found = FUTURE.broken(
                seq,
                f"This entry is dated {_span(time_us - high_us)} after another site had already "
                "seen it.",
            )
        if found is not None and not was_outside:
            yield found
        was_outside = found is not None


def _lowest(earliest: list[Bound], needed: int) -> _BoundAt:
    """At an entry: what `needed` sites say was there before it, by their newest times."""
    steps = _steps(sorted(earliest), needed, newest=True)

    def at(seq: int) -> int | None:
        count = bisect_right(steps, seq, key=itemgetter(0))
        return steps[count - 1][1] if count else None

    return at


def _highest(latest: list[Bound], needed: int) -> _BoundAt:
    """At an entry: by when `needed` sites had seen it or a later one, by their oldest times."""
    steps = _steps(sorted(latest, reverse=True), needed, newest=False)[::-1]

    def at(seq: int) -> int | None:
        first = bisect_left(steps, seq, key=itemgetter(0))
        return steps[first][1] if first < len(steps) else None

    return at


def _steps(bounds: list[Bound], needed: int, *, newest: bool) -> list[tuple[int, int]]:
    """(entry, time) wherever the time changes that `needed` sites agree on, in the given order."""
    said: dict[bytes, int] = {}
    steps: list[tuple[int, int]] = []
    for seq, time_us, site in bounds:
        before = said.get(site)
        if before is not None and (time_us <= before) == newest:
            continue
        said[site] = time_us
        if len(said) >= needed:
            agreed_us = sorted(said.values(), reverse=newest)[needed - 1]
            if not steps or steps[-1][1] != agreed_us:
                steps.append((seq, agreed_us))
    return steps


def _sites(bounds: list[Bound]) -> set[bytes]:
    return {site for _, _, site in bounds}


def _bounds(
    timeline: Timeline, context: AuditContext, peers: PeerEvidence
) -> tuple[list[Bound], list[Bound]]:
    """(from this entry on nothing is older than), (up to this entry nothing is newer than)."""
    earliest: list[Bound] = []
    latest: list[Bound] = []
    # Whoever says that its own clock was wrong bounds nothing with it.
    wrong = {log.site for log in peers.sound if clock_set_at(log.timeline) >= 0}
    for head in peers.heads_of(timeline.log_id):
        for cosigned in head.cosigned:
            if cosigned.witness not in (context.site, *wrong):
                earliest.append((head.size, cosigned.time_s * MICRO, cosigned.witness))
                latest.append((head.size - 1, cosigned.time_s * MICRO, cosigned.witness))
    theirs = {log.site: log for log in peers.sound if log.site not in wrong}
    for received in timeline.of(UpdateReceived):
        log = theirs.get(received.record.sender)
        published_us = log.timeline.times.get(received.record.from_seq) if log else None
        if log is not None and published_us is not None:
            earliest.append((received.seq, published_us, log.site))
    for log in theirs.values():
        for received in log.timeline.of(UpdateReceived):
            if received.record.sender == context.site:
                latest.append((received.record.from_seq, received.time_us, log.site))
    return earliest, latest


def _span(span_us: int) -> str:
    """A length of time for people.

    >>> _span(90_000_000), _span(3 * 3600 * 1_000_000)
    ('2 minutes', '3.0 hours')
    """
    minutes = span_us / MICRO / 60
    if minutes < 120:
        return f"{minutes:.0f} minutes"
    return f"{minutes / 60:.1f} hours" if minutes < 48 * 60 else f"{minutes / 60 / 24:.0f} days"


CHECKS = (
    Check("clock", "Times run forward", _look_at_own),
    Check("bounds", "Times agree with what other sites saw", _look_at_bounds),
)
