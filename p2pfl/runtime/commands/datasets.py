"""Registering, listing and withdrawing datasets. The data itself never moves."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from pathlib import Path

from ledger.log import commitment_of
from ledger.provenance import kinds
from p2pfl.core.errors import ManifestError
from p2pfl.core.history import History
from p2pfl.core.manifest import MANIFEST_BYTES_MAX, DataTerms, checked_delta, parse_data_section
from p2pfl.core.manifest_writing import render_data
from p2pfl.core.names import DatasetId, StudyId
from p2pfl.privacy.buckets import PATIENTS_MIN, patients_bucket
from p2pfl.runtime.commands.budgets import account
from p2pfl.runtime.commands.codes import checked_code
from p2pfl.runtime.commands.data_images import (
    PATIENT_FOLDER,
    check_new_images,
    keep_scan,
    scanned_images,
)
from p2pfl.runtime.commands.lost_data import UNKNOWN_NOTE, lost_data
from p2pfl.runtime.commands.opening import Site, read_history
from p2pfl.runtime.commands.overlap import Candidate, check_new_patients, used_datasets
from p2pfl.runtime.datasets import (
    FINGERPRINT_FIELD,
    NAME,
    Keyed,
    LocalDataset,
    data_key,
    forget_prepared,
    local_datasets,
    read_dataset,
    write_dataset,
)
from p2pfl.runtime.errors import (
    EXIT_CANNOT_CREATE,
    EXIT_DATA,
    EXIT_NO_INPUT,
    EXIT_REFUSED,
    EXIT_USAGE,
    OperatorError,
    as_sentence,
)
from p2pfl.runtime.home import Home, read_bounded
from p2pfl.runtime.image_index import INDEX_FILE
from p2pfl.runtime.table_check import TableFacts, check_table

MICRO = 1_000_000


@dataclass(frozen=True, slots=True)
class DataAdd:
    """Register a CSV file, or images that were looked at. Empty strings and 0 stand for the
    policy's defaults.
    """

    file: Path
    """The table, or the folder of images."""
    name: str
    patient_column: str = ""
    schema: Path | None = None
    epsilon_cap: float = 0.0
    delta: str = ""
    legal_basis: str = "not-stated"
    dpia: str = "not-stated"
    scan: Path | None = None
    """Where `scan_images` left what it found; None for a table."""


@dataclass(frozen=True, slots=True)
class DatasetSeen:
    """A dataset as its own site sees it."""

    name: str
    ds: bytes
    file: Path
    patient_column: str
    patients: int
    patients_bucket: int
    rows: int
    epsilon_cap: float
    delta: str
    epsilon_spent: float
    epsilon_reserved: float
    state: str
    """registered | revoked | unrecorded (an interrupted `data add`)"""
    positives: int | None = None
    notes: tuple[str, ...] = ()
    kind: str = "tabular"


def data_add(site: Site, request: DataAdd) -> DatasetSeen:
    """Check the file, remember where it is, and record dataset.registered with public facts only.

    Raises OperatorError: malformed file, too few patients, cap or δ above the policy's, a name
    in use, or patients that are registered already (budget follows patients).
    """
    history = site.history()
    _check_name(site.home, history, request.name)
    cap, delta = _cap_and_delta(site, request)
    legal_basis, dpia = checked_code(request.legal_basis), checked_code(request.dpia)
    terms = _terms(request.schema) if request.schema else None
    key = data_key(site.home)
    schema = render_data(terms) if terms else b""
    entries = account(site.ledger.entries()).entries
    used = used_datasets(entries)
    facts: TableFacts | None = None
    if request.scan is not None:
        found = scanned_images(site.home, request.scan, key)
        _check_enough(site, len(found.keyed.patients))
        notes = check_new_images(site, history, found.keyed)
        dataset = _local(site, request, found.keyed, found.fingerprint, rows=found.volumes)
        # Remembered before it is recorded: a crash in between leaves a name to be used again.
        keep = partial(write_dataset, site.home, keyed=found.keyed, schema=schema)
        keep(dataset)
        keep_scan(request.scan, site.home.dataset(request.name))
        shape, fingerprint = found.modalities, found.fingerprint
    else:
        facts = check_table(
            request.file.absolute(), patient_column=request.patient_column, terms=terms, key=key
        )
        _check_enough(site, len(facts.patients))
        candidate = Candidate(request.file.absolute(), request.patient_column, facts, key)
        notes = tuple(check_new_patients(site.home, history, used, candidate))
        keyed = Keyed(facts.patients, facts.columns, facts.row_keys)
        dataset = _local(site, request, keyed, facts.fingerprint, rows=facts.rows)
        keep = partial(write_dataset, site.home, keyed=keyed, schema=schema)
        keep(dataset)
        shape, fingerprint = facts.header, facts.fingerprint
    fp_commit = commitment_of(FINGERPRINT_FIELD, key, fingerprint)
    log = site.ledger.identity
    lost = lost_data(site.home, history, entries, log)
    if (again := lost.by_file.get(fp_commit)) is not None:
        # The same file, byte by byte: it is that dataset, with what it has spent.
        dataset = replace(dataset, ds=again)
        keep(dataset)
        return _seen(dataset, site.history(), facts)
    record = kinds.DatasetRegistered(
        ds=dataset.ds,
        fp_commit=fp_commit,
        patients_bucket=patients_bucket(dataset.patients),
        schema_hash=hashlib.sha256(schema or "\0".join(shape).encode()).digest(),
        legal_basis=legal_basis,
        dpia=dpia,
        cap_u=math.floor(cap * MICRO),
        delta=delta,
    )
    drafts = [record.draft("data-manager")]
    if lost.was_used:
        # Nobody can say whether these patients are among those of a lost registration.
        unknown = kinds.SpendingUnknown(dataset.ds, log.log_id, -1)
        drafts.append(unknown.draft("data-manager"))
        notes = (*notes, UNKNOWN_NOTE.format(request.name))
    site.record(*drafts)
    seen = _seen(dataset, site.history(), facts)
    return replace(seen, notes=seen.notes + notes)


def _local(
    site: Site, request: DataAdd, keyed: Keyed, fingerprint: bytes, *, rows: int
) -> LocalDataset:
    is_table = request.scan is None
    file = request.file.absolute()
    return LocalDataset(
        name=request.name,
        ds=site.random_bytes(32),
        file=file if is_table else site.home.dataset(request.name) / INDEX_FILE,
        patient_column=request.patient_column if is_table else PATIENT_FOLDER,
        patients=len(keyed.patients),
        rows=rows,
        fingerprint=fingerprint,
        folder=None if is_table else file,
    )


@dataclass(frozen=True, slots=True)
class DataRevoke:
    """Withdraw a dataset for good."""

    name: str
    reason: str = "withdrawn"


def data_revoke(site: Site, request: DataRevoke) -> DatasetSeen:
    """Record dataset.revoked: no training uses it any more. Raises OperatorError."""
    dataset = read_dataset(site.home, request.name)
    state = _state(site.history(), dataset)
    if state != "registered":
        raise OperatorError(
            f'The dataset "{request.name}" is {state}.',
            fix="There is nothing left to revoke.",
            exit_code=EXIT_REFUSED,
        )
    site.record(
        kinds.DatasetRevoked(dataset.ds, checked_code(request.reason)).draft("data-manager")
    )
    forget_prepared(dataset)
    return _seen(dataset, site.history(), None)


def data_list(home: Home) -> tuple[DatasetSeen, ...]:
    """All datasets of this site."""
    history = read_history(home)
    return tuple(_seen(dataset, history, None) for dataset in local_datasets(home))


def data_show(home: Home, name: str) -> DatasetSeen:
    """One dataset. Raises OperatorError."""
    return _seen(read_dataset(home, name), read_history(home), None)


def usable_dataset(home: Home, history: History, name: str) -> LocalDataset:
    """A dataset that may be trained on. Raises OperatorError."""
    dataset = read_dataset(home, name)
    state = _state(history, dataset)
    if state != "registered":
        raise OperatorError(
            f'The dataset "{name}" is {state}.',
            fix="Choose another from `p2pfl data list`; what is revoked stays revoked.",
            exit_code=EXIT_REFUSED,
        )
    return dataset


def dataset_meant(
    home: Home, history: History, name: str, study: StudyId | None = None
) -> LocalDataset:
    """The dataset a person named; with no name, the one that can be meant. Raises OperatorError.

    That is the dataset the study is approved for here, else the only one that is registered. For
    looking alone: which data a study may be *approved* for, a person always says.
    """
    if name:
        return usable_dataset(home, history, name)
    registered = [one for one in local_datasets(home) if _state(history, one) == "registered"]
    past = history.studies.get(study) if study is not None else None
    if past is not None and past.approval is not None:
        approved = [one for one in registered if one.ds == past.approval.ds]
        registered = approved or registered
    if not registered:
        raise OperatorError(
            "No dataset is registered here.",
            fix="Register one with `p2pfl data add`.",
            exit_code=EXIT_NO_INPUT,
        )
    if len(registered) > 1:
        names = ", ".join(one.name for one in registered)
        raise OperatorError(
            f"Several datasets are registered here: {names}.",
            fix="Say which one with --data NAME.",
            exit_code=EXIT_USAGE,
        )
    return registered[0]


def _check_name(home: Home, history: History, name: str) -> None:
    if NAME.fullmatch(name) is None:
        raise OperatorError(
            f'"{name}" cannot be a dataset\'s name.',
            fix="Use 1 to 40 of a-z, 0-9, _ and -, starting with a letter or digit.",
            exit_code=EXIT_USAGE,
        )
    for dataset in local_datasets(home):
        if dataset.name == name and DatasetId(dataset.ds) in history.datasets:
            raise OperatorError(
                f'A dataset called "{name}" is registered already.',
                fix="Choose another --name; `p2pfl data list` shows what there is.",
                exit_code=EXIT_CANNOT_CREATE,
            )


def _cap_and_delta(site: Site, request: DataAdd) -> tuple[float, str]:
    cap = request.epsilon_cap or site.policy.epsilon_cap
    if not 0.0 < cap <= site.policy.epsilon_cap:
        raise OperatorError(
            f"An ε cap of {cap:g} is outside this site's policy (at most "
            f"{site.policy.epsilon_cap:g}).",
            fix="Give a smaller --epsilon-cap, or have the policy changed in policy.toml.",
            exit_code=EXIT_REFUSED,
        )
    try:
        delta = checked_delta("--delta", request.delta or site.policy.delta)
    except ManifestError as error:
        raise OperatorError(
            as_sentence(str(error)), fix='Give δ as a decimal, like "1e-5".', exit_code=EXIT_USAGE
        ) from error
    if Decimal(delta) > Decimal(site.policy.delta):
        raise OperatorError(
            f"δ = {delta} is larger than this site's policy allows ({site.policy.delta}).",
            fix="Give a smaller --delta, or have the policy changed in policy.toml.",
            exit_code=EXIT_REFUSED,
        )
    return cap, delta


def _terms(path: Path) -> DataTerms:
    try:
        return parse_data_section(read_bounded(path, MANIFEST_BYTES_MAX))
    except ManifestError as error:
        raise OperatorError(
            as_sentence(f"{path}: {error}"),
            fix="Correct the [data] section of the file.",
            exit_code=EXIT_DATA,
        ) from error


def _check_enough(site: Site, patients: int) -> None:
    needed = max(PATIENTS_MIN, site.policy.patients_min)
    if patients < needed:
        raise OperatorError(
            f"The file has {patients} patients, this site's policy asks for {needed}.",
            fix="Register a larger table.",
            exit_code=EXIT_DATA,
        )


def _state(history: History, dataset: LocalDataset) -> str:
    recorded = history.datasets.get(DatasetId(dataset.ds))
    if recorded is None:
        return "unrecorded"
    return "revoked" if recorded.revoked else "registered"


def _seen(dataset: LocalDataset, history: History, facts: TableFacts | None) -> DatasetSeen:
    recorded = history.datasets.get(DatasetId(dataset.ds))
    spent_u = recorded.spent_u if recorded else 0
    reserved_u = history.reserved_u(DatasetId(dataset.ds)) if recorded else 0
    return DatasetSeen(
        name=dataset.name,
        ds=dataset.ds,
        file=dataset.given,
        kind=dataset.kind,
        patient_column=dataset.patient_column,
        patients=dataset.patients,
        patients_bucket=recorded.terms.patients_bucket if recorded else 0,
        rows=dataset.rows,
        epsilon_cap=recorded.terms.cap_u / MICRO if recorded else 0.0,
        delta=recorded.terms.delta if recorded else "",
        epsilon_spent=spent_u / MICRO,
        epsilon_reserved=(reserved_u - spent_u) / MICRO,
        state=_state(history, dataset),
        positives=facts.positives if facts else None,
        notes=facts.notes if facts else (),
    )
