"""`p2pfl keys backup` and `keys restore`: the secret keys under a passphrase."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ledger.provenance.moments import day_of
from p2pfl.cli.context import (
    JsonOption,
    chosen_home,
    now_us,
    opened_home,
    say,
    say_fields,
    say_json,
)

PASSPHRASE_BYTES_MAX = 4096

_FdOption = Annotated[
    int, typer.Option("--passphrase-fd", min=-1, help="Read the passphrase from this descriptor.")
]
_EnvOption = Annotated[
    str, typer.Option("--passphrase-env", help="Name of the variable that holds the passphrase.")
]


def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    passphrase_fd: _FdOption = -1,
    passphrase_env: _EnvOption = "",
    json: JsonOption = False,
) -> None:
    """Write this site's keys, card, roster and configuration into one sealed file.

    The ledger and the models are not in it: back up the whole home, too."""
    from p2pfl.cli.progress import working
    from p2pfl.runtime.commands import backups

    home = opened_home(context)
    passphrase = _passphrase(passphrase_fd, passphrase_env, is_new=True)
    with working("Sealing the keys …"):
        done = backups.keys_backup(
            home, file.absolute(), passphrase, now_us=now_us(), random_bytes=os.urandom
        )
    if json:
        say_json(done)
        return
    say_fields(
        [
            ("backup", str(file)),
            ("site", f"{done.name} ({done.site.hex()})"),
            ("in it", "four secret keys, data key, card, roster, config.toml, policy.toml"),
            *([("", "the network key")] if done.network_key else []),
            ("not in it", f"the ledger ({done.head_size} entries now), models, datasets"),
        ]
    )
    say()
    say("Whoever has this file and its passphrase is this site: keep them in two places.")
    say("For everything else, copy the whole home while the node is stopped.")


def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A file that `p2pfl keys backup` wrote.")],
    passphrase_fd: _FdOption = -1,
    passphrase_env: _EnvOption = "",
    json: JsonOption = False,
) -> None:
    """Make a new home with the keys of a backup. Its ledger cannot be restored from it."""
    from p2pfl.cli.progress import working
    from p2pfl.runtime.commands import backups
    from p2pfl.runtime.home import Home

    home = Home(chosen_home(context))
    passphrase = _passphrase(passphrase_fd, passphrase_env, is_new=False)
    with working("Opening the backup …"):
        done = backups.keys_restore(
            home, file.absolute(), passphrase, now_us=now_us(), random_bytes=os.urandom
        )
    if json:
        say_json(done)
        return
    made = day_of(done.created_us)
    say_fields(
        [
            ("home", str(home.path)),
            ("site", f"{done.name} ({done.site.hex()})"),
            ("fingerprint", done.fingerprint),
            ("backup of", f"{made}, when the ledger had {done.head_size} entries"),
            ("missing", "the ledger, models, datasets and studies"),
        ]
    )
    say()
    say("DO NOT publish from this home: without its ledger it would contradict what the")
    say("other sites have seen of it, which counts as proof of a fork. Next:")
    say("1. Look for a copy of the whole old home; the newest one is the one to run.")
    say("2. If there is none: `p2pfl ledger recover` fetches the ledger from the")
    say("   other sites.")
    say("3. Data has to be registered anew; what it has spent counts as spent.")
    if done.network_key_missing:
        say("4. The backup has no network key, which config.toml asks for: take it from")
        say("   another member (`p2pfl keys network take FILE`).")


def _passphrase(descriptor: int, variable: str, *, is_new: bool) -> str:
    from p2pfl.runtime.errors import EXIT_USAGE, OperatorError

    if descriptor >= 0 and variable:
        raise OperatorError(
            "--passphrase-fd and --passphrase-env exclude each other.",
            fix="Give one of them.",
            exit_code=EXIT_USAGE,
        )
    if descriptor >= 0:
        return _read_from(descriptor)
    if variable:
        if variable not in os.environ:
            raise OperatorError(
                f"The environment has no variable {variable}.",
                fix="Set it to the passphrase, or leave the option out to be asked.",
                exit_code=EXIT_USAGE,
            )
        return os.environ[variable]
    if not sys.stdin.isatty():
        raise OperatorError(
            "Nobody can be asked for the passphrase: standard input is no terminal.",
            fix="Give --passphrase-fd N or --passphrase-env NAME.",
            exit_code=EXIT_USAGE,
        )
    return _asked(is_new=is_new)


def _asked(*, is_new: bool) -> str:
    from getpass import getpass

    from p2pfl.runtime.errors import EXIT_USAGE, OperatorError

    typed = getpass("Passphrase: ")
    if is_new and getpass("Again, to be sure: ") != typed:
        raise OperatorError(
            "The two passphrases differ.",
            fix="Run the command again; nothing was written.",
            exit_code=EXIT_USAGE,
        )
    return typed


def _read_from(descriptor: int) -> str:
    from p2pfl.runtime.errors import EXIT_USAGE, OperatorError

    try:
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            raw = file.readline(PASSPHRASE_BYTES_MAX)
        return raw.rstrip(b"\r\n").decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorError(
            f"Descriptor {descriptor} does not hold a passphrase: {error}.",
            fix="Open it for reading, like `3< file --passphrase-fd 3`.",
            exit_code=EXIT_USAGE,
        ) from error
