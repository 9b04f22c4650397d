"""An invitation to a consortium, the answer to it, and what the two sites then say to each other.

The invitation goes to one person over a channel that its sender trusts. Whoever holds it may ask
to be proposed, and no more: people compare fingerprints and vote. Everything that answers it is
sealed under its secret, so that nobody else can ask, answer or listen.

Format, msgpack as `gossip.wire` reads it; a line is its prefix and the URL-safe base64 of
`bytes ‖ first 4 bytes of SHA256("p2pfl/line/v1\\0" ‖ bytes)`; spaces and line ends do not count:
  invitation  [1, consortium, inviter's I_pk, admission "host:port" or "", digest of the roster in
               force, secret, last second of its life]
  reply       [1, invitation's id, box under "reply" of the card]
  ask         box under "ask" of     [1, 16 random bytes, card]
  answer      box under "answer" of  [1, the same 16 bytes, state, chain or nothing]
  receipt     box under "ask" of     [2, the same 16 bytes]
  id          first 16 bytes of SHA256("p2pfl/invitation-id/v1\\0" ‖ secret)
  box under P XSalsa20-Poly1305, nonce first, key BLAKE2b-256(key secret, person "p2pfl-" ‖ P)
"""

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from gossip import ed25519
from gossip.addresses import split_address
from gossip.card import Card, decode_card, encode_card
from gossip.errors import BadSeal, Garbled, InvitationInvalid, TooLarge, WeakKey
from gossip.identifiers import ID_BYTES, Digest, SiteId, site_id_of
from gossip.limits import (
    ADDRESS_BYTES_MAX,
    CARD_BYTES_MAX,
    CHAIN_BYTES_MAX,
    CONSORTIUM_BYTES_MAX,
    INT_MAX,
)
from gossip.wire import Reader, pack

INVITATION_PREFIX: Final = "p2pfl-invitation-1."
REPLY_PREFIX: Final = "p2pfl-reply-1."
SECRET_BYTES: Final = 32
TAG_BYTES: Final = 16
"""Of an invitation's id, and of what ties an answer to its question."""
LINE_CHARACTERS_MAX: Final = 8 * 1024
ASK_BYTES_MAX: Final = CARD_BYTES_MAX + 128
ANSWER_BYTES_MAX: Final = CHAIN_BYTES_MAX + 128

_FORMAT = 1
_RECEIPT = 2
_CHECK_BYTES = 4

RandomBytes = Callable[[int], bytes]


class AdmissionState(Enum):
    """How an applicant stands; the values are the wire's."""

    WAITING = 1
    """The card is kept; people have to propose and sign it."""
    IN_FORCE = 2
    """The site is a member; the chain of rosters comes with the answer."""
    TAKEN = 3
    """Another site answered this invitation before."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """admission: where the inviter's node answers, "host:port"; empty: nowhere.

    roster: the one in force when it was made. expires_s: unix. Raises InvitationInvalid, WeakKey,
    CardInvalid for an address."""

    consortium: str
    inviter_pk: bytes
    admission: str
    roster: Digest
    secret: bytes = field(repr=False)
    expires_s: int = 0

    def __post_init__(self) -> None:
        if not ed25519.is_sound_public_key(self.inviter_pk):
            raise WeakKey("not a sound Ed25519 public key", actual=self.inviter_pk.hex())
        if self.admission:
            split_address(self.admission)
        if len(self.secret) != SECRET_BYTES:
            raise InvitationInvalid("secret", expected=SECRET_BYTES, actual=len(self.secret))

    @property
    def id(self) -> bytes:
        """Names it without telling the secret."""
        return hashlib.sha256(b"p2pfl/invitation-id/v1\0" + self.secret).digest()[:TAG_BYTES]

    @property
    def inviter(self) -> SiteId:
        """Whose invitation it is."""
        return site_id_of(self.inviter_pk)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the inviter's node says; chain: as `gossip.roster_chain` writes it, not judged yet."""

    state: AdmissionState
    chain: bytes = b""


# -- lines that people paste ---------------------------------------------------------------------


def invitation_line(invitation: Invitation) -> str:
    """The one line for the new site; it holds the secret."""
    stated = (
        _FORMAT,
        invitation.consortium,
        invitation.inviter_pk,
        invitation.admission,
        invitation.roster,
        invitation.secret,
        invitation.expires_s,
    )
    return _line(INVITATION_PREFIX, pack(stated))


def read_invitation(line: str) -> Invitation:
    """An invitation from text that anybody may have written. Raises PeerError."""
    reader = Reader(_unlined(INVITATION_PREFIX, line))
    reader.array(7, 7)
    reader.integer(_FORMAT, _FORMAT)
    invitation = Invitation(
        consortium=reader.text(1, CONSORTIUM_BYTES_MAX),
        inviter_pk=reader.blob(ed25519.PUBLIC_KEY_BYTES, ed25519.PUBLIC_KEY_BYTES),
        admission=reader.text(0, ADDRESS_BYTES_MAX),
        roster=Digest(reader.blob(ID_BYTES, ID_BYTES)),
        secret=reader.blob(SECRET_BYTES, SECRET_BYTES),
        expires_s=reader.integer(0, INT_MAX),
    )
    reader.end()
    return invitation


def reply_line(invitation: Invitation, card: Card, random_bytes: RandomBytes) -> str:
    """The line that goes back; only the inviter can read it."""
    box = _seal(invitation.secret, "reply", encode_card(card), random_bytes)
    return _line(REPLY_PREFIX, pack((_FORMAT, invitation.id, box)))


def read_reply_id(line: str) -> bytes:
    """Which invitation a reply belongs to. Raises PeerError."""
    return _read_reply(line)[0]


def open_reply(invitation: Invitation, line: str) -> Card:
    """The card in a reply to this invitation. Raises PeerError, BadSeal for another's."""
    _, box = _read_reply(line)
    return decode_card(_open(invitation.secret, "reply", box))


def _read_reply(line: str) -> tuple[bytes, bytes]:
    reader = Reader(_unlined(REPLY_PREFIX, line))
    reader.array(3, 3)
    reader.integer(_FORMAT, _FORMAT)
    tag, box = reader.blob(TAG_BYTES, TAG_BYTES), reader.blob(1, ASK_BYTES_MAX)
    reader.end()
    return tag, box


# -- frames between the joiner and the inviter's node --------------------------------------------


def seal_ask(secret: bytes, asked: bytes, card: Card, random_bytes: RandomBytes) -> bytes:
    """What a joiner says. asked: random bytes that the answer has to repeat."""
    return _seal(secret, "ask", pack((_FORMAT, asked, encode_card(card))), random_bytes)


def open_ask(secret: bytes, box: bytes) -> tuple[bytes, Card]:
    """`asked`, and the joiner's card. Raises PeerError; BadSeal under another secret."""
    reader = Reader(_open(secret, "ask", box))
    reader.array(3, 3)
    reader.integer(_FORMAT, _FORMAT)
    asked, card = reader.blob(TAG_BYTES, TAG_BYTES), reader.blob(1, CARD_BYTES_MAX)
    reader.end()
    return asked, decode_card(card)


def seal_answer(secret: bytes, asked: bytes, answer: Answer, random_bytes: RandomBytes) -> bytes:
    """What the inviter's node says."""
    stated = (_FORMAT, asked, answer.state.value, answer.chain)
    return _seal(secret, "answer", pack(stated), random_bytes)


def open_answer(secret: bytes, asked: bytes, box: bytes) -> Answer:
    """The answer to what was asked just now. Raises PeerError; InvitationInvalid for a replay."""
    reader = Reader(_open(secret, "answer", box))
    reader.array(4, 4)
    reader.integer(_FORMAT, _FORMAT)
    if reader.blob(TAG_BYTES, TAG_BYTES) != asked:
        raise InvitationInvalid("the answer belongs to another question")
    state = AdmissionState(reader.integer(1, len(AdmissionState)))
    chain = reader.blob(0, CHAIN_BYTES_MAX)
    reader.end()
    return Answer(state, chain)


def seal_receipt(secret: bytes, asked: bytes, random_bytes: RandomBytes) -> bytes:
    """The joiner holds the chain and verified it."""
    return _seal(secret, "ask", pack((_RECEIPT, asked)), random_bytes)


def is_receipt(secret: bytes, asked: bytes, box: bytes) -> bool:
    """Whether these bytes say so."""
    try:
        return _open(secret, "ask", box) == pack((_RECEIPT, asked))
    except BadSeal:
        return False


def unwrapped(line: str) -> str:
    """A line as it was, before a mail program wrapped or quoted it."""
    return "".join(line.replace(">", " ").split())


# -- inside --------------------------------------------------------------------------------------


def _line(prefix: str, body: bytes) -> str:
    return prefix + base64.urlsafe_b64encode(body + _check(body)).decode("ascii").rstrip("=")


def _unlined(prefix: str, line: str) -> bytes:
    if len(line) > LINE_CHARACTERS_MAX:
        raise TooLarge("line", expected=f"at most {LINE_CHARACTERS_MAX}", actual=len(line))
    text = unwrapped(line)
    if not text.startswith(prefix):
        raise InvitationInvalid("it does not begin as such a line does", expected=prefix)
    encoded = text.removeprefix(prefix)
    try:
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvitationInvalid("a character in it is wrong or missing") from error
    body, check = raw[:-_CHECK_BYTES], raw[-_CHECK_BYTES:]
    if not body or check != _check(body):
        raise InvitationInvalid("its checksum does not fit: a part is missing or changed")
    return body


def _check(body: bytes) -> bytes:
    return hashlib.sha256(b"p2pfl/line/v1\0" + body).digest()[:_CHECK_BYTES]


def _box(secret: bytes, purpose: str) -> SecretBox:
    person = f"p2pfl-{purpose}".encode("ascii")
    return SecretBox(hashlib.blake2b(key=secret, digest_size=32, person=person).digest())


def _seal(secret: bytes, purpose: str, content: bytes, random_bytes: RandomBytes) -> bytes:
    return bytes(_box(secret, purpose).encrypt(content, random_bytes(SecretBox.NONCE_SIZE)))


def _open(secret: bytes, purpose: str, box: bytes) -> bytes:
    if len(box) < SecretBox.NONCE_SIZE + SecretBox.MACBYTES:
        raise Garbled("sealed bytes end too early", actual=len(box))
    try:
        return _box(secret, purpose).decrypt(box)
    except CryptoError as error:
        raise BadSeal("not sealed under this invitation's secret") from error
