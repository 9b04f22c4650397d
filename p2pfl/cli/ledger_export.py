"""`p2pfl ledger export`: the ledger as proofs, tiles, PROV, RO-Crate or a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from p2pfl.cli.context import JsonOption, now_us, opened_home, say, say_json, say_wrapped

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Write the ledger in forms that other programs read and check.",
)
OutOption = Annotated[Path, typer.Option("--out", "-o", help="New or empty folder to write to.")]


@app.command()
def proofs(context: typer.Context, out: OutOption, json: JsonOption = False) -> None:
    """Signed head, inclusion and consistency proofs, for Go's tlog and others."""
    _export(context, "proofs", out, json)


@app.command()
def tiles(context: typer.Context, out: OutOption, json: JsonOption = False) -> None:
    """The whole log as static files (C2SP tlog-tiles)."""
    _export(context, "tiles", out, json)


@app.command()
def prov(context: typer.Context, out: OutOption, json: JsonOption = False) -> None:
    """How models were made, as W3C PROV-JSON."""
    _export(context, "prov", out, json)


@app.command()
def rocrate(context: typer.Context, out: OutOption, json: JsonOption = False) -> None:
    """Head, proofs and provenance as a research object (RO-Crate)."""
    _export(context, "rocrate", out, json)


@app.command()
def csv(context: typer.Context, out: OutOption, json: JsonOption = False) -> None:
    """All entries as a table for a spreadsheet."""
    _export(context, "csv", out, json)


def _export(context: typer.Context, form: str, out: Path, json: bool) -> None:
    from p2pfl.runtime.commands import ledger_exporting as exporting

    folder = out.expanduser().absolute()
    home = opened_home(context)
    done = exporting.export_ledger(home, exporting.Form(form), folder, now_us=now_us())
    if json:
        say_json(done)
        return
    files = "1 file" if len(done.files) == 1 else f"{len(done.files)} files"
    say_wrapped(f"Wrote {files} to {out}.")
    for note in done.notes:
        say_wrapped(note)
    if form == "proofs":
        say()
        say("How others check them: docs/protocol.md, section Checking with standard tools.")
