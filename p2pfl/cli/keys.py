"""`p2pfl keys`: show, backup, restore."""

from __future__ import annotations

import typer

from p2pfl.cli import keys_backup
from p2pfl.cli.context import COMPARE, JsonOption, opened_home, say_fields, say_json, say_wrapped

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="This site's public keys, and a backup of the secret ones.",
)
app.command("backup")(keys_backup.backup)
app.command("restore")(keys_backup.restore)


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
