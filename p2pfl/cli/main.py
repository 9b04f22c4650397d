"""The entry point: finds the command, runs it, and turns what goes wrong into a sentence.

Command families are loaded only when they are used; `--help` reads the table below.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperGroup

EXIT_USAGE: Final = 64
EXIT_BUG: Final = 70
EXIT_INTERRUPTED: Final = 130

FAMILIES: Final = {
    "demo": "Four hospitals train together on this machine, start to audit.",
    "demo-tumour": "Five hospitals learn together to mark synthetic brain tumours.",
    "init": "Create this site's home: keys, ledger, configuration, policy.",
    "consortium": "Found a consortium, invite others to it, join one.",
    "roster": "Who belongs to the consortium.",
    "data": "Register and withdraw datasets; data never leaves the site.",
    "bundle": "MONAI bundles installed at this site.",
    "study": "Draft, propose, read and decide on studies.",
    "node": "Run this site's node.",
    "logs": "What the node did, in readable lines.",
    "model": "Released models: list, try on own patients, predict, export.",
    "privacy": "What datasets have spent and what is left.",
    "ledger": "Verify, audit and read this site's ledger.",
    "keys": "This site's public keys, and a backup of the secret ones.",
    "doctor": "Check this machine and this site's home.",
    "simulate": "Try a study with many simulated sites, attacks and faults.",
    "version": "Versions of this program and what it stands on.",
}
"""Command → one line of help. Each lives in `p2pfl.cli.<command>`, - as _, as `app`."""
DEMOS: Final = ("demo", "demo-tumour")
"""They have a --home of their own, and --json names a file."""


class Families(TyperGroup):
    """The command families, loaded when they are called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order in which one needs them."""
        return list(FAMILIES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Load one family; typer asks for it when it is called or completed."""
        if cmd_name not in FAMILIES:
            return None
        module = importlib.import_module(f"p2pfl.cli.{cmd_name.replace('-', '_')}")
        # Completion is installed once for all of p2pfl; typer offers it to each app of its own.
        module.app._add_completion = False
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the families without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(FAMILIES.items()))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Let --home stand anywhere, not only before the command."""
        return list(super().parse_args(ctx, _home_first(args)))


def _command_of(args: Sequence[str]) -> str:
    return next((arg for arg in args if arg in FAMILIES), "")


def _home_first(args: Sequence[str]) -> list[str]:
    """Move `--home DIR` to the front; demonstrations have their own --home, `--` ends options."""
    if _command_of(args) in DEMOS:
        return list(args)
    moved: list[str] = []
    rest: list[str] = []
    waiting = iter(args)
    for arg in waiting:
        if arg == "--":
            rest += [arg, *waiting]
        elif arg == "--home":
            moved += [arg, *([value] if (value := next(waiting, None)) is not None else [])]
        elif arg.startswith("--home="):
            moved.append(arg)
        else:
            rest.append(arg)
    return moved + rest


app = typer.Typer(
    cls=Families,
    name="p2pfl",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def root(
    home: Annotated[
        str,
        typer.Option(
            "--home",
            metavar="DIR",
            help="This site's home, before or after the command "
            "[default: $P2PFL_HOME, else ~/.p2pfl].",
        ),
    ] = "",
) -> None:
    """Serverless federated learning between hospitals: every site keeps its data, its ledger and
    its say."""


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; nothing escapes as a traceback."""
    try:
        result = app(args=list(arguments), prog_name="p2pfl", standalone_mode=False)
    except typer.Exit as stop:
        return stop.exit_code
    except (typer.Abort, KeyboardInterrupt):
        sys.stderr.write("Stopped.\n")
        return EXIT_INTERRUPTED
    except typer.TyperException as error:
        error.show()  # type: ignore[attr-defined]  # what typer itself calls
        return EXIT_USAGE
    except BrokenPipeError:
        # Whoever read our output has gone; nothing is left to be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return _explain(error, arguments)
    return result if isinstance(result, int) else 0


def _explain(error: Exception, arguments: Sequence[str]) -> int:
    from p2pfl.runtime.commands.failures import as_operator_error

    known = as_operator_error(error)
    if known is None:
        return _report_bug(error, arguments)
    # There --json names the file of the results.
    if "--json" in arguments and _command_of(arguments) not in DEMOS:
        import json

        content = {"message": known.message, "fix": known.fix, "exit_code": known.exit_code}
        sys.stderr.write(json.dumps({"error": content}, ensure_ascii=False) + "\n")
    else:
        sys.stderr.write(f"{known.message}\n→ {known.fix}\n")
    return known.exit_code


def _report_bug(error: Exception, arguments: Sequence[str]) -> int:
    log = _bug_log(arguments)
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    report = f"{stamp}\n{''.join(traceback.format_exception(error))}\n"
    try:
        with log.open("a", encoding="utf-8") as file:
            file.write(report)
        place = f"the log is at {log}"
    except OSError:
        sys.stderr.write(report)
        place = "the log is above"
    sys.stderr.write(f"p2pfl stopped on an error of its own ({type(error).__name__}).\n")
    sys.stderr.write(f"→ This is our bug, {place}; please report it.\n")
    return EXIT_BUG


def _bug_log(arguments: Sequence[str]) -> Path:
    """In the home if there is one, else where the person stands."""
    from p2pfl.cli.context import DEFAULT_HOME, HOME_VARIABLE

    match _home_first(arguments):
        case ["--home", given, *_]:
            pass
        case _:
            given = ""
    home = Path(given or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).expanduser()
    return home / "logs" / "cli.log" if (home / "logs").is_dir() else Path("p2pfl-bug.log")


def run() -> NoReturn:
    """What the installed `p2pfl` script calls."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
