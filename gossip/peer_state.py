"""What the dissemination remembers of each member, and how much of each kind it keeps."""

from dataclasses import dataclass
from typing import assert_never

from gossip.identifiers import Digest
from gossip.limits import DisseminationLimits
from gossip.messages import (
    HEAD_ADVERTISED,
    STUDY_DECISION,
    STUDY_PROPOSAL,
    STUDY_STEERED,
    HeadAdvertised,
    StudyDecision,
    StudyProposal,
    StudySteered,
)
from gossip.pause_messages import STUDY_PAUSED, StudyPaused
from gossip.rate import TokenBucket
from gossip.witness_messages import FORK_TOLD, ForkTold


@dataclass(frozen=True, slots=True)
class KindBounds:
    """How many messages of a kind, per author, are passed on and are remembered as seen."""

    kind: int
    relayed_max: int
    seen_max: int


def kind_bounds(
    message: StudyProposal | StudyDecision | StudySteered | StudyPaused | HeadAdvertised | ForkTold,
    limits: DisseminationLimits,
) -> KindBounds:
    """The bounds of a message that is for everyone."""
    match message:
        case StudyProposal():
            return KindBounds(
                STUDY_PROPOSAL,
                limits.relayed_proposals_per_origin_max,
                limits.seen_proposals_per_origin_max,
            )
        case StudyDecision():
            return KindBounds(
                STUDY_DECISION,
                limits.relayed_decisions_per_origin_max,
                limits.seen_decisions_per_origin_max,
            )
        case StudySteered():
            return KindBounds(
                STUDY_STEERED,
                limits.relayed_steerings_per_origin_max,
                limits.seen_steerings_per_origin_max,
            )
        case StudyPaused():
            return KindBounds(
                STUDY_PAUSED,
                limits.relayed_pauses_per_origin_max,
                limits.seen_pauses_per_origin_max,
            )
        case HeadAdvertised():
            return KindBounds(
                HEAD_ADVERTISED,
                limits.relayed_heads_per_origin_max,
                limits.seen_heads_per_origin_max,
            )
        case ForkTold():
            return KindBounds(
                FORK_TOLD,
                limits.relayed_forks_per_origin_max,
                limits.seen_forks_per_origin_max,
            )
        case _:
            assert_never(message)


class PeerState:
    """One member. Its rates outlive its connections: reconnecting refills nothing."""

    __slots__ = (
        "asked_s",
        "connected",
        "direct",
        "due_s",
        "inventory_s",
        "noticed_s",
        "passed_on",
        "proposed",
        "proposed_passed_on",
        "reconcile",
        "repair_bytes",
        "roster",
        "source_bytes",
        "source_messages",
        "window_end",
        "witness",
    )

    def __init__(self, limits: DisseminationLimits) -> None:
        self.connected = False
        self.due_s = 0.0
        self.inventory_s: float | None = None
        self.window_end = 0
        self.asked_s: dict[Digest, float] = {}
        self.noticed_s: float | None = None
        self.source_messages = TokenBucket(
            limits.source_messages_per_s, limits.source_messages_burst
        )
        self.source_bytes = TokenBucket(limits.source_bytes_per_s, limits.source_bytes_burst)
        self.reconcile = TokenBucket(
            limits.reconcile_messages_per_s, limits.reconcile_messages_burst
        )
        self.witness = TokenBucket(limits.witness_messages_per_s, limits.witness_messages_burst)
        self.roster = TokenBucket(limits.roster_messages_per_s, limits.roster_messages_burst)
        self.repair_bytes = TokenBucket(limits.repair_bytes_per_s, limits.repair_bytes_burst)
        # What a site wrote is counted apart for its own connection and for all others: somebody
        # who repeats a site's old messages must not use up what the site itself may send.
        self.direct = TokenBucket(limits.origin_messages_per_s, limits.origin_messages_burst)
        self.passed_on = TokenBucket(limits.origin_messages_per_s, limits.origin_messages_burst)
        self.proposed = TokenBucket(limits.proposals_per_s, limits.proposals_burst)
        self.proposed_passed_on = TokenBucket(limits.proposals_per_s, limits.proposals_burst)

    def may_write(self, now_s: float, kind: int, *, is_direct: bool) -> bool:
        """Whether one more message for everyone that it signed is taken."""
        if not (self.direct if is_direct else self.passed_on).take(now_s):
            return False
        if kind != STUDY_PROPOSAL:
            return True
        return (self.proposed if is_direct else self.proposed_passed_on).take(now_s)
