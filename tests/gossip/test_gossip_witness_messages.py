"""Messages about logs: their shape is bounded, and they go from one site straight to another."""

import pytest
from gossip_machine import ALICE, BOB, ME, NOW_S, machine
from gossip_people import about_logs, bytes_of

from gossip.dissemination import Dissemination
from gossip.dissemination_events import Deliver, Effect, Received, Refused
from gossip.errors import Garbled, PeerError, TooLarge
from gossip.limits import (
    ENTRY_BYTES_MAX,
    ENVELOPE_BYTES_MAX,
    FORK_PART_BYTES_MAX,
    FORK_PARTS_MAX,
    HELD_NOTE_BYTES_MAX,
    HELD_NOTES_BYTES_MAX,
    LEAVES_MAX,
    LINEAGE_BYTES_MAX,
    WITNESS_REQUEST_BYTES_MAX,
    DisseminationLimits,
)
from gossip.messages import Message, decode_message, encode_message
from gossip.wire import Packable, pack
from gossip.witness_messages import (
    CosignRequested,
    EntriesSent,
    ForkTold,
    HeadsHeld,
    KeysShown,
    SentEntry,
    WitnessMessage,
    told_in_parts,
)
from ledger.log.fork_proofs import FORK_BYTES_MAX

LOG = bytes_of("log id 0")
DIRECT = [message for message in about_logs() if isinstance(message, WitnessMessage)]
LARGEST: list[Message] = [
    CosignRequested(b"r" * WITNESS_REQUEST_BYTES_MAX, 0, b"h" * 32 * LEAVES_MAX),
    HeadsHeld((b"n" * HELD_NOTE_BYTES_MAX,) * (HELD_NOTES_BYTES_MAX // HELD_NOTE_BYTES_MAX)),
    EntriesSent(LOG, 0, (SentEntry(0, 1, b"e" * ENTRY_BYTES_MAX),)),
    KeysShown(LOG, (b"e" * (LINEAGE_BYTES_MAX // 32),) * 32),
    ForkTold(LOG, 2, 3, b"p" * FORK_PART_BYTES_MAX),
]


@pytest.mark.parametrize("message", [*about_logs(), *LARGEST], ids=lambda m: type(m).__name__)
def test_a_message_about_logs_survives_the_wire_and_fits_an_envelope(message: Message) -> None:
    assert decode_message(encode_message(message)) == message
    assert len(ALICE.seal(message)) <= ENVELOPE_BYTES_MAX


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ([8, b"r" * (WITNESS_REQUEST_BYTES_MAX + 1), 0, b""], TooLarge),
        ([8, b"r", 0, b"h" * 33], Garbled),
        ([8, b"r", -1, b""], Garbled),
        ([9, "origin", 1, bytes(31), 200, b""], Garbled),
        ([9, "origin", 1, bytes(32), 99, b""], Garbled),
        ([10, []], Garbled),
        ([10, [b""] * 65], TooLarge),
        ([10, [b"n" * HELD_NOTE_BYTES_MAX] * 7], Garbled),
        ([11, LOG, 5, 4], Garbled),
        ([11, b"short", 0, 4], Garbled),
        ([12, LOG, 0, b"h" * 32 * (LEAVES_MAX + 1)], TooLarge),
        ([14, LOG, 0, [[1, 0, b"e"]]], Garbled),
        ([14, LOG, 0, [[0, 0, b"e"], [0, 0, b"e"]]], Garbled),
        ([14, LOG, 0, [[0, 2, b"e"]]], Garbled),
        ([14, LOG, 0, [[0, 0, b"e" * 30_000], [1, 0, b"e" * 30_000]]], Garbled),
        ([15, LOG, 0, 1, b"p" * (FORK_PART_BYTES_MAX + 1)], TooLarge),
        ([15, LOG, 1, 1, b"p"], Garbled),
        ([15, LOG, 0, FORK_PARTS_MAX + 1, b"p"], Garbled),
        ([15, LOG[1:], 0, 1, b"p"], Garbled),
        ([16, LOG, []], Garbled),
        ([16, LOG, [b"e" * (LINEAGE_BYTES_MAX // 2 + 1)] * 2], Garbled),
    ],
)
def test_what_breaks_a_bound_is_refused_by_name(
    fields: list[Packable], error: type[PeerError]
) -> None:
    with pytest.raises(PeerError) as refused:
        decode_message(pack(fields))
    assert type(refused.value) is error


def received(site: Dissemination, message: Message, source: bytes) -> list[Effect]:
    return site.handle(NOW_S, Received(source, ALICE.seal(message)))  # type: ignore[arg-type]


@pytest.mark.parametrize("message", DIRECT, ids=lambda m: type(m).__name__)
def test_what_is_meant_for_one_site_is_taken_from_its_author_alone(message: Message) -> None:
    site = machine()
    for _ in range(2):  # asked again it is answered again
        (effect,) = received(site, message, ALICE.site)
        assert isinstance(effect, Deliver)
        assert effect.envelope.message == message
    (refused,) = received(site, message, BOB.site)
    assert isinstance(refused, Refused)
    assert refused.error.rule == "RelayedWitnessing"
    assert site.stored_items == 0
    assert ME.site != ALICE.site


def test_a_proof_of_a_fork_is_passed_on() -> None:
    site = machine()
    told = about_logs()[-1]
    assert [type(effect) for effect in received(site, told, BOB.site)] == [Deliver]
    assert site.stored_items == 1
    assert received(site, told, ALICE.site) == []


def test_the_largest_proof_of_a_fork_fits_its_parts() -> None:
    proof = bytes(range(256)) * (FORK_BYTES_MAX // 256) + bytes(FORK_BYTES_MAX % 256)
    parts = told_in_parts(LOG, proof)
    assert b"".join(part.data for part in parts) == proof
    assert [(part.part, part.parts) for part in parts] == [(0, 3), (1, 3), (2, 3)]
    assert told_in_parts(LOG, b"x") == (ForkTold(LOG, 0, 1, b"x"),)
    for wrong in (b"", bytes(FORK_PARTS_MAX * FORK_PART_BYTES_MAX + 1)):
        with pytest.raises(ValueError, match="bytes"):
            told_in_parts(LOG, wrong)


def test_a_flood_of_questions_is_cut_off_and_named_once() -> None:
    site, limit = machine(), int(DisseminationLimits().witness_messages_burst)
    effects = [e for _ in range(limit + 50) for e in received(site, DIRECT[0], ALICE.site)]
    assert sum(isinstance(effect, Deliver) for effect in effects) == limit
    assert [e.error.rule for e in effects if isinstance(e, Refused)] == ["TooFast"]
