"""What goes into `gossip.dissemination`, what comes out, and what it counts."""

from dataclasses import dataclass, field
from typing import TypeAlias

from gossip.envelope import Envelope
from gossip.errors import PeerError
from gossip.identifiers import Digest, SiteId
from gossip.items import ItemKey, Scope
from gossip.roster import Roster


@dataclass(frozen=True, slots=True)
class Offer:
    """Keep this sealed message and get it to its scope until `expires_s` or withdrawn.

    It takes the place of what was offered under the same key. digest: SHA-256 of raw.
    """

    key: ItemKey
    raw: bytes = field(repr=False)
    digest: Digest
    scope: Scope
    expires_s: float


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Stop offering what is under this key."""

    key: ItemKey


@dataclass(frozen=True, slots=True)
class Connected:
    """The transport can send to this site."""

    site: SiteId


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The transport cannot any longer."""

    site: SiteId


@dataclass(frozen=True, slots=True)
class Received:
    """Bytes came over a connection with `source`; their author may be another."""

    source: SiteId
    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: due at `Dissemination.next_tick_s`, harmless earlier."""


@dataclass(frozen=True, slots=True)
class RosterChanged:
    """Members from now on. Own items under an old transport key must be offered anew."""

    roster: Roster


Event: TypeAlias = Offer | Withdraw | Connected | Disconnected | Received | Tick | RosterChanged


@dataclass(frozen=True, slots=True)
class SendTo:
    """Push these bytes to a connected site; failing is no harm."""

    site: SiteId
    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Publish these bytes to all members."""

    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Deliver:
    """A verified message that was not delivered before. source: who passed it on."""

    envelope: Envelope
    source: SiteId


@dataclass(frozen=True, slots=True)
class Refused:
    """`source` sent something that breaks a rule; it was dropped."""

    source: SiteId
    error: PeerError


Effect: TypeAlias = SendTo | Broadcast | Deliver | Refused


@dataclass(slots=True)
class Counts:
    """What happened so far, for the operator."""

    delivered: int = 0
    duplicates: int = 0
    echoes: int = 0
    """Our own messages that came back."""
    refused: int = 0
    over_rate: int = 0
    inventories_sent: int = 0
    wanted_sent: int = 0
    items_resent: int = 0
    items_not_for_asker: int = 0
    """Asked for, but expired, unknown or not meant for that site."""
    evicted_own: int = 0
    evicted_relayed: int = 0
    expired: int = 0
