"""Sites with fixed keys, so that every test and every vector speaks of the same ones."""

import hashlib
from dataclasses import dataclass, replace
from functools import cache

from gossip.card import Card, sign_card
from gossip.envelope import seal
from gossip.identifiers import SiteId
from gossip.keys import SiteKeys
from gossip.messages import (
    Decision,
    HeadAdvertised,
    Message,
    StudyDecision,
    StudyProposal,
    StudySteered,
    UpdateAnnounced,
)
from gossip.pause_messages import Pause, StudyPaused
from gossip.roster import Roster, draft_roster, sign_roster
from gossip.witness_messages import (
    PLAIN,
    SEALED,
    CosignAnswered,
    CosignRequested,
    EntriesSent,
    EntriesWanted,
    ForkTold,
    HeadsHeld,
    KeysShown,
    LeavesSent,
    LeavesWanted,
    SentEntry,
)

CONSORTIUM = "test-hearts"


def bytes_of(label: str) -> bytes:
    """32 bytes that only the label decides."""
    return hashlib.sha256(label.encode()).digest()


@dataclass(frozen=True)
class Person:
    keys: SiteKeys
    card: Card

    @property
    def site(self) -> SiteId:
        return self.card.site

    def seal(self, message: Message, consortium: str = CONSORTIUM) -> bytes:
        return seal(self.keys.transport, self.site, consortium, message)


@cache
def person(index: int) -> Person:
    seeds = [bytes_of(f"{role} {index}") for role in ("identity", "transport", "log", "witness")]
    keys = SiteKeys(*seeds)
    card = sign_card(
        keys,
        name=f"hospital {index}",
        log_id=bytes_of(f"log id {index}"),
        addresses=[f"10.0.{index // 256}.{index % 256}:4001"],
    )
    return Person(keys, card)


def people(count: int) -> list[Person]:
    """`count` sites, ascending by site."""
    return sorted((person(index) for index in range(count)), key=lambda each: each.site)


@cache
def roster_of(count: int) -> Roster:
    return draft_roster(CONSORTIUM, [each.card for each in people(count)])


@cache
def founded(count: int) -> Roster:
    unsigned = roster_of(count)
    signatures: dict[SiteId, bytes] = {}
    for each in people(count):
        signatures |= sign_roster(unsigned, each.keys.identity).signatures
    return replace(unsigned, signatures=signatures)


def update(label: str = "update", inline: bytes = b"model") -> UpdateAnnounced:
    return UpdateAnnounced(
        study=bytes_of("study"),
        round=3,
        hash=hashlib.sha256(inline).digest() if inline else bytes_of(label),
        size=len(inline) or 20_000_000,
        entry_seq=17,
        entry_leaf=bytes_of(label),
        head=b"head",
        inline=inline,
        train_seq=16,
    )


def decision(label: str = "decision") -> StudyDecision:
    return StudyDecision(
        study=bytes_of("study"),
        decision=Decision.APPROVED,
        patients_bucket=100,
        entry_seq=5,
        entry_leaf=bytes_of(label),
        decided_us=1_700_000_000_000_000,
    )


def proposal(label: str = "proposal", initial: bytes = b"") -> StudyProposal:
    return StudyProposal(manifest=label.encode(), initial=initial)


def steering(label: str = "steering") -> StudySteered:
    return StudySteered(
        study=bytes_of("study"),
        changes=(("learning_rate", "0.25"), ("local_steps", "5")),
        from_round=4,
        entry_seq=23,
        entry_leaf=bytes_of(label),
    )


def paused(label: str = "pause", state: Pause = Pause.PAUSED) -> StudyPaused:
    return StudyPaused(bytes_of("study"), state, "scanner-replaced", 4, 24, bytes_of(label))


def head(label: str = "head") -> HeadAdvertised:
    return HeadAdvertised(note=label.encode())


def about_logs() -> list[Message]:
    """One of each message about logs."""
    log_id, hashes = bytes_of("log id 0"), bytes_of("leaf 0") + bytes_of("leaf 1")
    return [
        CosignRequested(request=b"old 0\n\nnote", leaves_from=0, leaves=hashes),
        CosignAnswered("test/dl-ledger/" + log_id.hex(), 2, bytes_of("root"), 409, b"1\n"),
        HeadsHeld((b"", b"a note")),
        LeavesWanted(log_id, 0, 2),
        LeavesSent(log_id, 0, hashes),
        EntriesWanted(log_id, 0, 2),
        EntriesSent(log_id, 0, (SentEntry(0, PLAIN, b"entry"), SentEntry(1, SEALED, b"box"))),
        KeysShown(log_id, (b"genesis", b"rotation")),
        ForkTold(bytes_of("proof"), 0, 1, b"proof"),
    ]
