"""Did each average use exactly the updates that were accepted, with allowed weights?"""

from collections import defaultdict
from collections.abc import Iterator

from ledger.provenance.fields import MICRO
from ledger.provenance.findings import AuditContext, AuditFinding, Check, Rule, look_with
from ledger.provenance.kinds import AggDone, AggInput, UpdatePublished, UpdateReceived
from ledger.provenance.records_round import STALENESS
from ledger.provenance.timeline import Logged, Timeline

_DO_NOT_USE = (
    "Do not use this round's model or what was trained from it until the cause is found; "
    "`p2pfl ledger audit --replay` tells whether the average itself is right."
)
UNKNOWN_INPUT = Rule("average.never_received", _DO_NOT_USE)
REFUSED_INPUT = Rule("average.refused_input", _DO_NOT_USE)
OTHER_INPUT = Rule("average.other_input", _DO_NOT_USE)
TWICE_INPUT = Rule("average.repeated_input", _DO_NOT_USE)
LEFT_OUT = Rule("average.left_out", _DO_NOT_USE)
TOO_HEAVY = Rule("average.too_heavy", _DO_NOT_USE)
OWN_INPUT = Rule("average.own_input", _DO_NOT_USE)
REPEATED = Rule("average.repeated", _DO_NOT_USE)
ORDER = Rule("average.order", _DO_NOT_USE)

STALENESS_DIGITS_MAX = 4

_Receipts = dict[tuple[bytes, int], list[Logged[UpdateReceived]]]
_Published = dict[tuple[bytes, int], list[tuple[int, bytes]]]


def _find_averages(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    receipts: _Receipts = defaultdict(list)
    for received in timeline.of(UpdateReceived):
        receipts[received.record.study, received.record.round].append(received)
    published: _Published = defaultdict(list)
    for own in timeline.of(UpdatePublished):
        published[own.record.study, own.record.round].append((own.seq, own.record.hash))
    last: dict[bytes, int] = {}
    seen: set[tuple[bytes, int]] = set()
    used: set[tuple[bytes, int, bytes]] = set()
    ever_used = {
        (x.site, x.seq, x.hash) for logged in timeline.of(AggDone) for x in logged.record.inputs
    }
    for averaged in timeline.of(AggDone):
        study, round_ = averaged.record.study, averaged.record.round
        what = f"The average of round {round_} of {context.study_name(study)}"
        if (study, round_) in seen:
            yield REPEATED.broken(averaged.seq, f"{what} was made a second time.")
        elif round_ < last.get(study, -1):
            yield ORDER.broken(averaged.seq, f"{what} was made after that of {last[study]}.")
        seen.add((study, round_))
        last[study] = max(round_, last.get(study, -1))
        yield from _judge_weights(averaged, what)
        yield from _judge_inputs(context, averaged, _usable(receipts, averaged), what)
        used |= {(x.site, x.seq, x.hash) for x in averaged.record.inputs}
        came = [x for x in receipts[study, round_] if x.seq < averaged.seq]
        yield from _find_left_out(context, averaged, came, used, what)
        # One that came later may have stood in for a newer one.
        late = [x for x in receipts[study, round_] if x.seq > averaged.seq]
        yield from _find_left_out(context, averaged, late, ever_used, what)
        yield from _judge_own(averaged, published[study, round_], what)


def _usable(receipts: _Receipts, averaged: Logged[AggDone]) -> list[Logged[UpdateReceived]]:
    """Receipts of the average's round, or of a newer one of a neighbour that went ahead.

    A site that fell behind takes each neighbour's newest round, and a site whose neighbour no
    longer offers the round lets the newer update stand in; an older one is right where the study
    says how old, and the entry repeats it."""
    record = averaged.record
    oldest = record.round - _staleness(record)
    rounds = [at for study, at in receipts if study == record.study and at >= oldest]
    found = [x for at in rounds for x in receipts[record.study, at]]
    return [received for received in found if received.seq < averaged.seq]


def _staleness(record: AggDone) -> int:
    """How many rounds old the entry says an input may be."""
    text = record.rule_params.get(STALENESS, "0")
    return int(text) if text.isdecimal() and len(text) <= STALENESS_DIGITS_MAX else 0


def _judge_weights(averaged: Logged[AggDone], what: str) -> Iterator[AuditFinding]:
    total_u = sum(used.weight_u for used in averaged.record.inputs)
    if total_u > MICRO:
        yield TOO_HEAVY.broken(
            averaged.seq, f"{what} gave its neighbours {total_u / MICRO:.6f} of the weight, over 1."
        )


def _judge_inputs(
    context: AuditContext,
    averaged: Logged[AggDone],
    usable: list[Logged[UpdateReceived]],
    what: str,
) -> Iterator[AuditFinding]:
    inputs = averaged.record.inputs
    for place, used in enumerate(inputs):
        if any(used.site == other.site for other in inputs[:place]):
            site = context.site_name(used.site)
            yield TWICE_INPUT.broken(averaged.seq, f"{what} counts {site} twice.")
        round_ = averaged.record.round
        yield from _judge_input(context, averaged.seq, used, usable, round_, what)


def _find_left_out(
    context: AuditContext,
    averaged: Logged[AggDone],
    receipts: list[Logged[UpdateReceived]],
    used: set[tuple[bytes, int, bytes]],
    what: str,
) -> Iterator[AuditFinding]:
    """Accepted for this round, but neither in this average nor in an earlier catch-up."""
    for received in receipts:
        record = received.record
        if record.verdict == "accepted" and _publication(record) not in used:
            yield LEFT_OUT.broken(
                averaged.seq,
                f"{what} leaves out the update of {context.site_name(record.sender)}, accepted in "
                f"entry {received.seq}.",
            )


def _publication(record: UpdateReceived) -> tuple[bytes, int, bytes]:
    return (record.sender, record.from_seq, record.hash)


def _judge_input(
    context: AuditContext,
    seq: int,
    used: AggInput,
    usable: list[Logged[UpdateReceived]],
    round_: int,
    what: str,
) -> Iterator[AuditFinding]:
    before = [x.record for x in usable if x.record.sender == used.site]
    taken = [record for record in before if record.verdict == "accepted"]
    site = context.site_name(used.site)
    if not before:
        yield UNKNOWN_INPUT.broken(seq, f"{what} uses an update of {site} never received.")
    elif not taken:
        why = f"{before[-1].verdict} ({before[-1].reason or 'no reason'})"
        yield REFUSED_INPUT.broken(seq, f"{what} uses the update of {site}, which was {why}.")
    elif (used.seq, used.hash) not in [(record.from_seq, record.hash) for record in taken]:
        yield OTHER_INPUT.broken(
            seq, f"{what} uses another model of {site} than the one that was accepted."
        )
    else:
        yield from _judge_age(seq, used, taken, round_, f"{what} gives the update of {site}")


def _judge_age(
    seq: int, used: AggInput, taken: list[UpdateReceived], round_: int, what: str
) -> Iterator[AuditFinding]:
    """An update that stands in for a newer one counts less, the older the less."""
    of = [
        record.round for record in taken if (record.from_seq, record.hash) == (used.seq, used.hash)
    ]
    age = max(0, round_ - max(of))
    most_u = MICRO // (1 + age)
    if used.weight_u > most_u:
        yield TOO_HEAVY.broken(
            seq,
            f"{what}, {age} round(s) old, {used.weight_u / MICRO:.6f} of the weight, over "
            f"{most_u / MICRO:.6f}.",
        )


def _judge_own(
    averaged: Logged[AggDone], published: list[tuple[int, bytes]], what: str
) -> Iterator[AuditFinding]:
    own = averaged.record.own
    before = [mine for mine in published if mine[0] < averaged.seq]
    if own.seq == -1 and not before:
        return  # a site that joins late adopts its neighbours' average
    if (own.seq, own.hash) not in before:
        yield OWN_INPUT.broken(
            averaged.seq, f"{what} is not built around the model this site published for it."
        )


CHECKS = (
    Check(
        "averages",
        "Averages used what was accepted, all of it and nothing else",
        look_with("averages", lambda timeline: len(timeline.of(AggDone)), _find_averages),
    ),
)
