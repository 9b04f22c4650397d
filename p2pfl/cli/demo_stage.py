"""Setting the stage of the demonstration: every step is a command that a person would type."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from p2pfl.runtime.children import output_of, run_module
from p2pfl.runtime.errors import EXIT_UNAVAILABLE, OperatorError

CONSORTIUM: Final = "demo"
DATASET: Final = "patients"
DELTA: Final = "1e-3"
EPSILON_CAP: Final = 8.0
SHARE_MAX: Final = 0.3
"""Four sites with quite different patient counts then still are at the limit, not beyond it."""

COLUMNS: Final = 80

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DemoTerms:
    """What the person asked for. epsilon None: no privacy."""

    folder: Path
    sites: int
    rounds: int
    seed: int
    rule: str
    plan: str
    epsilon: float | None
    heart: Path | None
    arguments: tuple[str, ...] = ()
    """NAME=VALUE of the plan, in place of what `plan_arguments` says."""
    encoding: str = "float32"
    """Of updates on their way."""
    is_compared: bool = True
    """Whether models trained alone and on pooled data are made, too."""


@dataclass(frozen=True, slots=True)
class DemoSite:
    """One hospital of the demonstration."""

    name: str
    home: Path
    csv: Path
    patients: int
    patient_column: str
    address: str


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything is ready: nodes can start."""

    sites: tuple[DemoSite, ...]
    study: str
    manifest: Path
    robustness: str
    privacy: str


def set_stage(terms: DemoTerms, say: Say) -> Stage:
    """Make data, homes, roster and an approved study. Raises OperatorError."""
    sites, schema = _make_data(terms)
    count = sum(site.patients for site in sites)
    what = "the UCI heart-disease patients" if terms.heart else "scikit-learn's breast cancer"
    say(f"Data: {what}, {count} patients of {len(sites)} hospitals")
    for site in sites:
        say(f"  {site.name:<14}{site.patients:>4} patients")
    found_homes(sites, terms, say)
    sign_roster(sites, terms, say)
    for site in sites:
        _register(site, schema, say if site is sites[0] else quiet)
    manifest, study = _propose(sites[0], terms, say)
    shown = json.loads(command(sites[0].home, "study", "show", study, "--json", say=quiet))
    for site in sites:
        is_first = site is sites[0]
        if not is_first:
            proposal = str(manifest.with_suffix(".study"))
            command(site.home, "study", "import", proposal, say=say if site is sites[1] else quiet)
        approving = ("study", "approve", study[:12], "--data", DATASET)
        command(site.home, *approving, say=say if is_first else quiet)
    return Stage(sites, study, manifest, shown["robustness"], shown["privacy"])


def command(home: Path | None, *words: str, say: Say) -> str:
    """Run a p2pfl command as its user would, and return what it printed.

    Raises OperatorError with the command's own words if it fails."""
    from p2pfl.cli.main import main

    arguments = [*(("--home", str(home)) if home is not None else ()), *words]
    say(_as_typed(arguments))
    printed, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(complained):
        code = main(arguments)
    if code != 0:
        problem, _, fix = complained.getvalue().strip().partition("\n→ ")
        raise OperatorError(
            f"`p2pfl {shlex.join(words)}` failed: {problem or printed.getvalue().strip()}",
            fix=fix or "This is our bug if the options were in order; please report it.",
            exit_code=code,
        )
    return printed.getvalue()


def quiet(_line: str) -> None:
    """The same command for the next hospital is not worth another line."""


def typed_program() -> str:
    """How the person at this terminal starts p2pfl: by name if that finds this installation."""
    script = Path(sys.executable).with_name("p2pfl")
    found = shutil.which("p2pfl")
    if found is not None and Path(found).resolve() == script.resolve():
        return "p2pfl"
    return str(script).removeprefix(f"{Path.cwd()}/")


def _as_typed(arguments: Sequence[str]) -> str:
    """A command as it can be pasted: paths from here, lines of at most 80 columns."""
    here = f"{Path.cwd()}/"
    words = [typed_program(), *(argument.removeprefix(here) for argument in arguments)]
    lines, line = [], "$"
    for word in map(shlex.quote, words):
        if len(line) + len(word) > COLUMNS - 3 and line.strip() not in ("$", ""):
            lines.append(f"{line} \\")
            line = "   "
        line += f" {word}"
    return "\n".join([*lines, line])


def _make_data(terms: DemoTerms) -> tuple[tuple[DemoSite, ...], Path]:
    folder = terms.folder / "data"
    folder.mkdir()
    words = ["--out", str(folder), "--sites", str(terms.sites), "--seed", str(terms.seed)]
    if terms.heart is not None:
        words += ["--heart", str(terms.heart)]
    purpose = "Making the demonstration's data"
    finished = run_module(
        "p2pfl.learning.demo_data", words, given=b"", deadline_s=120.0, purpose=purpose
    )
    made: Any = json.loads(output_of(finished, purpose))
    addresses = free_addresses(len(made["sites"]))
    sites = tuple(
        DemoSite(
            name=site["name"],
            home=terms.folder / site["name"],
            csv=Path(site["csv"]),
            patients=site["patients"],
            patient_column=made["patient_column"],
            address=address,
        )
        for site, address in zip(made["sites"], addresses, strict=True)
    )
    return sites, Path(made["terms"])


def free_addresses(count: int) -> list[str]:
    """Loopback addresses nobody listens on at this moment, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        try:
            for opened in sockets:
                opened.bind(("127.0.0.1", 0))
        except OSError as error:
            raise OperatorError(
                f"No free port on this machine: {error.strerror}.",
                fix="End programs that listen on many ports, then try again.",
                exit_code=EXIT_UNAVAILABLE,
            ) from error
        return [f"127.0.0.1:{opened.getsockname()[1]}" for opened in sockets]


def found_homes(sites: Sequence[DemoSite], terms: DemoTerms, say: Say) -> None:
    for site in sites:
        words = ["init", "--name", site.name, "--listen", site.address]
        words += ["--consortium", CONSORTIUM]
        if terms.epsilon is None:
            words.append("--allow-no-privacy")
        command(site.home, *words, say=say if site is sites[0] else quiet)


def sign_roster(sites: Sequence[DemoSite], terms: DemoTerms, say: Say) -> None:
    roster = terms.folder / "consortium.roster"
    cards = [str(site.home / f"{site.name}.card") for site in sites]
    command(sites[0].home, "roster", "create", *cards, "--out", str(roster), say=say)
    for site in sites:
        is_first = site is sites[0]
        command(site.home, "roster", "sign", str(roster), say=say if is_first else quiet)
    for site in sites[:-1]:  # the last signature put the roster into force where it was given
        is_first = site is sites[0]
        command(site.home, "roster", "install", str(roster), say=say if is_first else quiet)


def _register(site: DemoSite, schema: Path, say: Say) -> None:
    command(
        site.home,
        *("data", "add", str(site.csv), "--name", DATASET, "--schema", str(schema)),
        *("--patient-column", site.patient_column),
        *("--epsilon-cap", f"{EPSILON_CAP:g}", "--delta", DELTA),
        *("--legal-basis", "demonstration", "--dpia", "public-data"),
        say=say,
    )


def _propose(site: DemoSite, terms: DemoTerms, say: Say) -> tuple[Path, str]:
    manifest = terms.folder / "study.toml"
    command(site.home, *_study_words(terms, manifest), say=say)
    proposed = command(site.home, "study", "propose", str(manifest), "--json", say=say)
    return manifest, json.loads(proposed)["study"]


def _study_words(terms: DemoTerms, manifest: Path) -> list[str]:
    name = "heart-disease" if terms.heart else "breast-cancer"
    words = ["study", "new", "--data", DATASET, "--name", name, "--out", str(manifest)]
    words += ["--plan", terms.plan, "--rounds", str(terms.rounds), "--rule", terms.rule]
    words += ["--encoding", terms.encoding]
    words += ["--seed", str(terms.seed), "--share-max", f"{max(SHARE_MAX, 1 / terms.sites):g}"]
    usual = plan_arguments(terms.plan, is_private=terms.epsilon is not None)
    arguments = {argument.partition("=")[0]: argument for argument in (*usual, *terms.arguments)}
    for argument in arguments.values():
        words += ["--argument", argument]
    if terms.epsilon is None:
        return [*words, "--privacy", "none"]
    return [*words, "--epsilon", f"{terms.epsilon:g}", "--clip-norm", "1.0"]


def plan_arguments(plan: str, *, is_private: bool) -> tuple[str, ...]:
    """What worked on both data sets; see docs/benchmarks.md for how it was found."""
    if plan == "tabular-mlp":
        rate = "0.2" if is_private else "0.1"
        shared = ("hidden=64", "outputs=2", "local_steps=10")
        return (f"learning_rate={rate}", f"momentum={'0.0' if is_private else '0.9'}", *shared)
    rate = "1.0" if is_private else "0.5"
    return (f"learning_rate={rate}", "momentum=0.0", "local_steps=10")
