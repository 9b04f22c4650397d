"""Real homes, founded by the real commands, for tests to use and to break."""

from __future__ import annotations

import contextlib
import io
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pfl.cli.main import main

SCHEMA = """\
[data]
kind = "tabular"
patients_min = 20
holdout = 0.34
target = { column = "num", positive_above = 0.0 }
[[data.columns]]
name = "age"
type = "number"
range = [20.0, 90.0]
typical = 55.0
[[data.columns]]
name = "cp"
type = "category"
categories = [1.0, 2.0, 3.0, 4.0]
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def p2pfl(*words: object) -> Ran:
    """Run the command in this process, as its user would."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Ran(code, out.getvalue(), err.getvalue())


def done(*words: object) -> Ran:
    """Run a command that has to succeed."""
    ran = p2pfl(*words)
    assert ran.code == 0, f"{words}: {ran.err or ran.out}"
    return ran


def found(
    directory: Path, *, sites: int, first_port: int = 7101, announced: str = ""
) -> list[Path]:
    """Homes of a consortium whose roster is in force everywhere; announced: another host."""
    homes = [directory / f"site{index}" for index in range(sites)]
    cards = []
    for index, home in enumerate(homes):
        listen = f"127.0.0.1:{first_port + index}"
        options = ("--name", home.name, "--listen", listen, "--consortium", "heart")
        if announced:
            options = (*options, "--announce", f"{announced}:{7100 + index}")
        cards.append(done("init", "--home", home, *options, "--json").json["card"])
    roster = directory / "heart.roster"
    done("roster", "create", *cards, "-o", roster, "--home", homes[0])
    for home in homes:
        done("roster", "sign", roster, "--home", home)
    for home in homes[:-1]:
        done("roster", "install", roster, "--home", home)
    return homes


def write_table(path: Path, *, rows: int, seed: int, header: str = "age,cp,num") -> Path:
    """A table that fits SCHEMA."""
    drawn = random.Random(seed)  # noqa: S311 - test data
    lines = [
        f"{drawn.randint(20, 90)},{drawn.randint(1, 4)},{drawn.randint(0, 2)}" for _ in range(rows)
    ]
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def register(home: Path, *options: object, rows: int = 60, seed: int = 1) -> Ran:
    """Register a fitting dataset called `patients`."""
    directory = home.parent
    table = write_table(directory / f"{home.name}.csv", rows=rows, seed=seed)
    schema = directory / "schema.toml"
    schema.write_text(SCHEMA)
    return p2pfl(
        "data", "add", table, "--name", "patients", "--schema", schema, *options, "--home", home
    )


def draft(home: Path, out: Path, *options: object) -> Ran:
    """A manifest for `patients`."""
    return p2pfl(
        "study", "new", "--data", "patients", "-o", out, *options, "--home", home, "--json"
    )
