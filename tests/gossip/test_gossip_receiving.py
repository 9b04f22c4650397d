"""One machine against peers that repeat, relay and lie: the exact effects."""

from dataclasses import replace

import pytest
from gossip_machine import (
    ALICE,
    BOB,
    CAROL,
    LIMITS,
    ME,
    NOW_S,
    STRANGER,
    inventory_of,
    machine,
    offer,
    refusals,
    sent_message,
    wanted_of,
)
from gossip_people import (
    CONSORTIUM,
    Person,
    decision,
    head,
    paused,
    proposal,
    steering,
    update,
)

from gossip import ed25519
from gossip.card import sign_card
from gossip.dissemination_events import (
    Connected,
    Deliver,
    Received,
    RosterChanged,
    SendTo,
    Withdraw,
)
from gossip.errors import (
    BadSignature,
    Garbled,
    NotOnRoster,
    PeerError,
    RelayedReconciliation,
    RelayedUpdate,
    TooLarge,
    UnknownMessage,
    UnprovenAuthor,
)
from gossip.identifiers import Digest, digest_of
from gossip.items import Everyone
from gossip.limits import (
    ENVELOPE_BYTES_MAX,
)
from gossip.messages import Inventory, Message, Wanted
from gossip.roster import draft_roster

# --- receiving


def test_each_message_is_delivered_once() -> None:
    site = machine()
    for message in (update(), proposal(), decision(), steering(), paused(), head()):
        raw = ALICE.seal(message)
        [delivered] = site.handle(NOW_S, Received(ALICE.site, raw))
        assert isinstance(delivered, Deliver)
        assert delivered.envelope.message == message
        assert delivered.source == ALICE.site
        assert site.handle(NOW_S, Received(ALICE.site, raw)) == []
    assert site.counts.delivered == 6
    assert site.counts.duplicates == 6


def test_what_is_for_everyone_may_come_from_anyone_and_is_passed_on() -> None:
    site = machine()
    raw = ALICE.seal(decision())
    [delivered] = site.handle(NOW_S, Received(BOB.site, raw))
    assert isinstance(delivered, Deliver)
    assert delivered.envelope.sender == ALICE.site
    assert delivered.source == BOB.site
    [told] = site.handle(NOW_S, Connected(CAROL.site))
    assert sent_message(told) == inventory_of(raw)
    # Its author has it.
    assert site.handle(NOW_S, Connected(ALICE.site)) == []
    request = Received(CAROL.site, CAROL.seal(wanted_of(digest_of(raw))))
    assert site.handle(NOW_S, request) == [SendTo(CAROL.site, raw)]


def test_a_relayed_update_is_refused_and_the_original_still_counts() -> None:
    site = machine()
    raw = ALICE.seal(update())
    assert refusals(site.handle(NOW_S, Received(BOB.site, raw))) == [RelayedUpdate]
    [delivered] = site.handle(NOW_S, Received(ALICE.site, raw))
    assert isinstance(delivered, Deliver)


@pytest.mark.parametrize("message", [inventory_of(b"x"), wanted_of(digest_of(b"x"))])
def test_relayed_reconciliation_is_refused(message: Message) -> None:
    effects = machine().handle(NOW_S, Received(BOB.site, ALICE.seal(message)))
    assert refusals(effects) == [RelayedReconciliation]


def test_our_own_messages_that_come_back_are_dropped() -> None:
    site = machine()
    assert site.handle(NOW_S, Received(BOB.site, ME.seal(head()))) == []
    assert site.counts.echoes == 1


def sealed_anyway(encoded_message: bytes) -> bytes:
    """What Alice's key signs around whatever bytes."""
    body = b"\x93\x01\xc4\x20" + ALICE.site + encoded_message
    name = CONSORTIUM.encode()
    signed = b"p2pfl/envelope/v1\0" + len(name).to_bytes(2, "big") + name + body
    return ed25519.sign(ALICE.keys.transport, signed) + body


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", Garbled),
        (b"garbage", Garbled),
        (bytes(ENVELOPE_BYTES_MAX + 1), TooLarge),
        (ALICE.seal(head(), "test-lungs"), BadSignature),
        (sealed_anyway(b"\x92\x04\xc4"), Garbled),
    ],
)
def test_what_breaks_a_rule_is_refused_by_name_each_time(
    raw: bytes, error: type[PeerError]
) -> None:
    site = machine()
    for _ in range(2):
        assert refusals(site.handle(NOW_S, Received(ALICE.site, raw))) == [error]
    assert site.counts.refused == 2


@pytest.mark.parametrize(
    "raw",
    [STRANGER.seal(head()), ALICE.seal(head(), "test-lungs")],
    ids=["of a member unknown here", "under a key unknown here"],
)
def test_a_relay_is_not_blamed_for_news_that_is_not_here_yet(raw: bytes) -> None:
    site = machine()
    for _ in range(2):
        assert refusals(site.handle(NOW_S, Received(BOB.site, raw))) == [UnprovenAuthor]


def test_what_a_new_key_signed_is_taken_as_soon_as_its_card_is_here() -> None:
    site = machine()
    keys = replace(ALICE.keys, transport=bytes(range(32)))
    card = sign_card(keys, name="alice", log_id=ALICE.card.log_id, addresses=["10.9.9.9:4001"])
    renewed = Person(keys, card)
    raw = renewed.seal(head())
    assert refusals(site.handle(NOW_S, Received(BOB.site, raw))) == [UnprovenAuthor]
    site.handle(NOW_S, RosterChanged(draft_roster(CONSORTIUM, [ME.card, BOB.card, renewed.card])))
    (delivered,) = site.handle(NOW_S, Received(BOB.site, raw))
    assert isinstance(delivered, Deliver)


def test_a_kind_of_a_newer_version_is_refused_once() -> None:
    site = machine()
    raw = sealed_anyway(b"\x92\x7f\x01")
    assert refusals(site.handle(NOW_S, Received(ALICE.site, raw))) == [UnknownMessage]
    assert site.handle(NOW_S, Received(ALICE.site, raw)) == []


def test_a_source_that_is_no_member_is_refused() -> None:
    raw = ALICE.seal(head())
    for source in (STRANGER.site, ME.site):
        assert refusals(machine().handle(NOW_S, Received(source, raw))) == [NotOnRoster]


# --- asking


def test_what_was_not_seen_is_asked_for() -> None:
    site = machine()
    seen, unseen = ALICE.seal(head("seen")), ALICE.seal(head("unseen"))
    site.handle(NOW_S, Received(BOB.site, seen))
    told = Received(BOB.site, BOB.seal(inventory_of(seen, unseen)))
    [asked] = site.handle(NOW_S, told)
    assert sent_message(asked) == wanted_of(digest_of(unseen))
    # The answer may be on its way.
    assert site.handle(NOW_S + 2.9, told) == []
    assert len(site.handle(NOW_S + 3.0, told)) == 1
    # Another peer is asked independently: the first may never answer.
    assert len(site.handle(NOW_S, Received(CAROL.site, CAROL.seal(inventory_of(unseen))))) == 1


def test_our_own_withdrawn_items_are_not_asked_for() -> None:
    site = machine()
    mine = offer(head(), Everyone())
    site.handle(NOW_S, mine)
    site.handle(NOW_S, Withdraw("key"))
    assert site.handle(NOW_S, Received(BOB.site, BOB.seal(inventory_of(mine.raw)))) == []


def test_unanswered_requests_to_a_peer_are_bounded() -> None:
    site = machine(random=0.9)
    asked: set[Digest] = set()
    for page in range(3):
        ids = tuple(sorted(digest_of(b"%d %d" % (page, number)) for number in range(200)))
        for effect in site.handle(NOW_S + page, Received(BOB.site, BOB.seal(Inventory(ids)))):
            message = sent_message(effect)
            assert isinstance(message, Wanted)
            asked.update(message.ids)
    assert len(asked) == LIMITS.asks_per_peer_max
