"""Named errors of the transparency log, one per violated rule, and the exit codes of its commands.

Responsible for: naming what was violated, with expected and actual, and what to do next.
Must not know: how any rule is checked.
"""

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What a ledger command ends with; of several findings the worst one wins (`worst_of`)."""

    CLEAN = 0
    INTEGRITY_BROKEN = 10
    ROLLBACK = 11
    FORK_PROVEN = 12
    RULE_VIOLATED = 13
    EVIDENCE_INCOMPLETE = 14
    USAGE = 64
    INPUT_OUTPUT = 74
    LOCKED = 75


# A proven fork says more than a broken chain, which says more than missing evidence.
_WORST_FIRST = (
    ExitCode.FORK_PROVEN,
    ExitCode.ROLLBACK,
    ExitCode.INTEGRITY_BROKEN,
    ExitCode.RULE_VIOLATED,
    ExitCode.EVIDENCE_INCOMPLETE,
    ExitCode.INPUT_OUTPUT,
    ExitCode.LOCKED,
    ExitCode.USAGE,
    ExitCode.CLEAN,
)


def worst_of(*codes: ExitCode) -> ExitCode:
    """The most serious of `codes`; CLEAN when there are none."""
    return min(codes, key=_WORST_FIRST.index, default=ExitCode.CLEAN)


class LedgerError(Exception):
    """The log refused something. `rule` says what must hold, `next_step` what to do now."""

    rule: ClassVar[str] = "the log refused this"
    next_step: ClassVar[str] = ""
    exit_code: ClassVar[ExitCode] = ExitCode.INTEGRITY_BROKEN

    def __init__(self, detail: str = "", *, expected: object = None, actual: object = None) -> None:
        self.detail = detail
        self.expected = expected
        self.actual = actual
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        parts = [self.rule]
        if self.detail:
            parts.append(f": {self.detail}")
        if self.expected is not None:
            parts.append(f"; expected {_shown(self.expected)}")
        if self.actual is not None:
            parts.append(f"; found {_shown(self.actual)}")
        if self.next_step:
            parts.append(f". {self.next_step}")
        return "".join(parts)


def _shown(value: object) -> str:
    # Bytes are hex at the edge, and nothing hostile may make a message long.
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if len(text) <= 160 else text[:157] + "..."


# --- dm1 encoding ---------------------------------------------------------------------------


class EncodingError(LedgerError):
    rule = "the value is not valid dm1"


class TooManyBytes(EncodingError):
    rule = "an encoded value has a size limit"


class TooDeep(EncodingError):
    rule = "lists and maps may be nested 16 deep"


class Truncated(EncodingError):
    rule = "the encoding ends before the value does"


class TrailingBytes(EncodingError):
    rule = "nothing may follow the value"


class Garbled(EncodingError):
    rule = "the bytes are not msgpack"


class NotShortest(EncodingError):
    rule = "every value has exactly one encoding, the shortest"


class FloatRefused(EncodingError):
    rule = "dm1 has no floating point: write a decimal string"


class NilRefused(EncodingError):
    rule = "dm1 has no nil: leave the key out"


class ExtensionRefused(EncodingError):
    rule = "dm1 has no msgpack extension types"


class TypeRefused(EncodingError):
    rule = "dm1 knows int, str, bytes, bool, list and dict only"


class IntegerOutOfRange(EncodingError):
    rule = "integers are signed 64-bit"


class TextNotNfc(EncodingError):
    rule = "text must be in Unicode normal form C"


class TextNotUnicode(EncodingError):
    rule = "text must be valid UTF-8"


class KeyIllegal(EncodingError):
    rule = "map keys match [a-z0-9_]+"


class KeyDuplicate(EncodingError):
    rule = "a map key appears once"


class KeyUnsorted(EncodingError):
    rule = "map keys are sorted"


# --- keys and signatures ---------------------------------------------------------------------


class KeyRefused(LedgerError):
    rule = "the public key is refused"


class KeyLengthWrong(KeyRefused):
    rule = "an Ed25519 key is 32 bytes"


class KeyNotCanonical(KeyRefused):
    rule = "a public key is encoded with a coordinate below the field's prime"


class KeyLowOrder(KeyRefused):
    rule = "a public key of low order verifies signatures that nobody made"


class KeyNotOnCurve(KeyRefused):
    rule = "a public key is a point of the curve's prime-order group"


# --- entries ---------------------------------------------------------------------------------


class EntryError(LedgerError):
    rule = "the entry is refused"


class EntryMalformed(EntryError):
    rule = "an entry is msgpack[body, 4-byte key id, 64-byte signature]"


class EntryFieldWrong(EntryError):
    rule = "an entry body is {a, b, k, l, p, s, t, v} with their types and ranges"


class EntrySignatureInvalid(EntryError):
    rule = "an entry is signed by the log key"


class EntryKeyUnknown(EntryError):
    rule = "an entry names the key that signed it"


class ForeignEntry(EntryError):
    rule = "an entry belongs to the log that holds it"


class SequenceGap(EntryError):
    rule = "entries are numbered without gaps"


class ChainBroken(EntryError):
    rule = "an entry names the leaf hash of the entry before it"


class GenesisInvalid(EntryError):
    rule = "entry 0 binds the log's keys, signed by the identity key"


class KeyChangeInvalid(EntryError):
    rule = "a log key is replaced by an entry that the identity key has signed"
    next_step = "Rotate keys with `p2pfl ledger rotate-key`."


class NothingToAppend(EntryError):
    rule = "a commit holds at least one entry"
    exit_code = ExitCode.USAGE


class NoSuchEntry(LedgerError):
    rule = "the log has no entry of that number"
    exit_code = ExitCode.USAGE


# --- proofs ----------------------------------------------------------------------------------


class ProofRefused(LedgerError):
    rule = "the proof does not hold"


class ProofSizesWrong(ProofRefused):
    rule = "an inclusion proof needs index < size, a consistency proof 0 < m ≤ n"


class ProofLengthWrong(ProofRefused):
    rule = "a proof has exactly the hashes its sizes call for"


class HashLengthWrong(ProofRefused):
    rule = "a hash is 32 bytes"


class RootMismatch(ProofRefused):
    rule = "a proof must lead to the root"


# --- notes and checkpoints ---------------------------------------------------------------------


class NoteError(LedgerError):
    rule = "the signed note is refused"


class NoteTooLarge(NoteError):
    rule = "a signed note has a size limit"


class NoteMalformed(NoteError):
    rule = "a note is text, a blank line and signature lines"


class NoteUnsigned(NoteError):
    rule = "a note carries a signature by a key we know"


class NoteSignatureInvalid(NoteError):
    rule = "a signature by a key we know verifies"


class VerifierKeyMalformed(NoteError):
    rule = "a verifier key is name+hex8+base64(type, public key)"


class CheckpointMalformed(NoteError):
    rule = "a checkpoint is origin, size and base64 root, one line each"


class WitnessRequestMalformed(LedgerError):
    rule = "a request to a witness is an old size, proof hashes, an empty line and a note"
    exit_code = ExitCode.USAGE


# --- store -------------------------------------------------------------------------------------


class StoreError(LedgerError):
    rule = "the ledger's files cannot be used"
    exit_code = ExitCode.INPUT_OUTPUT


class NoLedger(StoreError):
    rule = "this home holds no ledger"
    next_step = "Create one with `p2pfl init`, or name another home."


class LedgerExists(StoreError):
    rule = "this home already holds a ledger"
    next_step = "A ledger is never overwritten: choose another home."
    exit_code = ExitCode.USAGE


class FormatUnknown(StoreError):
    rule = "the ledger was written by another version of this program"
    next_step = "Use the version that wrote it."


class Locked(StoreError):
    rule = "another process holds the ledger"
    next_step = "Stop the running node, or read with a read-only command."
    exit_code = ExitCode.LOCKED


class WriteFailed(StoreError):
    rule = "a commit could not be made durable"
    next_step = "Nothing of it was released. Free disk space or check the disk, then restart."


class LogStopped(StoreError):
    rule = "the log is closed, or stopped after a failed commit"
    next_step = "Restart the node: opening the log decides what happened to the commit."


class LogFrozen(LedgerError):
    rule = "this log was proven to tell two histories and takes no more entries"
    next_step = (
        "`p2pfl ledger check-fork FILE` shows the proof; once you know how it happened, "
        "`p2pfl ledger new-incarnation` goes on in a new log that names this one."
    )
    exit_code = ExitCode.FORK_PROVEN


class LogKeyWrong(LedgerError):
    rule = "the log is opened with the log key that its entries name last"
    next_step = "Restore keys/log.key of this home."
    exit_code = ExitCode.USAGE


_RECOVER = (
    "The log is read-only from here: keep a copy of the home. `p2pfl ledger recover` fetches what "
    "is missing from the other sites; what nobody holds, `p2pfl ledger new-incarnation` declares "
    "as lost in a new log."
)


class Rollback(LedgerError):
    rule = "the database is older than the last head released from it"
    next_step = _RECOVER
    exit_code = ExitCode.ROLLBACK


class DatabaseLost(LedgerError):
    rule = "heads were released from this home, but its ledger.db is gone"
    next_step = _RECOVER
    exit_code = ExitCode.ROLLBACK


class HeadsCut(LedgerError):
    rule = "heads.log is missing heads that were released"
    next_step = _RECOVER
    exit_code = ExitCode.ROLLBACK


class Corrupt(LedgerError):
    rule = "the ledger's files contradict each other"
    next_step = f"`p2pfl ledger verify` says what is damaged. {_RECOVER}"


class SecretMissing(LedgerError):
    rule = "the secret was erased or never stored"
    next_step = "`p2pfl ledger show` lists the entries; what is erased stays erased."
    exit_code = ExitCode.USAGE


class SecretRefused(LedgerError):
    rule = "a secret belongs to an entry, with a 32-byte salt and at most 4096 bytes"
    exit_code = ExitCode.USAGE


class ErasureIncomplete(LedgerError):
    rule = "an erased secret must leave the write-ahead log, too, but a reader holds it"
    next_step = "End other commands on this home and erase again."
    exit_code = ExitCode.LOCKED
