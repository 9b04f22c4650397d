"""`p2pfl doctor`."""

from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING

import typer

from p2pfl.cli.context import JsonOption, chosen_home, now_us, say, say_json

if TYPE_CHECKING:
    from p2pfl.runtime.commands.doctoring import Check, Examination, Level
    from p2pfl.runtime.home import Home

NAME_WIDTH = 13
WIDTH = 80

app = typer.Typer(rich_markup_mode=None)


@app.command()
def doctor(context: typer.Context, json: JsonOption = False) -> int:
    """Check this machine and this site's home, and say what to do. Changes nothing.

    Exit code 1 if anything failed, 0 otherwise."""
    from p2pfl.cli.progress import working
    from p2pfl.runtime.commands import doctoring
    from p2pfl.runtime.home import Home

    home = Home(chosen_home(context))
    with working("Examining machine and home …"):
        diagnosis = doctoring.examine(
            [*_machine(home), *_home(home)], tell=(lambda check: None) if json else _tell
        )
    worst = diagnosis.worst
    code = 1 if worst is doctoring.Level.FAIL else 0
    if json:
        say_json({"worst": worst, "checks": diagnosis.checks, "exit_code": code})
        return code
    say(_verdict(diagnosis.checks, worst))
    return code


def _machine(home: Home) -> list[Examination]:
    from p2pfl.runtime.commands import doctoring_home
    from p2pfl.runtime.commands import doctoring_machine as machine

    return [
        ("python", machine.check_python),
        ("confinement", lambda: machine.check_confinement(doctoring_home.level_asked(home))),
        ("torch", machine.check_torch),
        ("libp2p", machine.check_libp2p),
        ("memory", machine.check_memory),
        ("disk", lambda: machine.check_disk(home.path)),
        ("limits", lambda: machine.check_limits(home)),
        (
            "clock",
            lambda: machine.check_clock(now_us(), doctoring_home.newest_entry_us(home)),
        ),
    ]


def _home(home: Home) -> list[Examination]:
    from p2pfl.runtime.commands import doctoring
    from p2pfl.runtime.commands import doctoring_code as code
    from p2pfl.runtime.commands import doctoring_home as look
    from p2pfl.runtime.commands import doctoring_network as network
    from p2pfl.runtime.commands import doctoring_witnesses as witnesses

    if not home.config.is_file():
        missing = doctoring.warn(
            "home",
            f"There is no home at {home.path}.",
            "Create one with `p2pfl init`, or name another with --home or P2PFL_HOME.",
        )
        return [("home", lambda: iter((missing,)))]
    return [
        ("permissions", lambda: look.check_permissions(home)),
        ("node", lambda: look.check_lock(home)),
        ("config", lambda: look.check_configuration(home)),
        ("keys", lambda: look.check_keys(home)),
        ("network key", lambda: network.check_network_key(home)),
        ("ledger", lambda: look.check_ledger(home)),
        ("witnesses", lambda: witnesses.check_witnesses(home, now_us=now_us())),
        ("blobs", lambda: look.check_blobs(home, os.urandom)),
        ("data", lambda: look.check_datasets(home)),
        ("code", lambda: code.check_code(home)),
        ("roster", lambda: network.check_roster(home)),
        ("port", lambda: network.check_listening(home)),
        ("neighbour", lambda: network.check_neighbours(home)),
    ]


def _tell(check: Check) -> None:
    left = f"{check.level.value:<5} {check.name:<{NAME_WIDTH}}"
    indent = " " * len(left)
    say(_wrapped(left, check.sentence, indent))
    if check.fix:
        say(_wrapped(f"{indent}→ ", check.fix, indent + "  "))


def _wrapped(first: str, text: str, indent: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False
    )


def _verdict(checks: tuple[Check, ...], worst: Level) -> str:
    from p2pfl.runtime.commands.doctoring import Level

    counts = {level: sum(check.level is level for check in checks) for level in Level}
    if worst is Level.OK:
        return f"All {len(checks)} checks are in order."
    return (
        f"{counts[Level.FAIL]} failed, {counts[Level.WARN]} to look at, "
        f"{counts[Level.OK]} in order."
    )
