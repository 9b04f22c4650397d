"""A transparency log that knows nothing of medicine or learning.

Each site keeps one: a hash chain and an RFC 6962 tree over the same signed entries, with signed
heads (C2SP checkpoints) that other sites witness. Format and protocol: LEDGER.md.
"""

from ledger.log.commitments import Secret, commitment_of, opens
from ledger.log.dm1 import Value, decode, encode
from ledger.log.ed25519 import Signer, admit_public_key, verify
from ledger.log.entries import (
    Digest,
    Draft,
    Entry,
    LogId,
    LogIdentity,
    log_id_of,
    origin_of,
    parse_entry,
    verify_entry,
)
from ledger.log.errors import ExitCode, LedgerError, worst_of
from ledger.log.findings import Finding, FindingCode, SigCheck, Verification
from ledger.log.notes import Checkpoint, KeyType, Note, VerifierKey, cosign, note_sign, note_verify
from ledger.log.reader import LogReader, OnDamage
from ledger.log.tree import verify_consistency, verify_inclusion
from ledger.log.verification import verify_log
from ledger.log.view import LogView, PeerHead
from ledger.log.witness import Answer, Status, Witness, WitnessStore
from ledger.log.writer import Committed, Log, Repair

__all__ = [
    "Answer",
    "Checkpoint",
    "Committed",
    "Digest",
    "Draft",
    "Entry",
    "ExitCode",
    "Finding",
    "FindingCode",
    "KeyType",
    "LedgerError",
    "Log",
    "LogId",
    "LogIdentity",
    "LogReader",
    "LogView",
    "Note",
    "OnDamage",
    "PeerHead",
    "Repair",
    "Secret",
    "SigCheck",
    "Signer",
    "Status",
    "Value",
    "Verification",
    "VerifierKey",
    "Witness",
    "WitnessStore",
    "admit_public_key",
    "commitment_of",
    "cosign",
    "decode",
    "encode",
    "log_id_of",
    "note_sign",
    "note_verify",
    "opens",
    "origin_of",
    "parse_entry",
    "verify",
    "verify_consistency",
    "verify_entry",
    "verify_inclusion",
    "verify_log",
    "worst_of",
]
