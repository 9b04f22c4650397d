"""What people are told when a new roster is in force."""

import hashlib

from gossip.card import Card, sign_card
from gossip.keys import SiteKeys
from gossip.roster import draft_roster
from p2pfl.core.membership_words import differences


def card(name: str, place: int, life: int = 1, *, transport: int = 1) -> Card:
    """life: the identity; another one has other keys throughout."""
    seeds = [
        hashlib.sha256(f"{name} {life} {role} {renewal}".encode()).digest()
        for role, renewal in (("identity", 1), ("transport", transport), ("log", 1), ("witness", 1))
    ]
    log = hashlib.sha256(f"{name} {life}".encode()).digest()
    return sign_card(SiteKeys(*seeds), name=name, log_id=log, addresses=[f"10.0.0.{place}:4001"])


def test_each_change_has_its_own_word() -> None:
    before = draft_roster("test", [card("east", 1), card("north", 2), card("south", 3)])
    after = draft_roster(
        "test", [card("east", 1, transport=2), card("south", 3, life=2), card("west", 4)]
    )
    assert differences(before, after) == [
        "west joined",
        "north left",
        "south came back with another identity",
        "east has a new card",
    ]


def test_several_have_new_cards() -> None:
    before = draft_roster("test", [card("east", 1), card("north", 2)])
    after = draft_roster("test", [card("east", 1, transport=2), card("north", 2, transport=2)])
    (said,) = differences(before, after)
    assert sorted(said.removesuffix(" have new cards").split(", ")) == ["east", "north"]
    assert differences(before, before) == []
