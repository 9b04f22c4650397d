"""`p2pfl ledger audit`: every rule, over this site's ledger and what other sites hold."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfl.cli.context import JsonOption, now_us, opened_home, say, say_wrapped

if TYPE_CHECKING:
    from ledger.provenance.audit import AuditReport


class Format(Enum):
    """How a report is printed."""

    TEXT = "text"
    JSON = "json"
    HTML = "html"


PeersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--peers",
        metavar="<path|network>",
        help="What to compare with: another site's home, a folder with a copy of its ledger.db "
        "and heads.log, a witness.db, a fork proof; or `network`: what the others sent to this "
        "site's node. May be given several times.",
    ),
]
ReplayOption = Annotated[
    bool | None,
    typer.Option(
        "--replay/--no-replay",
        help="Compute every average and every ε again [default: every average; an ε that takes "
        "seconds at 12 places per dataset].",
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="New file for it [default: the terminal]."),
]


def audit(
    context: typer.Context,
    peers: PeersOption = None,
    replay: ReplayOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="What could not be looked at is missing evidence.")
    ] = False,
    study: Annotated[str, typer.Option(help="Tell of this study only (name or id).")] = "",
    model: Annotated[str, typer.Option(help="Tell of this released model only (SHA-256).")] = "",
    since: Annotated[str, typer.Option(help="Tell of what happened since this day (UTC).")] = "",
    format_: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TEXT,
    out: OutOption = None,
    json: JsonOption = False,
) -> int:
    """Check every rule: approvals, budgets, artefacts, averages, and what other sites hold.

    Exit codes: 0 clean, 10 broken, 11 rolled back or cut, 12 fork proven, 13 rule violated,
    14 evidence incomplete."""
    from ledger.provenance.findings import RECOMPUTED_MAX, Demand
    from p2pfl.runtime.commands import ledger_asking as asking
    from p2pfl.runtime.commands import ledger_reading as reading

    home = opened_home(context)
    found = reading.run_audit(
        home,
        replay=replay is not False,
        now_us=now_us(),
        peers=asking.peers_asked(home, peers or ()),
        scope=asking.scope_asked(home, study=study, model=model, since=since),
        demand=Demand.EVERYTHING if strict else Demand.WHAT_IS_THERE,
        recomputed_max=None if replay else RECOMPUTED_MAX,
    )
    _show(found, "json" if json else format_.value, out)
    return int(found.exit_code)


def register(app: typer.Typer) -> None:
    """Make it a command of `p2pfl ledger`."""
    app.command()(audit)


def _show(found: AuditReport, form: str, out: Path | None) -> None:
    """Print an audit as text, json or html, or write it to a new file."""
    from p2pfl.runtime.commands import ledger_exporting as exporting

    text = exporting.report_text(found, form)
    if out is None:
        say(text.rstrip("\n"))
        return
    exporting.write_report(out.expanduser(), text)
    say_wrapped(found.verdict)
    say_wrapped(f"The report is in {out}.")
