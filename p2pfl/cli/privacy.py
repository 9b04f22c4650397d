"""`p2pfl privacy status`."""

from __future__ import annotations

import typer

from p2pfl.cli.context import JsonOption, opened_home, say, say_json, say_table, short

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="What datasets have spent and what is left.",
)


@app.callback()
def family() -> None:
    """What datasets have spent and what is left."""


@app.command()
def status(context: typer.Context, json: JsonOption = False) -> None:
    """ε per dataset and study, folded from the ledger."""
    from ledger.log import LogReader
    from p2pfl.runtime.commands.budgets import privacy_status

    home = opened_home(context)
    reader = LogReader.open(home.path)
    try:
        found = privacy_status(home, reader.entries())
    finally:
        reader.close()
    if json:
        say_json(found)
        return
    if not found:
        say("No datasets yet: register one with `p2pfl data add`.")
        return
    say_table(
        ("dataset", "ε spent", "reserved", "left", "cap", "δ", ""),
        [
            (
                seen.name,
                f"{seen.spent:.3f}",
                f"{seen.reserved:.3f}",
                f"{seen.left:.3f}",
                f"{seen.cap:g}",
                seen.delta,
                "revoked" if seen.revoked else "",
            )
            for seen in found
        ],
    )
    shares = [(seen.name, share) for seen in found for share in seen.studies]
    if shares:
        say()
        say_table(
            ("dataset", "study", "here", "rounds", "ε alone"),
            [
                (
                    name,
                    short(share.study),
                    share.standing,
                    f"{share.rounds_spent}/{share.rounds_planned}",
                    f"{share.epsilon:.3f}",
                )
                for name, share in shares
            ],
        )
    for seen in found:
        if seen.unprotected_rounds:
            say(
                f"{seen.name}: {seen.unprotected_rounds} rounds were trained WITHOUT privacy; "
                "no ε describes them."
            )
