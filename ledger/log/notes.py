"""Signed notes, checkpoints and cosignatures: how a log's head is shown to anyone.

Responsible for: formatting, signing, parsing and verifying them byte for byte as C2SP says.
Must not know: trees, stores, or whose log it is.

A note is text ending in a newline, a blank line, and signature lines
`— <name> base64(keyid4 ‖ signature)`, with keyid4 = SHA256(name ‖ "\\n" ‖ type ‖ public key)[:4].
Source: c2sp.org/signed-note, c2sp.org/tlog-checkpoint, c2sp.org/tlog-cosignature.
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import assert_never

from ledger.log.dm1 import INT_MAX
from ledger.log.ed25519 import SIGNATURE_BYTES, Signer, admit_public_key, verify
from ledger.log.errors import (
    CheckpointMalformed,
    NoteError,
    NoteMalformed,
    NoteSignatureInvalid,
    NoteTooLarge,
    NoteUnsigned,
    VerifierKeyMalformed,
)
from ledger.log.tree import HASH_BYTES

NOTE_BYTES_MAX = 16_384
SIGNATURES_MAX = 100
KEY_ID_BYTES = 4
_TIME_BYTES = 8
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


class KeyType(IntEnum):
    """The algorithm byte of a note's key."""

    ED25519 = 0x01
    COSIGNATURE_V1 = 0x04


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A name and public key whose note signatures count."""

    name: str
    type: KeyType
    public_key: bytes

    def __post_init__(self) -> None:
        if not _is_name(self.name):
            raise VerifierKeyMalformed(actual=self.name)
        admit_public_key(self.public_key)

    @property
    def key_id(self) -> bytes:
        """The four bytes that a signature line starts with."""
        return key_id_of(self.name, self.type, self.public_key)

    def __str__(self) -> str:
        key = b64encode(bytes([self.type]) + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{key}"

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Read `name+hex8+base64`. Raises VerifierKeyMalformed or KeyRefused."""
        parts = text.split("+", 2)
        data = decode_base64(parts[2]) if len(parts) == 3 else None
        if not data or data[0] not in KeyType.__members__.values():
            raise VerifierKeyMalformed(actual=text)
        key = cls(parts[0], KeyType(data[0]), data[1:])
        if key.key_id.hex() != parts[1]:
            raise VerifierKeyMalformed(expected=key.key_id, actual=parts[1])
        return key


def key_id_of(name: str, key_type: KeyType, public_key: bytes) -> bytes:
    """SHA256(name ‖ "\\n" ‖ type ‖ public key)[:4]."""
    return sha256(name.encode() + b"\n" + bytes([key_type]) + public_key).digest()[:KEY_ID_BYTES]


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One verified signature of a note. `time_s` is what a cosignature states, else None.

    line: the signature line itself, with its newline.
    """

    key: VerifierKey
    time_s: int | None
    line: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A note whose `signatures` (at least one) verified."""

    text: str
    signatures: tuple[NoteSignature, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a log: its origin, number of entries and 32-byte root hash."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The text that is signed: three lines."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """Read exactly three lines (extension lines are refused). Raises CheckpointMalformed."""
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] or not lines[0]:
            raise CheckpointMalformed(actual=text[:80])
        origin, size_text, root_text, _ = lines
        size = int(size_text) if _DECIMAL.fullmatch(size_text) else -1
        if not 0 <= size <= INT_MAX:
            raise CheckpointMalformed("size", expected="a decimal int64", actual=size_text[:40])
        root = decode_base64(root_text)
        if root is None or len(root) != HASH_BYTES:
            raise CheckpointMalformed("root", expected="base64 of 32 bytes", actual=root_text[:80])
        return cls(origin, size, root)


def signature_line(name: str, key_id: bytes, signature: bytes) -> bytes:
    """`— <name> base64(keyid4 ‖ signature)` with its newline."""
    return b"\xe2\x80\x94 " + name.encode() + b" " + b64encode(key_id + signature) + b"\n"


def note_sign(text: str, name: str, signer: Signer) -> bytes:
    """The note of `text` with one Ed25519 signature by `signer` under `name`."""
    key = VerifierKey(name, KeyType.ED25519, signer.public_key)
    return note_with(text, signature_line(name, key.key_id, signer.sign(text.encode())))


def cosign(text: str, name: str, signer: Signer, time_s: int) -> bytes:
    """One cosignature/v1 line over the checkpoint `text`, stating the time `time_s` (unix)."""
    key = VerifierKey(name, KeyType.COSIGNATURE_V1, signer.public_key)
    signature = signer.sign(_cosigned_message(text, time_s))
    return signature_line(name, key.key_id, time_s.to_bytes(_TIME_BYTES, "big") + signature)


def _cosigned_message(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def note_verify(note: bytes, *keys: VerifierKey) -> Note:
    """Parse `note` and verify every signature that claims one of `keys`; others are ignored.

    Raises: NoteTooLarge, NoteMalformed, NoteSignatureInvalid, NoteUnsigned (none of `keys`).
    """
    text, lines = _split_note(note)
    known = {(key.name, key.key_id): key for key in keys}
    verified: dict[VerifierKey, NoteSignature] = {}
    for name, key_id, signature in lines:
        key = known.get((name, key_id))
        if key is None or key in verified:
            continue
        verified[key] = _verified(key, text, signature)
    if not verified:
        raise NoteUnsigned(expected=", ".join(key.name for key in keys))
    return Note(text, tuple(verified.values()))


def cosignatures_of(text: str, lines: Iterable[bytes], *keys: VerifierKey) -> list[NoteSignature]:
    """Those of `lines` that are signatures of `text` by one of `keys`, each key once, in order.

    What does not verify is left out: a stranger's bad line takes nothing from a good one.
    """
    found: dict[VerifierKey, NoteSignature] = {}
    for line in lines:
        try:
            note = note_verify(note_with(text, line), *keys)
        except NoteError:
            continue
        for signature in note.signatures:
            found.setdefault(signature.key, signature)
    return list(found.values())


def stated_in(line: bytes) -> tuple[str, bytes, int]:
    """(witness's name, key id, unix time) that a cosignature line states, *not verified*.

    Raises: NoteMalformed.
    """
    try:
        name, key_id, stated = _split_signature(line.decode().removesuffix("\n"))
    except UnicodeDecodeError as error:
        raise NoteMalformed(actual=error.reason) from None
    if len(stated) != _TIME_BYTES + SIGNATURE_BYTES:
        raise NoteMalformed("cosignature", expected="a time and a signature")
    return name, key_id, int.from_bytes(stated[:_TIME_BYTES], "big")


def signature_lines(note: bytes) -> tuple[bytes, ...]:
    """The signature lines of a well-formed note, *not verified*, each with its newline.

    Raises: NoteTooLarge, NoteMalformed.
    """
    return tuple(signature_line(name, key, stated) for name, key, stated in _split_note(note)[1])


def note_text(note: bytes) -> str:
    """The text of a well-formed note, *no signature verified*: to find out whose key to ask for.

    Raises: NoteTooLarge, NoteMalformed.
    """
    return _split_note(note)[0]


def note_with(text: str, *lines: bytes) -> bytes:
    """The note of `text` under these signature lines."""
    return text.encode() + b"\n" + b"".join(lines)


def _verified(key: VerifierKey, text: str, stated: bytes) -> NoteSignature:
    signature = stated
    match key.type:
        case KeyType.ED25519:
            time_s, message = None, text.encode()
        case KeyType.COSIGNATURE_V1:
            time_s = int.from_bytes(signature[:_TIME_BYTES], "big")
            message, signature = _cosigned_message(text, time_s), signature[_TIME_BYTES:]
        case _:  # pragma: no cover
            assert_never(key.type)
    if len(signature) != SIGNATURE_BYTES or not verify(key.public_key, message, signature):
        raise NoteSignatureInvalid(actual=key.name)
    return NoteSignature(key, time_s, signature_line(key.name, key.key_id, stated))


def _split_note(note: bytes) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """The text, and (name, key id, signature) of each signature line."""
    if len(note) > NOTE_BYTES_MAX:
        raise NoteTooLarge(expected=f"at most {NOTE_BYTES_MAX}", actual=len(note))
    try:
        content = note.decode()
    except UnicodeDecodeError as error:
        raise NoteMalformed(actual=error.reason) from None
    if any(character < " " and character != "\n" for character in content):
        raise NoteMalformed("a control character")
    text, blank, tail = content.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise NoteMalformed("no signature lines at the end")
    lines = tail[:-1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise NoteMalformed(expected=f"at most {SIGNATURES_MAX} signatures", actual=len(lines))
    return text + "\n", [_split_signature(line) for line in lines]


def _split_signature(line: str) -> tuple[str, bytes, bytes]:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "—" or not _is_name(parts[1]):
        raise NoteMalformed(actual=line[:80])
    data = decode_base64(parts[2])
    if data is None or len(data) <= KEY_ID_BYTES:
        raise NoteMalformed("signature", actual=parts[2][:80])
    return parts[1], data[:KEY_ID_BYTES], data[KEY_ID_BYTES:]


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(map(str.isspace, name))


def decode_base64(text: str) -> bytes | None:
    """Decoded standard base64, or None unless `text` is the one encoding of its bytes."""
    if not text.isascii():
        return None
    try:
        decoded = b64decode(text, validate=True)
    except Base64Error:
        return None
    return decoded if b64encode(decoded).decode() == text else None
