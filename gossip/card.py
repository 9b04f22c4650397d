"""A site's card: its own statement of its name, keys, log and addresses.

An instance of `Card` is always a checked one: rules and signature were verified when it was made.

A site replaces its keys T, L, W and its addresses by a card with a higher serial number.

Format, msgpack as `gossip.wire` reads it:
  card body  [1, name, I_pk, T_pk, L_pk, W_pk, log_id, [address…]]                      serial 0
             [2, name, I_pk, T_pk, L_pk, W_pk, log_id, [address…], serial]              serial ≥ 1
  card       [card body, Ed25519(I, "p2pfl/card/v1\\0" ‖ card body)]
  digest     SHA256(card)
  site       SHA256(I_pk)
"""

from collections.abc import Iterable
from dataclasses import dataclass

from gossip import ed25519
from gossip.addresses import split_address
from gossip.errors import BadSignature, CardInvalid, Garbled, TooLarge, WeakKey
from gossip.identifiers import ID_BYTES, Digest, SiteId, digest_of, site_id_of
from gossip.keys import SiteKeys
from gossip.limits import (
    ADDRESS_BYTES_MAX,
    ADDRESSES_MAX,
    CARD_BYTES_MAX,
    INT_MAX,
    NAME_BYTES_MAX,
)
from gossip.wire import Reader, is_plain_text, pack

_DOMAIN = b"p2pfl/card/v1\0"
_FORMAT = 1
_SERIAL_FORMAT = 2
_VALUES = {_FORMAT: 8, _SERIAL_FORMAT: 9}


@dataclass(frozen=True, slots=True)
class Card:
    """What a site says about itself, signed by its identity key.

    log_id: 32 bytes. addresses: "host:port", none if the site can only dial. serial: the larger
    is the newer; 0 for a site's first card.
    Raises CardInvalid, WeakKey, BadSignature.
    """

    site: SiteId
    name: str
    identity_pk: bytes
    transport_pk: bytes
    log_pk: bytes
    witness_pk: bytes
    log_id: bytes
    addresses: tuple[str, ...]
    signature: bytes
    serial: int = 0

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_keys(self.public_keys)
        if self.site != site_id_of(self.identity_pk):
            raise CardInvalid("site is not the hash of the identity key", actual=self.site.hex())
        if len(self.log_id) != ID_BYTES:
            raise CardInvalid("log id bytes", expected=ID_BYTES, actual=len(self.log_id))
        _check_addresses(self.addresses)
        _check_serial(self.serial)
        signed = _DOMAIN + _card_body(self)
        if not ed25519.verify(self.identity_pk, signed, self.signature):
            raise BadSignature("card is not signed by its own identity key", actual=self.name)

    @property
    def public_keys(self) -> tuple[bytes, bytes, bytes, bytes]:
        """Identity, transport, log and witness key."""
        return (self.identity_pk, self.transport_pk, self.log_pk, self.witness_pk)

    @property
    def digest(self) -> Digest:
        """What this very card is called in votes and ledgers."""
        return digest_of(encode_card(self))


def sign_card(
    keys: SiteKeys, *, name: str, log_id: bytes, addresses: Iterable[str], serial: int = 0
) -> Card:
    """This site's own card. Raises CardInvalid or WeakKey."""
    addresses = tuple(addresses)
    _check_name(name)
    _check_addresses(addresses)
    _check_serial(serial)
    identity_pk = ed25519.public_key_of(keys.identity)
    unsigned = (
        name,
        identity_pk,
        ed25519.public_key_of(keys.transport),
        ed25519.public_key_of(keys.log),
        ed25519.public_key_of(keys.witness),
        log_id,
        addresses,
    )
    body = pack((_SERIAL_FORMAT, *unsigned, serial) if serial else (_FORMAT, *unsigned))
    signature = ed25519.sign(keys.identity, _DOMAIN + body)
    return Card(site_id_of(identity_pk), *unsigned, signature, serial)


def encode_card(card: Card) -> bytes:
    """At most `CARD_BYTES_MAX` bytes."""
    return pack((_card_body(card), card.signature))


def decode_card(data: bytes) -> Card:
    """A card from bytes that anybody may have written. Raises PeerError."""
    if len(data) > CARD_BYTES_MAX:
        raise TooLarge("card", expected=f"at most {CARD_BYTES_MAX} bytes", actual=len(data))
    outer = Reader(data)
    outer.array(2, 2)
    body = outer.blob(1, CARD_BYTES_MAX)
    signature = outer.blob(ed25519.SIGNATURE_BYTES, ed25519.SIGNATURE_BYTES)
    outer.end()
    reader = Reader(body)
    length = reader.array(8, 9)
    form = reader.integer(_FORMAT, _SERIAL_FORMAT)
    if length > _VALUES[form]:
        raise TooLarge("values in a card", expected=_VALUES[form], actual=length)
    if length < _VALUES[form]:
        raise Garbled("values in a card", expected=_VALUES[form], actual=length)
    name = reader.text(1, NAME_BYTES_MAX)
    keys = [reader.blob(ed25519.PUBLIC_KEY_BYTES, ed25519.PUBLIC_KEY_BYTES) for _ in range(4)]
    log_id = reader.blob(ID_BYTES, ID_BYTES)
    count = reader.array(0, ADDRESSES_MAX)
    addresses = tuple(reader.text(1, ADDRESS_BYTES_MAX) for _ in range(count))
    serial = reader.integer(1, INT_MAX) if form == _SERIAL_FORMAT else 0
    reader.end()
    identity_pk, transport_pk, log_pk, witness_pk = keys
    return Card(
        site=site_id_of(identity_pk),
        name=name,
        identity_pk=identity_pk,
        transport_pk=transport_pk,
        log_pk=log_pk,
        witness_pk=witness_pk,
        log_id=log_id,
        addresses=addresses,
        signature=signature,
        serial=serial,
    )


def _card_body(card: Card) -> bytes:
    stated = (card.name, *card.public_keys, card.log_id, card.addresses)
    if card.serial:
        return pack((_SERIAL_FORMAT, *stated, card.serial))
    return pack((_FORMAT, *stated))


def _check_serial(serial: int) -> None:
    if not 0 <= serial <= INT_MAX:
        raise CardInvalid("serial number", expected=f"0…{INT_MAX}", actual=serial)


def _check_name(name: str) -> None:
    if not is_plain_text(name) or name != name.strip():
        raise CardInvalid("name is not printable text without spaces around", actual=ascii(name))
    if not 1 <= len(name.encode()) <= NAME_BYTES_MAX:
        raise CardInvalid("name", expected=f"1…{NAME_BYTES_MAX} bytes", actual=len(name.encode()))


def _check_keys(public_keys: tuple[bytes, ...]) -> None:
    for public_key in public_keys:
        if not ed25519.is_sound_public_key(public_key):
            raise WeakKey("not a sound Ed25519 public key", actual=public_key.hex())
    if len(set(public_keys)) != len(public_keys):
        raise WeakKey("one key for two purposes", expected="four different keys")


def _check_addresses(addresses: tuple[str, ...]) -> None:
    if len(addresses) > ADDRESSES_MAX:
        raise CardInvalid("addresses", expected=f"at most {ADDRESSES_MAX}", actual=len(addresses))
    for address in addresses:
        split_address(address)
    if len(set(addresses)) != len(addresses):
        raise CardInvalid("an address is given twice")
