"""Was each neighbour's update taken in once, from a member, for its own round?"""

from collections.abc import Iterator

from ledger.provenance.findings import AuditContext, AuditFinding, Check, Rule, look_with
from ledger.provenance.kinds import AggDone, RosterChanged, UpdateReceived
from ledger.provenance.timeline import Logged, Timeline

_COMPARE = (
    "Ask the sender for its log (`p2pfl ledger audit --peers`) and leave the round's model out of "
    "any result until it is explained."
)
REPEATED = Rule("receipt.repeated", _COMPARE)
REPLAYED = Rule("receipt.replayed", _COMPARE)
OWN = Rule("receipt.own", _COMPARE)
STRANGER = Rule("receipt.stranger", _COMPARE)


def _find_receipts(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    first: dict[tuple[bytes, int, bytes], Logged[UpdateReceived]] = {}
    leaves: dict[bytes, Logged[UpdateReceived]] = {}
    rosters = timeline.of(RosterChanged)
    roster_seq = rosters[-1].seq if rosters else 0
    for received in accepted(timeline):
        record = received.record
        key = (record.study, record.round, record.sender)
        sender = context.site_name(record.sender)
        update = f"update of round {record.round} of {context.study_name(record.study)}"
        earlier = leaves.setdefault(record.from_leaf, received)
        before = first.setdefault(key, received)
        if before is not received:
            if _is_of_catch_up(timeline, before, received):
                first[key] = received
                continue
            yield REPEATED.broken(
                received.seq,
                f"The {update} from {sender} was accepted a second time; entry "
                f"{before.seq} is the first.",
            )
        elif earlier is not received:
            yield REPLAYED.broken(
                received.seq,
                f"{sender} passed off one publication twice: as the {update}, and before in entry "
                f"{earlier.seq}.",
            )
        if record.sender == context.site:
            yield OWN.broken(received.seq, f"The {update} came from this site itself.")
        elif (
            context.names
            and received.seq > roster_seq
            and record.sender not in context.names
            and not _was_under_way(timeline, received, roster_seq)
        ):
            yield STRANGER.broken(
                received.seq, f"{sender} was not on the roster when the {update} was accepted."
            )


def _was_under_way(timeline: Timeline, received: Logged[UpdateReceived], roster_seq: int) -> bool:
    """Whether a former member's update went into the averaging that the new roster interrupted.

    That is the study's first one after the roster; its inputs had arrived before."""
    record = received.record
    averaged = (a.seq for a in timeline.of(AggDone) if a.record.study == record.study)
    first_after = next((seq for seq in averaged if seq > roster_seq), received.seq)
    was_member = any(
        earlier.seq < roster_seq
        and (earlier.record.study, earlier.record.sender) == (record.study, record.sender)
        for earlier in accepted(timeline)
    )
    return was_member and received.seq < first_after


def _is_of_catch_up(
    timeline: Timeline, before: Logged[UpdateReceived], again: Logged[UpdateReceived]
) -> bool:
    """Whether a catch-up took the very same publication early, before its own round came.

    Then it is received twice, because each average records what it takes in."""
    first, second = before.record, again.record
    if (first.from_leaf, first.from_seq, first.hash) != (
        second.from_leaf,
        second.from_seq,
        second.hash,
    ):
        return False
    return any(
        before.seq < averaged.seq < again.seq
        and averaged.record.own.seq == -1
        and averaged.record.round < first.round
        and (first.sender, first.from_seq) in [(x.site, x.seq) for x in averaged.record.inputs]
        for averaged in timeline.of(AggDone)
        if averaged.record.study == first.study
    )


def accepted(timeline: Timeline) -> Iterator[Logged[UpdateReceived]]:
    """The receipts that may enter an average."""
    return (x for x in timeline.of(UpdateReceived) if x.record.verdict == "accepted")


CHECKS = (
    Check(
        "receipts",
        "Each neighbour's update was taken in once",
        look_with("receipts", lambda timeline: len(timeline.of(UpdateReceived)), _find_receipts),
    ),
)
