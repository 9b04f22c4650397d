"""The tumour demonstration's hospitals and studies: every step is a command a person would type."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from p2pfl.cli import demo_nodes
from p2pfl.cli.demo_stage import (
    DATASET,
    DELTA,
    DemoSite,
    DemoTerms,
    Say,
    command,
    found_homes,
    free_addresses,
    quiet,
    sign_roster,
)
from p2pfl.learning.demo_terms import (
    OPEN_ARGUMENTS,
    PRIVATE_ARGUMENTS,
    PRIVATE_CLIP_NORM,
    PRIVATE_STEPS,
    SHARED_ARGUMENTS,
)
from p2pfl.runtime.children import output_of, run_module
from p2pfl.runtime.home import Home

EPSILON_CAP: Final = 8.0
SHARE_MAX: Final = 0.4
ROUND_DEADLINE_S: Final = 120.0
DATA_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class TumourTerms:
    """What the person asked for."""

    sites: int
    patients: int
    side: int
    rounds: int
    private_rounds: int
    epsilon: float
    seed: int
    pictures: Path


@dataclass(frozen=True, slots=True)
class Study:
    """One study of the demonstration. epsilon None: without privacy."""

    name: str
    rounds: int
    epsilon: float | None
    seed: int


@dataclass(frozen=True, slots=True)
class StudyDone:
    """A study that was run, and what the nodes' logs said of each round."""

    study: Study
    study_id: str
    manifest: Path
    rounds: dict[str, list[dict[str, Any]]]
    """By hospital."""


def studies(terms: TumourTerms) -> list[Study]:
    """The two studies; the one with privacy only if it has rounds."""
    open_one = Study("tumour-open", terms.rounds, None, terms.seed)
    private = Study("tumour-private", terms.private_rounds, terms.epsilon, terms.seed)
    return [open_one, private] if terms.private_rounds else [open_one]


def set_stage(folder: Path, terms: TumourTerms, say: Say) -> tuple[DemoSite, ...]:
    """Make patients, homes and a roster, and register the images. Raises OperatorError."""
    made = _make_patients(folder, terms)
    addresses = free_addresses(terms.sites)
    sites = tuple(
        DemoSite(
            name=site["name"],
            home=folder / site["name"],
            csv=Path(site["folder"]),
            patients=site["patients"],
            patient_column="",
            address=address,
        )
        for site, address in zip(made["sites"], addresses, strict=True)
    )
    say(f"Data: {terms.patients} synthetic patients, 4 MRI sequences of {terms.side}³ voxels each")
    for site in sites:
        say(f"  {site.name:<14}{site.patients:>4} patients")
    founding = DemoTerms(folder, terms.sites, 1, terms.seed, "gm_clip", "segmentation", None, None)
    found_homes(sites, founding, say)
    sign_roster(sites, founding, say)
    schema = Path(made["terms"])
    for site in sites:
        is_first = site is sites[0]
        words = ("data", "add", str(site.csv), "--name", DATASET, "--schema", str(schema))
        shown = command(
            site.home,
            *words,
            *("--epsilon-cap", f"{EPSILON_CAP:g}", "--delta", DELTA),
            *("--legal-basis", "demonstration", "--dpia", "synthetic-data"),
            say=say if is_first else quiet,
        )
        if is_first:
            say(shown.rstrip())
    return sites


def run_study(
    folder: Path, sites: Sequence[DemoSite], study: Study, *, limit_s: float, say: Say
) -> StudyDone:
    """Propose, approve everywhere, run the nodes until it is complete. Raises OperatorError."""
    manifest = folder / f"{study.name}.toml"
    first = sites[0]
    say("")
    command(first.home, *_drafting(study, manifest, len(sites)), say=say)
    proposed = command(first.home, "study", "propose", str(manifest), "--json", say=say)
    study_id: str = json.loads(proposed)["study"]
    for site in sites:
        if site is not first:
            proposal = str(manifest.with_suffix(".study"))
            command(site.home, "study", "import", proposal, say=quiet)
        approving = ("study", "approve", study_id[:12], "--data", DATASET)
        command(site.home, *approving, say=say if site is first else quiet)
    say(f"{len(sites)} nodes start, each as `p2pfl --home … node start`:")
    said_before = [_log_bytes(site) for site in sites]
    with demo_nodes.running_nodes(sites) as watched:
        for node, position in zip(watched, said_before, strict=True):
            node.position = position  # an earlier study's end is not this one's
            node.is_segmentation = True
        demo_nodes.watch(watched, limit_s=limit_s)
    return StudyDone(
        study, study_id, manifest, {node.site.name: list(node.rounds) for node in watched}
    )


def _log_bytes(site: DemoSite) -> int:
    log = Home(site.home).node_log
    return log.stat().st_size if log.is_file() else 0


def _make_patients(folder: Path, terms: TumourTerms) -> Any:
    data = folder / "data"
    data.mkdir()
    words = ["--out", str(data), "--sites", str(terms.sites), "--seed", str(terms.seed)]
    words += ["--patients", str(terms.patients), "--side", str(terms.side)]
    purpose = "Making the demonstration's patients"
    finished = run_module(
        "p2pfl.learning.demo_tumours", words, given=b"", deadline_s=DATA_S, purpose=purpose
    )
    return json.loads(output_of(finished, purpose))


def _drafting(study: Study, manifest: Path, sites: int) -> list[str]:
    """The same model in both studies, so that one start and one comparison serve both."""
    words = ["study", "new", "--data", DATASET, "--name", study.name, "--out", str(manifest)]
    words += ["--plan", "segmentation", "--rounds", str(study.rounds), "--consensus-rounds", "1"]
    words += ["--seed", str(study.seed), "--share-max", f"{max(SHARE_MAX, 1 / sites):g}"]
    words += ["--round-deadline", f"{ROUND_DEADLINE_S:g}"]
    arguments: dict[str, float | str] = {**SHARED_ARGUMENTS}
    if study.epsilon is None:
        arguments |= OPEN_ARGUMENTS
        words += ["--privacy", "none"]
    else:
        arguments |= PRIVATE_ARGUMENTS
        words += ["--epsilon", f"{study.epsilon:g}", "--clip-norm", f"{PRIVATE_CLIP_NORM:g}"]
        words += ["--sampling-rate", "1.0", "--steps-per-round", str(PRIVATE_STEPS)]
    for name, value in arguments.items():
        words += ["--argument", f"{name}={value}"]
    return words
