"""`p2pfl node`: run this site's node, ask how it is, stop it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import typer

from p2pfl.cli.context import JsonOption, opened_home, say, say_fields, say_json

if TYPE_CHECKING:
    from p2pfl.runtime.home import Home

STOP_S = 20.0

app = typer.Typer(no_args_is_help=True, help="Run this site's node.")


@app.command()
def start(context: typer.Context) -> None:
    """Run the node in the foreground until Ctrl-C or SIGTERM; studies resume by themselves.

    Example: p2pfl --home ~/hospital-a node start"""
    from p2pfl.runtime.node import run_node

    asyncio.run(run_node(opened_home(context), _echo))


@app.command()
def status(context: typer.Context, as_json: JsonOption = False) -> None:
    """Say what the running node does: neighbours, studies, refusals."""
    told = _ask_status(opened_home(context))
    if as_json:
        say_json(told)
        return
    connected = ", ".join(site["name"] for site in told["connected"]) or "nobody"
    say_fields(
        [
            ("connected", f"{connected} ({len(told['connected'])} of {told['members'] - 1})"),
            ("ledger", f"{told['ledger_entries']} entries"),
            ("memory", f"{told['memory_peak_kib'] / 1024:.0f} MB at most so far"),
            *[
                (
                    study["name"],
                    f"round {study['round']} of {study['rounds']}, {study['phase']}, "
                    f"{study['sites']} sites ({study['study'][:12]})",
                )
                for study in told["studies"]
            ],
            *[(f"refused {what}", str(count)) for what, count in told["refused"].items()],
        ]
    )


@app.command()
def stop(context: typer.Context) -> None:
    """Stop the running node cleanly: nothing more is released, its last commit ends."""
    from p2pfl.runtime.errors import EXIT_UNAVAILABLE, OperatorError

    home = opened_home(context)
    pid = _running_pid(home)
    os.kill(pid, signal.SIGTERM)
    end_s = time.monotonic() + STOP_S
    while time.monotonic() < end_s:
        if not home.node_pid.exists():
            say(f"The node (process {pid}) has stopped.")
            return
        time.sleep(0.05)
    raise OperatorError(
        f"The node (process {pid}) did not stop within {STOP_S:g} s.",
        fix=f"Look at {home.node_log}; `kill -9 {pid}` loses nothing that is on record.",
        exit_code=EXIT_UNAVAILABLE,
    )


def _ask_status(home: Home) -> Any:
    from p2pfl.runtime.control_call import call_node
    from p2pfl.runtime.node_status import STATUS_COMMAND

    _running_pid(home)
    return call_node(home, STATUS_COMMAND, {}, timeout_s=10.0)


def _running_pid(home: Home) -> int:
    from p2pfl.runtime.control_call import node_is_running
    from p2pfl.runtime.errors import EXIT_UNAVAILABLE, OperatorError

    if not node_is_running(home):
        raise OperatorError(
            f"No node runs on {home.path}.",
            fix=f"Start it with `p2pfl --home {home.path} node start`.",
            exit_code=EXIT_UNAVAILABLE,
        )
    return int(home.node_pid.read_text("ascii"))


def _echo(line: str) -> None:
    sys.stdout.write(f"{time.strftime('%H:%M:%S')}  {line}\n")
    sys.stdout.flush()
