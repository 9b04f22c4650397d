"""A small deterministic network of dissemination machines: it loses, delays and cuts.

The same seed gives the same trace. Nothing here reads a clock or the system's randomness.
"""

import heapq
import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import count

from gossip_people import CONSORTIUM, Person, people, roster_of

from gossip.dissemination import Dissemination
from gossip.dissemination_events import (
    Broadcast,
    Connected,
    Deliver,
    Disconnected,
    Effect,
    Event,
    Offer,
    Received,
    Refused,
    SendTo,
    Tick,
)
from gossip.identifiers import Digest, SiteId, digest_of
from gossip.items import ItemKey, Scope
from gossip.messages import Message

TICK_S = 1.0


@dataclass
class World:
    """`sites_n` machines; `edges` says who is connected with whom (by number)."""

    seed: int
    sites_n: int
    loss: float
    edges: frozenset[tuple[int, int]]
    now_s: float = 1_700_000_000.0
    trace: list[str] = field(default_factory=list)
    delivered: dict[SiteId, Counter[Digest]] = field(default_factory=dict)
    refused: list[tuple[SiteId, Refused]] = field(default_factory=list)
    bytes_sent: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)  # noqa: S311 - a simulation's dice
        self.people: list[Person] = people(self.sites_n)
        self.machines = {
            each.site: Dissemination(
                site=each.site,
                transport_seed=each.keys.transport,
                roster=roster_of(self.sites_n),
                random=self.random.random,
            )
            for each in self.people
        }
        self.delivered = {each.site: Counter() for each in self.people}
        self.links: set[tuple[SiteId, SiteId]] = set()
        self._order = count()
        self._queue: list[tuple[float, int, SiteId, Event]] = []
        for first, second in sorted(self.edges):
            self.connect(self.people[first].site, self.people[second].site)
        for each in self.people:
            self._at(self.now_s + self.random.random(), each.site, Tick())

    def connect(self, one: SiteId, other: SiteId) -> None:
        for site, peer in ((one, other), (other, one)):
            self.links.add((site, peer))
            self._at(self.now_s, site, Connected(peer))

    def cut(self, one: SiteId, other: SiteId) -> None:
        for site, peer in ((one, other), (other, one)):
            self.links.discard((site, peer))
            self._at(self.now_s, site, Disconnected(peer))

    def offer(self, who: int, message: Message, key: ItemKey, scope: Scope) -> Digest:
        raw = self.people[who].seal(message, CONSORTIUM)
        digest = digest_of(raw)
        site = self.people[who].site
        self._at(self.now_s, site, Offer(key, raw, digest, scope, self.now_s + 100_000.0))
        return digest

    def run(self, seconds: float) -> None:
        """Let the world go on for a while."""
        end_s = self.now_s + seconds
        while self._queue and self._queue[0][0] <= end_s:
            self.now_s, _, site, event = heapq.heappop(self._queue)
            for effect in self.machines[site].handle(self.now_s, event):
                self._perform(site, effect)
            if isinstance(event, Tick):
                due_s = self.machines[site].next_tick_s(self.now_s)
                self._at(max(due_s, self.now_s + 0.01), site, Tick())
        self.now_s = end_s

    def _perform(self, site: SiteId, effect: Effect) -> None:
        self.trace.append(f"{self.now_s:.3f} {site.hex()[:8]} {type(effect).__name__}")
        match effect:
            case SendTo(site=peer, raw=raw):
                self._transmit(site, peer, raw)
            case Broadcast(raw=raw):
                for other in self.people:
                    self._transmit(site, other.site, raw)
            case Deliver(envelope=envelope):
                self.delivered[site][envelope.digest] += 1
            case Refused():
                self.refused.append((site, effect))

    def _transmit(self, site: SiteId, peer: SiteId, raw: bytes) -> None:
        self.bytes_sent += len(raw)
        if (site, peer) in self.links and self.random.random() >= self.loss:
            delay_s = self.random.uniform(0.001, 0.2)
            self._at(self.now_s + delay_s, peer, Received(site, raw))

    def _at(self, when_s: float, site: SiteId, event: Event) -> None:
        heapq.heappush(self._queue, (when_s, next(self._order), site, event))


def complete(sites_n: int) -> frozenset[tuple[int, int]]:
    """Everybody with everybody."""
    return frozenset((one, other) for other in range(sites_n) for one in range(other))


def ring(sites_n: int) -> frozenset[tuple[int, int]]:
    """Everybody with two others: whoever is far away hears through relays only."""
    return frozenset((site, (site + 1) % sites_n) for site in range(sites_n))
