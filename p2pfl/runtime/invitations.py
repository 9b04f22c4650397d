"""Invitations that a home keeps: those it sent out, each with who answered, and the one it follows.

The files hold secrets (0600). An invitation that was used or has expired is deleted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gossip.card import Card, decode_card, encode_card
from gossip.errors import PeerError
from gossip.invitation import (
    LINE_CHARACTERS_MAX,
    Invitation,
    invitation_line,
    read_invitation,
)
from gossip.limits import CARD_BYTES_MAX
from gossip.wire import Reader, pack
from p2pfl.runtime.home import Home, read_own, write_durably

PENDING_MAX: Final = 8
"""Invitations that may wait at once."""
_FORMAT = 1
_SUFFIX = ".invitation"


@dataclass(frozen=True, slots=True)
class Pending:
    """An invitation that was sent out. applicant: the card of the site that answered it, if one
    did; no other can from then on."""

    invitation: Invitation
    applicant: Card | None = None


def keep_pending(home: Home, pending: Pending) -> None:
    """Store it, durably. Raises OperatorError."""
    home.invitations.mkdir(mode=0o700, exist_ok=True)
    cards = [] if pending.applicant is None else [encode_card(pending.applicant)]
    raw = pack((_FORMAT, invitation_line(pending.invitation), cards))
    write_durably(home.invitations / f"{pending.invitation.id.hex()}{_SUFFIX}", raw)


def forget_pending(home: Home, invitation_id: bytes) -> None:
    """It counts no more."""
    (home.invitations / f"{invitation_id.hex()}{_SUFFIX}").unlink(missing_ok=True)


def read_pending(home: Home, now_s: float) -> Sequence[Pending]:
    """Those that have not expired, the one that ends first first. Damaged files are passed over."""
    found = []
    for path in sorted(home.invitations.glob(f"*{_SUFFIX}")):
        try:
            pending = _decode(read_own(path, LINE_CHARACTERS_MAX + CARD_BYTES_MAX))
        except (OSError, PeerError):
            continue
        if now_s < pending.invitation.expires_s:
            found.append(pending)
    return sorted(found, key=lambda each: (each.invitation.expires_s, each.invitation.id))


def remove_expired(home: Home, now_s: float) -> None:
    """Delete whatever is not to be used any more, and with it its secret."""
    alive = {each.invitation.id.hex() for each in read_pending(home, now_s)}
    for path in home.invitations.glob(f"*{_SUFFIX}"):
        if path.name.removesuffix(_SUFFIX) not in alive:
            path.unlink(missing_ok=True)


def keep_followed(home: Home, invitation: Invitation) -> None:
    """This site answered it and waits. Raises OperatorError."""
    write_durably(home.invited, invitation_line(invitation).encode("ascii"))


def read_followed(home: Home) -> Invitation | None:
    """The invitation that this site waits upon; None if there is none that can be read."""
    try:
        return read_invitation(read_own(home.invited, LINE_CHARACTERS_MAX).decode("ascii"))
    except (OSError, PeerError, UnicodeDecodeError):
        return None


def forget_followed(home: Home) -> None:
    """It is done with."""
    home.invited.unlink(missing_ok=True)


def _decode(raw: bytes) -> Pending:
    reader = Reader(raw)
    reader.array(3, 3)
    reader.integer(_FORMAT, _FORMAT)
    line = reader.text(1, LINE_CHARACTERS_MAX)
    cards = [reader.blob(1, CARD_BYTES_MAX) for _ in range(reader.array(0, 1))]
    reader.end()
    return Pending(read_invitation(line), decode_card(cards[0]) if cards else None)
