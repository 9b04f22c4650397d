"""One machine against peers that lose, repeat, lie and flood: the exact effects."""

from dataclasses import replace

import pytest
from gossip_people import (
    CONSORTIUM,
    bytes_of,
    decision,
    head,
    people,
    person,
    proposal,
    roster_of,
    steering,
    update,
)

from gossip import ed25519
from gossip.card import sign_card
from gossip.dissemination import Dissemination
from gossip.dissemination_events import (
    Broadcast,
    Connected,
    Deliver,
    Disconnected,
    Effect,
    Offer,
    Received,
    Refused,
    RosterChanged,
    SendTo,
    Tick,
    Withdraw,
)
from gossip.envelope import open_envelope
from gossip.errors import (
    BadSignature,
    Garbled,
    NotOnRoster,
    PeerError,
    RelayedReconciliation,
    RelayedUpdate,
    TooFast,
    TooLarge,
    UnknownMessage,
    UnsendableMessage,
)
from gossip.identifiers import Digest, digest_of
from gossip.items import Everyone, ItemKey, ItemStore, Scope, Sites
from gossip.limits import (
    ENVELOPE_BYTES_MAX,
    INLINE_BYTES_MAX,
    INVENTORY_IDS_MAX,
    MANIFEST_BYTES_MAX,
    DisseminationLimits,
)
from gossip.messages import Inventory, Message, StudyProposal, Wanted
from gossip.roster import draft_roster

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


# --- offering


def test_an_offer_for_everyone_is_broadcast() -> None:
    study = offer(proposal(), Everyone())
    assert machine().handle(NOW_S, study) == [Broadcast(study.raw)]


def test_an_offer_for_some_goes_straight_to_those_connected() -> None:
    site = machine()
    site.handle(NOW_S, Connected(BOB.site))
    site.handle(NOW_S, Connected(CAROL.site))
    site.handle(NOW_S, Disconnected(CAROL.site))
    site.handle(NOW_S, Disconnected(ALICE.site))
    announced = offer(update(), only(ALICE, BOB, CAROL, STRANGER, ME))
    assert site.handle(NOW_S, announced) == [SendTo(BOB.site, announced.raw)]


def test_an_offer_that_peers_would_refuse_is_our_bug() -> None:
    sound = offer(head(), Everyone())
    for wrong in (
        replace(sound, digest=Digest(bytes(32))),
        replace(sound, raw=bytes(ENVELOPE_BYTES_MAX + 1)),
    ):
        with pytest.raises(UnsendableMessage):
            machine().handle(NOW_S, wrong)


def test_a_peer_that_connects_is_told_what_is_held_for_it() -> None:
    site = machine()
    for_all = offer(proposal(), Everyone(), "study")
    for_alice = offer(update("a"), only(ALICE), "a")
    for_bob = offer(update("b"), only(BOB), "b")
    for each in (for_all, for_alice, for_bob):
        site.handle(NOW_S, each)
    [told] = site.handle(NOW_S, Connected(ALICE.site))
    assert sent_message(told) == inventory_of(for_all.raw, for_alice.raw)
    assert site.counts.inventories_sent == 1


def test_strangers_and_this_site_itself_cannot_connect() -> None:
    site = machine()
    site.handle(NOW_S, offer(proposal(), Everyone()))
    assert site.handle(NOW_S, Connected(STRANGER.site)) == []
    assert site.handle(NOW_S, Connected(ME.site)) == []


def test_inventories_are_repeated_every_interval_until_withdrawn() -> None:
    site = machine()
    site.handle(NOW_S, Connected(ALICE.site))
    site.handle(NOW_S, offer(head(), Everyone()))
    assert site.next_tick_s(NOW_S) == NOW_S + LIMITS.reconcile_s
    assert site.handle(NOW_S + 4.9, Tick()) == []
    [told] = site.handle(NOW_S + 5.0, Tick())
    assert isinstance(sent_message(told), Inventory)
    assert site.handle(NOW_S + 5.1, Tick()) == []
    assert len(site.handle(NOW_S + 10.0, Tick())) == 1
    site.handle(NOW_S + 11.0, Withdraw("key"))
    site.handle(NOW_S + 11.0, Withdraw("key"))
    assert site.handle(NOW_S + 15.0, Tick()) == []
    site.handle(NOW_S + 16.0, Disconnected(ALICE.site))
    assert site.handle(NOW_S + 30.0, Tick()) == []


@pytest.mark.parametrize(("random", "wait_s"), [(0.0, 4.0), (0.999, 5.996)])
def test_intervals_are_jittered(random: float, wait_s: float) -> None:
    site = machine(random=random)
    site.handle(NOW_S, Tick())
    site.handle(NOW_S, Connected(ALICE.site))
    assert site.next_tick_s(NOW_S) == pytest.approx(min(NOW_S + wait_s, NOW_S + 5.0))
    assert site.handle(NOW_S + wait_s - 0.01, Tick()) == []


def test_an_expired_item_is_forgotten() -> None:
    site = machine()
    site.handle(NOW_S, Connected(ALICE.site))
    announced = offer(head(), Everyone(), expires_s=NOW_S + 3.0)
    site.handle(NOW_S, announced)
    site.handle(NOW_S + 3.0, Tick())
    assert site.stored_items == 0
    assert site.stored_bytes == 0
    assert site.counts.expired == 1
    assert site.handle(NOW_S + 5.0, Tick()) == []


def test_a_clock_that_is_set_back_does_not_stop_the_repair() -> None:
    site = machine()
    site.handle(NOW_S, Connected(ALICE.site))
    site.handle(NOW_S, offer(head(), Everyone()))
    assert site.next_tick_s(NOW_S - 5000.0) == NOW_S - 5000.0 + LIMITS.reconcile_s
    assert len(site.handle(NOW_S - 5000.0, Tick())) == 1


def test_a_peer_that_reconnects_all_the_time_costs_one_inventory_in_a_while() -> None:
    site = machine()
    site.handle(NOW_S, offer(head(), Everyone()))
    told = []
    for tenth in range(100):
        told += site.handle(NOW_S + tenth / 10, Connected(ALICE.site))
        site.handle(NOW_S + tenth / 10, Disconnected(ALICE.site))
    assert len(told) == 4


def test_more_items_than_an_inventory_holds_are_named_in_turn() -> None:
    site = machine()
    offers = [
        offer(head(str(number)), Everyone(), key=str(number))
        for number in range(INVENTORY_IDS_MAX + 100)
    ]
    for each in offers:
        site.handle(NOW_S, each)
    named: set[Digest] = set()
    [first] = site.handle(NOW_S, Connected(ALICE.site))
    [second] = site.handle(NOW_S + 5.0, Tick())
    for effect in (first, second):
        message = sent_message(effect)
        assert isinstance(message, Inventory)
        assert len(message.ids) == INVENTORY_IDS_MAX
        named.update(message.ids)
    assert named == {each.digest for each in offers}


def test_an_offer_replaces_what_its_key_or_its_digest_named() -> None:
    site = machine()
    first, second = offer(head("1"), Everyone()), offer(head("2"), Everyone())
    site.handle(NOW_S, first)
    site.handle(NOW_S, second)
    site.handle(NOW_S, replace(second, key="other"))
    assert site.stored_items == 1
    assert site.stored_bytes == len(second.raw)
    [told] = site.handle(NOW_S, Connected(ALICE.site))
    assert sent_message(told) == inventory_of(second.raw)


def test_own_items_are_bounded_and_those_that_expire_soonest_go_first() -> None:
    site = machine(replace(LIMITS, own_items_max=2))
    offers = [
        offer(head(str(number)), Everyone(), str(number), NOW_S + 100.0 - number)
        for number in range(3)
    ]
    for each in offers:
        site.handle(NOW_S, each)
    [told] = site.handle(NOW_S, Connected(ALICE.site))
    assert sent_message(told) == inventory_of(offers[0].raw, offers[2].raw)
    assert site.counts.evicted_own == 1


def test_own_items_are_bounded_in_bytes_but_the_newest_is_kept() -> None:
    site = machine(replace(LIMITS, own_bytes_max=10))
    site.handle(NOW_S, offer(head("1"), Everyone(), "1"))
    site.handle(NOW_S, offer(head("2"), Everyone(), "2"))
    assert site.stored_items == 1


# --- answering requests


def test_a_lost_push_is_repaired_on_request() -> None:
    site = machine()
    site.handle(NOW_S, Connected(ALICE.site))
    announced = offer(update(), only(ALICE))
    site.handle(NOW_S, announced)
    request = Received(ALICE.site, ALICE.seal(wanted_of(announced.digest)))
    assert site.handle(NOW_S + 2.9, request) == []
    assert site.handle(NOW_S + 3.0, request) == [SendTo(ALICE.site, announced.raw)]
    assert site.handle(NOW_S + 5.9, request) == []
    assert site.handle(NOW_S + 6.0, request) == [SendTo(ALICE.site, announced.raw)]
    assert site.counts.items_resent == 2


def test_send_times_are_forgotten_when_they_no_longer_matter() -> None:
    site = machine()
    announced = offer(update(), only(ALICE, BOB))
    site.handle(NOW_S, Connected(ALICE.site))
    site.handle(NOW_S, Connected(BOB.site))
    site.handle(NOW_S, announced)
    site.handle(NOW_S + 3.0, Tick())
    request = Received(BOB.site, BOB.seal(wanted_of(announced.digest)))
    assert site.handle(NOW_S + 3.0, request) == [SendTo(BOB.site, announced.raw)]
    site.handle(NOW_S + 4.0, Tick())
    assert site.handle(NOW_S + 4.0, request) == []


def test_nobody_gets_what_is_not_for_them() -> None:
    site = machine()
    announced = offer(update(), only(ALICE))
    site.handle(NOW_S, announced)
    request = wanted_of(announced.digest, digest_of(b"unknown"))
    assert site.handle(NOW_S, Received(BOB.site, BOB.seal(request))) == []
    assert site.counts.items_not_for_asker == 2


def test_answers_are_bounded_in_bytes() -> None:
    site = machine()
    offers = [
        offer(StudyProposal(number.encode() * 20_000, b"i" * INLINE_BYTES_MAX), Everyone(), number)
        for number in map(str, range(60))
    ]
    for each in offers:
        site.handle(NOW_S, each)
    request = Received(ALICE.site, ALICE.seal(wanted_of(*(each.digest for each in offers))))
    first = sum(len(effect.raw) for effect in site.handle(NOW_S, request))  # type: ignore[union-attr]
    assert 0.9 * LIMITS.repair_bytes_burst < first <= LIMITS.repair_bytes_burst
    assert site.stored_bytes > 1.5 * first
    # The rest comes later, as far as it is asked for again.
    [last, *_] = site.handle(NOW_S + 1.0, request)
    assert isinstance(last, SendTo)


# --- receiving


def test_each_message_is_delivered_once() -> None:
    site = machine()
    for message in (update(), proposal(), decision(), steering(), head()):
        raw = ALICE.seal(message)
        [delivered] = site.handle(NOW_S, Received(ALICE.site, raw))
        assert isinstance(delivered, Deliver)
        assert delivered.envelope.message == message
        assert delivered.source == ALICE.site
        assert site.handle(NOW_S, Received(ALICE.site, raw)) == []
    assert site.counts.delivered == 5
    assert site.counts.duplicates == 5


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
        (STRANGER.seal(head()), NotOnRoster),
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


def test_a_kind_of_a_newer_version_is_refused_once() -> None:
    site = machine()
    raw = sealed_anyway(b"\x92\x09\x01")
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
        ][number % 5]
        site.handle(NOW_S + number, Received(ALICE.site, ALICE.seal(message)))
        site.handle(NOW_S + number, Received(ALICE.site, ALICE.seal(inventory_of(b"%d" % number))))
    assert site.stored_bytes <= LIMITS.relayed_bytes_per_origin_max + len(kept)
    assert site.stored_items <= 1 + (
        LIMITS.relayed_heads_per_origin_max
        + LIMITS.relayed_decisions_per_origin_max
        + LIMITS.relayed_steerings_per_origin_max
        + LIMITS.relayed_proposals_per_origin_max
    )
    assert site.seen_digests <= 1 + (
        LIMITS.seen_heads_per_origin_max
        + LIMITS.seen_decisions_per_origin_max
        + LIMITS.seen_steerings_per_origin_max
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
    assert refusals(site.handle(NOW_S, Received(BOB.site, raw))) == [NotOnRoster]
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
