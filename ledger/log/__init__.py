"""A transparency log that knows nothing of medicine or learning.

Each site keeps one: a hash chain and an RFC 6962 tree over the same signed entries, with signed
heads (C2SP checkpoints) that other sites witness. Format and protocol: LEDGER.md.
"""

from ledger.log.commitments import Secret, commitment_of, opens
from ledger.log.dm1 import Value, decode, encode
from ledger.log.ed25519 import Signer, admit_public_key, verify
from ledger.log.entries import Digest, Draft, Entry, parse_entry, verify_entry
from ledger.log.errors import ExitCode, LedgerError, worst_of
from ledger.log.findings import Finding, FindingCode, SigCheck, Verification
from ledger.log.forks import ForkKind, ForkProof, ForkVerdict, check_fork, decode_fork, encode_fork
from ledger.log.identity import (
    LogId,
    LogIdentity,
    LogKey,
    Previous,
    WitnessKey,
    log_id_of,
    origin_of,
)
from ledger.log.notes import Checkpoint, KeyType, Note, VerifierKey, cosign, note_sign, note_verify
from ledger.log.own_kinds import (
    Compromised,
    Frozen,
    compromise_draft,
    follow,
    fork_draft,
    identity_from,
    redaction_draft,
    sign_rotation,
)
from ledger.log.reader import LogReader, OnDamage
from ledger.log.tree import verify_consistency, verify_inclusion
from ledger.log.verification import verify_log
from ledger.log.view import LogView
from ledger.log.witness import (
    Answer,
    Status,
    Witness,
    WitnessPolicy,
    WitnessStore,
    is_witnessed,
    quorum,
    witnesses_of,
)
from ledger.log.witness_keys import KnownWitness, KnownWitnesses, known_under
from ledger.log.witness_store import EntryForm, HeldHead, MirroredEntry, WitnessDatabase
from ledger.log.writer import Committed, DraftSecret, Log, Repair

__all__ = [
    "Answer",
    "Checkpoint",
    "Committed",
    "Compromised",
    "Digest",
    "Draft",
    "DraftSecret",
    "Entry",
    "EntryForm",
    "ExitCode",
    "Finding",
    "FindingCode",
    "ForkKind",
    "ForkProof",
    "ForkVerdict",
    "Frozen",
    "HeldHead",
    "KeyType",
    "KnownWitness",
    "KnownWitnesses",
    "LedgerError",
    "Log",
    "LogId",
    "LogIdentity",
    "LogKey",
    "LogReader",
    "LogView",
    "MirroredEntry",
    "Note",
    "OnDamage",
    "Previous",
    "Repair",
    "Secret",
    "SigCheck",
    "Signer",
    "Status",
    "Value",
    "Verification",
    "VerifierKey",
    "Witness",
    "WitnessDatabase",
    "WitnessKey",
    "WitnessPolicy",
    "WitnessStore",
    "admit_public_key",
    "check_fork",
    "commitment_of",
    "compromise_draft",
    "cosign",
    "decode",
    "decode_fork",
    "encode",
    "encode_fork",
    "follow",
    "fork_draft",
    "identity_from",
    "is_witnessed",
    "known_under",
    "log_id_of",
    "note_sign",
    "note_verify",
    "opens",
    "origin_of",
    "parse_entry",
    "quorum",
    "redaction_draft",
    "sign_rotation",
    "verify",
    "verify_consistency",
    "verify_entry",
    "verify_inclusion",
    "verify_log",
    "witnesses_of",
    "worst_of",
]
