"""Trying a study out on a registered dataset: time, loss and ε, without recording anything.

The work happens in a child process that throws its models away. The ledger is only read, to know
what the dataset has spent; no budget is touched because nothing leaves the machine.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ledger.log import LogReader
from p2pfl.core.history import History
from p2pfl.core.manifest import MANIFEST_BYTES_MAX, Manifest, parse_manifest
from p2pfl.core.names import DatasetId
from p2pfl.runtime.children import output_of, run_module
from p2pfl.runtime.commands.budgets import MICRO, epsilon_tables, released, reserved
from p2pfl.runtime.commands.datasets import dataset_meant
from p2pfl.runtime.commands.models import material_paths
from p2pfl.runtime.commands.study_lookup import find_study, read_manifest
from p2pfl.runtime.datasets import check_unchanged
from p2pfl.runtime.errors import EXIT_NO_INPUT, EXIT_USAGE, BlobMissing, OperatorError
from p2pfl.runtime.home import Home, read_bounded
from p2pfl.runtime.jsonable import from_json

DEADLINE_S = 900.0


@dataclass(frozen=True, slots=True)
class DryRun:
    """manifest: a file, or the beginning of a known study's id; data "": the one meant."""

    manifest: str
    data: str = ""
    rounds: int = 2


@dataclass(frozen=True, slots=True)
class RoundTried:
    """One round of local work. auc None: the hold-out has one outcome only."""

    seconds: float
    steps: int
    loss: float
    auc: float | None


@dataclass(frozen=True, slots=True)
class Tried:
    """What the rehearsing process answers."""

    parameters: int
    patients_train: int
    patients_holdout: int
    notes: tuple[str, ...]
    prepare_s: float
    rounds: tuple[RoundTried, ...]


@dataclass(frozen=True, slots=True)
class DryRunSeen:
    """A rehearsal's result. ε in the study's rounds, if it were approved now."""

    study: bytes
    name: str
    data: str
    rounds_planned: int
    tried: Tried
    is_private: bool
    epsilon_rounds: tuple[float, ...]
    """This study's ε after 1, 2, … tried rounds."""
    epsilon_study: float
    """After all planned rounds."""
    epsilon_before: float
    epsilon_after: float
    """Of the dataset, before and after the whole study, reservations of others included."""
    epsilon_cap: float
    delta: str


def study_dry_run(home: Home, request: DryRun) -> DryRunSeen:
    """Rehearse. Raises OperatorError, ManifestError; nothing is written in any case."""
    reader = LogReader.open(home.path)
    try:
        entries = tuple(reader.entries())
    finally:
        reader.close()
    history = History(entries)
    manifest = manifest_of(home, history, request.manifest)
    if manifest.is_counting:
        raise OperatorError(
            f"{manifest.study.name} counts instead of training: there is nothing to try out.",
            fix="`p2pfl study show` says what it counts and what that costs.",
            exit_code=EXIT_USAGE,
        )
    dataset = dataset_meant(home, history, request.data, manifest.study_id)
    check_unchanged(home, dataset)
    recorded = history.datasets[DatasetId(dataset.ds)]
    rounds = min(request.rounds, manifest.study.rounds)
    materials = _materials(home, manifest)
    tried = _rehearse(
        materials,
        manifest,
        dataset.file,
        dataset.patient_column,
        recorded.terms.patients_bucket,
        rounds,
    )
    study_u: tuple[int, ...] = (0,) * (manifest.study.rounds + 1)
    total_u: tuple[int, ...] = (recorded.spent_u,)
    if manifest.privacy.is_private:
        before = released(entries, dataset.ds) + reserved(
            history, DatasetId(dataset.ds), besides=manifest.study_id
        )
        own = released(entries, dataset.ds, study=manifest.study_id)
        tables = epsilon_tables(manifest, before, own, recorded.terms.delta)
        study_u, total_u = tables.study_u, tables.total_u
    return DryRunSeen(
        study=manifest.study_id,
        name=manifest.study.name,
        data=dataset.name,
        rounds_planned=manifest.study.rounds,
        tried=tried,
        is_private=manifest.privacy.is_private,
        epsilon_rounds=tuple(value / MICRO for value in study_u[1 : rounds + 1]),
        epsilon_study=study_u[-1] / MICRO,
        epsilon_before=total_u[0] / MICRO,
        epsilon_after=total_u[-1] / MICRO,
        epsilon_cap=recorded.terms.cap_u / MICRO,
        delta=recorded.terms.delta,
    )


def manifest_of(home: Home, history: History, given: str) -> Manifest:
    """A manifest by its path or by the beginning of its study's id. Raises OperatorError."""
    path = Path(given).absolute()
    if path.is_file():
        return parse_manifest(read_bounded(path, MANIFEST_BYTES_MAX))
    if "/" not in given and "." not in given:
        return read_manifest(home, find_study(home, history, given))
    raise OperatorError(
        f"There is no manifest {path}.",
        fix="Give a manifest's path, or the beginning of a study's id from `p2pfl study list`.",
        exit_code=EXIT_NO_INPUT,
    )


def _materials(home: Home, manifest: Manifest) -> dict[str, str]:
    """Where lies what the study builds on. Raises OperatorError where it is not here yet."""
    try:
        return material_paths(home, manifest)
    except BlobMissing as error:
        raise OperatorError(
            f"The study builds on a released model that is not here yet ({error}).",
            fix="Approve the study and start the node: it fetches the model from other sites.",
            exit_code=EXIT_NO_INPUT,
        ) from None


def _rehearse(
    materials: dict[str, str],
    manifest: Manifest,
    data: Path,
    patient_column: str,
    denominator: int,
    rounds: int,
) -> Tried:
    purpose = "The dry run"
    with tempfile.TemporaryDirectory(prefix="p2pfl-dry-run-") as scratch:
        path = Path(scratch) / "manifest.toml"
        path.write_bytes(manifest.raw)
        request = {
            "manifest": str(path),
            "dataset": str(data),
            "patient_column": patient_column,
            "denominator": denominator,
            "rounds": rounds,
            "materials": dict(materials),
        }
        finished = run_module(
            "p2pfl.learning.rehearsal",
            (),
            given=json.dumps(request).encode(),
            deadline_s=DEADLINE_S,
            purpose=purpose,
        )
    return from_json(Tried, json.loads(output_of(finished, purpose)))
