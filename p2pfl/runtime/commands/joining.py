"""The new site's side: read an invitation, answer it, and take over the chain of rosters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from gossip.card import Card
from gossip.errors import PeerError
from gossip.identifiers import fingerprint
from gossip.invitation import (
    AdmissionState,
    Invitation,
    RandomBytes,
    read_invitation,
    reply_line,
)
from gossip.roster_chain import Chain, decode_chain
from gossip.spoken import spoken
from p2pfl.runtime.admission import ask_admission
from p2pfl.runtime.commands.founding import read_card
from p2pfl.runtime.commands.opening import version_in_force
from p2pfl.runtime.config import read_config
from p2pfl.runtime.errors import (
    EXIT_CANNOT_CREATE,
    EXIT_DATA,
    EXIT_NO_INPUT,
    EXIT_REFUSED,
    OperatorError,
    as_sentence,
)
from p2pfl.runtime.home import Home, write_durably
from p2pfl.runtime.invitations import forget_followed, keep_followed, read_followed


def received_chain(home: Home) -> Path:
    """The chain of rosters as it came, beside the roster that it puts into force."""
    return home.roster.parent / "received.chain"


class Standing(Enum):
    """How far a new site is."""

    REPLY = "reply"
    """Nobody answers at the invitation's address, or it names none: paste the reply back."""
    WAITING = "waiting"
    MEMBER = "member"


@dataclass(frozen=True, slots=True)
class InvitationRead:
    """An invitation for the person who decides to answer it; never its secret."""

    consortium: str
    inviter: bytes
    fingerprint: str
    words: str
    """Of the inviter: to be compared by telephone."""
    roster: bytes
    admission: str
    expires_s: int


@dataclass(frozen=True, slots=True)
class Joining:
    """Where the new site stands after asking."""

    standing: Standing
    consortium: str
    words: str
    """Of this site: to be read to the inviter by telephone."""
    reply: str
    """To be pasted back; only the inviter can open it."""
    why: str
    """Why nobody could be asked; empty otherwise."""
    version: int
    members: tuple[str, ...]


def followed_or_read(home: Home, line: str, now_s: float) -> Invitation:
    """The invitation in a pasted line, or the one that this home follows. Raises OperatorError."""
    if line.strip():
        try:
            invitation = read_invitation(line)
        except PeerError as error:
            raise OperatorError(
                as_sentence(f"This is no invitation: {error}"),
                fix="Paste the whole line that `p2pfl consortium invite` printed.",
                exit_code=EXIT_DATA,
            ) from error
    else:
        kept = read_followed(home)
        if kept is None:
            raise OperatorError(
                "No invitation was given, and this site follows none.",
                fix="`p2pfl consortium join` and paste the line that a member sent you.",
                exit_code=EXIT_NO_INPUT,
            )
        invitation = kept
    if now_s >= invitation.expires_s:
        raise OperatorError(
            "The invitation has expired.",
            fix="Ask the inviter for a new one; if this site was voted in meanwhile, ask for the "
            "file of `p2pfl roster export` and install it.",
            exit_code=EXIT_REFUSED,
        )
    return invitation


def invitation_read(invitation: Invitation) -> InvitationRead:
    """What a person has to see before answering."""
    return InvitationRead(
        invitation.consortium,
        invitation.inviter,
        fingerprint(invitation.inviter),
        spoken(invitation.inviter),
        invitation.roster,
        invitation.admission,
        invitation.expires_s,
    )


def check_can_join(home: Home, invitation: Invitation) -> None:
    """This home can answer it. Raises OperatorError."""
    config = read_config(home.config)
    if config.consortium != invitation.consortium:
        raise OperatorError(
            f'The invitation is to "{invitation.consortium}", this home was made for '
            f'"{config.consortium}".',
            fix="A home belongs to one consortium for good: make another with `p2pfl --home DIR "
            f"init … --consortium {invitation.consortium}` and join there.",
            exit_code=EXIT_DATA,
        )
    check_no_member(home)


def check_no_member(home: Home) -> None:
    """Raises OperatorError where a roster is in force."""
    roster = version_in_force(home)
    if roster is not None:
        raise OperatorError(
            f"This site belongs to {roster.consortium} already.",
            fix="`p2pfl consortium show` lists its members; `p2pfl node start` starts its node.",
            exit_code=EXIT_CANNOT_CREATE,
        )


def join(
    home: Home,
    invitation: Invitation,
    install: Callable[[], None],
    *,
    random_bytes: RandomBytes,
) -> Joining:
    """Answer the invitation, and install the chain of rosters if this site was voted in.

    install: puts what was received (`received_chain`) into force. Raises OperatorError."""
    check_can_join(home, invitation)
    card = read_card(home.card(read_config(home.config).name))
    keep_followed(home, invitation)
    chains: list[Chain] = []

    def take(raw: bytes) -> None:
        chains.append(checked_chain(invitation, card, raw))
        write_durably(received_chain(home), raw, mode=0o644)
        install()
        forget_followed(home)

    state, why = None, "the invitation names no address"
    if invitation.admission:
        state, why = _ask(invitation, card, take, random_bytes)
    if state is AdmissionState.TAKEN:
        raise OperatorError(
            "Another site answered this invitation before: somebody else may have read it.",
            fix="Tell the inviter by telephone, and ask for a new one over another channel.",
        )
    in_force = chains[-1].in_force if chains else None
    standing = Standing.REPLY if state is None else Standing.WAITING
    return Joining(
        standing=Standing.MEMBER if in_force is not None else standing,
        consortium=invitation.consortium,
        words=spoken(card.site),
        reply=reply_line(invitation, card, random_bytes) if state is None else "",
        why=why,
        version=0 if in_force is None else in_force.version,
        members=() if in_force is None else tuple(sorted(c.name for c in in_force.members)),
    )


def checked_chain(invitation: Invitation, card: Card, raw: bytes) -> Chain:
    """The chain of rosters that the invitation speaks of, with this site in the last.

    Raises PeerError, OperatorError."""
    chain = decode_chain(raw)
    known = [roster for roster in chain.rosters if roster.digest == invitation.roster]
    if not known or invitation.inviter not in known[0] or card.site not in chain.in_force:
        raise OperatorError(
            "The rosters that were sent are not those that the invitation speaks of.",
            fix="Tell the inviter by telephone, and compare `p2pfl roster history` with several "
            "members before you install anything.",
            exit_code=EXIT_DATA,
        )
    return chain


def _ask(
    invitation: Invitation,
    card: Card,
    take: Callable[[bytes], None],
    random_bytes: RandomBytes,
) -> tuple[AdmissionState | None, str]:
    try:
        answer = asyncio.run(ask_admission(invitation, card, take, random_bytes=random_bytes))
    except (OSError, EOFError, TimeoutError) as error:
        if isinstance(error, EOFError):
            why = "it closed the line: the invitation was used or taken back, or is another node's"
        else:
            why = str(error.strerror or "it did not answer in time")
        return None, f"{invitation.admission}: {why}"
    except PeerError as error:
        return None, f"{invitation.admission} answers wrongly: {error}"
    return answer.state, ""
