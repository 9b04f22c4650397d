"""Homes of a consortium with an approved study, made by the real commands; copied per test."""

import contextlib
import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from free_ports import free_addresses

from gossip.identifiers import SiteId
from gossip.keys import SiteKeys, read_keys
from gossip.roster import Roster, decode_roster
from p2pfl.cli.demo_stage import command
from p2pfl.core.manifest import Manifest, parse_manifest
from p2pfl.runtime.home import Home
from simulations.chaos.patients import SCHEMA, write_patients


@dataclass(frozen=True, slots=True)
class Consortium:
    """Some sites in one folder; `study` is empty until one was proposed."""

    folder: Path
    count: int
    study: str = ""

    def home(self, index: int) -> Home:
        return Home(self.folder / f"site{index}")

    @property
    def homes(self) -> list[Home]:
        return [self.home(index) for index in range(self.count)]

    def keys(self, index: int) -> SiteKeys:
        return read_keys(self.home(index).keys)

    def site(self, index: int) -> SiteId:
        return self.keys(index).site

    @property
    def roster(self) -> Roster:
        return decode_roster(self.home(0).roster.read_bytes())

    @property
    def manifest(self) -> Manifest:
        return parse_manifest(self.home(0).study(bytes.fromhex(self.study)).read_bytes())

    def copied(self, folder: Path) -> "Consortium":
        shutil.copytree(self.folder, folder)
        return replace(self, folder=folder)

    def approve(self, index: int) -> None:
        p2pfl(self.home(index), "study", "approve", self.study[:12], "--data", "patients")


def p2pfl(home: Home, *words: str) -> str:
    """Run a command as its user would, in this process. Raises OperatorError."""
    return command(home.path, *words, say=lambda line: None)


def p2pfl_json(home: Home, *words: str) -> Any:
    return json.loads(p2pfl(home, *words, "--json"))


def found(folder: Path, count: int, addresses: Sequence[str] = ()) -> Consortium:
    """Sites with a roster in force and a dataset each, listening on free ports of loopback."""
    folder.mkdir()
    made = Consortium(folder, count)
    for home, address in zip(made.homes, addresses or free_addresses(count), strict=True):
        listen = ("--listen", address, "--consortium", "test", "--allow-no-privacy")
        p2pfl(home, "init", "--name", home.path.name, *listen)
    cards = [str(home.card(home.path.name)) for home in made.homes]
    roster = str(folder / "test.roster")
    p2pfl(made.home(0), "roster", "create", *cards, "--out", roster)
    for home in made.homes:
        p2pfl(home, "roster", "sign", roster)
    for home in made.homes[:-1]:
        p2pfl(home, "roster", "install", roster)
    schema = folder / "schema.toml"
    schema.write_text(SCHEMA)
    for index, home in enumerate(made.homes):
        table = write_patients(folder / f"site{index}.csv", rows=60, seed=index)
        said = ("--legal-basis", "test", "--dpia", "none", "--epsilon-cap", "8", "--delta", "1e-3")
        p2pfl(home, "data", "add", str(table), "--name", "patients", "--schema", str(schema), *said)
    return made


def with_study(made: Consortium, *terms: str, approving: int | None = None) -> Consortium:
    """A study that every site knows and the first `approving` (default all) approve."""
    manifest, proposal = made.folder / "study.toml", made.folder / "study.study"
    drafted = ("study", "new", "--data", "patients", "--out", str(manifest), *terms)
    p2pfl(made.home(0), *drafted)
    study = p2pfl_json(made.home(0), "study", "propose", str(manifest))["study"]
    proposed = replace(made, study=study)
    for home in made.homes[1:]:
        p2pfl(home, "study", "import", str(proposal))
    for index in range(made.count if approving is None else approving):
        proposed.approve(index)
    return proposed


def audit_code(home: Home) -> int:
    """What `p2pfl ledger audit` ends with."""
    from p2pfl.cli.main import main

    with contextlib.redirect_stdout(io.StringIO()):
        return main(["--home", str(home.path), "ledger", "audit", "--json"])


def entries(home: Home, kind: str = "") -> list[Any]:
    """Entries of a home's ledger, also while a node runs."""
    from ledger.log import LogReader

    reader = LogReader.open(home.path)
    try:
        return [entry for entry in reader.entries() if kind in ("", entry.kind)]
    finally:
        reader.close()
