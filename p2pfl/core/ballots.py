"""What is held about the successor of one roster: candidates, statements, and what they amount to.

A container without decisions: it verifies what comes in and counts. What a member may say follows
from it in `membership`. Bounded by the members: of each, a few statements of each kind, and the
candidates that these name."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from gossip.errors import StatementInvalid
from gossip.identifiers import Digest, SiteId
from gossip.roster import Roster
from gossip.roster_chain import Voted
from gossip.roster_change import Change, apply_change
from gossip.roster_votes import (
    Accept,
    Close,
    Lock,
    Sign,
    Statement,
    in_order,
    quorum,
    verify_statement,
)

VOTES_KEPT: Final = 4
"""Of each member, statements of so many votes, the newest: what a member that says something in
every vote could make others remember."""

S = TypeVar("S", Sign, Accept, Close)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A roster that may follow, and the change that leads to it."""

    change: Change
    roster: Roster


@dataclass(frozen=True, slots=True)
class Conflict:
    """One member said two things where it may say one: the two signatures prove it."""

    first: Statement
    second: Statement


class Ballots:
    """About the successor of `roster`."""

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        self.needed = quorum(len(roster.members))
        self.candidates: dict[Digest, Candidate] = {}
        self.lock: Lock | None = None
        """The newest candidate that a quorum signed, with that quorum."""
        self.revision = 0
        """Grows with everything that is taken in."""
        self.vote = 1
        """The vote that is open: a quorum closed the one before it, or signed something in it."""
        self._signs: dict[SiteId, dict[int, Sign]] = {}
        self._accepts: dict[SiteId, dict[int, Accept]] = {}
        self._closes: dict[SiteId, dict[int, Close]] = {}

    # -- taking in -------------------------------------------------------------------------------

    def take(self, statement: Statement) -> bool | Conflict:
        """Hold a statement. False if it is known or too old to matter.

        Raises PeerError if no member of this roster said it about its successor."""
        held = self._of(statement)
        known = held.get(statement.vote)
        if known == statement or (len(held) >= VOTES_KEPT and statement.vote < min(held)):
            return False
        if isinstance(statement, Sign | Accept) and known is not None:
            assert isinstance(known, Sign | Accept), "kept by kind"
            if known.candidate == statement.candidate:
                raise StatementInvalid("the same statement under another signature")
        if isinstance(known, Close) and _lock_vote(statement) == _lock_vote(known):
            return False  # the same word, perhaps with other signatures behind it
        verify_statement(statement, self.roster)
        if known is not None:
            if isinstance(statement, Close) and _lock_vote(statement) > _lock_vote(known):
                # Whoever says less than it knows is outvoted by its own longer word.
                self._hold(statement)
            return Conflict(known, statement)
        self._hold(statement)
        return True

    def propose(self, change: Change) -> Candidate | None:
        """Hold a candidate that a statement names. None if it is known or nobody speaks for it.

        Raises PeerError if it cannot follow this roster."""
        roster = apply_change(self.roster, change)
        if roster.digest in self.candidates or roster.digest not in self.named():
            return None
        self.hold(Candidate(change, roster))
        return self.candidates[roster.digest]

    def hold(self, candidate: Candidate) -> None:
        """Hold a candidate that is known to fit."""
        self.revision += 1
        self.candidates.setdefault(candidate.roster.digest, candidate)

    def _of(self, statement: Statement) -> Mapping[int, Statement]:
        match statement:
            case Sign():
                return self._signs.get(statement.site, {})
            case Accept():
                return self._accepts.get(statement.site, {})
            case Close():
                return self._closes.get(statement.site, {})

    def _hold(self, statement: Statement) -> None:
        self.revision += 1
        match statement:
            case Sign(vote=vote, candidate=candidate):
                _keep(self._signs, statement)
                self._raise_lock(vote, candidate)
            case Accept():
                _keep(self._accepts, statement)
            case Close(vote=vote, lock=lock):
                _keep(self._closes, statement)
                self.raise_lock(lock)
                if vote >= self.vote and len(self.closes(vote)) >= self.needed:
                    self.vote = vote + 1
        self._forget_unnamed()

    def raise_lock(self, lock: Lock | None) -> None:
        """A quorum for a candidate was shown."""
        if lock is not None and (self.lock is None or lock.vote > self.lock.vote):
            self.lock = lock
            self.vote = max(self.vote, lock.vote)  # a quorum spoke in it, so it is open

    def _raise_lock(self, vote: int, candidate: Digest) -> None:
        signs = self.signs(vote, candidate)
        if len(signs) >= self.needed:
            self.raise_lock(Lock(vote, candidate, in_order(signs, self.needed)))

    def _forget_unnamed(self) -> None:
        if len(self.candidates) > len(self.roster.members):
            named = self.named()
            self.candidates = {d: c for d, c in self.candidates.items() if d in named}

    # -- counting --------------------------------------------------------------------------------

    def signs(self, vote: int, candidate: Digest) -> dict[SiteId, bytes]:
        """Who signed a candidate in a vote."""
        return _behind(self._signs, vote, candidate)

    def accepts(self, vote: int, candidate: Digest) -> dict[SiteId, bytes]:
        """Whose node accepted a candidate in a vote."""
        return _behind(self._accepts, vote, candidate)

    def closes(self, vote: int) -> dict[SiteId, Close]:
        """Who closed a vote."""
        return {site: held[vote] for site, held in self._closes.items() if vote in held}

    def has_signed(self, site: SiteId, vote: int) -> Digest | None:
        """Which candidate a member signed in a vote."""
        statement = self._signs.get(site, {}).get(vote)
        return None if statement is None else statement.candidate

    def bound(self, vote: int) -> Lock | None:
        """The lock that everybody keeps to in this vote: the highest that its closers told."""
        locks = [close.lock for close in self.closes(vote - 1).values() if close.lock is not None]
        return max(locks, key=lambda lock: lock.vote, default=None)

    def prepared(self) -> Iterator[tuple[int, Candidate, tuple[SiteId, ...]]]:
        """Candidates that are held and that a quorum signed: vote, candidate, who."""
        pairs = {(s.vote, s.candidate) for held in self._signs.values() for s in held.values()}
        for vote, digest in sorted(pairs):
            signs = self.signs(vote, digest)
            if len(signs) >= self.needed and digest in self.candidates:
                yield vote, self.candidates[digest], tuple(sorted(signs))

    def certificate(self) -> Voted | None:
        """What puts a candidate into force, once it is complete."""
        pairs = {(s.vote, s.candidate) for held in self._accepts.values() for s in held.values()}
        for vote, digest in sorted(pairs):
            accepts = self.accepts(vote, digest)
            signs = in_order(self.signs(vote, digest), self.needed)
            if self.lock is not None and (self.lock.vote, self.lock.candidate) == (vote, digest):
                signs = self.lock.signs
            is_complete = len(accepts) >= self.needed and len(signs) >= self.needed
            if is_complete and digest in self.candidates:
                change = self.candidates[digest].change
                return Voted(change, vote, signs, in_order(accepts, self.needed))
        return None

    def named(self) -> frozenset[Digest]:
        """Candidates that statements name, held or not."""
        said: list[Sign | Accept] = []
        for signed in self._signs.values():
            said += signed.values()
        for accepted in self._accepts.values():
            said += accepted.values()
        locks = [c.lock for held in self._closes.values() for c in held.values()]
        named = [lock.candidate for lock in (*locks, self.lock) if lock is not None]
        return frozenset([*(each.candidate for each in said), *named])

    def missing(self) -> tuple[Digest, ...]:
        """Candidates that statements name and that are not held, ascending."""
        return tuple(sorted(self.named() - set(self.candidates)))

    def statements(self) -> Iterator[Statement]:
        """Everything that was said, by member."""
        for signed in self._signs.values():
            yield from signed.values()
        for accepted in self._accepts.values():
            yield from accepted.values()
        for closed in self._closes.values():
            yield from closed.values()


def _lock_vote(statement: Statement) -> int:
    return statement.lock.vote if isinstance(statement, Close) and statement.lock else 0


def _keep(kept: dict[SiteId, dict[int, S]], statement: S) -> None:
    held = kept.setdefault(statement.site, {})
    held[statement.vote] = statement
    while len(held) > VOTES_KEPT:
        del held[min(held)]


def _behind(
    kept: Mapping[SiteId, Mapping[int, Sign]] | Mapping[SiteId, Mapping[int, Accept]],
    vote: int,
    candidate: Digest,
) -> dict[SiteId, bytes]:
    found = {}
    for site, held in kept.items():
        statement = held.get(vote)
        if statement is not None and statement.candidate == candidate:
            found[site] = statement.signature
    return found
