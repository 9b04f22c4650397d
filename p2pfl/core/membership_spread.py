"""How what is known about the roster gets to every member: told, asked for, given."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from gossip.card import Card, encode_card
from gossip.identifiers import Digest, SiteId, digest_of
from gossip.limits import (
    ROSTER_IDS_MAX,
    ROSTER_ITEMS_BYTES_MAX,
    ROSTER_ITEMS_MAX,
    ROSTER_WANTED_MAX,
)
from gossip.roster_chain import Chain, encode_link
from gossip.roster_change import encode_change
from gossip.roster_messages import ItemKind, RosterHeld, RosterItem, RosterItems, RosterWanted
from gossip.roster_votes import Sign, Statement, encode_statement
from p2pfl.core.ballots import Ballots, Candidate
from p2pfl.core.membership_terms import LINKS_AGAIN_S


def change_item(candidate: Candidate) -> RosterItem:
    """A candidate as the change that leads to it."""
    return RosterItem(ItemKind.CHANGE, encode_change(candidate.change))


def statement_item(statement: Statement) -> RosterItem:
    """A statement as its bytes."""
    return RosterItem(ItemKind.STATEMENT, encode_statement(statement))


def card_item(card: Card) -> RosterItem:
    """A newer card as its bytes."""
    return RosterItem(ItemKind.CARD, encode_card(card))


def links_after(chain: Chain, version: int) -> RosterItems | None:
    """What leads on from a version, as much as one message takes; None if nothing does."""
    start = version - chain.base.version
    if start < 0 or start >= len(chain.links):
        return None
    raws = [encode_link(link) for link in chain.links[start : start + ROSTER_ITEMS_MAX]]
    return RosterItems(_fitting([RosterItem(ItemKind.LINK, raw) for raw in raws]))


def farewells(chain: Chain) -> dict[bytes, RosterItems]:
    """Transport key of each former member → the links up to the one that removed it.

    As many as one message takes, the newest of them: a site that was away for longer than that
    has to ask people. By the last roster that listed it, ascending."""
    found: dict[bytes, RosterItems] = {}
    now = chain.in_force
    for place, (before, after) in enumerate(pairwise(chain.rosters)):
        for card in before.members:
            if card.site not in after and card.site not in now:
                raws = [encode_link(link) for link in chain.links[: place + 1]]
                newest = [RosterItem(ItemKind.LINK, raw) for raw in reversed(raws)]
                found.pop(card.transport_pk, None)
                found[card.transport_pk] = RosterItems(tuple(reversed(_fitting(newest))))
    return found


class Spread:
    """What is told to whom, of one version; who was sent links when."""

    def __init__(self) -> None:
        self._sent_links_s: dict[SiteId, float] = {}
        self._told_from = 0
        self._known: tuple[tuple[int, tuple[Card, ...]], dict[Digest, RosterItem]] | None = None

    def may_send_links(self, now_s: float, site: SiteId) -> bool:
        """A member that is behind gets the chain once a second at most."""
        last_s = self._sent_links_s.get(site)
        if last_s is not None and 0.0 <= now_s - last_s < LINKS_AGAIN_S:
            return False
        self._sent_links_s[site] = now_s
        return True

    def held(self, ballots: Ballots, cards: Sequence[Card]) -> RosterHeld:
        """What this site holds; if one message cannot name all of it, the next in turn."""
        ids = sorted(self._items(ballots, cards))
        if len(ids) > ROSTER_IDS_MAX:
            start = self._told_from % len(ids)
            self._told_from = start + ROSTER_IDS_MAX
            ids = sorted((ids + ids)[start : start + ROSTER_IDS_MAX])
        return RosterHeld(ballots.roster.version, ballots.roster.digest, tuple(ids))

    def wanted(
        self, ballots: Ballots, cards: Sequence[Card], ids: Sequence[Digest]
    ) -> RosterWanted | None:
        """What another member holds and this site does not; None if nothing."""
        missing = tuple(sorted(set(ids) - set(self._items(ballots, cards))))
        return (
            RosterWanted(ballots.roster.version, missing[:ROSTER_WANTED_MAX]) if missing else None
        )

    def answer(
        self, ballots: Ballots, cards: Sequence[Card], ids: Sequence[Digest]
    ) -> RosterItems | None:
        """What was asked for: statements first, as candidates count only if somebody names them."""
        known = self._items(ballots, cards)
        asked = [known[one] for one in ids if one in known]
        ordered = sorted(asked, key=lambda item: item.kind is ItemKind.CHANGE)
        return RosterItems(_fitting(ordered)) if ordered else None

    def _items(self, ballots: Ballots, cards: Sequence[Card]) -> dict[Digest, RosterItem]:
        """Worked out anew only when something came: every member asks every few seconds."""
        state = (ballots.revision, tuple(cards))
        if self._known is None or self._known[0] != state:
            self._known = (state, items_by_id(ballots, cards))
        return self._known[1]


def items_by_id(ballots: Ballots, cards: Sequence[Card]) -> dict[Digest, RosterItem]:
    """Everything that is held about the successor, and newer cards, by what it is called."""
    found = {digest: change_item(c) for digest, c in ballots.candidates.items()}
    for item in (*map(statement_item, ballots.statements()), *map(card_item, cards)):
        found[digest_of(item.raw)] = item
    return found


def told(statements: Sequence[Statement], ballots: Ballots) -> RosterItems:
    """Own statements for everybody, and the candidates that they sign."""
    items = [statement_item(statement) for statement in statements]
    for statement in statements:
        if isinstance(statement, Sign) and statement.candidate in ballots.candidates:
            items.append(change_item(ballots.candidates[statement.candidate]))
    return RosterItems(_fitting(items))


def _fitting(items: Sequence[RosterItem]) -> tuple[RosterItem, ...]:
    return tuple(_while_they_fit(items))


def _while_they_fit(items: Sequence[RosterItem]) -> Iterator[RosterItem]:
    room = ROSTER_ITEMS_BYTES_MAX
    for item in items[:ROSTER_ITEMS_MAX]:
        room -= len(item.raw)
        if room < 0:
            return
        yield item
