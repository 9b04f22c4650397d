"""The few kinds by which a log speaks of itself: its keys, its forks, its redactions.

Responsible for: their bodies, what proves them, and the drafts that make them.
Must not know: any other kind, where entries are stored, or who reads them.

    key.rotated{key: "log", new, old, statement}         signed by the old log key
    statement = Ed25519(I, "dl-ledger/rotation/v1\\0" ‖ dm1{key, log_id, new, old})
    key.compromised{key: "log", public_key, since_us}    under a later log key
    key.rotated and key.compromised with key: "witness"  alike: the site cosigns under another key
    fork.found{form, log_id, proof[, witness]}           freezes the log if it names its own id
                                                         (but K4, which accuses a witness)
    redacted{basis, field, seq}                          the secret behind a commitment was erased
`key` may name other keys of the site; such entries mean nothing to the log itself, and neither does
a `key.rotated` of the witness key without a statement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ledger.log.dm1 import Value, encode
from ledger.log.ed25519 import Signer, admit_public_key, verify
from ledger.log.entries import Draft, Entry, parse_entry, verify_entry
from ledger.log.errors import KeyChangeInvalid, KeyRefused
from ledger.log.genesis import parse_genesis
from ledger.log.identity import LogIdentity

KEY_ROTATED = "key.rotated"
KEY_COMPROMISED = "key.compromised"
FORK_FOUND = "fork.found"
REDACTED = "redacted"
COSIGNED_BOTH = "K4"
OWN_KINDS = (FORK_FOUND, KEY_COMPROMISED, KEY_ROTATED, REDACTED)

ROTATION_DOMAIN = b"dl-ledger/rotation/v1\0"
LOG_KEY = "log"
WITNESS_KEY = "witness"
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


def sign_rotation(
    log_id: bytes, *, old_pk: bytes, new_pk: bytes, identity: Signer, key: str = LOG_KEY
) -> bytes:
    """The identity key's statement that a key is replaced; a key serves a log once.

    key: `LOG_KEY` or `WITNESS_KEY`."""
    return identity.sign(_rotation_message(key, log_id, old_pk, new_pk))


def _rotation_message(key: str, log_id: bytes, old_pk: bytes, new_pk: bytes) -> bytes:
    fields: dict[str, Value] = {"key": key, "log_id": log_id, "new": new_pk, "old": old_pk}
    return ROTATION_DOMAIN + encode(fields)


def rotation_draft(
    identity: LogIdentity, new_pk: bytes, statement: bytes, actor: str, key: str = LOG_KEY
) -> Draft:
    """The entry that replaces the log key, or the witness key, in force by `new_pk`."""
    body: dict[str, Value] = {
        "key": key,
        "new": new_pk,
        "old": identity.log_pk if key == LOG_KEY else identity.witness_pk,
        "statement": statement,
    }
    return Draft(KEY_ROTATED, actor, body)


def compromise_draft(public_key: bytes, since_us: int, actor: str, key: str = LOG_KEY) -> Draft:
    """The entry that says since when an earlier log or witness key must not be believed."""
    return Draft(
        KEY_COMPROMISED, actor, {"key": key, "public_key": public_key, "since_us": since_us}
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


def is_witness_rotation(kind: str, body: Mapping[str, Value]) -> bool:
    """True if this would replace the key under which the log's site cosigns."""
    return kind == KEY_ROTATED and body.get("key") == WITNESS_KEY and "statement" in body


def rotated(identity: LogIdentity, seq: int, body: Mapping[str, Value]) -> LogIdentity:
    """`identity` after a log key's rotation that is (or becomes) entry `seq`.

    The caller sees to it that the entry itself is signed by the old key.
    Raises: KeyChangeInvalid unless the identity key signed the change from the key in force to
    one that this log never had.
    """
    new_pk = _checked_change(identity, seq, body, LOG_KEY, identity.log_pk)
    return identity.with_key(new_pk, seq + 1)


def witness_rotated(
    identity: LogIdentity, seq: int, time_us: int, body: Mapping[str, Value]
) -> LogIdentity:
    """`identity` after a witness key's rotation that is (or becomes) entry `seq`, at that time.

    Raises: like `rotated`.
    """
    new_pk = _checked_change(identity, seq, body, WITNESS_KEY, identity.witness_pk)
    return identity.with_witness(new_pk, time_us)


def _checked_change(
    identity: LogIdentity, seq: int, body: Mapping[str, Value], key: str, in_force: bytes
) -> bytes:
    """The new public key of a sound change. Raises KeyChangeInvalid."""
    match body:
        case {
            "key": str(named),
            "new": bytes(new_pk),
            "old": bytes(old_pk),
            "statement": bytes(statement),
            **rest,
        } if named == key and not rest:
            pass
        case _:
            raise KeyChangeInvalid(f"entry {seq}", expected="key, new, old, statement")
    try:
        admit_public_key(new_pk)
    except KeyRefused as error:
        raise KeyChangeInvalid(f"entry {seq}: {error}") from error
    if old_pk != in_force:
        raise KeyChangeInvalid(f"entry {seq}", expected=in_force, actual=old_pk)
    if new_pk in {
        identity.identity_pk,
        *(k.public_key for k in identity.witnesses),
        *(k.public_key for k in identity.keys),
    }:
        raise KeyChangeInvalid(f"entry {seq}", expected="a key of its own, never used before")
    message = _rotation_message(key, identity.log_id, old_pk, new_pk)
    if not verify(identity.identity_pk, message, statement):
        raise KeyChangeInvalid(f"entry {seq}: the identity key did not sign the change")
    return new_pk


def follow(identity: LogIdentity, entry: Entry) -> LogIdentity:
    """The log's identity after `entry`, the next of those that change its keys.

    For whoever mirrors a log: entries must come in order. Entries that change neither the log key
    nor witness keys change nothing. Raises: KeyChangeInvalid, EntryError.
    """
    if is_log_rotation(entry.kind, entry.body):
        verify_entry(entry, identity)
        return rotated(identity, entry.seq, entry.body)
    changed = witness_changed(identity, entry)
    if changed is not identity:
        verify_entry(entry, identity)
    return changed


def witness_changed(identity: LogIdentity, entry: Entry) -> LogIdentity:
    """`identity` itself, unless `entry` replaces its witness key or disowns one of them.

    The caller sees to it that the log signed the entry. Raises: KeyChangeInvalid.
    """
    if is_witness_rotation(entry.kind, entry.body):
        return witness_rotated(identity, entry.seq, entry.time_us, entry.body)
    lost = witness_compromised_by(identity, entry)
    return identity.without_witness(lost.public_key, lost.since_us) if lost else identity


def changes_keys(identity: LogIdentity, entry: Entry) -> bool:
    """Whether others must know `entry` to know the log's keys. identity: after that entry."""
    if is_log_rotation(entry.kind, entry.body) or is_witness_rotation(entry.kind, entry.body):
        return True
    lost = compromised_by(identity, entry)
    if lost is not None:
        return lost.public_key != identity.log_pk  # that one goes on signing until it is replaced
    return witness_compromised_by(identity, entry) is not None


def identity_from(entries: Sequence[bytes]) -> LogIdentity | None:
    """Whose log it is and its keys, from its raw genesis entry and those that changed its keys.

    None without any. Raises: GenesisInvalid, KeyChangeInvalid, EntryError.
    """
    identity = parse_genesis(entries[0]) if entries else None
    for raw in entries[1:]:
        assert identity is not None, "there is a first entry"
        identity = follow(identity, parse_entry(raw))
    return identity


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


def witness_compromised_by(identity: LogIdentity, entry: Entry) -> Compromised | None:
    """What `entry` says if it disowns a witness key that was replaced."""
    match entry.body:
        case {"key": "witness", "public_key": bytes(public_key), "since_us": int(since_us)} if (
            entry.kind == KEY_COMPROMISED
        ):
            known = any(key.public_key == public_key for key in identity.witnesses[:-1])
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
