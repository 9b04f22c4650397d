"""What `verify_log` can find, and how bad each finding is.

Responsible for: the closed list of findings and their exit codes.
Must not know: how they are found.
"""

from collections import Counter
from dataclasses import dataclass
from enum import Enum

from ledger.log.errors import ExitCode, worst_of

FINDINGS_MAX = 1_000


class SigCheck(Enum):
    """Which signatures are verified. Bytes, chain, tree and index are always checked."""

    ALL = "all"
    HEADS = "heads"
    NONE = "none"


class FindingCode(Enum):
    """One kind of damage. The number in parentheses is that of LEDGER.md's tamper list."""

    ENTRY_ALTERED = "entry-altered"  # (1) stored bytes differ from those that were signed
    INDEX_ALTERED = "index-altered"  # (2) a leaf, kind or study column differs from the entry
    NODE_ALTERED = "node-altered"  # (2) a stored tree node differs from the entries
    TAIL_MISSING = "tail-missing"  # (3) entries at the end are gone
    ENTRY_MISSING = "entry-missing"  # (4) an entry in the middle is gone
    ENTRY_MISPLACED = "entry-misplaced"  # (5, 6) an own entry stored under another number
    ENTRY_DUPLICATE = "entry-duplicate"  # (6) one number, several entries
    SIGNATURE_INVALID = "signature-invalid"  # (7) swapped
    ENTRY_MALFORMED = "entry-malformed"  # (7) stripped; not the form of an entry
    ROLLBACK = "rollback"  # (9) the database is older than the last released head
    TORN_HEAD = "torn-head"  # (10) a write cut by a crash; the next start repairs it
    HEADS_CUT = "heads-cut"  # (11) released heads are gone from heads.log
    FOREIGN_ENTRY = "foreign-entry"  # (17) an entry of another log
    NOT_CANONICAL = "not-canonical"  # (18) not the one encoding of its value
    KEY_UNKNOWN = "key-unknown"  # (31) an entry names another key than the log's at that point
    KEY_CHANGE_INVALID = "key-change-invalid"  # (31) a rotation that the identity did not sign
    KEY_COMPROMISED = "key-compromised"  # entries under a key after it was in other hands
    WRITTEN_AFTER_FREEZE = "written-after-freeze"  # a log proven to be forked went on
    REDACTION_UNLOGGED = "redaction-unlogged"  # (32) a secret is gone and no entry says why
    REDACTION_UNDONE = "redaction-undone"  # (32) a secret that was redacted is still there
    COMMITMENT_BROKEN = "commitment-broken"  # (32) a secret does not open its commitment
    CHAIN_BROKEN = "chain-broken"  # an entry does not name the one before it
    ROOT_MISMATCH = "root-mismatch"  # a released head does not cover these entries
    HEAD_ALTERED = "head-altered"  # a record of heads.log or the stored head was changed
    GENESIS_INVALID = "genesis-invalid"  # nobody can say whose log this is
    DATABASE_LOST = "database-lost"  # heads were released, and ledger.db is gone
    UNREADABLE = "unreadable"  # SQLite cannot read the database
    UNRELEASED = "unreleased"  # one durable commit awaits its release; the next start does it

    @property
    def exit_code(self) -> ExitCode:
        """CLEAN for what the next start of the node sets right by itself."""
        match self:
            case FindingCode.TORN_HEAD | FindingCode.UNRELEASED:
                return ExitCode.CLEAN
            case (
                FindingCode.ROLLBACK
                | FindingCode.TAIL_MISSING
                | FindingCode.HEADS_CUT
                | FindingCode.DATABASE_LOST
            ):
                return ExitCode.ROLLBACK
            case FindingCode.REDACTION_UNLOGGED | FindingCode.WRITTEN_AFTER_FREEZE:
                return ExitCode.RULE_VIOLATED
            case FindingCode.KEY_COMPROMISED:
                return ExitCode.EVIDENCE_INCOMPLETE
            case _:
                return ExitCode.INTEGRITY_BROKEN


@dataclass(frozen=True, slots=True)
class Finding:
    """One damage. `seq` is the entry it concerns, None if it is no single one."""

    code: FindingCode
    seq: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of verifying a log: what was found, and the head that was recomputed.

    size: entries found; root: recomputed over them, None if some are missing or unreadable.
    """

    findings: tuple[Finding, ...]
    size: int
    root: bytes | None

    @property
    def exit_code(self) -> ExitCode:
        """The worst of the findings."""
        return worst_of(*(finding.code.exit_code for finding in self.findings))


class Findings:
    """Findings as they come in: each (code, seq) once, at most `FINDINGS_MAX` of a code."""

    __slots__ = ("_counts", "_found")

    def __init__(self) -> None:
        self._counts: Counter[FindingCode] = Counter()
        self._found: dict[tuple[FindingCode, int | None], Finding] = {}

    def add(self, *findings: Finding) -> None:
        """Keep `findings` that are new, while there is room."""
        for finding in findings:
            key = (finding.code, finding.seq)
            if key not in self._found and self._counts[finding.code] < FINDINGS_MAX:
                self._found[key] = finding
                self._counts[finding.code] += 1

    def report(self, code: FindingCode, detail: str, seq: int | None = None) -> None:
        """Add one finding."""
        self.add(Finding(code, seq, detail))

    def sorted(self) -> tuple[Finding, ...]:
        """All findings, those of the whole log first, then by entry."""
        return tuple(
            sorted(
                self._found.values(),
                key=lambda finding: (
                    -1 if finding.seq is None else finding.seq,
                    finding.code.value,
                ),
            )
        )
