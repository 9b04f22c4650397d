"""A message with its author's signature, the same bytes on every way through the network.

  envelope   signature (64 bytes) ‖ body
  body       msgpack [1, sender (32 bytes), message]      message: see `gossip.messages`
  signature  Ed25519(T, "p2pfl/envelope/v1\\0" ‖ u16be length of consortium ‖ consortium ‖ body)
  digest     SHA256(envelope)

The consortium's name is signed so that no envelope is valid in another one with the same keys.
There is no time inside: who must know whether a message is stale judges by its content.
"""

from dataclasses import dataclass, field

from gossip import ed25519
from gossip.errors import (
    BadSignature,
    Garbled,
    PeerError,
    TooLarge,
    UnprovenAuthor,
    UnsendableMessage,
)
from gossip.identifiers import ID_BYTES, Digest, SiteId, digest_of
from gossip.limits import ENVELOPE_BYTES_MAX
from gossip.messages import Message, decode_message, encode_message
from gossip.roster import Roster

_DOMAIN = b"p2pfl/envelope/v1\0"
# msgpack: array of three, integer 1, byte string of 32. So the sender lies at a fixed place and
# is read before anything is parsed.
_BODY_START = b"\x93\x01\xc4\x20"
_SENDER_AT = ed25519.SIGNATURE_BYTES + len(_BODY_START)
_MESSAGE_AT = _SENDER_AT + ID_BYTES


@dataclass(frozen=True, slots=True)
class Envelope:
    """A verified message. raw: its bytes as received; digest: SHA-256 of raw."""

    sender: SiteId
    message: Message
    raw: bytes = field(repr=False)
    digest: Digest


def seal(transport_seed: bytes, sender: SiteId, consortium: str, message: Message) -> bytes:
    """Sign a message. Raises UnsendableMessage if every peer would refuse it."""
    encoded = encode_message(message)
    try:
        decode_message(encoded)
    except PeerError as error:
        raise UnsendableMessage(f"{type(message).__name__}: {error}") from error
    body = _BODY_START + sender + encoded
    return ed25519.sign(transport_seed, _signed(consortium, body)) + body


def open_envelope(raw: bytes, roster: Roster, source: SiteId | None = None) -> Envelope:
    """Check size, sender and signature, then decode: in this order. source: who brought it.

    Raises TooLarge, Garbled, NotOnRoster, BadSignature (UnprovenAuthor instead of these two if
    another one than the sender brought it), then what `decode_message` raises.
    """
    if len(raw) > ENVELOPE_BYTES_MAX:
        raise TooLarge("envelope", expected=f"at most {ENVELOPE_BYTES_MAX} bytes", actual=len(raw))
    body = raw[ed25519.SIGNATURE_BYTES :]
    if len(raw) <= _MESSAGE_AT or not body.startswith(_BODY_START):
        raise Garbled("not an envelope of version 1")
    sender = SiteId(raw[_SENDER_AT:_MESSAGE_AT])
    is_relayed = source is not None and source != sender
    if is_relayed and sender not in roster:
        raise UnprovenAuthor("no member", actual=f"site {sender.hex()}")
    card = roster.member(sender)
    signature = raw[: ed25519.SIGNATURE_BYTES]
    if not ed25519.verify(card.transport_pk, _signed(roster.consortium, body), signature):
        rule = UnprovenAuthor if is_relayed else BadSignature
        raise rule("envelope is not signed by its sender", actual=f"site {sender.hex()}")
    return Envelope(sender, decode_message(raw[_MESSAGE_AT:]), raw, digest_of(raw))


def _signed(consortium: str, body: bytes) -> bytes:
    name = consortium.encode("utf-8")
    return _DOMAIN + len(name).to_bytes(2, "big") + name + body
