"""The few kinds by which a log speaks of itself: its keys, its forks, its redactions.

Responsible for: their bodies, what proves them, and the drafts that make them.
Must not know: any other kind, where entries are stored, or who reads them.

    key.rotated{key: "log", new, old, statement}         signed by the old log key
    statement = Ed25519(I, "dl-ledger/rotation/v1\\0" ‖ dm1{key, log_id, new, old})
    key.compromised{key: "log", public_key, since_us}    under a later log key
    fork.found{form, log_id, proof[, witness]}           freezes the log if it names its own id
                                                         (but K4, which accuses a witness)
    redacted{basis, field, seq}                          the secret behind a commitment was erased
`key` may name other keys of the site; such entries mean nothing to the log itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ledger.log.dm1 import Value, encode
from ledger.log.ed25519 import Signer, admit_public_key, verify
from ledger.log.entries import Draft, Entry, verify_entry
from ledger.log.errors import KeyChangeInvalid, KeyRefused
from ledger.log.identity import LogIdentity

KEY_ROTATED = "key.rotated"
KEY_COMPROMISED = "key.compromised"
FORK_FOUND = "fork.found"
REDACTED = "redacted"
COSIGNED_BOTH = "K4"
OWN_KINDS = (FORK_FOUND, KEY_COMPROMISED, KEY_ROTATED, REDACTED)

ROTATION_DOMAIN = b"dl-ledger/rotation/v1\0"
LOG_KEY = "log"
COMMITMENT_SUFFIX = "_commit"


@dataclass(frozen=True, slots=True)
class Frozen:
    """The entry that froze a log: the proof that it told two histories has this digest."""

    seq: int
    proof: bytes


@dataclass(frozen=True, slots=True)
class Compromised:
    """From this time on (µs UTC) somebody else may have signed with this log key."""

    public_key: bytes
    since_us: int


def sign_rotation(log_id: bytes, *, old_pk: bytes, new_pk: bytes, identity: Signer) -> bytes:
    """The identity key's statement that a log's key is replaced; a key serves a log once."""
    return identity.sign(_rotation_message(log_id, old_pk, new_pk))


def _rotation_message(log_id: bytes, old_pk: bytes, new_pk: bytes) -> bytes:
    fields: dict[str, Value] = {"key": LOG_KEY, "log_id": log_id, "new": new_pk, "old": old_pk}
    return ROTATION_DOMAIN + encode(fields)


def rotation_draft(identity: LogIdentity, new_pk: bytes, statement: bytes, actor: str) -> Draft:
    """The entry that replaces the log key in force by `new_pk`."""
    body: dict[str, Value] = {
        "key": LOG_KEY,
        "new": new_pk,
        "old": identity.log_pk,
        "statement": statement,
    }
    return Draft(KEY_ROTATED, actor, body)


def compromise_draft(public_key: bytes, since_us: int, actor: str) -> Draft:
    """The entry that says since when an earlier log key must not be believed."""
    return Draft(
        KEY_COMPROMISED, actor, {"key": LOG_KEY, "public_key": public_key, "since_us": since_us}
    )


def fork_draft(log_id: bytes, form: str, proof: bytes, actor: str) -> Draft:
    """The entry that a log told two histories. form: K1 … K4; proof: digest of the proof file."""
    return Draft(FORK_FOUND, actor, {"form": form, "log_id": log_id, "proof": proof})


def redaction_draft(seq: int, field: str, basis: str, actor: str) -> Draft:
    """The entry that the secret `field` of entry `seq` was erased, on this legal basis."""
    return Draft(REDACTED, actor, {"basis": basis, "field": field, "seq": seq})


def is_log_rotation(kind: str, body: Mapping[str, Value]) -> bool:
    """True if this would replace the key that signs the log."""
    return kind == KEY_ROTATED and body.get("key") == LOG_KEY


def rotated(identity: LogIdentity, seq: int, body: Mapping[str, Value]) -> LogIdentity:
    """`identity` after a log key's rotation that is (or becomes) entry `seq`.

    The caller sees to it that the entry itself is signed by the old key.
    Raises: KeyChangeInvalid unless the identity key signed the change from the key in force to
    one that this log never had.
    """
    match body:
        case {
            "key": "log",
            "new": bytes(new_pk),
            "old": bytes(old_pk),
            "statement": bytes(statement),
            **rest,
        } if not rest:
            pass
        case _:
            raise KeyChangeInvalid(f"entry {seq}", expected="key, new, old, statement")
    try:
        admit_public_key(new_pk)
    except KeyRefused as error:
        raise KeyChangeInvalid(f"entry {seq}: {error}") from error
    if old_pk != identity.log_pk:
        raise KeyChangeInvalid(f"entry {seq}", expected=identity.log_pk, actual=old_pk)
    if new_pk in {
        identity.identity_pk,
        identity.witness_pk,
        *(k.public_key for k in identity.keys),
    }:
        raise KeyChangeInvalid(f"entry {seq}", expected="a key of its own, never used before")
    message = _rotation_message(identity.log_id, old_pk, new_pk)
    if not verify(identity.identity_pk, message, statement):
        raise KeyChangeInvalid(f"entry {seq}: the identity key did not sign the change")
    return identity.with_key(new_pk, seq + 1)


def follow(identity: LogIdentity, entry: Entry) -> LogIdentity:
    """The log's identity after `entry`, the next of its `key.rotated` entries.

    For whoever mirrors a log: entries must come in order. Entries that do not replace the log
    key change nothing. Raises: KeyChangeInvalid, EntryError.
    """
    if not is_log_rotation(entry.kind, entry.body):
        return identity
    verify_entry(entry, identity)
    return rotated(identity, entry.seq, entry.body)


def freezes(log_id: bytes, kind: str, body: Mapping[str, Value]) -> bool:
    """True if this says that the log `log_id` itself told two histories.

    A K4 does not: anybody may cosign two inventions about a log.
    """
    is_about = kind == FORK_FOUND and body.get("log_id") == log_id
    return is_about and body.get("form") != COSIGNED_BOTH


def frozen_by(identity: LogIdentity, entry: Entry) -> Frozen | None:
    """What `entry` says if it freezes its own log."""
    if not freezes(identity.log_id, entry.kind, entry.body):
        return None
    proof = entry.body.get("proof")
    return Frozen(entry.seq, proof if isinstance(proof, bytes) else b"")


def compromised_by(identity: LogIdentity, entry: Entry) -> Compromised | None:
    """What `entry` says if it disowns one of the log's keys."""
    match entry.body:
        case {"key": "log", "public_key": bytes(public_key), "since_us": int(since_us)} if (
            entry.kind == KEY_COMPROMISED
        ):
            known = any(key.public_key == public_key for key in identity.keys)
            return Compromised(public_key, since_us) if known else None
        case _:
            return None


def redaction_in(kind: str, body: Mapping[str, Value]) -> tuple[int, str] | None:
    """(entry number, field) of the secret that this says was erased."""
    match body:
        case {"field": str(field), "seq": int(seq)} if kind == REDACTED:
            return seq, field
        case _:
            return None


def commitment_in(body: Mapping[str, Value], field: str) -> bytes | None:
    """The commitment to the secret `field` in an entry's body, if there is one."""
    found = body.get(field + COMMITMENT_SUFFIX)
    return found if isinstance(found, bytes) else None
