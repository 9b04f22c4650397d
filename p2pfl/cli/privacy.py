"""`p2pfl privacy status` and `audit`."""

from __future__ import annotations

from typing import Annotated

import typer

from p2pfl.cli.context import (
    JsonOption,
    opened_home,
    say,
    say_fields,
    say_json,
    say_table,
    say_wrapped,
    short,
)

CANARIES = 1000
FAILED = 1

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


@app.command()
def audit(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="A manifest's path or a study's id, 6 digits +.")],
    canaries: Annotated[
        int, typer.Option(min=16, max=4096, help="Made-up patients; more see more.")
    ] = CANARIES,
    json: JsonOption = False,
) -> None:
    """Try a study's private steps on made-up patients: is the noise there?

    Exit code 1 if more can be told about them than ε allows. Touches no patient, costs no ε."""
    from p2pfl.cli.progress import working
    from p2pfl.runtime.commands import privacy_auditing

    home = opened_home(context)
    with working("Training on made-up patients …"):
        seen = privacy_auditing.privacy_audit(home, study, canaries)
    found = seen.found
    if json:
        say_json(seen)
    else:
        say(f"{seen.name} ({short(seen.study)}): {'PASSED' if found.passed else 'FAILED'}")
        say_fields(
            [
                ("canaries", f"{found.canaries}, each in by a coin; {found.steps} private steps"),
                ("guessed", f"{found.right} of {found.guesses} right (chance: half)"),
                ("ε claimed", f"{found.epsilon_claimed:.3f} at δ = {found.delta:g}"),
                ("ε at least", f"{found.epsilon_lower:.3f}, with {1 - found.error:.0%} confidence"),
            ]
        )
        say_wrapped(
            "It finds noise that is several times too small, and clipping that does not clip. It "
            "proves no ε: that is the accountant's."
            if found.passed
            else "More can be told about single patients than the study claims. Do not train with "
            "this installation; tell its maintainers."
        )
    if not found.passed:
        raise typer.Exit(FAILED)
