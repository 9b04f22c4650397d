"""How the audit says what is wrong: rules, findings, checks and their verdicts.

Responsible for the shape of a result. Knows no rule."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from ledger.log import ExitCode, Verification
from ledger.provenance.kinds import AggDone
from ledger.provenance.peers import PeerEvidence
from ledger.provenance.timeline import Timeline
from ledger.provenance.witnessing import Witnessing

APPROVER_ROLES = frozenset({"data-owner"})
"""Who may approve a study unless the site's policy names other roles."""
RECOMPUTED_MAX = 12


@dataclass(frozen=True, slots=True)
class DpEvent:
    """What one training released, for the function that computes ε.

    sigma: noise multiplier; q: sampling rate in (0, 1]; steps: noisy steps."""

    mech: str
    sigma: float
    q: float
    steps: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """What averaging the recorded inputs again gave.

    distance: largest absolute difference to a coordinate of the recorded model."""

    out_hash: bytes
    distance: float
    same_environment: bool


EpsilonOf = Callable[[Sequence[DpEvent], float], float]
"""ε of all these events together at this δ. ValueError or ArithmeticError when it cannot say."""
BlobReader = Callable[[bytes], Path | None]
"""The file kept under a digest, None when it is not kept (any more)."""
Replay = Callable[[AggDone, Mapping[bytes, Path]], Replayed]
"""Averages again, from the files of the own model, the inputs and the recorded result, by their
digests. ValueError when the recorded rule refuses the inputs."""


class Demand(Enum):
    """What an audit asks of the evidence."""

    WHAT_IS_THERE = "what is there"
    """Judge what was handed over; the report says what was not."""
    EVERYTHING = "everything"
    """Whatever could not be looked at is missing evidence."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What is told of an audit: of one study, one released model, from a time on. Empty: all."""

    study: bytes = b""
    model: bytes = b""
    since_us: int = 0


@dataclass(frozen=True, slots=True)
class AuditContext:
    """What an audit needs besides the entries. Names are for people; digests decide.

    names: the sites of the roster in force, this one among them (empty: unknown)."""

    site: bytes
    verification: Verification
    now_us: int
    origin: str = ""
    names: Mapping[bytes, str] = field(default_factory=dict)
    study_names: Mapping[bytes, str] = field(default_factory=dict)
    dataset_names: Mapping[bytes, str] = field(default_factory=dict)
    approver_roles: frozenset[str] = APPROVER_ROLES
    blob: BlobReader | None = None
    peers: PeerEvidence | None = None
    """What other sites hold; None leaves out every check that compares with them."""
    witnessing: Witnessing | None = None
    """Who vouches for the log, for people to read; None where that was not looked at."""
    recomputed_max: int | None = RECOMPUTED_MAX
    """Places per dataset where an ε that takes seconds is computed again; None: all of them."""
    demand: Demand = Demand.WHAT_IS_THERE
    scope: Scope = Scope()

    def site_name(self, site: bytes) -> str:
        return self.names.get(site) or f"site {site.hex()[:12]}"

    def study_name(self, study: bytes) -> str:
        name = self.study_names.get(study)
        return f"{name} ({study.hex()[:8]})" if name else f"study {study.hex()[:12]}"

    def dataset_name(self, ds: bytes) -> str:
        return self.dataset_names.get(ds) or f"dataset {ds.hex()[:12]}"


@dataclass(frozen=True, slots=True)
class Tools:
    """The functions an audit is given because this package must not know how they work."""

    epsilon_of: EpsilonOf
    replay: Replay | None


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """One thing that is wrong: where, in a sentence, and what to do about it."""

    code: str
    seq: int | None
    sentence: str
    action: str
    exit_code: ExitCode


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that a log can break. `code` is stable: programs may depend on it."""

    code: str
    action: str
    exit_code: ExitCode = ExitCode.RULE_VIOLATED

    def broken(self, seq: int | None, sentence: str) -> AuditFinding:
        return AuditFinding(self.code, seq, sentence, self.action, self.exit_code)


class Verdict(Enum):
    """What a check came to."""

    PASSED = "passed"
    FAILED = "failed"
    INCOMPLETE = "incomplete"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Looked:
    """What a check saw: how many things of which sort, what was wrong, what should be said."""

    count: int
    unit: str
    findings: tuple[AuditFinding, ...] = ()
    notes: tuple[str, ...] = ()
    applies: bool = True
    """False when the audit was not given what this check needs."""
    missing: int = 0
    """How many things of this sort could not be looked at: what a strict audit asks for."""


@dataclass(frozen=True, slots=True)
class Check:
    """One question that the audit puts to the log."""

    id: str
    title: str
    look: Callable[[Timeline, AuditContext, Tools], Looked]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A question and its answer."""

    id: str
    title: str
    verdict: Verdict
    count: int
    unit: str
    findings: tuple[AuditFinding, ...]
    notes: tuple[str, ...]


NOT_CHECKED = Rule(
    "evidence.not_checked",
    "Audit again with the other sites' ledgers (`--peers`) and with `--replay`, where the models "
    "are kept.",
    ExitCode.EVIDENCE_INCOMPLETE,
)
NOT_AT_HAND = Rule(
    "evidence.not_at_hand",
    "Ask whoever keeps them (the members, a backup of the home), then audit again.",
    ExitCode.EVIDENCE_INCOMPLETE,
)


def answer(check: Check, looked: Looked, demand: Demand = Demand.WHAT_IS_THERE) -> CheckResult:
    """The verdict: one broken rule fails a check, missing evidence leaves it incomplete."""
    if demand is Demand.EVERYTHING:
        looked = _asked_strictly(check, looked)
    verdict = verdict_of(looked.findings) if looked.applies else Verdict.NOT_CHECKED
    return CheckResult(
        check.id,
        check.title,
        verdict,
        looked.count,
        looked.unit,
        looked.findings,
        looked.notes,
    )


def verdict_of(findings: Sequence[AuditFinding]) -> Verdict:
    """What the findings of a check that was made come to."""
    if not findings:
        return Verdict.PASSED
    if all(found.exit_code is ExitCode.EVIDENCE_INCOMPLETE for found in findings):
        return Verdict.INCOMPLETE
    return Verdict.FAILED


def _asked_strictly(check: Check, looked: Looked) -> Looked:
    """The same, with a finding for what could not be looked at."""
    if not looked.applies:
        found = NOT_CHECKED.broken(None, f"This was not checked: {check.title}.")
    elif looked.missing:
        found = NOT_AT_HAND.broken(
            None, f"{check.title}: {looked.missing} {looked.unit} could not be looked at."
        )
    else:
        return looked
    return replace(looked, findings=(*looked.findings, found), applies=True)


def look_with(
    unit: str,
    count: Callable[[Timeline], int],
    find: Callable[[Timeline, AuditContext], Iterator[AuditFinding]],
) -> Callable[[Timeline, AuditContext, Tools], Looked]:
    """A check that needs the entries alone."""

    def look(timeline: Timeline, context: AuditContext, tools: Tools) -> Looked:
        return Looked(count(timeline), unit, tuple(find(timeline, context)))

    return look
