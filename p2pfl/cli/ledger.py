"""`p2pfl ledger`: verify, show, head. All of them read a snapshot beside a running node."""

from __future__ import annotations

import json as json_text
from enum import Enum
from typing import Annotated

import typer

from p2pfl.cli import (
    ledger_audit,
    ledger_export,
    ledger_prove,
    ledger_recovery,
    ledger_witnesses,
)
from p2pfl.cli.context import JsonOption, opened_home, perform, say, say_fields, say_json

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Verify, audit and read this site's ledger.",
)
app.add_typer(ledger_export.app, name="export")
ledger_witnesses.register(app)
ledger_audit.register(app)
ledger_prove.register(app)
ledger_recovery.register(app)


class Signatures(Enum):
    """Which signatures are verified."""

    ALL = "all"
    HEADS = "heads"
    NONE = "none"


@app.command()
def verify(
    context: typer.Context,
    sigs: Annotated[Signatures, typer.Option(help="Which signatures to verify.")] = Signatures.ALL,
    start: Annotated[int, typer.Option("--from", min=0, help="First entry to verify.")] = 0,
    json: JsonOption = False,
) -> int:
    """Verify bytes, chain, tree, heads and signatures. Exit codes: 0 clean, 10 broken, 11 lost."""
    from p2pfl.cli.progress import working
    from p2pfl.runtime.commands import ledger_reading as reading

    home = opened_home(context)
    with working("Verifying every entry …"):
        checked = reading.verify_from(home, reading.SigCheck(sigs.value), start)
    if json:
        say_json(
            {
                "exit_code": int(checked.exit_code),
                "size": checked.size,
                "root": checked.root,
                "findings": checked.findings,
            }
        )
        return int(checked.exit_code)
    for finding in checked.findings:
        place = "" if finding.seq is None else f"entry {finding.seq}: "
        say(f"{finding.code.value:<18}{place}{finding.detail}")
    root = checked.root.hex() if checked.root else "not computable"
    say(f"{checked.size} entries, {len(checked.findings)} findings, root")
    say(root)
    return int(checked.exit_code)


@app.command()
def head(context: typer.Context, json: JsonOption = False) -> None:
    """The newest signed head (a C2SP checkpoint)."""
    from p2pfl.runtime.commands import ledger_reading as reading

    seen = reading.ledger_head(opened_home(context))
    if json:
        say_json(seen)
    else:
        say(seen.note.rstrip("\n"))


@app.command()
def show(
    context: typer.Context,
    start: Annotated[
        int | None, typer.Option("--from", min=0, help="First entry [default: the last ones].")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many.")] = 20,
    json: JsonOption = False,
) -> None:
    """Entries in plain words."""
    from p2pfl.cli.progress import paged
    from p2pfl.runtime.commands import ledger_reading as reading

    found = reading.ledger_show(opened_home(context), start, count)
    if json:
        say_json(found)
        return
    with paged(sum(1 + len(entry.body) for entry in found)):
        for entry in found:
            say(f"{entry.seq}  {entry.time}  {entry.kind}  by {entry.actor}")
            say_fields([(f"    {key}", _words(value)) for key, value in entry.body.items()])


@app.command("accept-clock")
def accept_clock(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="The clock is right now.")] = False,
    json: JsonOption = False,
) -> None:
    """Put on record that the clock is right now, though the ledger holds a later entry."""
    from p2pfl.runtime.commands import catalogue, clock

    accepted = perform(opened_home(context), catalogue.LEDGER_ACCEPT_CLOCK, clock.ClockAccept(yes))
    if json:
        say_json(accepted)
    else:
        say(f"Recorded as entry {accepted.seq}: the clock goes back {accepted.seconds_back} s.")


def _words(value: object) -> str:
    text = value if isinstance(value, str) else json_text.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else text[:297] + "..."
