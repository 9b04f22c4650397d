"""Cards and rosters: what a founder relies on, and what a forger tries."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from gossip_people import CONSORTIUM, Person, bytes_of, founded, people, person, roster_of
from hypothesis import given
from hypothesis import strategies as st

from gossip import ed25519
from gossip.card import Card, decode_card, encode_card, sign_card
from gossip.errors import (
    BadSignature,
    CardInvalid,
    DuplicateMember,
    FounderMissing,
    Garbled,
    NotOnRoster,
    PeerError,
    RosterInvalid,
    TooLarge,
    WeakKey,
)
from gossip.identifiers import NO_DIGEST, Digest, SiteId, digest_of
from gossip.keys import SiteKeys
from gossip.limits import CARD_BYTES_MAX, MEMBERS_MAX, ROSTER_BYTES_MAX
from gossip.roster import (
    Roster,
    add_signature,
    decode_roster,
    draft_roster,
    encode_roster,
    merge_signatures,
    sign_roster,
    verify_founding,
)
from gossip.wire import Packable, pack

ALICE = person(0)
LOW_ORDER = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")


def forged_card(who: Person = ALICE, **changes: Packable) -> bytes:
    """A card with any fields, validly signed by its identity key."""
    card = who.card
    fields: dict[str, Packable] = {
        "format": 1,
        "name": card.name,
        "identity_pk": card.identity_pk,
        "transport_pk": card.transport_pk,
        "log_pk": card.log_pk,
        "witness_pk": card.witness_pk,
        "log_id": card.log_id,
        "addresses": list(card.addresses),
    }
    body = pack([*(fields | changes).values()])
    return pack([body, ed25519.sign(who.keys.identity, b"p2pfl/card/v1\0" + body)])


def forged_roster(cards: list[bytes], **changes: Packable) -> bytes:
    """A roster with any members and terms, unsigned."""
    fields: dict[str, Packable] = {
        "format": 1,
        "consortium": CONSORTIUM,
        "version": 1,
        "previous": NO_DIGEST,
        "members": cards,
    }
    return pack([pack([*(fields | changes).values()]), []])


def another(index: int, **changes: object) -> Card:
    """A second site that shares something with another one."""
    keys = person(index).keys
    terms: dict[str, object] = {
        "keys": keys,
        "name": f"clinic {index}",
        "log_id": bytes_of(f"log id {index}"),
        "addresses": [f"clinic-{index}.example:4001"],
    }
    return sign_card(**(terms | changes))  # type: ignore[arg-type]


def test_a_card_survives_the_wire() -> None:
    assert decode_card(encode_card(ALICE.card)) == ALICE.card
    assert forged_card() == encode_card(ALICE.card)


def test_a_site_that_only_dials_has_no_address() -> None:
    card = another(1, addresses=[])
    assert decode_card(encode_card(card)).addresses == ()


def test_a_card_may_be_as_large_as_its_limits() -> None:
    label = "a" * 63
    hosts = [f"{letter}.{label}.{label}.{label}.{'b' * 53}:65535" for letter in "abcdefgh"]
    card = another(1, name="ä" * 32, addresses=hosts)
    assert len(encode_card(card)) <= CARD_BYTES_MAX
    assert decode_card(encode_card(card)) == card


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"format": 2}, Garbled),
        ({"name": ""}, Garbled),
        ({"name": "x" * 65}, TooLarge),
        ({"name": " hospital"}, CardInvalid),
        ({"name": "hospital\u202e"}, Garbled),
        ({"name": b"hospital"}, Garbled),
        ({"transport_pk": LOW_ORDER}, WeakKey),
        ({"transport_pk": ALICE.card.log_pk}, WeakKey),
        ({"transport_pk": bytes(31)}, Garbled),
        ({"log_id": bytes(33)}, TooLarge),
        ({"addresses": ["localhost"]}, CardInvalid),
        ({"addresses": ["localhost:1", "localhost:1"]}, CardInvalid),
        ({"addresses": [f"localhost:{port}" for port in range(1, 10)]}, TooLarge),
        ({"addresses": ["a" * 300 + ":1"]}, TooLarge),
        ({"addresses": "localhost:1"}, Garbled),
        ({"more": 1}, TooLarge),
    ],
)
def test_a_signed_card_that_breaks_a_rule_is_refused(
    changes: dict[str, Packable], error: type[PeerError]
) -> None:
    with pytest.raises(PeerError) as refused:
        decode_card(forged_card(**changes))
    assert type(refused.value) is error


def test_a_card_that_another_key_signed_is_refused() -> None:
    with pytest.raises(BadSignature):
        decode_card(forged_card(ALICE, identity_pk=person(1).card.identity_pk))


def test_a_changed_card_is_refused() -> None:
    with pytest.raises(BadSignature):
        replace(ALICE.card, name="somebody else")
    with pytest.raises(CardInvalid, match="hash of the identity key"):
        replace(ALICE.card, site=SiteId(bytes(32)))
    with pytest.raises(CardInvalid, match="log id"):
        replace(ALICE.card, log_id=b"short")


def test_a_low_order_identity_key_cannot_stand_for_a_site() -> None:
    with pytest.raises(WeakKey):
        decode_card(forged_card(ALICE, identity_pk=LOW_ORDER))


@pytest.mark.parametrize("name", ["", "x" * 65, "tab\t", "\udc80"])
def test_a_bad_name_is_refused_before_it_is_signed(name: str) -> None:
    with pytest.raises(CardInvalid):
        another(1, name=name)


def test_bad_addresses_are_refused_before_they_are_signed() -> None:
    with pytest.raises(CardInvalid, match="at most 8"):
        another(1, addresses=[f"localhost:{port}" for port in range(1, 10)])


def test_an_oversized_card_or_roster_is_refused_unread() -> None:
    with pytest.raises(TooLarge):
        decode_card(bytes(CARD_BYTES_MAX + 1))
    with pytest.raises(TooLarge):
        decode_roster(bytes(ROSTER_BYTES_MAX + 1))


def test_a_roster_survives_the_wire() -> None:
    roster = founded(4)
    again = decode_roster(encode_roster(roster))
    assert again == roster
    assert hash(again) == hash(roster)
    assert encode_roster(again) == encode_roster(roster)
    assert again.digest == roster.digest


def test_a_roster_finds_members_by_site_and_by_transport_key() -> None:
    roster = roster_of(4)
    assert roster.sites == tuple(each.site for each in people(4))
    assert roster.member(ALICE.site) == ALICE.card
    assert roster.by_transport_key(ALICE.card.transport_pk) == ALICE.card
    assert ALICE.site in roster
    stranger = person(9)
    assert stranger.site not in roster
    with pytest.raises(NotOnRoster):
        roster.member(stranger.site)
    with pytest.raises(NotOnRoster):
        roster.by_transport_key(stranger.card.transport_pk)


def test_the_order_of_cards_does_not_matter() -> None:
    cards = [each.card for each in people(4)]
    assert draft_roster(CONSORTIUM, reversed(cards)) == draft_roster(CONSORTIUM, cards)


def test_a_founding_roster_needs_every_founder() -> None:
    roster = roster_of(3)
    signers = people(3)
    for signer in signers[:-1]:
        roster = sign_roster(roster, signer.keys.identity)
    with pytest.raises(FounderMissing, match=signers[-1].card.name):
        verify_founding(roster)
    verify_founding(sign_roster(roster, signers[-1].keys.identity))


def test_the_digest_does_not_depend_on_who_signed() -> None:
    assert founded(3).digest == roster_of(3).digest
    assert founded(3) != roster_of(3)


def test_signatures_collected_apart_are_merged() -> None:
    first, second = people(2)
    one = sign_roster(roster_of(2), first.keys.identity)
    two = sign_roster(roster_of(2), second.keys.identity)
    assert merge_signatures(one, two) == founded(2)
    with pytest.raises(RosterInvalid, match="different rosters"):
        merge_signatures(one, roster_of(3))


def test_a_stranger_cannot_sign_a_roster() -> None:
    with pytest.raises(NotOnRoster):
        sign_roster(roster_of(2), person(9).keys.identity)


def test_a_signature_for_another_roster_is_refused() -> None:
    signature = founded(3).signatures[ALICE.site]
    with pytest.raises(BadSignature):
        add_signature(roster_of(2), ALICE.site, signature)


def test_a_later_version_names_its_predecessor() -> None:
    cards = [each.card for each in people(2)]
    second = draft_roster(CONSORTIUM, cards, version=2, previous=roster_of(2).digest)
    assert decode_roster(encode_roster(second)) == second
    with pytest.raises(RosterInvalid, match="not a founding roster"):
        verify_founding(second)


@pytest.mark.parametrize(
    ("version", "previous"),
    [(0, NO_DIGEST), (2, NO_DIGEST), (1, digest_of(b"x")), (1, Digest(b""))],
)
def test_versions_and_predecessors_must_agree(version: int, previous: Digest) -> None:
    with pytest.raises(RosterInvalid):
        draft_roster(CONSORTIUM, [ALICE.card], version=version, previous=previous)


@pytest.mark.parametrize("name", ["", "Hearts", "a+b", "a b", "-a", "a-", "x" * 64, "ä"])
def test_a_consortium_name_fits_into_a_logs_origin(name: str) -> None:
    with pytest.raises(RosterInvalid):
        draft_roster(name, [ALICE.card])


def test_a_roster_has_members_but_not_too_many() -> None:
    with pytest.raises(RosterInvalid):
        draft_roster(CONSORTIUM, [])
    with pytest.raises(RosterInvalid):
        Roster(CONSORTIUM, 1, NO_DIGEST, (ALICE.card,) * (MEMBERS_MAX + 1))
    with pytest.raises(TooLarge):
        decode_roster(forged_roster([b"x"] * (MEMBERS_MAX + 1)))


def test_the_largest_roster_survives_the_wire() -> None:
    roster = founded(MEMBERS_MAX)
    assert decode_roster(encode_roster(roster)) == roster
    verify_founding(roster)


def _mixed_keys() -> SiteKeys:
    return replace(person(1).keys, witness=ALICE.keys.witness)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: ALICE.card, "site"),
        (lambda: another(1, name="HOSPITAL 0"), "name"),
        (lambda: another(1, log_id=ALICE.card.log_id), "log"),
        (lambda: another(1, keys=_mixed_keys()), "key"),
        (lambda: another(1, addresses=ALICE.card.addresses), "address"),
    ],
)
def test_nothing_may_appear_twice_on_a_roster(make: Callable[[], Card], what: str) -> None:
    with pytest.raises(DuplicateMember, match=f"the same {what} twice"):
        draft_roster(CONSORTIUM, [ALICE.card, make()])


def test_members_out_of_order_are_refused() -> None:
    first, second = (encode_card(each.card) for each in people(2))
    assert decode_roster(forged_roster([first, second])).members
    with pytest.raises(RosterInvalid, match="ascending"):
        decode_roster(forged_roster([second, first]))


@pytest.mark.parametrize(
    "change", [{"format": 2}, {"consortium": "A B"}, {"version": 0}, {"previous": b"x"}]
)
def test_roster_terms_that_break_a_rule_are_refused(change: dict[str, Packable]) -> None:
    with pytest.raises(PeerError):
        decode_roster(forged_roster([encode_card(ALICE.card)], **change))


def test_signatures_out_of_order_or_twice_are_refused() -> None:
    body = pack([1, CONSORTIUM, 1, NO_DIGEST, [encode_card(ALICE.card)]])
    signature = founded(1).signatures[ALICE.site]
    pair = [ALICE.site, signature]
    assert decode_roster(pack([body, [pair]])) == founded(1)
    with pytest.raises(Garbled, match="ascending"):
        decode_roster(pack([body, [pair, pair]]))


def test_a_forged_signature_makes_the_whole_file_invalid() -> None:
    body = pack([1, CONSORTIUM, 1, NO_DIGEST, [encode_card(ALICE.card)]])
    with pytest.raises(BadSignature):
        decode_roster(pack([body, [[ALICE.site, bytes(64)]]]))


@given(st.binary(max_size=400))
def test_no_bytes_make_the_decoders_raise_anything_but_peer_errors(data: bytes) -> None:
    for decode in (decode_card, decode_roster):
        with pytest.raises(PeerError):
            decode(data)


@given(st.data())
def test_no_change_to_a_roster_goes_unnoticed(data: st.DataObject) -> None:
    encoded = bytearray(encode_roster(founded(2)))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PeerError):
        decode_roster(bytes(encoded))
    with pytest.raises(PeerError):
        decode_roster(bytes(encoded[:at]))
