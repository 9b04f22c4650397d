"""One machine that offers and answers: the exact effects."""

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
    only,
    sent_message,
    wanted_of,
)
from gossip_people import (
    head,
    proposal,
    update,
)

from gossip.dissemination_events import (
    Broadcast,
    Connected,
    Disconnected,
    Received,
    SendTo,
    Tick,
    Withdraw,
)
from gossip.errors import (
    UnsendableMessage,
)
from gossip.identifiers import Digest, digest_of
from gossip.items import Everyone
from gossip.limits import (
    ENVELOPE_BYTES_MAX,
    INLINE_BYTES_MAX,
    INVENTORY_IDS_MAX,
)
from gossip.messages import Inventory, StudyProposal

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


def test_an_offer_made_again_and_again_goes_to_each_site_once_in_a_while() -> None:
    """Whoever makes us repeat ourselves must not fill everybody's line by it."""
    site = machine()
    site.handle(NOW_S, Connected(ALICE.site))
    site.handle(NOW_S, Connected(BOB.site))
    few, more = offer(update(), only(ALICE)), offer(update(), only(ALICE, BOB))
    assert site.handle(NOW_S, few) == [SendTo(ALICE.site, few.raw)]
    assert site.handle(NOW_S + 0.1, more) == [SendTo(BOB.site, more.raw)]
    for again in range(2, 20):
        assert site.handle(NOW_S + 0.1 * again, (few, more)[again % 2]) == []
    assert site.handle(NOW_S + 3.0, more) == [SendTo(ALICE.site, more.raw)]
    assert site.stored_items == 1


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
