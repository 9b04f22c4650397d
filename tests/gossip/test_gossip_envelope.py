"""Messages and their envelopes: size, sender, signature, then content, in this order."""

import json
from pathlib import Path

import pytest
from gossip_people import (
    CONSORTIUM,
    bytes_of,
    decision,
    head,
    paused,
    people,
    person,
    proposal,
    roster_of,
    steering,
    update,
)
from gossip_vectors import envelope_vectors, roster_vectors
from hypothesis import given
from hypothesis import strategies as st

from gossip import ed25519
from gossip import errors as gossip_errors
from gossip.envelope import open_envelope, seal
from gossip.errors import (
    BadSignature,
    BlobMismatch,
    Garbled,
    InlineHashMismatch,
    InlineSizeMismatch,
    NotOnRoster,
    PeerError,
    TooLarge,
    UnknownMessage,
    Unreachable,
    UnsendableMessage,
)
from gossip.identifiers import Digest, digest_of
from gossip.limits import (
    ENVELOPE_BYTES_MAX,
    INLINE_BYTES_MAX,
    INT_MAX,
    INVENTORY_IDS_MAX,
    MANIFEST_BYTES_MAX,
    NOTE_BYTES_MAX,
    ROUND_MAX,
    STEERED_ARGUMENTS_MAX,
    STEERED_DECIMAL_BYTES_MAX,
    STEERED_NAME_BYTES_MAX,
    WANTED_IDS_MAX,
)
from gossip.messages import (
    Decision,
    HeadAdvertised,
    Inventory,
    Message,
    StudyDecision,
    StudyProposal,
    StudySteered,
    UpdateAnnounced,
    Wanted,
    decode_message,
    encode_message,
)
from gossip.pause_messages import Pause
from gossip.roster import decode_roster, draft_roster
from gossip.wire import Packable, pack

ALICE = person(0)
ROSTER = roster_of(4)
VECTORS = Path(__file__).parent.parent / "vectors" / "gossip"


def many_ids(count: int) -> tuple[Digest, ...]:
    return tuple(sorted(digest_of(b"%d" % number) for number in range(count)))


def largest_steering() -> StudySteered:
    names = ["a" * length for length in range(1, STEERED_ARGUMENTS_MAX)]
    longest = [*names, "z" * STEERED_NAME_BYTES_MAX]
    decimal = "1" * 20 + "." + "5" * (STEERED_DECIMAL_BYTES_MAX - 21)
    changes = tuple((name, decimal) for name in longest)
    return StudySteered(bytes_of("study"), changes, ROUND_MAX, INT_MAX, bytes_of("leaf"))


def largest_update() -> UpdateAnnounced:
    inline = b"m" * INLINE_BYTES_MAX
    return UpdateAnnounced(
        study=bytes_of("study"),
        round=ROUND_MAX,
        hash=digest_of(inline),
        size=len(inline),
        entry_seq=INT_MAX,
        entry_leaf=bytes_of("leaf"),
        head=b"n" * NOTE_BYTES_MAX,
        inline=inline,
        train_seq=-1,
    )


MESSAGES: list[Message] = [
    update(),
    update(inline=b""),
    largest_update(),
    proposal(),
    StudyProposal(b"m" * MANIFEST_BYTES_MAX, b"i" * INLINE_BYTES_MAX),
    *(StudyDecision(bytes(32), each, 0, 0, bytes(32), 0) for each in Decision),
    decision(),
    steering(),
    largest_steering(),
    paused(),
    paused(state=Pause.RESUMED),
    paused(state=Pause.STOPPED),
    head(),
    HeadAdvertised(b"n" * NOTE_BYTES_MAX),
    Inventory(many_ids(1)),
    Inventory(many_ids(INVENTORY_IDS_MAX)),
    Wanted(many_ids(WANTED_IDS_MAX)),
]


def sealed_anyway(encoded_message: bytes) -> bytes:
    """An envelope that Alice's key signed around whatever bytes."""
    body = b"\x93\x01\xc4\x20" + ALICE.site + encoded_message
    name = CONSORTIUM.encode()
    signed = b"p2pfl/envelope/v1\0" + len(name).to_bytes(2, "big") + name + body
    return ed25519.sign(ALICE.keys.transport, signed) + body


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_sealed_message_is_opened_by_every_member(message: Message) -> None:
    raw = ALICE.seal(message)
    envelope = open_envelope(raw, ROSTER)
    assert len(raw) <= ENVELOPE_BYTES_MAX
    assert envelope.sender == ALICE.site
    assert envelope.message == message
    assert envelope.raw == raw
    assert envelope.digest == digest_of(raw)
    assert raw == sealed_anyway(encode_message(message))


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ([0], UnknownMessage),
        ([99, b"x"], UnknownMessage),
        ([7, b"x"], Garbled),
        ([7, bytes(31), [["a", "1"]], 0, 0, bytes(32)], Garbled),
        ([7, bytes(32), [], 0, 0, bytes(32)], Garbled),
        ([7, bytes(32), [["a"]], 0, 0, bytes(32)], Garbled),
        ([7, bytes(32), [["a", "1"], ["a", "2"]], 0, 0, bytes(32)], Garbled),
        ([7, bytes(32), [["b", "1"], ["a", "2"]], 0, 0, bytes(32)], Garbled),
        ([7, bytes(32), [["A", "1"]], 0, 0, bytes(32)], Garbled),
        ([7, bytes(32), [["a", "-1"]], 0, 0, bytes(32)], Garbled),
        ([7, bytes(32), [["a", "nan"]], 0, 0, bytes(32)], Garbled),
        ([7, bytes(32), [["a", "1e999"]], 0, 0, bytes(32)], Garbled),
        ([7, bytes(32), [["a", "١"]], 0, 0, bytes(32)], Garbled),
        ([7, bytes(32), [["a", b"1"]], 0, 0, bytes(32)], Garbled),
        ([21, bytes(32), 4, "", 0, 0, bytes(32)], Garbled),
        ([21, bytes(32), 1, "two words", 0, 0, bytes(32)], Garbled),
        ([21, bytes(32), 1, "a" * 97, 0, 0, bytes(32)], TooLarge),
        ([7, bytes(32), [["a", "1"]], ROUND_MAX + 1, 0, bytes(32)], Garbled),
        ([7, bytes(32), [["a", "1"]], 0, -1, bytes(32)], Garbled),
        ([7, bytes(32), [["a", "1"]] * (STEERED_ARGUMENTS_MAX + 1), 0, 0, bytes(32)], TooLarge),
        ([7, bytes(32), [["a" * (STEERED_NAME_BYTES_MAX + 1), "1"]], 0, 0, bytes(32)], TooLarge),
        ([7, bytes(32), [["a", "1" * 33]], 0, 0, bytes(32)], TooLarge),
        ([4], Garbled),
        ([4, b"x", b"y"], Garbled),
        ([4, b""], Garbled),
        ([4, "text"], Garbled),
        ([4, b"n" * (NOTE_BYTES_MAX + 1)], TooLarge),
        ([2, b"", b""], Garbled),
        ([2, b"m" * (MANIFEST_BYTES_MAX + 1), b""], TooLarge),
        ([2, b"m", b"i" * (INLINE_BYTES_MAX + 1)], TooLarge),
        ([3, bytes(32), 0, 0, 0, bytes(32), 0], Garbled),
        ([3, bytes(32), 6, 0, 0, bytes(32), 0], Garbled),
        ([3, bytes(31), 1, 0, 0, bytes(32), 0], Garbled),
        ([3, bytes(32), 1, -1, 0, bytes(32), 0], Garbled),
        ([5, []], Garbled),
        ([5, [bytes(32), bytes(32)]], Garbled),
        ([5, list(reversed(many_ids(2)))], Garbled),
        ([5, list(many_ids(INVENTORY_IDS_MAX + 1))], TooLarge),
        ([6, list(many_ids(WANTED_IDS_MAX + 1))], TooLarge),
        ([1, bytes(32), ROUND_MAX + 1, bytes(32), 1, 0, bytes(32), b"h", b"", 0], Garbled),
        ([1, bytes(32), 0, bytes(32), 0, 0, bytes(32), b"h", b"", 0], Garbled),
        ([1, bytes(32), 0, bytes(32), 1, 0, bytes(32), b"h", b"", -2], Garbled),
        ([1, bytes(32), 0, bytes(32), 2, 0, bytes(32), b"h", b"x", 0], InlineSizeMismatch),
        ([1, bytes(32), 0, bytes(32), 1, 0, bytes(32), b"h", b"x", 0], InlineHashMismatch),
    ],
)
def test_a_signed_message_that_breaks_a_rule_is_refused_by_name(
    fields: list[Packable], error: type[PeerError]
) -> None:
    with pytest.raises(PeerError) as refused:
        open_envelope(sealed_anyway(pack(fields)), ROSTER)
    assert type(refused.value) is error
    assert refused.value.rule == error.__name__


def test_bytes_after_a_message_are_refused() -> None:
    with pytest.raises(Garbled, match="after the value"):
        decode_message(encode_message(head()) + b"\0")


def test_what_peers_would_refuse_is_not_sent() -> None:
    with pytest.raises(UnsendableMessage, match="HeadAdvertised"):
        ALICE.seal(HeadAdvertised(b""))


def test_an_oversized_envelope_is_refused_unread() -> None:
    with pytest.raises(TooLarge, match="envelope"):
        open_envelope(bytes(ENVELOPE_BYTES_MAX + 1), ROSTER)


def test_a_stranger_is_refused() -> None:
    with pytest.raises(NotOnRoster):
        open_envelope(person(9).seal(head()), ROSTER)


def test_an_envelope_is_valid_in_its_consortium_only() -> None:
    other = draft_roster("test-lungs", [each.card for each in people(4)])
    raw = ALICE.seal(head())
    with pytest.raises(BadSignature):
        open_envelope(raw, other)


def test_a_members_own_key_does_not_sign_for_another() -> None:
    raw = seal(person(1).keys.transport, ALICE.site, CONSORTIUM, head())
    with pytest.raises(BadSignature):
        open_envelope(raw, ROSTER)


def test_only_the_transport_key_seals() -> None:
    raw = seal(ALICE.keys.identity, ALICE.site, CONSORTIUM, head())
    with pytest.raises(BadSignature):
        open_envelope(raw, ROSTER)


def test_the_signature_is_checked_before_the_content() -> None:
    raw = sealed_anyway(b"\xc1")
    with pytest.raises(Garbled):
        open_envelope(raw, ROSTER)
    with pytest.raises(BadSignature):
        open_envelope(bytes(64) + raw[64:], ROSTER)


@given(st.binary(max_size=300))
def test_no_bytes_are_taken_for_an_envelope(raw: bytes) -> None:
    with pytest.raises(PeerError):
        open_envelope(raw, ROSTER)


@given(st.binary(max_size=300))
def test_no_signed_bytes_raise_anything_but_peer_errors(encoded: bytes) -> None:
    try:
        envelope = open_envelope(sealed_anyway(encoded), ROSTER)
    except PeerError:
        return
    assert encode_message(envelope.message) == encoded


PACKABLES = st.recursive(
    st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=10),
    max_leaves=20,
)


@given(st.integers(0, 20), st.lists(PACKABLES, max_size=10))
def test_no_signed_values_raise_anything_but_peer_errors(kind: int, fields: list[Packable]) -> None:
    encoded = pack([kind, *fields])
    try:
        message = decode_message(encoded)
    except PeerError:
        return
    assert encode_message(message) == encoded


@given(st.data())
def test_no_change_to_an_envelope_goes_unnoticed(data: st.DataObject) -> None:
    raw = bytearray(ALICE.seal(data.draw(st.sampled_from(MESSAGES))))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PeerError):
        open_envelope(bytes(raw), ROSTER)
    with pytest.raises(PeerError):
        open_envelope(bytes(raw[:at]), ROSTER)


def test_the_envelope_vectors_are_what_we_seal() -> None:
    assert json.loads((VECTORS / "envelopes.json").read_text()) == envelope_vectors()


def test_the_roster_vectors_are_what_we_sign() -> None:
    assert json.loads((VECTORS / "rosters.json").read_text()) == roster_vectors()


def test_the_vectors_open_as_they_say() -> None:
    vectors = json.loads((VECTORS / "envelopes.json").read_text())
    roster = decode_roster(bytes.fromhex(vectors["roster"]))
    for case in vectors["opened"]:
        envelope = open_envelope(bytes.fromhex(case["raw"]), roster)
        assert type(envelope.message).__name__ == case["message"]
        assert envelope.digest.hex() == case["digest"]
    for case in vectors["refused"]:
        with pytest.raises(getattr(gossip_errors, case["rule"])):
            open_envelope(bytes.fromhex(case["raw"]), roster)


def test_network_errors_name_site_and_cause() -> None:
    assert "timed out" in str(Unreachable(ALICE.site, "timed out"))
    error = BlobMismatch(ALICE.site, digest_of(b"blob"), "other bytes")
    assert "BlobMismatch: other bytes" in str(error)
