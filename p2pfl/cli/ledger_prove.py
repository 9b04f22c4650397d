"""`p2pfl ledger prove` and `check-proof`: one fact about a ledger, as files that anybody checks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from p2pfl.cli.context import JsonOption, chosen_home, opened_home, say, say_json, say_wrapped

if TYPE_CHECKING:
    from p2pfl.runtime.commands.ledger_proving import ProofMade

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Write a proof of one fact about this site's ledger.",
)
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")]
HERE = Path()


@app.command()
def inclusion(
    context: typer.Context,
    seq: Annotated[int, typer.Argument(min=0, help="The entry's number.")],
    out: OutOption = HERE,
    json: JsonOption = False,
) -> None:
    """That an entry is in the ledger: a .tlog-proof file (C2SP), and the entry beside it."""
    from p2pfl.runtime.commands import ledger_proving as proving

    made = proving.inclusion_proof(opened_home(context), seq, out.expanduser())
    _say(made, json)


@app.command()
def consistency(
    context: typer.Context,
    older: Annotated[int, typer.Argument(min=1, help="Entries under the older head.")],
    newer: Annotated[int, typer.Argument(min=1, help="Entries under the newer head.")],
    out: OutOption = HERE,
    json: JsonOption = False,
) -> None:
    """That the ledger only grew between two of its released heads."""
    from p2pfl.runtime.commands import ledger_proving as proving

    made = proving.consistency_proof(opened_home(context), older, newer, out.expanduser())
    _say(made, json)


def check_proof(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A proof that `p2pfl ledger prove` wrote.")],
    entry: Annotated[
        Path | None, typer.Option(help="The entry's file, for an inclusion proof.")
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(help="A key to check with: name+hash+base64 [default: the roster's]."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check a proof of one fact with nothing but its files and the log's key. Exit code 65: it
    proves nothing."""
    from p2pfl.runtime.commands import ledger_proving as proving
    from p2pfl.runtime.home import Home

    path = chosen_home(context)
    home = Home(path) if path.is_dir() else None
    beside = file.with_suffix(".entry")
    if entry is None and file.suffix == ".tlog-proof" and beside.is_file():
        entry = beside
    seen = proving.proof_checked(file, entry, proving.keys_asked(home, key or ()))
    if json:
        say_json(seen)
        return
    say_wrapped(seen.sentence)
    say(f"log   {seen.origin}")
    say(f"root  {seen.root.hex()}")
    for name in seen.signed_by:
        say(f"signed by {name}")


def register(app_: typer.Typer) -> None:
    """Make them commands of `p2pfl ledger`."""
    app_.add_typer(app, name="prove")
    app_.command("check-proof")(check_proof)


def _say(made: ProofMade, json: bool) -> None:
    if json:
        say_json(made)
        return
    say(f"Wrote {made.file}")
    if made.entry:
        say(f"  and {made.entry}")
    if made.is_private:
        say_wrapped("This entry is one that only this site may read: hand it over with care.")
    say("To check it, with the log's key from a source of your own:")
    say(f"  p2pfl ledger check-proof {made.file} \\")
    if made.older_key:  # the log's key was replaced between the two heads
        say(f"    --key {made.older_key} \\")
    say(f"    --key {made.key}")
