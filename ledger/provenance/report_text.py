"""An audit as plain text that a data-protection officer can read, printed or piped.

Nothing is wider than `width` columns; long lists are cut and say so, the JSON has all of them."""

import textwrap
from collections.abc import Callable, Iterator, Sequence

from ledger.provenance.audit import AuditReport
from ledger.provenance.fields import MICRO
from ledger.provenance.findings import AuditContext, CheckResult, Verdict
from ledger.provenance.moments import moment_of
from ledger.provenance.sections import Happening, Rejection, Release
from ledger.provenance.spending import DatasetSpending, StudySpending

WIDTH_MIN = 40
LINES_MAX = 30
_MARKS = {
    Verdict.PASSED: "ok",
    Verdict.FAILED: "FAILED",
    Verdict.INCOMPLETE: "INCOMPLETE",
    Verdict.NOT_CHECKED: "not checked",
}


def to_text(report: AuditReport, width: int = 80) -> str:
    """The report in lines of at most `width` (≥40) columns."""
    width = max(width, WIDTH_MIN)
    sections: tuple[Callable[[AuditReport, int], Iterator[str]], ...] = (
        _head,
        _findings,
        _checks,
        _budgets,
        _decisions,
        _releases,
        _rejections,
        _incidents,
        _witnesses,
        _limits,
    )
    blocks = ["\n".join(section(report, width)) for section in sections]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _head(report: AuditReport, width: int) -> Iterator[str]:
    context, root = report.context, report.context.verification.root
    title = f"Audit of the ledger of {context.site_name(context.site)}"
    yield from _wrapped(title, width)
    yield "=" * min(len(title), width)
    yield from _wrapped(report.verdict, width)
    yield ""
    facts: tuple[tuple[str, str], ...] = (
        ("exit code", f"{int(report.exit_code)} ({_words(report.exit_code.name)})"),
        ("audited", moment_of(context.now_us)),
        ("log", context.origin or report.log_id.hex()),
        (
            "entries",
            f"{report.entries}, {moment_of(report.first_us)} to {moment_of(report.last_us)}",
        ),
        ("root hash", root.hex() if root is not None else "cannot be computed"),
    )
    if report.scope:
        facts = (*facts, ("told", f"only {report.scope}"))
    for name, value in facts:
        yield from _wrapped(value, width, first=f"{name:<11}", rest=" " * 11)


def _findings(report: AuditReport, width: int) -> Iterator[str]:
    if not report.findings:
        return
    yield from _titled(f"What is wrong ({len(report.findings)})", width)
    for number, found in enumerate(report.findings[:LINES_MAX], 1):
        where = "" if found.seq is None else f"entry {found.seq}: "
        first = f"{number:>3}. "
        yield from _wrapped(f"{where}{found.sentence} [{found.code}]", width, first, " " * 5)
        yield from _wrapped(f"What to do: {found.action}", width, " " * 5, " " * 5)
    yield from _cut(len(report.findings), width)


def _checks(report: AuditReport, width: int) -> Iterator[str]:
    yield from _titled("What was checked", width)
    for check in report.checks:
        yield from _wrapped(check.title, width, f"{_MARKS[check.verdict]:<12}", " " * 12)
        for note in (_looked(check), *check.notes):
            yield from _wrapped(note, width, " " * 14, " " * 14)


def _looked(check: CheckResult) -> str:
    if check.verdict is Verdict.NOT_CHECKED:
        return "the audit was not given what this needs"
    wrong = len(check.findings)
    return f"{check.count} {check.unit}" + (f", {wrong} findings" if wrong else "")


def _budgets(report: AuditReport, width: int) -> Iterator[str]:
    yield from _titled("Privacy spent per dataset", width)
    if not report.budgets:
        yield "No dataset was registered or used."
    for budget in report.budgets:
        yield from _budget(budget, report.context, width)


def _budget(budget: DatasetSpending, context: AuditContext, width: int) -> Iterator[str]:
    cap = "none on record" if budget.cap_u < 0 else _epsilon(budget.cap_u)
    yield from _wrapped(f"{context.dataset_name(budget.ds)} (δ = {budget.delta})", width)
    yield from _table(
        ("ε declared", "recomputed", "reserved", "cap", "left"),
        [
            (
                _epsilon(budget.declared_u),
                _computed(budget.epsilon),
                _epsilon(budget.reserved_u),
                cap,
                _epsilon(budget.left_u),
            )
        ],
        width,
    )
    said = f"{budget.trainings} trainings, {budget.unreleased} of them never released but counted."
    if budget.unprotected:
        said += f" {budget.unprotected} ran WITHOUT privacy protection."
    yield from _wrapped(said, width, "  ", "  ")
    yield from _table(
        ("study", "rounds", "mechanism", "σ", "q", "ε declared", "alone"),
        [_study(spending, context) for spending in budget.studies],
        width,
    )
    for spending in budget.studies:
        if spending.by_code:
            yield from _wrapped(by_code_words(spending, context), width, "  ", "  ")


def _study(spending: StudySpending, context: AuditContext) -> tuple[str, ...]:
    terms = spending.terms
    private = terms.mech != "none"
    return (
        context.study_name(spending.study),
        f"{spending.trainings}/{spending.planned}",
        terms.mech,
        terms.sigma if private else "–",
        terms.q if private else "–",
        _epsilon(spending.declared_u),
        _computed(spending.epsilon),
    )


def by_code_words(spending: StudySpending, context: AuditContext) -> str:
    """What has to be said of an ε that no node enforced."""
    return (
        f"{context.study_name(spending.study)}: by approved code. Its ε holds only if the "
        "researcher's code clipped and noised as it says; the node did not see it done."
    )


def _decisions(report: AuditReport, width: int) -> Iterator[str]:
    yield from _story("Who decided what", report.decisions, width)


def _incidents(report: AuditReport, width: int) -> Iterator[str]:
    yield from _story("Gaps and incidents", report.incidents, width)


def _story(title: str, happenings: Sequence[Happening], width: int) -> Iterator[str]:
    if not happenings:
        return
    yield from _titled(f"{title} ({len(happenings)})", width)
    for at in happenings[:LINES_MAX]:
        first = f"{moment_of(at.time_us)}  "
        text = f"{at.sentence} [entry {at.seq}, {at.actor}]"
        yield from _wrapped(text, width, first, " " * 4)
    yield from _cut(len(happenings), width)


def _releases(report: AuditReport, width: int) -> Iterator[str]:
    for release in report.releases:
        yield from _release(release, report.context, width)


def _release(release: Release, context: AuditContext, width: int) -> Iterator[str]:
    yield from _titled(f"Released model of {context.study_name(release.study)}", width)
    yield from _wrapped(f"SHA-256 {release.hash.hex()}", width, "  ", "  ")
    averages = len(release.steps)
    yield from _wrapped(
        f"Round {release.round}, made in {averages} averages on record; distance to the "
        f"neighbours {release.distance}. Contributors, and in how many averages:",
        width,
        "  ",
        "  ",
    )
    rows = [
        (context.site_name(by.site), str(by.kept), str(by.clipped), str(by.dropped))
        for by in release.contributors
    ]
    own = sum(step.train_seq >= 0 for step in release.steps)
    rows.insert(0, (f"{context.site_name(context.site)} (own, trained in {own})", "", "", ""))
    yield from _table(("site", "kept", "clipped", "dropped"), rows, width)


def _rejections(report: AuditReport, width: int) -> Iterator[str]:
    if not report.rejections:
        return
    yield from _titled("Updates that were not used", width)
    rows = [_rejection(rejection, report.context) for rejection in report.rejections[:LINES_MAX]]
    yield from _table(("sender", "study", "rounds", "count", "why"), rows, width)
    yield from _cut(len(report.rejections), width)


def _rejection(rejection: Rejection, context: AuditContext) -> tuple[str, ...]:
    first, last = rejection.round_first, rejection.round_last
    return (
        context.site_name(rejection.sender),
        context.study_name(rejection.study),
        str(first) if first == last else f"{first}–{last}",
        str(rejection.count),
        rejection.verdict + (f": {rejection.reason}" if rejection.reason else ""),
    )


def _witnesses(report: AuditReport, width: int) -> Iterator[str]:
    """Who vouches for this history; nothing where that was not looked at."""
    seen = report.context.witnessing
    if seen is None:
        return
    yield from _titled("Who vouches for this history", width)
    if not seen.cosigned:
        yield from _wrapped("No other site has cosigned this ledger.", width)
    for one in seen.cosigned:
        said = f"{one.witness} cosigned the head of {seen.size} entries"
        yield from _wrapped(f"{said}, {moment_of(one.time_s * MICRO)}", width, "  - ", "    ")
    if seen.size < report.entries:
        yield from _wrapped(f"{report.entries - seen.size} entries are not cosigned yet.", width)


def _limits(report: AuditReport, width: int) -> Iterator[str]:
    yield from _titled("What no audit of this ledger can detect", width)
    for limit in report.limits:
        yield from _wrapped(limit, width, "  - ", "    ")
    yield ""
    yield from _wrapped(report.not_covered, width)


def _titled(title: str, width: int) -> Iterator[str]:
    yield from _wrapped(title, width)
    yield "-" * min(len(title), width)


def _wrapped(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(text, width, initial_indent=first, subsequent_indent=rest)


def _cut(count: int, width: int) -> Iterator[str]:
    if count > LINES_MAX:
        yield from _wrapped(f"… and {count - LINES_MAX} more: the JSON report has all.", width)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Columns under their heads, the first one shortened where a row would be too wide."""
    if not rows:
        return
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    room = width - 2 - sum(widths) - 2 * (len(widths) - 1)
    for column in sorted(range(len(widths)), key=lambda at: -widths[at]):
        if room < 0:
            narrower = max(8, widths[column] + room)
            room += widths[column] - min(widths[column], narrower)
            widths[column] = min(widths[column], narrower)
    aligns = [_align([row[column] for row in rows]) for column in range(len(head))]
    for line in lines:
        fitted = zip(line, widths, aligns, strict=True)
        cells = [_fit(cell, room, align) for cell, room, align in fitted]
        yield ("  " + "  ".join(cells).rstrip())[:width]


def _align(cells: Sequence[str]) -> str:
    """Numbers stand to the right."""
    numeric = all(cell[:1].isdigit() or cell in ("", "–", "unknown") for cell in cells)
    return ">" if numeric else "<"


def _fit(cell: str, room: int, align: str) -> str:
    text = cell if len(cell) <= room else cell[: room - 1] + "…"
    return f"{text:{align}{room}}"


def _epsilon(micro: int) -> str:
    return f"{micro / MICRO:.4f}"


def _computed(epsilon: float | None) -> str:
    return "unknown" if epsilon is None else f"{epsilon:.4f}"


def _words(name: str) -> str:
    return name.lower().replace("_", " ")
