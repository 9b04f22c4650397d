"""`p2pfl keys`: show, backup, restore, rotate."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from ledger.provenance.moments import moment_of
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
    from ledger.log import WitnessKey
    from p2pfl.runtime.commands.witness_keys import witness_keys_of
    from p2pfl.runtime.config import read_config

    home = opened_home(context)
    config = read_config(home.config)
    card = decode_card(home.card(config.name).read_bytes())
    *before, in_force = witness_keys_of(home) or (WitnessKey(card.witness_pk),)
    shown = {
        "name": card.name,
        "site": card.site.hex(),
        "fingerprint": fingerprint(card.site),
        "words": spoken(card.site),
        "identity": card.identity_pk.hex(),
        "transport": card.transport_pk.hex(),
        "log": card.log_pk.hex(),
        "witness": in_force.public_key.hex(),
        "log_id": card.log_id.hex(),
        "card": str(home.card(config.name)),
    }
    if json:
        earlier = [
            {"key": k.public_key.hex(), "until_us": k.until_us, "disowned": k.is_disowned}
            for k in before
        ]
        say_json({**shown, "witness_before": earlier})
        return
    lines = [
        ("witness before", f"{k.public_key.hex()[:16]}…, {_end_of(k.until_us, k.is_disowned)}")
        for k in before
    ]
    say_fields([*shown.items(), *lines])
    say_wrapped(COMPARE)


def _end_of(until_us: int, is_disowned: bool) -> str:
    what = "not believed since" if is_disowned else "replaced"
    return f"{what} {moment_of(until_us)}"


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
    compromised_since: Annotated[
        str, typer.Option(help="UTC time since which others may have had the old key.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """Replace a key by a statement of the identity key; `log` is `p2pfl ledger rotate-key`."""
    from p2pfl.runtime.errors import EXIT_USAGE, OperatorError

    if key is Replaceable.LOG:
        from p2pfl.cli.ledger_recovery import rotate_key

        rotate_key(context, yes, compromised_since, json)
        return
    if key is Replaceable.WITNESS:
        _rotate_witness(context, compromised_since, yes=yes, as_json=json)
        return
    if compromised_since:
        raise OperatorError(
            "--compromised-since is for log and witness keys: what a transport key signed does not "
            "outlast its connection.",
            fix="Leave it out.",
            exit_code=EXIT_USAGE,
        )
    _rotate_transport(context, yes=yes, as_json=json)


def _rotate_witness(
    context: typer.Context, compromised_since: str, *, yes: bool, as_json: bool
) -> None:
    import os

    from p2pfl.runtime.commands.ledger_changing import time_us_of
    from p2pfl.runtime.commands.opening import open_site
    from p2pfl.runtime.commands.witness_keys import RotateWitness, rotate_witness

    request = RotateWitness(yes, time_us_of(compromised_since))
    home = opened_home(context)
    with open_site(home, purpose="keys rotate", now_us=now_us, random_bytes=os.urandom) as site:
        done = rotate_witness(site, request)
    if as_json:
        say_json(done)
        return
    say_wrapped(
        f"New witness key in entry {done.seq} of the ledger, and on the card with serial "
        f"{done.serial}. What the old one cosigned before stays valid."
    )
    say_wrapped(
        "Start this node (`p2pfl node start`): it tells the others at once. Then make a new "
        "`p2pfl keys backup`."
    )


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
