"""Can the times in this log be believed?

Inside a log time does not run back, unless an entry says that the clock was set. From outside,
other sites bound it: what a witness cosigned existed by then, what came later is not older, and
nothing is received before it was published. Clocks of honest sites differ, so that only more than
five minutes count."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate
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
    findings = tuple(_find_outside(timeline, _lowest(earliest), _highest(latest)))
    return Looked(len(earliest) + len(latest), "bounds", findings)


def _find_outside(
    timeline: Timeline, lowest: _BoundAt, highest: _BoundAt
) -> Iterator[AuditFinding]:
    """Entries outside their bounds; of several in a row the first."""
    set_at = clock_set_at(timeline)
    was_outside = False
    for seq, time_us in timeline.times.items():
        low_us, high_us = lowest(seq), highest(seq)
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


def _lowest(earliest: list[tuple[int, int]]) -> _BoundAt:
    """At an entry: the newest time of anything that was there before it."""
    places = sorted(earliest)
    newest = list(accumulate((time_us for _, time_us in places), max))

    def at(seq: int) -> int | None:
        count = bisect_right(places, seq, key=itemgetter(0))
        return newest[count - 1] if count else None

    return at


def _highest(latest: list[tuple[int, int]]) -> _BoundAt:
    """At an entry: the oldest time at which anybody saw it or a later one."""
    places = sorted(latest)
    oldest = list(accumulate((time_us for _, time_us in reversed(places)), min))[::-1]

    def at(seq: int) -> int | None:
        first = bisect_left(places, seq, key=itemgetter(0))
        return oldest[first] if first < len(places) else None

    return at


def _bounds(
    timeline: Timeline, context: AuditContext, peers: PeerEvidence
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(from this entry on nothing is older than), (up to this entry nothing is newer than)."""
    earliest: list[tuple[int, int]] = []
    latest: list[tuple[int, int]] = []
    # Whoever says that its own clock was wrong bounds nothing with it.
    wrong = {log.site for log in peers.sound if clock_set_at(log.timeline) >= 0}
    for head in peers.heads_of(timeline.log_id):
        for cosigned in head.cosigned:
            if cosigned.witness not in (context.site, *wrong):
                earliest.append((head.size, cosigned.time_s * MICRO))
                latest.append((head.size - 1, cosigned.time_s * MICRO))
    theirs = {log.site: log for log in peers.sound if log.site not in wrong}
    for received in timeline.of(UpdateReceived):
        log = theirs.get(received.record.sender)
        published_us = log.timeline.times.get(received.record.from_seq) if log else None
        if published_us is not None:
            earliest.append((received.seq, published_us))
    for log in theirs.values():
        for received in log.timeline.of(UpdateReceived):
            if received.record.sender == context.site:
                latest.append((received.record.from_seq, received.time_us))
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
