"""The genesis entry: what binds a log's keys, and the log it goes on from, if any.

Responsible for: the body of entry 0, and the identity that it proves.
Must not know: where entries are stored.

    body = {deployment, identity_pk, log_pk, nonce, witness_pk, binding[, previous]}
    previous = {log_id, missing_from, note}
    binding = Ed25519(I, "dl-ledger/genesis/v1\\0" ‖ dm1{every field but binding})
Source: LEDGER.md, Keys.
"""

from collections.abc import Mapping

from ledger.log.dm1 import Value, encode
from ledger.log.ed25519 import Signer, admit_public_key, verify
from ledger.log.entries import (
    GENESIS_KIND,
    NO_PREVIOUS,
    Draft,
    parse_entry,
    verify_entry,
    verify_link,
)
from ledger.log.errors import GenesisInvalid, KeyRefused, NoteError
from ledger.log.identity import (
    LogId,
    LogIdentity,
    Previous,
    WitnessKey,
    log_id_of,
    log_key_of,
    origin_of,
)
from ledger.log.notes import Checkpoint, note_text
from ledger.log.tree import HASH_BYTES

GENESIS_DOMAIN = b"dl-ledger/genesis/v1\0"
NONCE_BYTES = 32
_FIELDS = frozenset(
    {"binding", "deployment", "identity_pk", "log_pk", "nonce", "previous", "witness_pk"}
)


def genesis_draft(
    *,
    deployment: str,
    identity: Signer,
    log_pk: bytes,
    witness_pk: bytes,
    nonce: bytes,
    previous: Previous | None = None,
) -> Draft:
    """The genesis entry's draft: three keys, bound together by the identity key's signature.

    previous: the log that this one goes on from, after a loss or a fork.
    Raises: GenesisInvalid, KeyRefused.
    """
    if len(nonce) != NONCE_BYTES:
        raise GenesisInvalid("nonce", expected=NONCE_BYTES, actual=len(nonce))
    if len({identity.public_key, log_pk, witness_pk}) != 3:
        raise GenesisInvalid("identity, log and witness keys differ")
    for key in (identity.public_key, log_pk, witness_pk):
        admit_public_key(key)
    origin_of(deployment, b"")
    bindings: dict[str, Value] = {
        "deployment": deployment,
        "identity_pk": identity.public_key,
        "log_pk": log_pk,
        "nonce": nonce,
        "witness_pk": witness_pk,
    }
    if previous is not None:
        _check_previous(previous, log_id_of(identity.public_key, nonce))
        bindings["previous"] = {
            "log_id": previous.log_id,
            "missing_from": previous.missing_from,
            "note": previous.note,
        }
    signature = identity.sign(GENESIS_DOMAIN + encode(bindings))
    return Draft(GENESIS_KIND, "node", {**bindings, "binding": signature})


def identity_from_body(body: Mapping[str, Value]) -> LogIdentity:
    """The identity that a genesis body binds, its binding signature verified.

    Raises: GenesisInvalid, KeyRefused.
    """
    bindings = {key: value for key, value in body.items() if key != "binding"}
    match body:
        case {
            "binding": bytes(signature),
            "deployment": str(deployment),
            "identity_pk": bytes(identity_pk),
            "log_pk": bytes(log_pk),
            "nonce": bytes(nonce),
            "witness_pk": bytes(witness_pk),
        } if len(nonce) == NONCE_BYTES and body.keys() <= _FIELDS:
            pass
        case _:
            raise GenesisInvalid("fields")
    for key in (identity_pk, log_pk, witness_pk):
        admit_public_key(key)
    if not verify(identity_pk, GENESIS_DOMAIN + encode(bindings), signature):
        raise GenesisInvalid("the identity key did not sign these bindings")
    log_id = log_id_of(identity_pk, nonce)
    origin = origin_of(deployment, log_id)
    keys = (log_key_of(origin, log_pk, 0),)
    previous = _previous_from(body, log_id)
    witnesses = (WitnessKey(witness_pk),)
    return LogIdentity(log_id, origin, deployment, identity_pk, witnesses, nonce, keys, previous)


def _previous_from(body: Mapping[str, Value], log_id: LogId) -> Previous | None:
    match body.get("previous"):
        case None:
            return None
        case {
            "log_id": bytes(old_id),
            "missing_from": int(missing_from),
            "note": bytes(note),
            **rest,
        } if not rest and type(missing_from) is int:
            previous = Previous(LogId(old_id), note, missing_from)
            _check_previous(previous, log_id)
            return previous
        case _:
            raise GenesisInvalid("previous", expected="log_id, missing_from and note")


def _check_previous(previous: Previous, log_id: LogId) -> None:
    """Raises GenesisInvalid unless `previous` names another log, and its note is that log's."""
    if len(previous.log_id) != HASH_BYTES or previous.log_id == log_id:
        raise GenesisInvalid("previous", expected="another log's id", actual=previous.log_id)
    size = 0
    if previous.note:
        try:
            head = Checkpoint.parse(note_text(previous.note))
        except NoteError as error:
            raise GenesisInvalid(f"previous: {error}") from error
        if not head.origin.endswith(f"/{previous.log_id.hex()}"):
            raise GenesisInvalid("previous", expected=previous.log_id, actual=head.origin[:160])
        size = head.size
    if not 0 <= previous.missing_from <= size:
        raise GenesisInvalid(
            "previous", expected=f"missing from 0 … {size}", actual=previous.missing_from
        )


def parse_genesis(raw: bytes) -> LogIdentity:
    """The identity bound by the genesis entry `raw`, everything in it verified.

    Raises: GenesisInvalid, EntryError, EncodingError.
    """
    entry = parse_entry(raw)
    if entry.kind != GENESIS_KIND:
        raise GenesisInvalid(expected=GENESIS_KIND, actual=entry.kind)
    try:
        identity = identity_from_body(entry.body)
    except KeyRefused as error:
        raise GenesisInvalid(str(error)) from error
    verify_link(entry, 0, NO_PREVIOUS)
    verify_entry(entry, identity)
    return identity
