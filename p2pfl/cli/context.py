"""What every command knows: which home is meant, what time it is, and how results are printed."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ledger.provenance.moments import day_of

if TYPE_CHECKING:
    from p2pfl.runtime.commands.catalogue import Command
    from p2pfl.runtime.home import Home

A = TypeVar("A")
R = TypeVar("R")

DEFAULT_HOME = "~/.p2pfl"
HOME_VARIABLE = "P2PFL_HOME"

COMPARE = (
    "To compare: telephone that site under a number you know from elsewhere, and let its people "
    "read their words (`p2pfl keys show`) to you. If one word differs, do not sign."
)
"""How people make sure that a key is the site's."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def chosen_home(context: typer.Context) -> Path:
    """The home that --home, P2PFL_HOME or the default names; it need not exist."""
    given = context.find_root().params.get("home")
    return Path(given or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).expanduser().absolute()


def opened_home(context: typer.Context) -> Home:
    """The home, which has to exist. Raises OperatorError."""
    from p2pfl.runtime.home import existing_home

    return existing_home(chosen_home(context))


def now_us() -> int:
    """The wall clock in microseconds: commands get it from here as an argument."""
    return time.time_ns() // 1000


def perform(home: Home, command: Command[A, R], arguments: A) -> R:
    """Have a command done, by the running node or right here. Raises OperatorError."""
    from p2pfl.runtime.commands import catalogue

    return catalogue.perform(home, command, arguments, now_us=now_us, random_bytes=os.urandom)


def say(text: str = "") -> None:
    """One line on standard output."""
    sys.stdout.write(text + "\n")


def say_wrapped(text: str, *, width: int = 80) -> None:
    """A sentence on as many lines as it takes."""
    import textwrap

    say(textwrap.fill(text, width, break_on_hyphens=False, break_long_words=False))


def as_typed(path: Path) -> str:
    """A path as a person would type it where they stand."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (OSError, ValueError):
        return str(path)


def say_json(value: object) -> None:
    """A result as JSON, indented, keys as the result's fields."""
    from p2pfl.runtime.jsonable import to_json

    say(json.dumps(to_json(value), indent=2, ensure_ascii=False))


def say_fields(fields: Sequence[tuple[str, str]], *, width: int = 80) -> None:
    """Name and value per line, values wrapped and aligned, within `width` columns."""
    import textwrap

    left = max((len(name) for name, _ in fields), default=0) + 2
    for name, value in fields:
        lines = textwrap.wrap(value, width - left, break_on_hyphens=False) or [""]
        say(f"{name:<{left}}{lines[0]}")
        for line in lines[1:]:
            say(" " * left + line)


def own_first(names: Iterable[str], home: Home) -> list[str]:
    """Sites by name, this one before all others."""
    from p2pfl.runtime.config import read_config

    own = read_config(home.config).name if home.config.is_file() else ""
    return sorted(names, key=lambda name: (name != own, name))


def say_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of at most 80 columns; coloured on a terminal, plain when piped."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    table = Table(*headers, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*row)
    with console.capture() as printed:
        console.print(table, width=min(80, console.width) if console.is_terminal else 80)
    for line in printed.get().splitlines():
        say(line.rstrip())


def short(digest: bytes) -> str:
    """The first 12 hex digits: enough to name a study or a site on a command line."""
    return digest.hex()[:12]


def day(moment_s: int) -> str:
    """A date in UTC."""
    return day_of(moment_s * 1_000_000)
