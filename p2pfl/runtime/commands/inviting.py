"""The inviter's side: make an invitation, look at who answered, and propose that site.

Nothing is proposed by a program: a person compares the applicant's words by telephone first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from gossip import ed25519
from gossip.addresses import split_address
from gossip.card import Card
from gossip.errors import BadSeal, PeerError
from gossip.identifiers import fingerprint
from gossip.invitation import (
    REPLY_PREFIX,
    SECRET_BYTES,
    Invitation,
    invitation_line,
    open_reply,
    read_reply_id,
    unwrapped,
)
from gossip.roster import Roster
from gossip.spoken import spoken
from p2pfl.runtime.commands.founding import RosterSeen, read_card, seen_of
from p2pfl.runtime.commands.opening import Site, required_version, version_in_force
from p2pfl.runtime.commands.roster_seen import VoteSeen
from p2pfl.runtime.commands.roster_voting import propose_cards
from p2pfl.runtime.config import read_config
from p2pfl.runtime.errors import (
    EXIT_DATA,
    EXIT_NO_INPUT,
    EXIT_REFUSED,
    EXIT_USAGE,
    OperatorError,
    as_sentence,
)
from p2pfl.runtime.home import Home
from p2pfl.runtime.invitations import (
    PENDING_MAX,
    Pending,
    forget_pending,
    keep_pending,
    read_followed,
    read_pending,
)

HOURS_MAX: Final = 14 * 24
PREFIX_DIGITS_MIN: Final = 6
_HOUR_S: Final = 3_600


@dataclass(frozen=True, slots=True)
class Invite:
    """hours: how long it may be answered. admission: host:port where this site's node answers the
    new site; empty: the answer is pasted back."""

    hours: int
    admission: str


@dataclass(frozen=True, slots=True)
class Invited:
    """An invitation; line: for the new site alone, because it holds the one-time secret."""

    line: str
    id: bytes
    consortium: str
    words: str
    """Of this site, which the new site compares."""
    admission: str
    expires_s: int


@dataclass(frozen=True, slots=True)
class Applicant:
    """A site that answered an invitation."""

    name: str
    site: bytes
    fingerprint: str
    words: str
    addresses: tuple[str, ...]
    card: bytes
    """Its card's digest."""


@dataclass(frozen=True, slots=True)
class InvitationSeen:
    """An invitation that waits, without its secret."""

    id: bytes
    admission: str
    expires_s: int
    applicant: Applicant | None
    is_member: bool
    """Whether the applicant was voted in; it then has to take over the roster."""


@dataclass(frozen=True, slots=True)
class ConsortiumSeen:
    """Where this site stands."""

    consortium: str
    name: str
    fingerprint: str
    words: str
    roster: RosterSeen | None
    invitations: tuple[InvitationSeen, ...]
    """That this site sent out."""
    answered: str
    """By whom this site was invited, in words; empty if it waits upon nobody."""
    next: str


def invite(site: Site, request: Invite) -> Invited:
    """Make an invitation; a running node answers at its address from now on.

    Raises OperatorError."""
    roster = required_version(site.home)
    _check(request)
    if site.keys.site not in roster:
        raise OperatorError(
            "This site is no member any more, so it cannot invite others.",
            fix="Ask a member to propose this site again: `p2pfl roster propose-add CARD`.",
        )
    now_s = site.now_us() // 1_000_000
    _forget_done(site.home, roster, now_s)
    if len(read_pending(site.home, now_s)) >= PENDING_MAX:
        raise OperatorError(
            f"{PENDING_MAX} invitations wait already.",
            fix="`p2pfl consortium show` lists them; take one back with `consortium withdraw ID`.",
            exit_code=EXIT_REFUSED,
        )
    invitation = Invitation(
        consortium=roster.consortium,
        inviter_pk=ed25519.public_key_of(site.keys.identity),
        admission=request.admission,
        roster=roster.digest,
        secret=site.random_bytes(SECRET_BYTES),
        expires_s=now_s + request.hours * _HOUR_S,
    )
    keep_pending(site.home, Pending(invitation))
    try:
        site.audience.invitations_changed()
    except OperatorError:
        forget_pending(site.home, invitation.id)
        raise
    return Invited(
        invitation_line(invitation),
        invitation.id,
        roster.consortium,
        spoken(site.keys.site),
        request.admission,
        invitation.expires_s,
    )


@dataclass(frozen=True, slots=True)
class Withdraw:
    """id: how an invitation's id begins, hex."""

    id: str


def withdraw(site: Site, request: Withdraw) -> InvitationSeen:
    """Take an invitation back: whoever holds it can do nothing with it. Raises OperatorError."""
    pending = _by_id(site.home, request.id, site.now_us() // 1_000_000)
    forget_pending(site.home, pending.invitation.id)
    site.audience.invitations_changed()
    return _invitation_seen(pending, version_in_force(site.home))


@dataclass(frozen=True, slots=True)
class AcceptApplicant:
    """answer: a pasted reply, or the applicant's name; empty for the only applicant.

    card: the digest of the card that a person looked at and agreed to."""

    answer: str
    card: bytes


def accept_applicant(site: Site, request: AcceptApplicant) -> VoteSeen:
    """Propose the applicant as a member, and sign the proposal. Raises OperatorError."""
    roster = required_version(site.home)
    now_s = site.now_us() // 1_000_000
    pending, card = _answered(site.home, request.answer, now_s)
    if card.digest != request.card:
        raise OperatorError(
            "Meanwhile another site answered.",
            fix="Run `p2pfl consortium accept` again and look at what it shows.",
        )
    voted = propose_cards(site, roster, (), (card,))
    if pending.applicant is None:
        keep_pending(site.home, replace(pending, applicant=card))
        site.audience.invitations_changed()
    return voted


def find_applicant(home: Home, answer: str, now_s: float) -> Applicant:
    """Who answered, to be looked at before accepting. Raises OperatorError."""
    card = _answered(home, answer, now_s)[1]
    if card.site in required_version(home):
        raise OperatorError(
            f"{card.name} was voted in already.",
            fix="It runs `p2pfl consortium join` again, or installs the file that `p2pfl roster "
            "export --out FILE` writes.",
            exit_code=EXIT_REFUSED,
        )
    return applicant_seen(card)


def consortium_show(home: Home, now_s: float) -> ConsortiumSeen:
    """Members, invitations and what comes next. Raises OperatorError."""
    config = read_config(home.config)
    own = read_card(home.card(config.name))
    roster = version_in_force(home)
    followed = read_followed(home) if roster is None else None
    waiting = tuple(_invitation_seen(each, roster) for each in read_pending(home, now_s))
    return ConsortiumSeen(
        consortium=config.consortium,
        name=config.name,
        fingerprint=fingerprint(own.site),
        words=spoken(own.site),
        roster=None if roster is None else seen_of(home, home.roster, roster),
        invitations=waiting,
        answered="" if followed is None else spoken(followed.inviter),
        next=_next(
            has_roster=roster is not None,
            is_removed=roster is not None and own.site not in roster,
            is_invited=followed is not None,
            waiting=waiting,
        ),
    )


def applicant_seen(card: Card) -> Applicant:
    """A card for people."""
    return Applicant(
        card.name,
        card.site,
        fingerprint(card.site),
        spoken(card.site),
        card.addresses,
        card.digest,
    )


def _next(
    *,
    has_roster: bool,
    is_removed: bool,
    is_invited: bool,
    waiting: tuple[InvitationSeen, ...],
) -> str:
    if is_removed:
        return (
            "This site is no member any more: `p2pfl roster history` says since when. It comes "
            "back if a member proposes its card (`p2pfl roster propose-add`)."
        )
    if is_invited:
        return (
            "This site answered an invitation: `p2pfl consortium join` asks how it stands, "
            "`p2pfl roster install FILE` takes over what a member exported."
        )
    if not has_roster:
        return (
            "This site belongs to no consortium yet: `p2pfl consortium join` with an invitation, "
            "or `p2pfl consortium create CARD…` with the cards of all founders."
        )
    names = [each.applicant.name for each in waiting if each.applicant and not each.is_member]
    if names:
        return (
            f"`p2pfl consortium accept` shows {', '.join(names)} and proposes it; `p2pfl roster "
            "status` shows the vote."
        )
    return "`p2pfl consortium invite` makes an invitation; `p2pfl roster status` shows the vote."


def _check(request: Invite) -> None:
    if not 1 <= request.hours <= HOURS_MAX:
        raise OperatorError(
            f"An invitation cannot be open for {request.hours} hours.",
            fix=f"Give --hours 1 to {HOURS_MAX}.",
            exit_code=EXIT_USAGE,
        )
    if request.admission:
        try:
            split_address(request.admission)
        except PeerError as error:
            raise OperatorError(
                as_sentence(f"--admission: {error}"),
                fix="Give host:port that the new site can dial, like 192.0.2.7:7199.",
                exit_code=EXIT_USAGE,
            ) from error


def _answered(home: Home, answer: str, now_s: float) -> tuple[Pending, Card]:
    text = unwrapped(answer)
    if text.startswith(REPLY_PREFIX):
        return _replied(home, text, now_s)
    name = answer.strip()
    found = [
        (each, each.applicant)
        for each in read_pending(home, now_s)
        if each.applicant is not None and (not name or each.applicant.name == name)
    ]
    if len(found) == 1:
        return found[0]
    raise OperatorError(
        "Several sites answered." if found else "No such site answered an invitation.",
        fix="`p2pfl consortium show` lists who answered; give the name, or the reply line.",
        exit_code=EXIT_NO_INPUT,
    )


def _replied(home: Home, line: str, now_s: float) -> tuple[Pending, Card]:
    try:
        invitation_id = read_reply_id(line)
        pending = _by_id(home, invitation_id.hex(), now_s)
        card = open_reply(pending.invitation, line)
    except BadSeal as error:
        raise OperatorError(
            "The reply was changed on its way, or made without the invitation's secret.",
            fix="Ask the new site to send it again; if it is the same, make a new invitation.",
            exit_code=EXIT_DATA,
        ) from error
    except PeerError as error:
        raise OperatorError(
            as_sentence(f"This is no reply to an invitation: {error}"),
            fix="Paste the whole line that `p2pfl consortium join` printed at the new site.",
            exit_code=EXIT_DATA,
        ) from error
    known = pending.applicant
    if known is not None and known.digest != card.digest:
        raise OperatorError(
            f"Another site, {known.name}, answered this invitation before.",
            fix="Somebody else may have read it: `p2pfl consortium withdraw "
            f"{invitation_id.hex()[:12]}`, then invite anew over another channel.",
        )
    return pending, card


def _by_id(home: Home, prefix: str, now_s: float) -> Pending:
    text = prefix.strip().lower()
    found = [p for p in read_pending(home, now_s) if p.invitation.id.hex().startswith(text)]
    if len(text) >= PREFIX_DIGITS_MIN and len(found) == 1:
        return found[0]
    raise OperatorError(
        "No such invitation waits here: it was used or taken back, or it has expired.",
        fix="`p2pfl consortium show` lists those that wait; `consortium invite` makes a new one.",
        exit_code=EXIT_NO_INPUT,
    )


def _forget_done(home: Home, roster: Roster, now_s: float) -> None:
    """Answers that were pasted: nobody tells when the new member took the roster over."""
    for each in read_pending(home, now_s):
        if each.applicant and each.applicant.site in roster and not each.invitation.admission:
            forget_pending(home, each.invitation.id)


def _invitation_seen(pending: Pending, roster: Roster | None) -> InvitationSeen:
    terms, card = pending.invitation, pending.applicant
    return InvitationSeen(
        terms.id,
        terms.admission,
        terms.expires_s,
        applicant=None if card is None else applicant_seen(card),
        is_member=card is not None and roster is not None and card.site in roster,
    )
