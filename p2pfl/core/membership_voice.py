"""What this site may say in votes on the next roster: the rules that keep two from winning.

It answers with statements and their ledger entries; whoever asks has the entries written first."""

from collections.abc import Iterator
from dataclasses import dataclass

from gossip.identifiers import Digest, SiteId
from gossip.roster_votes import (
    Accept,
    Close,
    Sign,
    Statement,
    accept_candidate,
    close_vote,
    sign_candidate,
)
from ledger.log import Draft
from ledger.provenance import kinds
from p2pfl.core.ballots import Ballots
from p2pfl.core.drafts import NODE_ACTOR
from p2pfl.core.membership_terms import OwnWord, VoteRefused

OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Utterance:
    """A statement of this site, and the entry that has to be durable before it leaves."""

    statement: Statement
    draft: Draft


class Voice:
    """Of one member, about the successor of one roster."""

    def __init__(self, me: SiteId, identity_seed: bytes, ballots: Ballots, word: OwnWord) -> None:
        self.me = me
        self.word = word
        self._seed = identity_seed
        self._ballots = ballots

    # -- people ----------------------------------------------------------------------------------

    def sign(self, candidate: Digest) -> Utterance | None:
        """Sign a candidate in the vote that is open; None if that was said. Raises VoteRefused."""
        self._require_member()
        ballots, word = self._ballots, self.word
        vote = ballots.vote
        if word.signed.get(vote) == candidate:
            return None
        self._require_open(vote)
        if vote in word.signed:
            raise VoteRefused(
                f"This site signed {_short(word.signed[vote])} in vote {vote} already; a member "
                "signs one proposal per vote.",
                fix="If that cannot win, close the vote with `p2pfl roster vote-again`; when "
                f"{ballots.needed} members have, sign in the next one.",
            )
        if word.signed.get(0, candidate) != candidate:
            raise VoteRefused(
                f"This site signed the roster file {_short(word.signed[0])}, which may still "
                "become the next version.",
                fix="Install that file once every member signed it.",
            )
        self._require_bound(vote, candidate)
        statement = sign_candidate(self._seed, ballots.roster, vote, candidate)
        record = kinds.RosterSigned(statement.version, vote, candidate)
        word.signed[vote] = candidate
        return Utterance(statement, record.draft(OPERATOR))

    def sign_file(self, candidate: Digest) -> Draft | None:
        """Sign the next roster's file; None if that is on record. Raises VoteRefused.

        All members together may put it into force without a vote: so a member that signed or
        accepted something else in a vote does not sign it, and who signed it votes for it alone."""
        word = self.word
        if word.signed.get(0) == candidate:
            return None
        others = {*word.signed.values(), *word.accepted.values()} - {candidate}
        if others:
            raise VoteRefused(
                f"This site spoke for {_short(min(others))} as the next version already.",
                fix="Let the vote go on (`p2pfl roster status`), then make the file anew.",
            )
        word.signed[0] = candidate
        return kinds.RosterSigned(self._ballots.roster.version + 1, 0, candidate).draft(OPERATOR)

    def close(self) -> Utterance | None:
        """Close the vote that is open; None if that was said. Raises VoteRefused."""
        self._require_member()
        ballots, word = self._ballots, self.word
        vote, lock = ballots.vote, ballots.lock
        if word.closed >= vote:
            return None
        newest = max(word.accepted, default=0)
        if newest and (lock is None or lock.vote < newest):
            raise VoteRefused(
                f"What this site accepted in vote {newest} is not at hand any more.",
                fix="Start the node and wait until another member has sent it, then vote again.",
            )
        statement = close_vote(self._seed, ballots.roster, vote, lock)
        locked = (0, b"") if lock is None else (lock.vote, lock.candidate)
        record = kinds.RosterClosed(statement.version, vote, *locked)
        word.closed = vote
        word.lock = None if lock is None else (lock.vote, lock.candidate)
        return Utterance(statement, record.draft(OPERATOR))

    def _require_member(self) -> None:
        if self.me not in self._ballots.roster:
            raise VoteRefused(
                "This site is no member any more, so it has no vote.",
                fix="Ask a member to propose this site again: `p2pfl roster propose-add`.",
            )

    def _require_open(self, vote: int) -> None:
        if self.word.closed < vote:
            return
        closed = len(self._ballots.closes(vote))
        raise VoteRefused(
            f"This site closed vote {vote}; the next one opens when {self._ballots.needed} members "
            f"have closed it, so far {closed}.",
            fix="Ask the others to run `p2pfl roster vote-again`, and let the nodes meet.",
        )

    def _require_bound(self, vote: int, candidate: Digest) -> None:
        if vote > 1 and len(self._ballots.closes(vote - 1)) < self._ballots.needed:
            raise VoteRefused(
                f"Vote {vote} is open, but this site does not hold what closed the one before.",
                fix="Let the nodes meet, then sign again.",
            )
        bound = self._ballots.bound(vote)
        if bound is not None and bound.candidate != candidate:
            raise VoteRefused(
                f"A quorum signed {_short(bound.candidate)} in vote {bound.vote}: it may be in "
                "force somewhere, so nothing else can be signed any more.",
                fix=f"`p2pfl roster sign {bound.candidate.hex()[:12]}`; propose the other change "
                "once it is in force.",
            )

    # -- the node --------------------------------------------------------------------------------

    def accept(self) -> Iterator[Utterance]:
        """Everything that a quorum signed and this site has neither accepted nor closed."""
        ballots, word = self._ballots, self.word
        if self.me not in ballots.roster:
            return
        for vote, candidate, signers in ballots.prepared():
            digest = candidate.roster.digest
            is_free = word.signed.get(0, digest) == digest
            if vote in word.accepted or vote <= word.closed or not is_free:
                continue
            statement = accept_candidate(self._seed, ballots.roster, vote, digest)
            members = len(ballots.roster.members)
            record = kinds.RosterAccepted(statement.version, vote, digest, members, signers)
            word.accepted[vote] = digest
            yield Utterance(statement, record.draft(NODE_ACTOR))

    # -- memory ----------------------------------------------------------------------------------

    def is_on_record(self, statement: Statement) -> bool:
        """Whether the own ledger says that this site said it."""
        match statement:
            case Sign():
                return self.word.signed.get(statement.vote) == statement.candidate
            case Accept():
                return self.word.accepted.get(statement.vote) == statement.candidate
            case Close():
                return statement.vote <= self.word.closed

    def relearn(self, statement: Statement) -> Draft | None:
        """Own words that the ledger has lost and another member gives back: on record again.

        None where the record says something else."""
        match statement:
            case Sign(version=version, vote=vote, candidate=candidate):
                if self.word.signed.setdefault(vote, candidate) != candidate:
                    return None
                return kinds.RosterSigned(version, vote, candidate).draft(NODE_ACTOR)
            case Accept(version=version, vote=vote, candidate=candidate):
                if self.word.accepted.setdefault(vote, candidate) != candidate:
                    return None
                signers = tuple(sorted(self._ballots.signs(vote, candidate)))
                members = len(self._ballots.roster.members)
                if len(signers) < self._ballots.needed:
                    # The word counts; an entry without its quorum would accuse this site.
                    return None
                record = kinds.RosterAccepted(version, vote, candidate, members, signers)
                return record.draft(NODE_ACTOR)
            case Close(version=version, vote=vote, lock=lock):
                self.word.closed = max(self.word.closed, vote)
                locked = (0, b"") if lock is None else (lock.vote, lock.candidate)
                return kinds.RosterClosed(version, vote, *locked).draft(NODE_ACTOR)

    def restored(self) -> Iterator[Statement]:
        """Own statements that follow from the record: signatures come out the same again."""
        roster, word = self._ballots.roster, self.word
        if self.me not in roster:
            return
        for vote, candidate in sorted(word.signed.items()):
            if vote:
                yield sign_candidate(self._seed, roster, vote, candidate)
        for vote, candidate in sorted(word.accepted.items()):
            yield accept_candidate(self._seed, roster, vote, candidate)
        if word.closed and word.lock is None:
            yield close_vote(self._seed, roster, word.closed, None)


def _short(digest: bytes) -> str:
    return digest.hex()[:12]
