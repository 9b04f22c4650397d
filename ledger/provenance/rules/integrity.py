"""Is the log itself whole, and can every entry be read?

The log's own verification (hashes, chain, tree, signatures, released heads) is done by
`ledger.log` and only reported here."""

from collections.abc import Iterator

from ledger.log import ExitCode
from ledger.provenance.findings import (
    AuditContext,
    AuditFinding,
    Check,
    Looked,
    Rule,
    Tools,
    look_with,
)
from ledger.provenance.kinds import ForkFound, UnknownKind
from ledger.provenance.timeline import Timeline

STOP_AND_RECOVER = (
    "Stop the node and keep a copy of the whole home: `p2pfl ledger verify` shows each damaged "
    "place, the newest backup of the whole home is the way back."
)
UNREADABLE = Rule("log.unreadable", STOP_AND_RECOVER, ExitCode.INTEGRITY_BROKEN)
INCOMPLETE = Rule("log.incomplete", STOP_AND_RECOVER, ExitCode.INTEGRITY_BROKEN)
ENTRY_MALFORMED = Rule(
    "entry.malformed",
    "Find out which program wrote this entry; it says nothing that can be relied on.",
)
ENTRY_UNKNOWN = Rule(
    "entry.unknown_kind",
    "Audit again with the version of the program that wrote this entry.",
    ExitCode.EVIDENCE_INCOMPLETE,
)
FORK_RECORDED = Rule(
    "fork.recorded",
    "Check the proof with `p2pfl ledger check-fork`, tell all members, and decide together "
    "whether the site stays on the roster.",
    ExitCode.FORK_PROVEN,
)


def _look_at_log(timeline: Timeline, context: AuditContext, tools: Tools) -> Looked:
    verification = context.verification
    findings: list[AuditFinding] = []
    notes: list[str] = []
    for found in verification.findings:
        code, detail = found.code.value, found.detail or "no details"
        if found.code.exit_code is ExitCode.CLEAN:
            notes.append(f"{code}: {detail}. The next start of the node sets this right.")
            continue
        rule = Rule(f"log.{code}", STOP_AND_RECOVER, found.code.exit_code)
        findings.append(
            rule.broken(
                found.seq, f"The files of the log are not what the site signed ({code}): {detail}."
            )
        )
    if timeline.unreadable is not None:
        findings.append(
            UNREADABLE.broken(timeline.size, f"Reading stopped here: {timeline.unreadable}.")
        )
    elif timeline.size < verification.size:
        missing = f"{timeline.size} of {verification.size} signed entries could be read."
        findings.append(INCOMPLETE.broken(timeline.size, f"The log is not whole: {missing}"))
    return Looked(timeline.size, "entries", tuple(findings), tuple(notes))


def _find_unreadable(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    for problem in timeline.problems:
        rule = ENTRY_UNKNOWN if isinstance(problem, UnknownKind) else ENTRY_MALFORMED
        yield rule.broken(
            problem.seq, f"The entry of kind {problem.kind} cannot be read: {problem.reason}."
        )


def _find_forks(timeline: Timeline, context: AuditContext) -> Iterator[AuditFinding]:
    for logged in timeline.of(ForkFound):
        record = logged.record
        log = record.log_id.hex()[:12]
        sentence = f"This site recorded proof that log {log} showed two histories."
        if record.log_id == timeline.log_id and record.form != "K4":
            sentence = "This site recorded proof that its own log has two histories: it is frozen."
        elif record.witness:
            who = context.site_name(record.witness)
            sentence = f"This site recorded proof that {who} cosigned two histories of log {log}."
        yield FORK_RECORDED.broken(logged.seq, sentence)


CHECKS = (
    Check("log", "The log is whole and unchanged", _look_at_log),
    Check(
        "entries",
        "Every entry can be read",
        look_with("entries", lambda timeline: timeline.size, _find_unreadable),
    ),
    Check(
        "forks",
        "No other log was caught with two histories",
        look_with("recorded forks", lambda timeline: len(timeline.of(ForkFound)), _find_forks),
    ),
)
