"""One machine against floods, changing rosters and restarts: the exact effects."""

from dataclasses import replace

from gossip_machine import (
    ALICE,
    BOB,
    CAROL,
    LIMITS,
    ME,
    NOW_S,
    ROSTER,
    inventory_of,
    machine,
    refusals,
    sent_message,
)
from gossip_people import (
    CONSORTIUM,
    Person,
    bytes_of,
    decision,
    head,
    paused,
    proposal,
    steering,
    update,
)

from gossip.card import sign_card
from gossip.dissemination_events import (
    Connected,
    Deliver,
    Effect,
    Offer,
    Received,
    RosterChanged,
    SendTo,
)
from gossip.errors import (
    NotOnRoster,
    PeerError,
    TooFast,
    UnprovenAuthor,
)
from gossip.identifiers import digest_of
from gossip.items import Everyone, ItemStore
from gossip.limits import (
    ENVELOPE_BYTES_MAX,
    INLINE_BYTES_MAX,
    MANIFEST_BYTES_MAX,
)
from gossip.messages import Inventory, Message, StudyProposal
from gossip.roster import draft_roster

# --- floods


def test_a_flood_is_cut_to_the_agreed_rate_and_reported_once_a_second() -> None:
    site = machine()
    handled = 0
    effects: list[Effect] = []
    for number in range(5000):
        now_s = NOW_S + number / 1000
        before = site.counts.over_rate
        effects += site.handle(now_s, Received(ALICE.site, b"garbage %d" % number))
        handled += site.counts.over_rate == before
    assert handled <= LIMITS.source_messages_burst + 5 * LIMITS.source_messages_per_s + 1
    assert 1 <= refusals(effects).count(TooFast) <= 5
    # Another site is not affected.
    [delivered] = site.handle(NOW_S + 5, Received(BOB.site, BOB.seal(head())))
    assert isinstance(delivered, Deliver)


def test_a_flood_of_large_messages_is_cut_to_the_agreed_bytes() -> None:
    site = machine()
    for _ in range(int(LIMITS.source_bytes_burst) // ENVELOPE_BYTES_MAX):
        site.handle(NOW_S, Received(ALICE.site, bytes(ENVELOPE_BYTES_MAX)))
    effects = site.handle(NOW_S, Received(ALICE.site, bytes(ENVELOPE_BYTES_MAX)))
    assert refusals(effects) == [TooFast]


def test_a_flood_of_inventories_and_requests_is_cut() -> None:
    site = machine()
    effects: list[Effect] = []
    for number in range(100):
        raw = ALICE.seal(inventory_of(b"%d" % number))
        effects += site.handle(NOW_S, Received(ALICE.site, raw))
    assert len([each for each in effects if isinstance(each, SendTo)]) == (
        LIMITS.reconcile_messages_burst
    )
    assert refusals(effects) == [TooFast]


def test_a_member_that_writes_to_everyone_too_often_is_cut() -> None:
    site = machine()
    effects: list[Effect] = []
    for number in range(300):
        effects += site.handle(NOW_S, Received(ALICE.site, ALICE.seal(head(str(number)))))
    assert len([each for each in effects if isinstance(each, Deliver)]) == (
        LIMITS.origin_messages_burst
    )
    assert refusals(effects) == [TooFast]


def test_proposals_are_taken_at_a_rate_of_their_own_whoever_brings_them() -> None:
    """Reading one takes a node as long as hundreds of other messages."""
    site, burst = machine(), int(LIMITS.proposals_burst)
    said = [ALICE.seal(proposal(str(number))) for number in range(100)]

    def taken(source: Person, now_s: float) -> tuple[int, list[type[PeerError]]]:
        effects = [e for raw in said for e in site.handle(now_s, Received(source.site, raw))]
        return sum(isinstance(each, Deliver) for each in effects), refusals(effects)

    assert taken(ALICE, NOW_S) == (burst, [TooFast])
    assert taken(BOB, NOW_S) == (burst, [])  # others' copies do not count against herself
    assert taken(CAROL, NOW_S) == (0, [])
    assert taken(ALICE, NOW_S + 10.0) == (10, [TooFast])
    others = site.handle(NOW_S + 10.0, Received(ALICE.site, ALICE.seal(head("another kind"))))
    assert isinstance(others[0], Deliver)
    assert isinstance(
        site.handle(NOW_S, Received(BOB.site, BOB.seal(proposal("of another"))))[0], Deliver
    )


def test_a_relay_is_not_blamed_for_an_authors_flood_nor_can_it_silence_the_author() -> None:
    site = machine()
    effects: list[Effect] = []
    for number in range(300):
        effects += site.handle(NOW_S, Received(BOB.site, ALICE.seal(head(str(number)))))
    assert refusals(effects) == []
    assert site.counts.over_rate == 100
    [delivered] = site.handle(NOW_S, Received(ALICE.site, ALICE.seal(head("from herself"))))
    assert isinstance(delivered, Deliver)
    # What was dropped for its rate is not taken for seen.
    [later] = site.handle(NOW_S + 60, Received(BOB.site, ALICE.seal(head("299"))))
    assert isinstance(later, Deliver)


def test_memory_stays_bounded_under_a_long_flood_and_others_keep_their_items() -> None:
    site = machine()
    kept = BOB.seal(proposal("of Bob"))
    site.handle(NOW_S, Received(BOB.site, kept))
    for number in range(1000):
        label = str(number)
        message: Message = [
            head(label),
            decision(label),
            StudyProposal(label.encode() * 12_000, b"i" * INLINE_BYTES_MAX),
            update(label),
            steering(label),
            paused(label),
        ][number % 6]
        site.handle(NOW_S + number, Received(ALICE.site, ALICE.seal(message)))
        site.handle(NOW_S + number, Received(ALICE.site, ALICE.seal(inventory_of(b"%d" % number))))
    assert site.stored_bytes <= LIMITS.relayed_bytes_per_origin_max + len(kept)
    assert site.stored_items <= 1 + (
        LIMITS.relayed_heads_per_origin_max
        + LIMITS.relayed_decisions_per_origin_max
        + LIMITS.relayed_steerings_per_origin_max
        + LIMITS.relayed_pauses_per_origin_max
        + LIMITS.relayed_proposals_per_origin_max
    )
    assert site.seen_digests <= 1 + (
        LIMITS.seen_heads_per_origin_max
        + LIMITS.seen_decisions_per_origin_max
        + LIMITS.seen_steerings_per_origin_max
        + LIMITS.seen_pauses_per_origin_max
        + LIMITS.seen_proposals_per_origin_max
        + LIMITS.seen_updates_per_origin_max
    )
    assert site.counts.evicted_relayed > 100
    [told] = site.handle(NOW_S + 1000, Connected(CAROL.site))
    message = sent_message(told)
    assert isinstance(message, Inventory)
    assert digest_of(kept) in message.ids


def test_when_all_authors_hold_too_much_the_largest_loses_first() -> None:
    site = machine(replace(LIMITS, relayed_bytes_max=150_000))
    small = BOB.seal(decision())
    site.handle(NOW_S, Received(BOB.site, small))
    for number in range(4):
        large = StudyProposal(b"%d" % number * MANIFEST_BYTES_MAX, b"")
        site.handle(NOW_S, Received(ALICE.site, ALICE.seal(large)))
    assert site.stored_bytes <= 150_000
    [told] = site.handle(NOW_S, Connected(CAROL.site))
    message = sent_message(told)
    assert isinstance(message, Inventory)
    assert digest_of(small) in message.ids
    assert len(message.ids) == 4


# --- the roster changes


def test_a_site_that_left_is_forgotten_and_refused() -> None:
    site = machine()
    raw = ALICE.seal(head())
    site.handle(NOW_S, Connected(ALICE.site))
    site.handle(NOW_S, Received(ALICE.site, raw))
    site.handle(NOW_S, Received(BOB.site, BOB.seal(head())))
    rest = draft_roster(CONSORTIUM, [ME.card, BOB.card, CAROL.card])
    site.handle(NOW_S, RosterChanged(rest))
    assert site.stored_items == 1
    assert site.seen_digests == 1
    assert refusals(site.handle(NOW_S, Received(ALICE.site, raw))) == [NotOnRoster]
    assert refusals(site.handle(NOW_S, Received(BOB.site, raw))) == [UnprovenAuthor]
    # She may come back.
    site.handle(NOW_S, RosterChanged(ROSTER))
    assert len(site.handle(NOW_S, Received(ALICE.site, raw))) == 1


def test_what_an_old_transport_key_signed_is_not_passed_on() -> None:
    site = machine()
    site.handle(NOW_S, Received(ALICE.site, ALICE.seal(head())))
    renewed = sign_card(
        replace(ALICE.keys, transport=bytes_of("new transport key")),
        name=ALICE.card.name,
        log_id=ALICE.card.log_id,
        addresses=ALICE.card.addresses,
    )
    cards = [ME.card, renewed, BOB.card, CAROL.card]
    site.handle(NOW_S, RosterChanged(draft_roster(CONSORTIUM, cards)))
    assert site.stored_items == 0
    assert site.handle(NOW_S, Connected(BOB.site)) == []


# --- restarts


def test_an_item_offered_again_after_a_restart_is_neither_delivered_nor_kept_twice() -> None:
    # A node that restarts offers the study that it knows, though another site wrote it.
    raw = ALICE.seal(proposal())
    site = machine()
    site.handle(NOW_S, Offer("study", raw, digest_of(raw), Everyone(), NOW_S + 1000.0))
    assert site.handle(NOW_S, Received(BOB.site, raw)) == []
    assert site.stored_items == 1


def test_an_item_that_was_relayed_may_become_an_own_one() -> None:
    raw = ALICE.seal(proposal())
    site = machine()
    site.handle(NOW_S, Received(BOB.site, raw))
    site.handle(NOW_S, Offer("study", raw, digest_of(raw), Everyone(), NOW_S + 1000.0))
    assert site.stored_items == 1
    assert site.stored_bytes == len(raw)


def test_a_store_holds_an_item_once_whoever_brings_it() -> None:
    store = ItemStore(LIMITS)
    digest = digest_of(b"raw")
    store.add_own("key", b"raw", digest, Everyone(), ME.site, NOW_S)
    assert store.add_relayed(b"raw", digest, ALICE.site, 2, 16, NOW_S) == 0
    assert len(store) == 1
    assert store.stored_bytes == 3
