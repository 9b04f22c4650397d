"""Did the site say one thing in each vote on the roster, and only what the votes allowed?

From its own entries alone: who signed and accepted elsewhere stands in those sites' ledgers."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ledger.provenance.findings import AuditContext, AuditFinding, Check, Looked, Rule, Tools
from ledger.provenance.kinds import (
    CardRenewed,
    Record,
    RosterAccepted,
    RosterChanged,
    RosterClosed,
    RosterProposed,
    RosterSigned,
)
from ledger.provenance.timeline import Timeline

_ASK = (
    "Ask the site's operator what happened; tell the other members: a site that says two things in "
    "a vote counts among those that may lie."
)
TWICE = Rule("roster.signed_twice", _ASK)
CLOSED = Rule("roster.after_close", _ASK)
QUORUM = Rule("roster.accepted_without_quorum", _ASK)
FORGOTTEN = Rule("roster.lock_forgotten", _ASK)
ORDER = Rule(
    "roster.version_order",
    "Compare with `p2pfl roster history` of another member: versions follow each other by one.",
)
SERIAL = Rule("roster.card_order", _ASK)
_VOTING = (RosterProposed, RosterSigned, RosterAccepted, RosterClosed, RosterChanged, CardRenewed)


@dataclass
class _Vote:
    """What the log says about the successor of one version."""

    signed: dict[int, bytes] = field(default_factory=dict)
    accepted: dict[int, bytes] = field(default_factory=dict)
    closed: int = 0


def _look(timeline: Timeline, context: AuditContext, tools: Tools) -> Looked:
    votes: dict[int, _Vote] = {}
    found: list[AuditFinding] = []
    in_force, count = 0, 0
    serials: dict[bytes, int] = {}
    for logged in timeline.logged:
        record = logged.record
        if not isinstance(record, _VOTING):
            continue
        count += 1
        if isinstance(record, RosterChanged):
            found += _find_jump(logged.seq, record, in_force)
            in_force = record.version
        elif isinstance(record, CardRenewed):
            if serials.get(record.site, -1) > record.serial:
                yielded = f"An older card of {context.site_name(record.site)} took effect again."
                found.append(SERIAL.broken(logged.seq, yielded))
            serials[record.site] = record.serial
        else:
            vote = votes.setdefault(record.version, _Vote())
            found += _find_contradictions(logged.seq, record, vote)
    return Looked(count, "entries about members", tuple(found), ())


def _find_jump(seq: int, record: RosterChanged, before: int) -> Iterator[AuditFinding]:
    """A roster that came by a vote follows the one before it."""
    if record.certificate and before and record.version != before + 1:
        sentence = f"Roster version {record.version} came by a vote after version {before}."
        yield ORDER.broken(seq, sentence)


def _find_contradictions(seq: int, record: Record, vote: _Vote) -> Iterator[AuditFinding]:
    match record:
        case RosterSigned(version=version, vote=number, hash=candidate):
            if vote.signed.setdefault(number, candidate) != candidate:
                sentence = f"Two candidates for roster version {version} signed in vote {number}."
                yield TWICE.broken(seq, sentence)
            if 0 < number <= vote.closed:
                yield CLOSED.broken(seq, f"Signed in vote {number}, which was closed here before.")
        case RosterAccepted():
            yield from _find_unfounded(seq, record, vote)
        case RosterClosed(vote=number):
            newest = max(vote.accepted, default=0)
            if newest and _is_forgotten(record, newest, vote.accepted[newest]):
                sentence = f"Vote {number} was closed without what was accepted in {newest}."
                yield FORGOTTEN.broken(seq, sentence)
            vote.closed = max(vote.closed, number)
        case _:
            return


def _is_forgotten(record: RosterClosed, newest: int, accepted: bytes) -> bool:
    """Whether the closing statement leaves out what was accepted last."""
    return record.lock_vote < newest or (record.lock_vote == newest and record.lock != accepted)


def _find_unfounded(seq: int, record: RosterAccepted, vote: _Vote) -> Iterator[AuditFinding]:
    number, candidate = record.vote, record.hash
    if vote.accepted.setdefault(number, candidate) != candidate:
        yield TWICE.broken(seq, f"Two candidates accepted in vote {number}.")
    if number <= vote.closed:
        yield CLOSED.broken(seq, f"Accepted in vote {number}, which was closed here before.")
    needed = (record.members + (record.members - 1) // 3) // 2 + 1
    if len(set(record.signers)) < needed:
        sentence = f"Accepted with {len(set(record.signers))} signatures, needed {needed}."
        yield QUORUM.broken(seq, sentence)


CHECKS = (Check("membership", "One word in each vote on the roster, as the votes allow", _look),)
