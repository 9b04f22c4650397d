"""`p2pfl node`: run this site's node, ask how it is, stop it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from p2pfl.cli.context import (
    JsonOption,
    now_us,
    opened_home,
    say,
    say_fields,
    say_json,
    say_wrapped,
)

if TYPE_CHECKING:
    from p2pfl.runtime.home import Home

STOP_S = 20.0

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, help="Run this site's node.")


@app.command()
def start(
    context: typer.Context,
    background: Annotated[
        bool, typer.Option("--background", help="Return once it listens; it goes on by itself.")
    ] = False,
    offline_ok: Annotated[
        bool,
        typer.Option(
            "--offline-ok", help="Go on, on record, if no other site can be asked about the ledger."
        ),
    ] = False,
) -> None:
    """Run the node until Ctrl-C or SIGTERM (with --background: until `node stop`).

    Studies resume by themselves. Example: p2pfl --home ~/hospital-a node start"""
    if background:
        from p2pfl.cli.node_background import start_in_background

        start_in_background(opened_home(context), offline_ok=offline_ok)
        return
    from p2pfl.runtime.commands.starting import check_start
    from p2pfl.runtime.node import run_node

    home = opened_home(context)
    for other in check_start(home, now_us=now_us()):
        where = " ".join(other.addresses)
        _echo(f"will dial {other.name} at {where}" if where else f"{other.name} dials us")
    asyncio.run(run_node(home, _echo, offline_ok=offline_ok))


CONFINED = {
    "B": "level B: training reaches its data and sees nothing else of this machine",
    "C": "level C: training reaches its data and nothing else of this machine",
    "D": "level D: training is not confined; `p2pfl doctor` says why",
}


@app.command()
def status(context: typer.Context, as_json: JsonOption = False) -> None:
    """Say what the running node does: neighbours, studies, refusals."""
    home = opened_home(context)
    told = _ask_status(home)
    if as_json:
        say_json(told)
        return
    from p2pfl.core.events import OwnLog
    from p2pfl.runtime.node_status import HARMLESS

    if not told["is_member"]:
        say("REMOVED: this site is no member any more; `p2pfl roster history` says since when.")
    if told["read_only"]:
        say(f"READ-ONLY: {told['read_only']}")
    elif told["is_member"] and told["own_log"] == OwnLog.UNCONFIRMED.value:
        say_wrapped(
            "WAITS: no other site has said yet which head of this ledger it knows; nothing is "
            "published until then. If none can be reached: `p2pfl node start --offline-ok`."
        )
    connected = ", ".join(site["name"] for site in told["connected"]) or "nobody"
    say_fields(
        [
            ("connected", f"{connected} ({len(told['connected'])} of {told['members'] - 1})"),
            *[(f"line to {name}", _line_text(line)) for name, line in told["lines"].items()],
            *[("not reached", line) for line in _not_reached(home, told)],
            *[("two histories", f"{name}: nothing of it is taken") for name in told["forked"]],
            *[
                ("false witness", f"{name}: its cosignatures count no more")
                for name in told["false_witnesses"]
            ],
            *[
                ("heard slowly", f"{name}: it broke very many rules lately; it will be forgiven")
                for name in told["heard_slowly"]
            ],
            ("ledger", f"{told['ledger_entries']} entries"),
            ("confinement", CONFINED[told["confinement"]]),
            ("models", _models_text(told["models"])),
            *[
                (
                    "fetches",
                    f"{one['bytes'] / 1e6:.0f} of {one['of_bytes'] / 1e6:.0f} MB from "
                    f"{one['name']}",
                )
                for one in told["transfers"]
            ],
            ("memory", f"{told['memory_peak_kib'] / 1024:.0f} MB at most so far"),
            *_study_lines(told),
            *([("repeats", f"{told['harmless']}, harmless")] if told["harmless"] else []),
            *[
                (f"refused {what}", str(count))
                for what, count in told["refused"].items()
                if what.rpartition("/")[2] not in HARMLESS
            ],
            *[("turned away", f"{count} × {rule}") for rule, count in told["turned_away"].items()],
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


def _study_lines(told: Any) -> list[tuple[str, str]]:
    """How each study stands here, and for whom it waits."""
    running = [
        (
            study["name"],
            f"round {study['round']} of {study['rounds']}, {study['phase']}, "
            f"{_sites_text(study)} ({study['study'][:12]})"
            + (f"; {study['paused']}" if study["paused"] else ""),
        )
        for study in told["studies"]
    ]
    away = [
        (study["name"], f"away; `p2pfl study back {study['study'][:12]}` takes part again")
        for study in told["away"]
    ]
    waits = [
        ("waits for", f"{site['name']}, at most {site['seconds_at_most']:.0f} s more")
        for study in told["studies"]
        for site in study["waits_for"]
    ]
    return [*running, *away, *waits]


def _sites_text(study: Any) -> str:
    """How many sites take part; of how many approvals, while too few have approved."""
    if study["sites"] < study.get("sites_min", 0) and study["phase"] == "waiting":
        return f"{study['sites']} of {study['sites_min']} approvals"
    return f"{study['sites']} sites"


def _size_text(size_bytes: float) -> str:
    """In the unit that leaves a number people can read."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.3g} {unit}"
    return f"{size_bytes / 1e3:.3g} kB"


def _line_text(line: Any) -> str:
    """Round trip and bytes of one neighbour's line, and what waits if something does."""
    trip = line["round_trip_ms"]
    text = "not connected" if trip is None else f"{trip:.1f} ms there and back"
    sent, received = (line[key] / 1e6 for key in ("sent_bytes", "received_bytes"))
    text += f", {sent:.1f} MB sent, {received:.1f} MB received"
    return text + (f", {line['queued_frames']} waiting" if line["queued_frames"] else "")


def _models_text(models: Any) -> str:
    """What stored models take of the disk, and what is removed of them."""
    budget = f" of {_size_text(models['bytes_max'])}" if models["bytes_max"] else ""
    files = f"{models['files']} file{'' if models['files'] == 1 else 's'}"
    text = f"{_size_text(models['bytes'])}{budget} in {files}"
    rounds = models["keep_rounds"]
    kept = "of all rounds" if rounds is None else f"{rounds} rounds kept for audits"
    return f"{text}, {kept}" + (f", {models['removed']} removed" if models["removed"] else "")


def _not_reached(home: Home, told: Any) -> list[str]:
    """Whom the node tries to reach, and where, as the roster says."""
    from p2pfl.runtime.commands.opening import required_roster
    from p2pfl.runtime.commands.starting import others

    connected = {site["site"] for site in told["connected"]}
    return [
        f"{other.name}, tried at {' '.join(other.addresses)}"
        if other.addresses
        else f"{other.name}, who has to dial us"
        for other in others(required_roster(home), bytes.fromhex(told["site"]))
        if other.site.hex() not in connected
    ]


def _ask_status(home: Home) -> Any:
    from p2pfl.runtime.control_call import call_node
    from p2pfl.runtime.status_command import STATUS_COMMAND

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
