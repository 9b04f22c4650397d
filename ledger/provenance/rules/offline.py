"""Did this site release anything while nobody could say whether its log was the true one?

A node that starts without a peer's word says so in its log (`node.offline_start`). One that does
not is noticed by the others' silence: they averaged the same round of the same study, and nobody
was in touch with the site around its publication. That takes the ledgers of all members, and it
cannot tell a start from a cut network; hence the evidence is incomplete, not a rule broken."""

from bisect import bisect_left
from collections.abc import Iterator

from ledger.log import ExitCode
from ledger.provenance.fields import MICRO
from ledger.provenance.findings import AuditContext, AuditFinding, Check, Looked, Rule, Tools
from ledger.provenance.kinds import AggDone, NodeOfflineStart, UpdatePublished, UpdateReceived
from ledger.provenance.peers import SETTLING_US, PeerEvidence
from ledger.provenance.timeline import Logged, Timeline

ALONE_US = 30 * 60 * MICRO
"""Heads are told every ten minutes: whoever misses three of them is not in touch."""
UNCONFIRMED = Rule(
    "start.unconfirmed",
    "Ask the operator whether the node was started with --offline-ok at that time, and look for "
    "the start in the node's log; compare the site's newest head with every member's.",
    ExitCode.EVIDENCE_INCOMPLETE,
)


def _look(timeline: Timeline, context: AuditContext, tools: Tools) -> Looked:
    peers = context.peers
    published = timeline.of(UpdatePublished)
    if peers is None or not peers.members <= {log.site for log in peers.sound}:
        return Looked(0, "publications", applies=False)
    return Looked(
        len(published), "publications", tuple(_find_unconfirmed(timeline, context, peers))
    )


def _find_unconfirmed(
    timeline: Timeline, context: AuditContext, peers: PeerEvidence
) -> Iterator[AuditFinding]:
    contacts = sorted(_contacts(timeline, context, peers))
    declared = sorted(x.time_us for x in timeline.of(NodeOfflineStart))
    for published in timeline.of(UpdatePublished):
        time_us = published.time_us
        near = bisect_left(contacts, time_us - ALONE_US)
        in_touch = near < len(contacts) and contacts[near] <= time_us + ALONE_US
        last_us = contacts[near - 1] if near else timeline.first_us
        said = bisect_left(declared, last_us) < bisect_left(declared, time_us + 1)
        settled = time_us <= context.now_us - ALONE_US - SETTLING_US
        if settled and not in_touch and not said and _others_worked(peers, published):
            yield UNCONFIRMED.broken(
                published.seq,
                f"The update of round {published.record.round} of "
                f"{context.study_name(published.record.study)} was published while no other site "
                "was in touch with this one, and no start without peers is on record.",
            )
            return  # what follows is alone for the same reason


def _others_worked(peers: PeerEvidence, published: Logged[UpdatePublished]) -> bool:
    """Whether another site averaged the same round at about that time, without this one."""
    wanted = (published.record.study, published.record.round)
    return any(
        (other.record.study, other.record.round) == wanted
        and abs(other.time_us - published.time_us) <= ALONE_US
        for log in peers.sound
        for other in log.timeline.of(AggDone)
    )


def _contacts(timeline: Timeline, context: AuditContext, peers: PeerEvidence) -> Iterator[int]:
    """Whenever this site and another one heard of each other."""
    yield from (x.time_us for x in timeline.of(UpdateReceived))
    for log in peers.sound:
        for received in log.timeline.of(UpdateReceived):
            if received.record.sender == context.site:
                yield received.time_us
    for head in peers.heads_of(timeline.log_id):
        yield from (cosigned.time_s * MICRO for cosigned in head.cosigned)


CHECKS = (Check("offline", "What was published, others could confirm", _look),)
