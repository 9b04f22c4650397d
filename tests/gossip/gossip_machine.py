"""One dissemination machine, and short words for what goes in and comes out."""

from gossip_people import (
    people,
    person,
    roster_of,
)

from gossip.dissemination import Dissemination
from gossip.dissemination_events import (
    Effect,
    Offer,
    Refused,
    SendTo,
)
from gossip.envelope import open_envelope
from gossip.errors import (
    PeerError,
)
from gossip.identifiers import Digest, digest_of
from gossip.items import ItemKey, Scope, Sites
from gossip.limits import (
    DisseminationLimits,
)
from gossip.messages import Inventory, Message, Wanted

ME, ALICE, BOB, CAROL = people(4)
ROSTER = roster_of(4)
STRANGER = person(9)
NOW_S = 1_700_000_000.0
LIMITS = DisseminationLimits()


def machine(limits: DisseminationLimits = LIMITS, random: float = 0.5) -> Dissemination:
    """This site's machine; random 0.5 means exactly `reconcile_s` between inventories."""
    return Dissemination(
        site=ME.site,
        transport_seed=ME.keys.transport,
        roster=ROSTER,
        random=lambda: random,
        limits=limits,
    )


def offer(
    message: Message, scope: Scope, key: ItemKey = "key", expires_s: float = NOW_S + 1000.0
) -> Offer:
    raw = ME.seal(message)
    return Offer(key, raw, digest_of(raw), scope, expires_s)


def only(*sites: object) -> Sites:
    return Sites(frozenset(each.site for each in sites))  # type: ignore[attr-defined]


def sent_message(effect: Effect) -> Message:
    assert isinstance(effect, SendTo)
    return open_envelope(effect.raw, ROSTER).message


def refusals(effects: list[Effect]) -> list[type[PeerError]]:
    return [type(effect.error) for effect in effects if isinstance(effect, Refused)]


def inventory_of(*raws: bytes) -> Inventory:
    return Inventory(tuple(sorted(digest_of(raw) for raw in raws)))


def wanted_of(*digests: Digest) -> Wanted:
    return Wanted(tuple(sorted(digests)))
