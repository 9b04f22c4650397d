"""A researcher's own plan on the screen: what reading finds, what changed, and the whole text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from p2pfl.cli.context import say, say_fields, say_table, say_wrapped

if TYPE_CHECKING:
    from p2pfl.runtime.commands.code_seen import CodeSeen
    from p2pfl.runtime.commands.foreign_seen import PackageSeen

KEPT_BY: Final = {
    "node": "kept by the node itself, whatever this code does",
    "code": "BY APPROVED CODE: kept by this very code, if it does what it says",
    "nobody": "NONE: the study has no privacy terms",
}


def tell_code(seen: CodeSeen) -> None:
    """Everything there is to read before somebody approves it."""
    say()
    say_fields([("code", f"SHA-256 {seen.sha256.hex()}"), ("privacy", KEPT_BY[seen.kept_by])])
    tell_packages(seen.packages, seen.measures)
    _tell_report(seen)
    tell_diff("text", seen.compared_with, seen.diff)
    say()
    lines = seen.text.splitlines()
    say(f"The whole text, {len(lines)} lines; this is what runs, confined, at every site:")
    for number, line in enumerate(lines, 1):
        say(f"{number:>4}  {line}")


def tell_packages(packages: Sequence[PackageSeen], measures: Sequence[str]) -> None:
    """Which packages a text or a bundle needs, and what it may report."""
    if any(one.proposed for one in packages):
        say_table(
            ("package", "proposer has", "here", ""),
            [
                (one.name, one.proposed, one.here or "-", _compared(one.proposed, one.here))
                for one in packages
            ],
        )
    elif packages:
        say_table(("package", "here"), [(one.name, one.here or "-") for one in packages])
    if measures:
        say_wrapped(f"It may report, to people at the site alone: {'; '.join(measures)}.")


def _compared(proposed: str, here: str) -> str:
    """How a package here differs from the proposer's, in a word for a table."""
    if not here:
        return "NOT INSTALLED"
    return "" if proposed == here else "differs"


def _tell_report(seen: CodeSeen) -> None:
    report = seen.report
    if report.problem:
        say(f"It is no Python: plan.py {report.problem}.")
        return
    say_wrapped(
        f"It imports {', '.join(sorted({one.name for one in report.imports})) or 'nothing'}."
    )
    if report.calls:
        say("Reading it finds, for you to look at:")
        say_table(
            ("line", "what", "has to do with"),
            [(str(call.line), call.what, call.kind) for call in report.calls],
        )
    else:
        say("Reading it finds no files, network, processes or native code.")
    tell_limits("the code", report.left_out)


def tell_limits(what: str, left_out: int) -> None:
    """What a report on a text or a bundle does not say. left_out: findings that are not listed."""
    if left_out:
        say(f"{left_out} more are not listed.")
    say_wrapped(
        f"Reading finds what is written plainly, and no more. What {what} can reach is limited by "
        "confinement, whatever it tries."
    )


def tell_diff(what: str, compared_with: str | None, diff: Sequence[str]) -> None:
    """How a text or a bundle differs from the one that was approved here last, for which study."""
    if compared_with is None:
        return
    if not compared_with:
        say(f"No {what} was approved at this site before.")
    elif not diff:
        say(f"It is the very {what} that was approved here for {compared_with}.")
    else:
        say()
        say(f"What differs from the {what} that was approved here for {compared_with}:")
        for line in diff:
            say(f"  {line}")
