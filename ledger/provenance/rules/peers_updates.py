"""Did every sender record what this site received from it, in the same words?

A receipt names the sender's entry by number and leaf hash, and the sender's head of that moment.
What the sender's log shows there now must be that publication."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from ledger.provenance.findings import AuditContext, AuditFinding, Check, Looked, Rule, Tools
from ledger.provenance.kinds import (
    CourseWord,
    StudyProposed,
    StudyResumed,
    StudySteered,
    UpdatePublished,
    UpdateReceived,
)
from ledger.provenance.peers import PeerEvidence, PeerLog
from ledger.provenance.rules.pausing import words_on_pausing
from ledger.provenance.timeline import Logged, Timeline

W = TypeVar("W", StudySteered, CourseWord)

_LEAVE_OUT = (
    "Leave this round's model out of any result, and compare both sites' ledgers and signed heads "
    "with the members before either is believed."
)
DENIED = Rule("receipt.denied", _LEAVE_OUT)
OTHER_HASH = Rule("receipt.other_hash", _LEAVE_OUT)
UNPUBLISHED = Rule("receipt.unpublished", _LEAVE_OUT)
STEERING_DENIED = Rule(
    "steering.denied",
    "Ask the study's proposer for the entry that is named, and compare the arguments of this "
    "site's training with the approved manifest.",
)
PAUSE_DENIED = Rule(
    "pause.denied",
    "Ask the study's proposer for the entry that is named: this site waited, went on or ended by "
    "a word that does not stand in the proposer's log.",
)


def _look_at_receipts(timeline: Timeline, context: AuditContext, tools: Tools) -> Looked:
    peers = context.peers
    if peers is None:
        return Looked(0, "receipts", applies=False)
    findings: list[AuditFinding] = []
    compared, unread = 0, 0
    for received in timeline.of(UpdateReceived):
        log = peers.log_of(received.record.sender)
        if log is None or received.record.from_seq >= log.size:
            continue  # no copy, or one that ends before: said once, not for each receipt
        compared += 1
        findings += _judge_receipt(context, received, log)
        is_same = log.leaves[received.record.from_seq] == received.record.from_leaf
        unread += is_same and not log.can_read(received.record.from_seq)
    findings += _find_steering(timeline, context, peers)
    findings += _find_pauses(timeline, context, peers)
    total = len(timeline.of(UpdateReceived))
    notes = []
    if compared < total:
        notes.append(f"{total - compared} of {total} receipts: the sender's entry is not at hand.")
    if unread:
        notes.append(f"{unread} receipts could be compared by the entry's hash alone.")
    return Looked(
        compared,
        "receipts",
        tuple(findings),
        tuple(notes),
        applies=bool(findings) or compared > 0 or total == 0,
        missing=total - compared + unread,
    )


def _judge_receipt(
    context: AuditContext, received: Logged[UpdateReceived], log: PeerLog
) -> Iterator[AuditFinding]:
    record = received.record
    sender = context.site_name(record.sender)
    what = f"the update of round {record.round} of {context.study_name(record.study)}"
    published = log.timeline.at(record.from_seq, UpdatePublished)
    is_of_round = published is not None and (
        (published.record.study, published.record.round) == (record.study, record.round)
    )
    if published is not None and is_of_round and published.record.hash != record.hash:
        yield OTHER_HASH.broken(
            received.seq,
            f"This site received {record.hash.hex()[:16]}… as {what} from {sender}, which "
            f"published {published.record.hash.hex()[:16]}… in its entry {record.from_seq}.",
        )
        return
    if log.leaves[record.from_seq] == record.from_leaf:
        if log.can_read(record.from_seq) and not is_of_round:
            yield UNPUBLISHED.broken(
                received.seq,
                f"This site says it received {what} from {sender}, but names entry "
                f"{record.from_seq}, which published no such thing.",
            )
        return
    if record.from_head in log.notes or _has_published(log, record):
        yield UNPUBLISHED.broken(
            received.seq,
            f"This site says it received {what} as entry {record.from_seq} of {sender}; that "
            "entry is another one, under the very head that the receipt names or beside the "
            "true publication.",
        )
    else:
        yield DENIED.broken(
            received.seq,
            f"{sender} denies to have published {what}: its entry {record.from_seq} is another "
            "one now, and it shows no such head as came with the update.",
        )


def _has_published(log: PeerLog, record: UpdateReceived) -> bool:
    """Whether the sender published this round elsewhere in its log."""
    wanted = (record.study, record.round, record.hash)
    return any(
        (x.record.study, x.record.round, x.record.hash) == wanted
        for x in log.timeline.of(UpdatePublished)
    )


def _find_steering(
    timeline: Timeline, context: AuditContext, peers: PeerEvidence
) -> Iterator[AuditFinding]:
    """Every steering that was followed stands in its proposer's log, with the same values."""
    for steered, log in _followed(timeline.of(StudySteered), timeline, peers):
        record = steered.record
        said = log.timeline.at(record.from_seq, StudySteered)
        if said is None or not _says(said.record, record):
            yield STEERING_DENIED.broken(
                steered.seq,
                f"{context.study_name(record.study)} was steered here by entry {record.from_seq} "
                f"of {context.site_name(log.site)}, which says no such thing.",
            )


def _followed(
    words: Iterable[Logged[W]], timeline: Timeline, peers: PeerEvidence
) -> Iterator[tuple[Logged[W], PeerLog]]:
    """What was followed of other sites' words on their studies, with the log that it is from.

    Not the proposer's own words, nor those that cannot be looked up."""
    proposers = {x.record.study: x.record.proposer for x in timeline.of(StudyProposed)}
    for word in words:
        log = peers.log_of(proposers.get(word.record.study, b""))
        if log is not None and log.can_read(word.record.from_seq):
            yield word, log


def _says(said: StudySteered, followed: StudySteered) -> bool:
    """A site that is behind its proposer follows a steering in a later round than it names."""
    return (said.study, said.message, said.changes) == (
        followed.study,
        followed.message,
        followed.changes,
    ) and said.round <= followed.round


def _find_pauses(
    timeline: Timeline, context: AuditContext, peers: PeerEvidence
) -> Iterator[AuditFinding]:
    """Every pause, resumption and stop that was followed stands in its proposer's log."""
    for word, log in _followed(words_on_pausing(timeline), timeline, peers):
        record = word.record
        said = log.timeline.at(record.from_seq, type(record))
        if said is None or not _is_same_word(said.record, record):
            verb = record.KIND.removeprefix("study.")
            yield PAUSE_DENIED.broken(
                word.seq,
                f"{context.study_name(record.study)} was {verb} here by entry {record.from_seq} of "
                f"{context.site_name(log.site)}, which says no such thing.",
            )


def _is_same_word(said: CourseWord, followed: CourseWord) -> bool:
    """A site may hear of it later than the round that is named, but stops at none before it."""
    is_early = not isinstance(said, StudyResumed) and followed.round < said.round
    return (said.study, said.reason) == (followed.study, followed.reason) and not is_early


CHECKS = (Check("sent", "Senders recorded what this site received from them", _look_at_receipts),)
