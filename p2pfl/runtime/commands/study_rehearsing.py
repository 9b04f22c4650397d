"""Trying a study out on a registered dataset: time, loss and ε, without recording anything.

The work happens in a child process that throws its models away. The ledger is only read, to know
what the dataset has spent; no budget is touched because nothing leaves the machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ledger.log import LogReader
from p2pfl.core.history import History, Standing
from p2pfl.core.manifest import MANIFEST_BYTES_MAX, Manifest, parse_manifest
from p2pfl.core.names import DatasetId
from p2pfl.runtime.bundles import bundle_with
from p2pfl.runtime.children import output_of, printable, run_module
from p2pfl.runtime.commands.budgets import MICRO, epsilon_tables, released, reserved
from p2pfl.runtime.commands.datasets import dataset_meant
from p2pfl.runtime.commands.models import material_paths
from p2pfl.runtime.commands.plan_texts import answer_of, confined_folders
from p2pfl.runtime.commands.study_lookup import find_study, read_manifest
from p2pfl.runtime.confined_child import run_confined
from p2pfl.runtime.datasets import LocalDataset, check_unchanged, reached_by_training
from p2pfl.runtime.errors import (
    EXIT_DATA,
    EXIT_NO_INPUT,
    EXIT_REFUSED,
    EXIT_USAGE,
    BlobMissing,
    OperatorError,
)
from p2pfl.runtime.home import Home, read_bounded
from p2pfl.runtime.jsonable import NotThisShape, from_json
from p2pfl.runtime.policy import allowance_of

DEADLINE_S = 900.0
_MODULE = "p2pfl.learning.rehearsal"


@dataclass(frozen=True, slots=True)
class DryRun:
    """manifest: a file, or the beginning of a known study's id; data "": the one meant.

    synthetic: on patients that do not exist, drawn by the study's schema; then data is not used.
    """

    manifest: str
    data: str = ""
    rounds: int = 2
    synthetic: bool = False


@dataclass(frozen=True, slots=True)
class RoundTried:
    """One round of local work. auc None: the hold-out has one outcome only, or none is predicted.

    measures: by name, whatever else the plan measures on the hold-out."""

    seconds: float
    steps: int
    loss: float
    auc: float | None
    measures: Mapping[str, float]


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
    rounds = min(request.rounds, manifest.study.rounds)
    if request.synthetic:
        return _without_data(home, manifest, rounds)
    _check_own(history, manifest)
    dataset = dataset_meant(home, history, request.data, manifest.study_id)
    check_unchanged(home, dataset)
    recorded = history.datasets[DatasetId(dataset.ds)]
    tried = _rehearse(home, manifest, dataset, recorded.terms.patients_bucket, rounds)
    total_u: tuple[int, ...] = (recorded.spent_u,)
    study_u = _nothing(manifest)
    if manifest.privacy.is_private:
        before = released(entries, dataset.ds) + reserved(
            history, DatasetId(dataset.ds), besides=manifest.study_id
        )
        own = released(entries, dataset.ds, study=manifest.study_id)
        tables = epsilon_tables(manifest, before, own, recorded.terms.delta)
        study_u, total_u = tables.study_u, tables.total_u
    return _seen(
        manifest,
        dataset.name,
        tried,
        (study_u, total_u),
        cap_u=recorded.terms.cap_u,
        delta=recorded.terms.delta,
    )


def _without_data(home: Home, manifest: Manifest, rounds: int) -> DryRunSeen:
    tried = _rehearse(home, manifest, None, manifest.data.patients_min, rounds)
    delta, study_u = manifest.privacy.delta, _nothing(manifest)
    if manifest.privacy.is_private:
        study_u = epsilon_tables(manifest, [], [], delta).study_u
    return _seen(manifest, "", tried, (study_u, study_u), cap_u=0, delta=delta)


def _nothing(manifest: Manifest) -> tuple[int, ...]:
    return (0,) * (manifest.study.rounds + 1)


def _seen(
    manifest: Manifest,
    data: str,
    tried: Tried,
    spent_u: tuple[tuple[int, ...], tuple[int, ...]],
    *,
    cap_u: int,
    delta: str,
) -> DryRunSeen:
    """spent_u: the study's ε after each round, and the dataset's."""
    study_u, total_u = spent_u
    return DryRunSeen(
        study=manifest.study_id,
        name=manifest.study.name,
        data=data,
        rounds_planned=manifest.study.rounds,
        tried=tried,
        is_private=manifest.privacy.is_private,
        epsilon_rounds=tuple(value / MICRO for value in study_u[1 : len(tried.rounds) + 1]),
        epsilon_study=study_u[-1] / MICRO,
        epsilon_before=total_u[0] / MICRO,
        epsilon_after=total_u[-1] / MICRO,
        epsilon_cap=cap_u / MICRO,
        delta=delta,
    )


def _check_own(history: History, manifest: Manifest) -> None:
    """Another site's code meets patients only once it is approved here. Raises OperatorError."""
    past = history.studies.get(manifest.study_id)
    if manifest.foreign is None or past is None or not past.proposer:
        return  # a shipped plan, or a manifest that nobody proposed: a researcher's own
    is_approved = past.standing is Standing.APPROVED and past.code is not None
    if not is_approved:
        raise OperatorError(
            f"{manifest.study.name} runs code that is not approved here: it is not tried on "
            "patients.",
            fix="Read it with `p2pfl study show`; `p2pfl study dry-run --synthetic` tries it on "
            "patients that do not exist.",
            exit_code=EXIT_REFUSED,
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


def _bundle(home: Home, manifest: Manifest) -> tuple[Path, ...]:
    """The folder of the study's bundle, if it has one. Raises OperatorError."""
    if manifest.bundle is None:
        return ()
    return (bundle_with(home, manifest.bundle.sha256).folder.resolve(),)


def _rehearse(
    home: Home, manifest: Manifest, dataset: LocalDataset | None, denominator: int, rounds: int
) -> Tried:
    """dataset None: on patients that do not exist."""
    materials, bundle = _materials(home, manifest), _bundle(home, manifest)
    request: dict[str, object] = {
        "dataset": "" if dataset is None else str(dataset.file),
        "patient_column": "" if dataset is None else dataset.patient_column,
        "denominator": denominator,
        "rounds": rounds,
        "materials": materials,
        "bundle": str(bundle[0]) if bundle else "",
    }
    purpose = "The dry run"
    with confined_folders(manifest) as (given, work):
        request["manifest"] = str(given / "study.toml")
        raw = json.dumps(request).encode()
        if manifest.foreign is None:
            finished = run_module(_MODULE, (), given=raw, deadline_s=DEADLINE_S, purpose=purpose)
        else:
            read, _ = ((), ()) if dataset is None else reached_by_training(dataset)
            own = () if dataset is None else (dataset.file,)
            finished = run_confined(
                _MODULE,
                given=raw,
                read=(given, *own, *read, *bundle, *map(Path, materials.values())),
                work=work,
                deadline_s=DEADLINE_S,
                purpose=purpose,
                allowance=allowance_of(home),
            )
    try:
        tried = from_json(Tried, answer_of(output_of(finished, purpose), purpose))
    except NotThisShape as error:
        raise OperatorError(
            f"The dry run gave an answer that makes no sense: {error}.",
            fix="The plan writes where only an answer belongs, to standard output: leave that out.",
            exit_code=EXIT_DATA,
        ) from None
    notes = tuple(printable(note) for note in tried.notes)
    return replace(
        tried, notes=notes, rounds=tuple(_as_declared(manifest, one) for one in tried.rounds)
    )


def _as_declared(manifest: Manifest, tried: RoundTried) -> RoundTried:
    """Of a researcher's measures, those that its manifest names, in their ranges."""
    if manifest.foreign is None:
        return tried
    ranges = manifest.foreign.metrics
    kept = {
        name: round(value, 4)
        for name, value in tried.measures.items()
        if name in ranges and ranges[name][0] <= value <= ranges[name][1]
    }
    return replace(tried, measures=kept)
