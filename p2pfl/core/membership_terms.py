"""What goes into the membership machine, what comes out, and how it says no to a person."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from gossip.card import Card
from gossip.identifiers import Digest, SiteId
from gossip.roster import Roster
from gossip.roster_chain import Link
from gossip.roster_change import Change
from gossip.roster_messages import RosterMessage
from gossip.roster_votes import Statement
from ledger.log import Draft, Entry
from ledger.provenance import kinds
from p2pfl.core.meetings import Lost as Lost
from p2pfl.core.meetings import Met as Met

RECONCILE_S: Final = 5.0
"""What is held is told this often, so that what got lost comes after all."""
LINKS_AGAIN_S: Final = 1.0
"""A site that is behind is sent what follows at most this often."""
ITEMS_PER_S: Final = 50.0
ITEMS_BURST: Final = 1_024.0
"""Things about the roster that one member may have checked here; more are dropped, and told again.
Checking one costs some signatures."""
CARDS_BURST: Final = 8.0
CARDS_PER_S: Final = 1.0 / 300.0
"""Newer cards of one member that are taken: each is an entry in everybody's ledger."""


class VoteRefused(Exception):
    """What a person asked for is not possible now: why, and what is."""

    def __init__(self, message: str, *, fix: str) -> None:
        self.message = message
        self.fix = fix
        super().__init__(message)


# -- in ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proposed:
    """A person proposes a change of the roster in force, and so signs what it leads to."""

    change: Change


@dataclass(frozen=True, slots=True)
class Signed:
    """A person signs a candidate."""

    candidate: Digest


@dataclass(frozen=True, slots=True)
class VotedAgain:
    """A person closes the vote that is open."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """This site has a newer card: other addresses, or other keys."""

    card: Card


@dataclass(frozen=True, slots=True)
class FileSigned:
    """A person signs the file of the next roster, which then needs every member's signature."""

    roster: Roster


@dataclass(frozen=True, slots=True)
class RosterGiven:
    """A person installed the next roster from a file that every member signed."""

    link: Link


@dataclass(frozen=True, slots=True)
class Said:
    """A member said something about the roster, straight to this site."""

    sender: SiteId
    message: RosterMessage


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


MembershipEvent: TypeAlias = (
    Proposed | Signed | VotedAgain | Renewed | FileSigned | RosterGiven | Met | Lost | Said | Tick
)

# -- out -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Keep:
    """Store what is held about the successor, and members' newer cards, durably."""


@dataclass(frozen=True, slots=True)
class KeepLink:
    """Store what puts the next version into force, durably; it counts from `Install` on."""

    version: int
    link: Link


@dataclass(frozen=True, slots=True)
class KeepConflict:
    """Store the proof that a member said two things."""

    first: Statement
    second: Statement


@dataclass(frozen=True, slots=True)
class Record:
    """Append these entries; they are durable before the next effect."""

    drafts: tuple[Draft, ...]


@dataclass(frozen=True, slots=True)
class Tell:
    """Send it to one connected member, or to all of them."""

    site: SiteId | None
    message: RosterMessage


@dataclass(frozen=True, slots=True)
class CutOff:
    """Use nothing more of who is not among these, from this moment on."""

    roster: Roster


@dataclass(frozen=True, slots=True)
class Install:
    """This version is in force. farewell: what members that left are told before they are cut."""

    roster: Roster
    removed: tuple[SiteId, ...]
    farewell: RosterMessage


@dataclass(frozen=True, slots=True)
class Members:
    """Talk to these from now on: the version in force with everybody's newest card."""

    roster: Roster


@dataclass(frozen=True, slots=True)
class Refused:
    """A member sent something that breaks a rule."""

    site: SiteId
    rule: str


@dataclass(frozen=True, slots=True)
class Show:
    """A line for people. fields: for programs."""

    event: str
    sentence: str
    fields: tuple[tuple[str, str], ...] = ()


MembershipEffect: TypeAlias = (
    Keep | KeepLink | KeepConflict | CutOff | Record | Tell | Install | Members | Refused | Show
)

# -- what this site has said ----------------------------------------------------------------------


@dataclass(slots=True)
class OwnWord:
    """What this site said about the successor of the roster in force: a fold over its ledger."""

    version: int
    signed: dict[int, Digest] = field(default_factory=dict)
    """By vote; 0 is a signature on the roster's file."""
    accepted: dict[int, Digest] = field(default_factory=dict)
    closed: int = 0
    lock: tuple[int, Digest] | None = None
    """What was told when it closed last."""

    def apply(self, entry: Entry) -> None:
        """Take an entry of the own log into account."""
        if entry.kind not in _OWN:
            return
        record = kinds.parse(entry)
        match record:
            case kinds.RosterSigned(version=self.version):
                self.signed[record.vote] = Digest(record.hash)
            case kinds.RosterAccepted(version=self.version):
                self.accepted[record.vote] = Digest(record.hash)
            case kinds.RosterClosed(version=self.version) if record.vote >= self.closed:
                self.closed = record.vote
                self.lock = (record.lock_vote, Digest(record.lock)) if record.lock else None
            case _:
                pass


_OWN: Final = frozenset(
    kind.KIND for kind in (kinds.RosterSigned, kinds.RosterAccepted, kinds.RosterClosed)
)


def own_word(version: int, entries: Iterable[Entry]) -> OwnWord:
    """What the own log says about candidates for this version."""
    word = OwnWord(version)
    for entry in entries:
        word.apply(entry)
    return word
