"""`p2pfl init`."""

from __future__ import annotations

from typing import Annotated

import typer

from p2pfl.cli.context import (
    JsonOption,
    chosen_home,
    now_us,
    say,
    say_fields,
    say_json,
    say_wrapped,
)

app = typer.Typer(rich_markup_mode=None)


@app.command()
def init(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="Short name of the site, like charite.")],
    listen: Annotated[str, typer.Option(help="host:port the node listens on.")],
    consortium: Annotated[str, typer.Option(help="Name of the consortium, the same everywhere.")],
    announce: Annotated[
        list[str] | None,
        typer.Option(help="host:port other sites dial, if not the listening one. Repeatable."),
    ] = None,
    dial_only: Annotated[
        bool,
        typer.Option("--dial-only", help="Nobody can dial this site, behind a firewall, say."),
    ] = False,
    allow_no_privacy: Annotated[
        bool,
        typer.Option(
            "--allow-no-privacy",
            help="Write a policy under which studies without privacy may be approved.",
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Create this site's home: keys, ledger, configuration, policy and card.

    Example: p2pfl --home ~/charite init --name charite --listen 192.0.2.7:7100
    --consortium heart"""
    import os

    from p2pfl.runtime.commands import founding
    from p2pfl.runtime.config import make_config
    from p2pfl.runtime.errors import EXIT_USAGE, OperatorError
    from p2pfl.runtime.home import Home
    from p2pfl.runtime.policy import Policy

    if announce and dial_only:
        raise OperatorError(
            "A site that nobody can dial has no address to announce.",
            fix="Leave out --announce or --dial-only.",
            exit_code=EXIT_USAGE,
        )
    config = make_config(name, listen, tuple(announce or ()), consortium, dial_only=dial_only)
    done = founding.init(
        Home(chosen_home(context)),
        config,
        Policy(allow_no_privacy=allow_no_privacy),
        now_us=now_us,
        random_bytes=os.urandom,
    )
    if json:
        say_json(done)
        return
    say_fields(
        [
            ("site", done.name),
            ("id", done.site.hex()),
            ("fingerprint", done.fingerprint),
            ("words", done.words),
            ("home", str(done.home)),
            ("card", str(done.card)),
        ]
    )
    say()
    say_wrapped(
        "Next: give the card to whoever makes the roster, and read the words to them by "
        "telephone; or run `p2pfl consortium join` if you were invited. Then back up the keys "
        "with `p2pfl keys backup FILE`: whoever has them is this site."
    )
