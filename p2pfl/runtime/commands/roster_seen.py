"""The vote on the next roster, for people: what is proposed, who said what, and what comes next."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gossip.identifiers import Digest, SiteId, fingerprint
from gossip.roster import Roster
from gossip.spoken import spoken
from p2pfl.core.ballots import Candidate
from p2pfl.core.membership import Membership


@dataclass(frozen=True, slots=True)
class ProposalSeen:
    """A roster that may follow."""

    digest: bytes
    version: int
    changes: tuple[str, ...]
    """One line each: added, removed, other addresses or keys; fingerprints to compare."""
    signed: tuple[str, ...]
    accepted: tuple[str, ...]
    can_be_signed: bool
    """By this site, in the vote that is open."""


@dataclass(frozen=True, slots=True)
class VersionSeen:
    """A roster that was or is in force."""

    version: int
    digest: bytes
    members: tuple[str, ...]
    changes: tuple[str, ...]
    by: tuple[str, ...]
    """Whose nodes accepted it; empty where every member signed the file."""


@dataclass(frozen=True, slots=True)
class VoteSeen:
    """Where the vote on the next roster stands at this site."""

    consortium: str
    version: int
    digest: bytes
    members: int
    needed: int
    vote: int
    closed: tuple[str, ...]
    """Who closed the vote that is open."""
    own_vote: bytes
    """What this site signed in it; empty if nothing."""
    proposals: tuple[ProposalSeen, ...]
    next: str
    """What to do, in a sentence."""
    history: tuple[VersionSeen, ...]


def vote_seen(membership: Membership) -> VoteSeen:
    """Read a machine."""
    ballots, word = membership.ballots, membership.word
    roster = ballots.roster
    proposals = tuple(_proposal(membership, c) for c in _by_support(membership))
    return VoteSeen(
        consortium=roster.consortium,
        version=roster.version,
        digest=roster.digest,
        members=len(roster.members),
        needed=ballots.needed,
        vote=ballots.vote,
        closed=_names(roster, ballots.closes(ballots.vote)),
        own_vote=word.signed.get(ballots.vote, b""),
        proposals=proposals,
        next=_next(membership, proposals),
        history=tuple(_history(membership)),
    )


def changes_between(before: Roster, after: Roster) -> tuple[str, ...]:
    """What a roster changes, one line per site."""
    return tuple(_changes(before, after))


def _changes(before: Roster, after: Roster) -> Iterator[str]:
    for card in after.members:
        where = " ".join(card.addresses) or "dials only"
        if card.site not in before:
            yield f"adds {card.name}, {where}, fingerprint {fingerprint(card.site)}"
            yield f"its words: {spoken(card.site)}"
            continue
        old = before.member(card.site)
        if old.addresses != card.addresses:
            yield f"{card.name}: address {where}"
        keys = ("identity", "transport", "log", "witness")
        pairs = zip(keys, old.public_keys, card.public_keys, strict=True)
        changed = [name for name, was, now in pairs if was != now]
        if changed:
            yield f"{card.name}: new {' and '.join(changed)} key"
        if old.log_id != card.log_id:
            yield f"{card.name}: goes on in another ledger"
    for card in before.members:
        if card.site not in after:
            yield f"removes {card.name}, fingerprint {fingerprint(card.site)}"


def _by_support(membership: Membership) -> list[Candidate]:
    ballots = membership.ballots

    def support(candidate: Candidate) -> tuple[int, Digest]:
        digest = candidate.roster.digest
        return -len(ballots.signs(ballots.vote, digest)), digest

    return sorted(ballots.candidates.values(), key=support)


def _proposal(membership: Membership, candidate: Candidate) -> ProposalSeen:
    ballots, word = membership.ballots, membership.word
    digest, vote = candidate.roster.digest, ballots.vote
    bound = ballots.bound(vote)
    is_free = vote not in word.signed and word.closed < vote
    return ProposalSeen(
        digest=digest,
        version=candidate.roster.version,
        changes=changes_between(ballots.roster, candidate.roster),
        signed=_names(ballots.roster, ballots.signs(vote, digest)),
        accepted=_names(ballots.roster, ballots.accepts(vote, digest)),
        can_be_signed=is_free and (bound is None or bound.candidate == digest),
    )


def _next(membership: Membership, proposals: tuple[ProposalSeen, ...]) -> str:
    ballots, word = membership.ballots, membership.word
    if not membership.is_member:
        return (
            f"This site is no member of {ballots.roster.consortium} any more: its node talks to "
            "nobody. Its ledger stays as it is; commands that read it go on working."
        )
    if not proposals:
        return "Nothing is proposed."
    vote = ballots.vote
    if word.closed >= vote:
        missing = ballots.needed - len(ballots.closes(vote))
        return f"Vote {vote} is closed here; {_more(missing, 'has', 'have')} to vote again."
    if len(proposals) > 1 and _is_split(membership, proposals):
        return (
            f"No proposal can get {ballots.needed} signatures in vote {vote} any more: agree by "
            "telephone on one of them, then everybody runs `p2pfl roster vote-again` and signs it."
        )
    best = proposals[0]
    missing = ballots.needed - len(best.signed)
    digest = best.digest.hex()[:12]
    if missing <= 0:
        waiting = ballots.needed - len(best.accepted)
        return (
            f"{digest} has its signatures; {_more(waiting, 'node has', 'nodes have')} to confirm "
            "it: running nodes do so by themselves."
        )
    others = [
        card.name
        for card in ballots.roster.members
        if ballots.has_signed(card.site, vote) is None and card.site != membership.me
    ]
    asked = f"ask {', '.join(others)}" if others else "nobody is left who could sign"
    own = f"`p2pfl roster sign {digest}`; " if best.can_be_signed else ""
    return f"{len(best.signed)} of {ballots.needed} signatures for {digest}: {own}{asked}."


def _is_split(membership: Membership, proposals: tuple[ProposalSeen, ...]) -> bool:
    """Whether those who have not signed yet cannot carry any proposal."""
    ballots = membership.ballots
    sites = ballots.roster.sites
    silent = [site for site in sites if ballots.has_signed(site, ballots.vote) is None]
    closed = ballots.closes(ballots.vote)
    free = sum(site not in closed for site in silent)
    return all(len(p.signed) + free < ballots.needed for p in proposals)


def _more(count: int, one: str, many: str) -> str:
    return f"{count} more {one if count == 1 else many}"


def _names(roster: Roster, sites: Iterable[SiteId]) -> tuple[str, ...]:
    return tuple(sorted(roster.member(site).name for site in sites))


def _history(membership: Membership) -> Iterator[VersionSeen]:
    chain = membership.chain
    for at, roster in enumerate(chain.rosters):
        before = chain.rosters[at - 1] if at else None
        link = chain.links[at - 1] if at else None
        accepts = getattr(link, "accepts", ())
        yield VersionSeen(
            version=roster.version,
            digest=roster.digest,
            members=tuple(sorted(card.name for card in roster.members)),
            changes=() if before is None else changes_between(before, roster),
            by=() if before is None else _names(before, [site for site, _ in accepts]),
        )
