"""`p2pfl keys network`: the pre-shared key of a private network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from p2pfl.cli.context import JsonOption, opened_home, say_fields, say_json, say_wrapped

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="The key that covers all connections of a consortium, where its members want one.",
)


@app.command()
def make(context: typer.Context, json: JsonOption = False) -> None:
    """A new network key, at one member; the others take it."""
    from p2pfl.runtime.network_key import make_network_key, network_key_file

    home = opened_home(context)
    key = make_network_key(home, os.urandom)
    _tell(network_key_file(home), key, as_json=json)
    if not json:
        say_wrapped(
            "Hand that file to every member, by a way that strangers cannot read; each puts it "
            "into place with `p2pfl keys network take FILE`. When all have it, each writes "
            "network_key = true into config.toml and restarts its node: members with and without "
            "it do not meet."
        )


@app.command()
def take(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The swarm.key of another member.")],
    json: JsonOption = False,
) -> None:
    """Put the key that another member made into this home."""
    from p2pfl.runtime.network_key import network_key_file, take_network_key

    home = opened_home(context)
    _tell(network_key_file(home), take_network_key(home, file), as_json=json)
    if not json:
        say_wrapped(
            "The fingerprint has to be the same at all members. It is in force once config.toml "
            "says network_key = true and the node was restarted."
        )


def _tell(file: Path, key: bytes, *, as_json: bool) -> None:
    from gossip.network_key import network_fingerprint

    told = {"file": str(file), "fingerprint": network_fingerprint(key)}
    say_json(told) if as_json else say_fields(list(told.items()))
