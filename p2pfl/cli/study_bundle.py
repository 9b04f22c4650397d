"""A bundle on the screen, alone or as a study's: what reading finds, and what changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from p2pfl.cli.context import say, say_fields, say_table, say_wrapped
from p2pfl.cli.study_code import tell_diff, tell_limits, tell_packages

if TYPE_CHECKING:
    from p2pfl.runtime.commands.bundles import BundleReport, BundleSeen

CHARACTERS_MAX: Final = 60
"""Of an expression in a table; --json has it whole."""


def tell_bundle(seen: BundleSeen) -> None:
    """Everything there is to know before somebody lets it run."""
    say()
    say_fields([("bundle", seen.name), ("digest", f"SHA-256 {seen.sha256.hex()}")])
    tell_packages(seen.packages, seen.measures)
    if not seen.is_installed or seen.report is None:
        say_wrapped(
            "It is NOT INSTALLED here, and bundles never come from other sites: get its folder as "
            "its author publishes it and add it with `p2pfl bundle add FOLDER`. Only the very same "
            "bytes have this digest."
        )
        return
    say(f"Installed here, every byte looked at: {len(seen.files)} files in")
    say(seen.folder)
    say_table(
        ("file", "SHA-256"),
        [(path[-60:], digest.hex()[:12]) for path, digest in seen.files],
    )
    _tell_report(seen.report)
    tell_diff("bundle", seen.compared_with, seen.diff)


def _tell_report(report: BundleReport) -> None:
    say(f"Licence: {report.license or 'not stated'}.")
    if report.problem:
        say(f"It cannot be read: {report.problem}.")
        return
    say_wrapped(
        f"Its configurations have called: {', '.join(sorted({one.name for one in report.targets}))}"
    )
    if report.expressions:
        say("Its configurations evaluate, as Python:")
        say_table(
            ("file", "at", "expression"),
            [
                (one.file.removeprefix("configs/"), one.place[-24:], _short(one.text))
                for one in report.expressions
            ],
        )
    for script in report.scripts:
        problem = f", which is no Python: {script.problem}" if script.problem else ""
        say_wrapped(f"{script.file}{problem} imports {', '.join(script.imports) or 'nothing'}.")
    calls = [
        (f"{script.file}:{call.line}", call.what, call.kind)
        for script in report.scripts
        for call in script.calls
    ]
    if calls:
        say("Reading its Python files finds, for you to look at:")
        say_table(("where", "what", "has to do with"), calls)
    tell_limits("a bundle", report.left_out)


def _short(text: str) -> str:
    return text if len(text) <= CHARACTERS_MAX else text[: CHARACTERS_MAX - 1] + "…"
