"""`p2pfl keys`: show, backup, restore, rotate."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from p2pfl.cli import keys_backup, keys_network
from p2pfl.cli.context import (
    COMPARE,
    JsonOption,
    now_us,
    opened_home,
    say_fields,
    say_json,
    say_wrapped,
)

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="This site's public keys; backup and replacement of the secret ones.",
)
app.command("backup")(keys_backup.backup)
app.command("restore")(keys_backup.restore)
app.add_typer(keys_network.app, name="network")


@app.command()
def show(context: typer.Context, json: JsonOption = False) -> None:
    """Public keys, site id and fingerprint; secret keys are never shown."""
    from gossip.card import decode_card
    from gossip.identifiers import fingerprint
    from gossip.spoken import spoken
    from p2pfl.runtime.config import read_config

    home = opened_home(context)
    config = read_config(home.config)
    card = decode_card(home.card(config.name).read_bytes())
    shown = {
        "name": card.name,
        "site": card.site.hex(),
        "fingerprint": fingerprint(card.site),
        "words": spoken(card.site),
        "identity": card.identity_pk.hex(),
        "transport": card.transport_pk.hex(),
        "log": card.log_pk.hex(),
        "witness": card.witness_pk.hex(),
        "log_id": card.log_id.hex(),
        "card": str(home.card(config.name)),
    }
    if json:
        say_json(shown)
    else:
        say_fields(list(shown.items()))
        say_wrapped(COMPARE)


class Replaceable(StrEnum):
    """Which key is replaced."""

    TRANSPORT = "transport"
    LOG = "log"
    WITNESS = "witness"


@app.command()
def rotate(
    context: typer.Context,
    key: Annotated[Replaceable, typer.Argument(help="Which key.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    json: JsonOption = False,
) -> None:
    """Replace a key by a statement of the identity key; `log` is `p2pfl ledger rotate-key`."""
    from p2pfl.runtime.errors import EXIT_REFUSED, OperatorError

    if key is Replaceable.LOG:
        from p2pfl.cli.ledger_recovery import rotate_key

        rotate_key(context, yes, "", json)
        return
    if key is Replaceable.WITNESS:
        raise OperatorError(
            "A witness key cannot be replaced in this version: the other sites' records hold "
            "cosignatures made with it.",
            fix="If a stranger may have it, tell the members, and replace this site's identity: "
            "`p2pfl roster propose-replace SITE CARD` with the card of a new home.",
            exit_code=EXIT_REFUSED,
        )
    _rotate_transport(context, yes=yes, as_json=json)


def _rotate_transport(context: typer.Context, *, yes: bool, as_json: bool) -> None:
    import os

    from p2pfl.runtime.commands.opening import open_site
    from p2pfl.runtime.commands.transport_keys import rotate_transport

    home = opened_home(context)
    with open_site(home, purpose="keys rotate", now_us=now_us, random_bytes=os.urandom) as site:
        done = rotate_transport(site, is_confirmed=yes)
    if as_json:
        say_json(done)
        return
    say_wrapped(f"New transport key, on the card with serial {done.serial}: {done.card}")
    say_wrapped(
        "Hand that card to one member whose node runs; it runs `p2pfl roster take-card CARD`, "
        "and its node tells the others. Then start this node, and make a new `p2pfl keys backup`."
    )
