"""Did code that a researcher wrote run only as it was approved here?

A study with such code has `code.approved` in the commit of its approval; every training names the
text it ran. Whether that text kept its privacy terms by itself nobody can see: it is told, not
judged."""

from collections.abc import Iterator

from ledger.provenance.findings import AuditContext, AuditFinding, Check, Looked, Rule, Tools
from ledger.provenance.kinds import CodeApproved, StudyApproved, TrainDone
from ledger.provenance.timeline import Logged, Timeline

OTHER_TEXT = Rule(
    "code.other_text",
    "Stop the study here (`p2pfl study revoke`) and keep the home as it is: other code ran on "
    "patients than the data owner approved. Tell the data-protection officer.",
)
UNREAD = Rule(
    "code.unread",
    "Revoke the study; whoever approves it again with `p2pfl study approve` has the code's hash "
    "recorded.",
)
UNAPPROVED = Rule(
    "code.unapproved",
    "Keep the home as it is and find the cause in the node's log: a node of this project records "
    "which code is approved together with the approval.",
)

UNCONFINED = Rule(
    "code.unconfined",
    "Revoke the study here and keep the home as it is: code that a researcher wrote ran without "
    "confinement, which a node of this project refuses. Find the cause in the node's log.",
)


def _look(timeline: Timeline, context: AuditContext, tools: Tools) -> Looked:
    texts = timeline.of(CodeApproved)
    findings = [found for text in texts for found in _judge_order(timeline, context, text)]
    studies = {text.record.study for text in texts}
    trained = [done for done in timeline.of(TrainDone) if done.record.study in studies]
    for done in trained:
        findings += _judge_training(timeline, context, done, texts)
    by_code = {text.record.study for text in texts if text.record.kept_by == "code"}
    notes = tuple(
        f"{context.study_name(study)}: its ε is by approved code, no node enforced it"
        for study in sorted(by_code)
    )
    return Looked(len(trained), "trainings with approved code", tuple(findings), notes)


def _judge_order(
    timeline: Timeline, context: AuditContext, text: Logged[CodeApproved]
) -> Iterator[AuditFinding]:
    decision = timeline.decision_before(text.record.study, text.seq)
    if decision is None or not isinstance(decision.record, StudyApproved):
        yield UNAPPROVED.broken(
            text.seq,
            f"Code of {context.study_name(text.record.study)} is on record as approved while this "
            "site did not approve the study.",
        )


def _judge_training(
    timeline: Timeline,
    context: AuditContext,
    done: Logged[TrainDone],
    texts: tuple[Logged[CodeApproved], ...],
) -> Iterator[AuditFinding]:
    study, ran = done.record.study, done.record.code_hash
    approval = timeline.approval_before(study, done.seq)
    since = -1 if approval is None else approval.seq
    read = [one for one in texts if one.record.study == study and since < one.seq < done.seq]
    did = f"Round {done.record.round} of {context.study_name(study)} ran code {ran.hex()[:16]}…"
    if not read:
        yield UNREAD.broken(done.seq, f"{did}, and no approval on record names any code.")
    elif read[-1].record.text != ran:
        yield OTHER_TEXT.broken(
            done.seq,
            f"{did}; entry {read[-1].seq} approved {read[-1].record.text.hex()[:16]}….",
        )
    if done.record.level == "D":
        yield UNCONFINED.broken(done.seq, f"{did} at level D, without confinement.")


CHECKS = (Check("code", "Researchers' code ran only as it was approved", _look),)
