"""The bytes of votes: changes, statements, links, chains, newer cards, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from gossip_people import bytes_of, founded, people, person
from gossip_vectors import vote_vectors
from gossip_votes import about_rosters, newer_card, vote

from gossip.card import decode_card, encode_card
from gossip.dissemination import Deliver, Dissemination, Received, Refused
from gossip.errors import (
    BadSignature,
    ChainBroken,
    ChangeInvalid,
    DuplicateMember,
    FounderMissing,
    Garbled,
    NoQuorum,
    NotOnRoster,
    PeerError,
    StatementInvalid,
    TooLarge,
)
from gossip.identifiers import Digest, digest_of
from gossip.limits import CARD_BYTES_MAX, CHANGE_BYTES_MAX, LINK_BYTES_MAX, STATEMENT_BYTES_MAX
from gossip.messages import decode_message, encode_message
from gossip.roster import draft_roster, encode_roster
from gossip.roster_chain import (
    Unanimous,
    Voted,
    certificate_of,
    decode_chain,
    decode_link,
    encode_chain,
    encode_link,
    follow_chain,
    is_chain,
    unanimous_link,
    verify_link,
)
from gossip.roster_change import (
    Change,
    apply_change,
    change_between,
    change_of,
    decode_change,
    encode_change,
)
from gossip.roster_messages import ItemKind, RosterHeld, RosterItem, RosterItems
from gossip.roster_votes import (
    Close,
    Lock,
    close_vote,
    decode_statement,
    encode_statement,
    faulty_max,
    quorum,
    verify_statement,
)
from gossip.wire import pack

VECTORS = Path(__file__).parent.parent / "vectors" / "gossip" / "votes.json"
MADE = vote()
ROSTER = MADE.roster
ALICE, BOB, CAROL = people(3)


# -- known answers -------------------------------------------------------------------------------


def test_the_vote_vectors_are_what_we_write() -> None:
    assert json.loads(VECTORS.read_text()) == vote_vectors()


def test_everything_reads_back_as_it_was_written() -> None:
    assert decode_change(encode_change(MADE.change)) == MADE.change
    for statement in (*MADE.statements, MADE.close):
        assert decode_statement(encode_statement(statement)) == statement
        verify_statement(statement, ROSTER)
    for link in (MADE.voted, MADE.unanimous):
        assert decode_link(encode_link(link)) == link
    assert decode_chain(encode_chain(MADE.chain)) == MADE.chain
    for message in about_rosters():
        assert decode_message(encode_message(message)) == message


def test_a_certificate_names_one_link() -> None:
    assert certificate_of(MADE.voted) != certificate_of(MADE.unanimous)
    assert certificate_of(MADE.voted) == certificate_of(decode_link(encode_link(MADE.voted)))


@pytest.mark.parametrize("members", range(1, 257))
def test_two_quorums_share_a_member_that_does_not_lie_and_the_honest_are_one(members: int) -> None:
    liars = faulty_max(members)
    assert 2 * quorum(members) - members > liars
    assert quorum(members) <= members - liars


# -- cards with a serial number -------------------------------------------------------------------


def test_a_card_with_a_serial_number_reads_back() -> None:
    card = newer_card(1, 7)
    assert decode_card(encode_card(card)) == card
    assert card.serial == 7
    assert card.digest == digest_of(encode_card(card))


@pytest.mark.parametrize("body", [[2] + [b""] * 7, [1] + [b""] * 8, [3] + [b""] * 8])
def test_a_card_has_the_values_of_its_format(body: list[bytes | int]) -> None:
    with pytest.raises(PeerError):
        decode_card(pack((pack(body), bytes(64))))


def test_a_card_never_says_serial_zero_in_the_newer_format() -> None:
    card = newer_card(1, 1)
    stated = (2, card.name, *card.public_keys, card.log_id, card.addresses, 0)
    with pytest.raises(Garbled, match="integer out of range"):
        decode_card(pack((pack(stated), card.signature)))


# -- changes ---------------------------------------------------------------------------------------


def test_the_same_change_leads_to_the_same_roster_whoever_makes_it() -> None:
    cards = [person(3).card, newer_card(1)]
    mine = change_of(ROSTER, cards=cards)
    theirs = change_of(ROSTER, cards=[*reversed(cards), ALICE.card])
    assert apply_change(ROSTER, mine).digest == apply_change(ROSTER, theirs).digest
    assert change_between(ROSTER, apply_change(ROSTER, mine)) == mine


def wrong_changes() -> list[tuple[Change, type[PeerError], str]]:
    fits = MADE.change
    older = apply_change(ROSTER, change_of(ROSTER, cards=[newer_card(1, 3)]))
    return [
        (replace(fits, previous=Digest(bytes(32))), ChangeInvalid, "another roster"),
        (replace(fits, cards=()), ChangeInvalid, "changes nothing"),
        (Change(ROSTER.digest, (person(9).site,), ()), ChangeInvalid, "no member"),
        (Change(ROSTER.digest, (), (ALICE.card,)), ChangeInvalid, "in force already"),
        (
            Change(ROSTER.digest, (person(1).site,), (newer_card(1),)),
            ChangeInvalid,
            "removes a site and names",
        ),
        (change_of(older, cards=[newer_card(1, 2)]), ChangeInvalid, "another roster"),
        (
            change_of(ROSTER, cards=[newer_card(3, 1, name=ALICE.card.name)]),
            DuplicateMember,
            "the same name",
        ),
        (Change(ROSTER.digest, ROSTER.sites, ()), PeerError, "members"),
    ]


@pytest.mark.parametrize(("change", "error", "words"), wrong_changes())
def test_a_change_that_fits_no_roster_is_refused(
    change: Change, error: type[PeerError], words: str
) -> None:
    with pytest.raises(error, match=words):
        apply_change(ROSTER, change)


def test_an_older_card_takes_nobodys_place() -> None:
    after = apply_change(ROSTER, change_of(ROSTER, cards=[newer_card(1, 3)]))
    with pytest.raises(ChangeInvalid, match="an older card"):
        apply_change(after, change_of(after, cards=[newer_card(1, 2)]))


def test_a_change_is_bounded_and_has_one_spelling() -> None:
    with pytest.raises(TooLarge):
        decode_change(bytes(CHANGE_BYTES_MAX + 1))
    crowd = change_of(ROSTER, cards=[person(index).card for index in range(3, 100)])
    with pytest.raises(TooLarge):
        encode_change(crowd)
    twice = pack((1, ROSTER.digest, [ALICE.site, ALICE.site], []))
    with pytest.raises(Garbled, match="sites that leave"):
        decode_change(twice)
    card = encode_card(ALICE.card)
    with pytest.raises(Garbled, match="cards are not"):
        decode_change(pack((1, ROSTER.digest, [], [card, card])))


# -- statements ------------------------------------------------------------------------------------


def signed(**changes: object) -> object:
    return replace(MADE.statements[0], **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"previous": Digest(bytes(32))}, StatementInvalid),
        ({"version": 3}, StatementInvalid),
        ({"vote": 2}, BadSignature),
        ({"candidate": Digest(bytes(32))}, BadSignature),
        ({"site": BOB.site}, BadSignature),
        ({"site": person(9).site}, NotOnRoster),
        ({"signature": bytes(64)}, BadSignature),
    ],
)
def test_a_statement_that_its_site_did_not_make_is_refused(
    changes: dict[str, object], error: type[PeerError]
) -> None:
    with pytest.raises(error):
        verify_statement(signed(**changes), ROSTER)  # type: ignore[arg-type]


def test_signing_is_not_accepting() -> None:
    sign, accept = MADE.statements[0], MADE.statements[2]
    with pytest.raises(BadSignature):
        verify_statement(replace(accept, signature=sign.signature), ROSTER)


def closing(lock: Lock | None, vote_number: int = 1) -> Close:
    return close_vote(ALICE.keys.identity, ROSTER, vote_number, lock)


def test_a_lock_has_to_be_proven() -> None:
    lock = MADE.close.lock
    assert lock is not None
    verify_statement(closing(None), ROSTER)
    with pytest.raises(NoQuorum):
        verify_statement(closing(replace(lock, signs=lock.signs[:1])), ROSTER)
    with pytest.raises(NoQuorum):
        verify_statement(closing(replace(lock, signs=lock.signs[:1] * 2)), ROSTER)
    with pytest.raises(BadSignature):
        verify_statement(closing(replace(lock, candidate=Digest(bytes_of("other")))), ROSTER)
    with pytest.raises(StatementInvalid):
        verify_statement(closing(replace(lock, vote=2)), ROSTER)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[:-1],
        lambda raw: raw + b"\0",
        lambda raw: bytes(STATEMENT_BYTES_MAX + 1),
        lambda raw: b"",
        lambda raw: raw.replace(b"\x96\x01\x01", b"\x96\x01\x04"),
        lambda raw: raw.replace(b"\x96\x01\x01", b"\x96\x02\x01"),
    ],
)
def test_a_garbled_statement_is_refused_by_name(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(PeerError):
        decode_statement(spoil(encode_statement(MADE.statements[0])))


def test_signatures_stand_behind_a_lock_and_nothing_else() -> None:
    statement, lock = MADE.statements[0], MADE.close.lock
    assert lock is not None
    body = pack((1, 1, statement.previous, 2, 1, MADE.candidate.digest))
    with pytest.raises(Garbled, match="needs none"):
        decode_statement(pack((body, statement.site, statement.signature, list(lock.signs))))
    body = pack((1, 3, statement.previous, 2, 1, 0, bytes(32)))
    with pytest.raises(Garbled, match="a lock is a vote"):
        decode_statement(pack((body, statement.site, statement.signature, list(lock.signs))))


# -- links and chains ------------------------------------------------------------------------------


def test_two_quorums_put_a_roster_into_force() -> None:
    assert verify_link(ROSTER, MADE.voted) == MADE.candidate


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"signs": ()}, NoQuorum),
        ({"accepts": MADE.voted.accepts[:1]}, NoQuorum),
        ({"accepts": MADE.voted.signs}, BadSignature),
        ({"vote": 2}, BadSignature),
        ({"change": change_of(ROSTER, cards=[person(4).card])}, BadSignature),
    ],
)
def test_a_link_that_proves_nothing_is_refused(
    changes: dict[str, object], error: type[PeerError]
) -> None:
    with pytest.raises(error):
        verify_link(ROSTER, replace(MADE.voted, **changes))  # type: ignore[arg-type]


def test_all_members_together_renew_cards_and_change_no_member() -> None:
    after = verify_link(ROSTER, MADE.unanimous)
    assert unanimous_link(ROSTER, after) == MADE.unanimous
    with pytest.raises(FounderMissing):
        verify_link(ROSTER, replace(MADE.unanimous, signatures=MADE.unanimous.signatures[:2]))
    with pytest.raises(ChainBroken, match="only a vote"):
        verify_link(ROSTER, Unanimous(MADE.change, MADE.unanimous.signatures))


def test_a_chain_begins_with_a_roster_that_all_its_members_signed() -> None:
    unsigned = draft_roster(ROSTER.consortium, ROSTER.members)
    with pytest.raises(FounderMissing):
        follow_chain(unsigned, [MADE.voted])
    with pytest.raises(ChangeInvalid):
        follow_chain(ROSTER, [MADE.voted, MADE.voted])


def test_a_chain_is_told_from_a_roster_by_how_it_begins() -> None:
    assert is_chain(encode_chain(MADE.chain))
    assert not is_chain(encode_roster(founded(3)))


def test_a_garbled_link_is_refused_by_name() -> None:
    raw = encode_link(MADE.voted)
    for bad in (raw[:-1], raw + b"\0", b"\x93" + raw[1:], bytes(LINK_BYTES_MAX + 1)):
        with pytest.raises(PeerError):
            decode_link(bad)


def test_the_largest_consortiums_vote_fits_one_message() -> None:
    sites = [(bytes_of(f"site {n}"), bytes(64)) for n in range(quorum(256))]
    change = change_of(ROSTER, cards=[person(3).card])
    room = CHANGE_BYTES_MAX - len(encode_change(change))
    link = Voted(change, 1, tuple(sites), tuple(sites))  # type: ignore[arg-type]
    assert len(encode_link(link)) + room <= LINK_BYTES_MAX
    lock = Lock(1, MADE.candidate.digest, tuple(sites))  # type: ignore[arg-type]
    assert len(encode_statement(closing(lock))) <= STATEMENT_BYTES_MAX
    assert len(encode_card(newer_card(1))) < CARD_BYTES_MAX


# -- messages --------------------------------------------------------------------------------------


def machine() -> Dissemination:
    return Dissemination(
        site=BOB.site,
        transport_seed=BOB.keys.transport,
        roster=ROSTER,
        random=lambda: 0.5,
    )


def test_messages_about_the_roster_are_delivered_every_time_and_only_from_their_author() -> None:
    bob, raw = machine(), ALICE.seal(about_rosters()[0])
    for _ in range(2):
        (effect,) = bob.handle(0.0, Received(ALICE.site, raw))
        assert isinstance(effect, Deliver)
    (refused,) = bob.handle(0.0, Received(CAROL.site, raw))
    assert isinstance(refused, Refused)
    assert refused.error.rule == "RelayedMembership"


def test_a_flood_about_the_roster_is_dropped_and_reported_now_and_then() -> None:
    bob, raw = machine(), ALICE.seal(about_rosters()[1])
    effects = [effect for _ in range(300) for effect in bob.handle(0.0, Received(ALICE.site, raw))]
    assert sum(isinstance(effect, Deliver) for effect in effects) == 200
    assert sum(isinstance(effect, Refused) for effect in effects) == 1


def test_items_are_bounded_together() -> None:
    item = RosterItem(ItemKind.LINK, bytes(40 * 1024))
    with pytest.raises(TooLarge, match="items"):
        decode_message(encode_message(RosterItems((item, item))))


def test_ids_have_one_order() -> None:
    ids = (Digest(b"\2" * 32), Digest(b"\1" * 32))
    with pytest.raises(Garbled, match="ascending"):
        decode_message(encode_message(RosterHeld(1, ROSTER.digest, ids)))
