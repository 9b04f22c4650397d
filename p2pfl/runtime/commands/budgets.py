"""ε of a dataset: what its ledger says was released, what approvals reserve, what is left.

Computing ε needs an accountant whose import takes seconds; it runs in a child process.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal

from ledger.log import Entry
from ledger.provenance import kinds
from p2pfl.core.history import History, StudyHistory
from p2pfl.core.manifest import Manifest
from p2pfl.privacy import budget as folds
from p2pfl.runtime.children import run_module
from p2pfl.runtime.datasets import local_datasets
from p2pfl.runtime.errors import EXIT_REFUSED, EXIT_UNAVAILABLE, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.jsonable import Json

MICRO = 1_000_000
ACCOUNT_KINDS = frozenset(
    kind.KIND
    for kind in (
        kinds.DatasetRegistered,
        kinds.DatasetRevoked,
        kinds.StudyApproved,
        kinds.StudyRefused,
        kinds.StudyRevoked,
        kinds.StudyClosed,
        kinds.TrainDone,
        kinds.PrivacySpent,
        kinds.SpendingUnknown,
        kinds.SpendingAccepted,
        kinds.ModelReleased,
    )
)
"""What the functions below read, and what says where a study's materials come from."""
ACCOUNTANT_DEADLINE_S = 300.0


@dataclass(frozen=True, slots=True)
class Releases:
    """A number of equal noisy releases; decimals as the ledger's text."""

    mech: str
    sigma: str
    q: str
    steps: int

    def to_request(self) -> Json:
        """As the accountant's process reads it."""
        return {"mech": self.mech, "sigma": self.sigma, "q": self.q, "steps": self.steps}


def dp_terms(manifest: Manifest, delta: str, accountant: str, version: str) -> kinds.DpTerms:
    """One round of a study as the ledger records it. delta: the dataset's."""
    privacy = manifest.privacy
    if not privacy.is_private:
        return kinds.DpTerms("none", "0", "0", 0, "0", "0", "none", "")
    return kinds.DpTerms(
        mech=privacy.accounted,
        sigma=repr(privacy.noise_multiplier),
        q=repr(privacy.sampling_rate),
        steps=privacy.steps_per_round,
        clip=repr(privacy.clip_norm),
        delta=delta,
        acct=accountant,
        acct_ver=version,
    )


@dataclass(frozen=True, slots=True)
class Account:
    """A ledger's entries about budgets and releases, without what each round leaves of neighbours,
    which is nearly all of a ledger. newest_us: when its last entry, of any kind, was written."""

    entries: tuple[Entry, ...]
    newest_us: int


def account(entries: Iterable[Entry]) -> Account:
    """Read a whole ledger, in one pass, and hold what is said about budgets and releases."""
    newest_us, held = 0, []
    for entry in entries:
        newest_us = entry.time_us
        if entry.kind in ACCOUNT_KINDS:
            held.append(entry)
    return Account(tuple(held), newest_us)


def released(entries: Iterable[Entry], ds: bytes, *, study: bytes | None = None) -> list[Releases]:
    """Everything on record that was computed from a dataset with noise, equal ones together.

    study: only that one's. A training counts whether its update was released or not.
    """
    steps: Counter[tuple[str, str, str]] = Counter()
    for entry in entries:
        if entry.kind not in (kinds.TrainDone.KIND, kinds.PrivacySpent.KIND):
            continue
        record = kinds.parse(entry)
        if not isinstance(record, kinds.TrainDone | kinds.PrivacySpent) or record.ds != ds:
            continue
        if (study is None or record.study == study) and record.dp.mech != "none":
            steps[record.dp.mech, record.dp.sigma, record.dp.q] += record.dp.steps
    return [Releases(*terms, count) for terms, count in sorted(steps.items())]


@dataclass(frozen=True, slots=True)
class Accepted:
    """What the data manager decided was spent beyond the record. ε in micro-units.

    It is stated at half of the dataset's δ; all that is computed then stands at the other half,
    so that both together hold at δ (basic composition)."""

    extra_u: int

    def delta(self, delta: str) -> str:
        """The half of δ that is left for what is computed."""
        return str(Decimal(delta) / 2)


def accepted(entries: Iterable[Entry], ds: bytes) -> Accepted | None:
    """The decisions on record about a dataset, summed; None if there was none."""
    found = [
        record.extra_u
        for record in (kinds.parse(e) for e in entries if e.kind == kinds.SpendingAccepted.KIND)
        if isinstance(record, kinds.SpendingAccepted) and record.ds == ds
    ]
    return Accepted(sum(found)) if found else None


def known_u(releases: list[Releases], delta: str) -> int:
    """ε of releases together, micro-units. Raises OperatorError."""
    if not releases:
        return 0
    nothing = Releases("none", "0", "0", 0)
    answer = ask_accountant(
        {
            "request": "table",
            "history": [event.to_request() for event in releases],
            "per_round": nothing.to_request(),
            "rounds": 0,
            "delta": delta,
        }
    )
    return _integers(answer.get("table_u"))[0]


def reserved(history: History, ds: bytes, *, besides: bytes) -> list[Releases]:
    """What open approvals of other studies may still release from the dataset."""
    found = []
    for study, past in sorted(history.studies.items()):
        open_rounds = _open_rounds(past)
        if study == besides or open_rounds == 0:
            continue
        approval = past.approval
        if approval is not None and approval.ds == ds and approval.dp.mech != "none":
            dp = approval.dp
            found.append(Releases(dp.mech, dp.sigma, dp.q, dp.steps * open_rounds))
    return found


def _open_rounds(past: StudyHistory) -> int:
    if not past.is_reserved or past.approval is None:
        return 0
    return max(0, len(past.approval.eps_table_u) - 1 - past.trainings)


@dataclass(frozen=True, slots=True)
class EpsilonTables:
    """ε after 0 … n rounds, micro-units: of the whole dataset, and of this study alone."""

    total_u: tuple[int, ...]
    study_u: tuple[int, ...]
    accountant: str
    version: str


def epsilon_tables(
    manifest: Manifest,
    before: list[Releases],
    own_before: list[Releases],
    delta: str,
    decided: Accepted | None = None,
) -> EpsilonTables:
    """Ask the accountant's process for both tables. Raises OperatorError."""
    if decided is not None:
        delta = decided.delta(delta)
    dp = dp_terms(manifest, delta, "", "")

    def table(history: list[Releases]) -> Mapping[str, Json]:
        return ask_accountant(
            {
                "request": "table",
                "history": [event.to_request() for event in history],
                "per_round": Releases(dp.mech, dp.sigma, dp.q, dp.steps).to_request(),
                "rounds": manifest.study.rounds,
                "delta": delta,
            }
        )

    total = table(before)
    own = total if before == own_before else table(own_before)
    return EpsilonTables(
        total_u=tuple(
            row + (decided.extra_u if decided else 0) for row in _integers(total.get("table_u"))
        ),
        study_u=_integers(own.get("table_u")),
        accountant=str(total.get("accountant")),
        version=str(total.get("version")),
    )


def ask_accountant(request: Mapping[str, Json]) -> Mapping[str, Json]:
    """One question to `python -m p2pfl.privacy.table`. Raises OperatorError with its refusal."""
    finished = run_module(
        "p2pfl.privacy.table",
        (),
        given=json.dumps(request).encode(),
        deadline_s=ACCOUNTANT_DEADLINE_S,
        purpose="The computation of ε",
    )
    try:
        answer = json.loads(finished.output)
    except ValueError:
        answer = None
    match answer:
        case {"error": {"message": str(message)}}:
            raise OperatorError(
                f"The privacy terms are refused: {message}.",
                fix="Change ε, δ, rounds or sampling.",
                exit_code=EXIT_REFUSED,
            )
        case {"accountant": str()}:
            return answer  # type: ignore[no-any-return]  # JSON by construction
    raise OperatorError(
        f"The computation of ε ended without an answer: {finished.complaint}",
        fix="Run `p2pfl version` to see whether the installation is whole, then try again.",
        exit_code=EXIT_UNAVAILABLE,
    )


def _integers(value: Json) -> tuple[int, ...]:
    assert isinstance(value, list), "the accountant answers with a list"
    return tuple(item for item in value if isinstance(item, int))


def budget_events(entries: Iterable[Entry]) -> Iterator[folds.BudgetEvent]:
    """The ledger's entries as the privacy package's budget fold reads them."""
    dataset_of: dict[bytes, bytes] = {}
    for entry in entries:
        if entry.kind == kinds.GENESIS_KIND:
            continue
        match kinds.parse(entry):
            case kinds.DatasetRegistered(ds=ds, cap_u=cap_u, delta=delta):
                yield folds.DatasetAdded(ds, cap_u, delta)
            case kinds.StudyApproved(study=study, ds=ds, eps_table_u=table):
                dataset_of[study] = ds
                yield folds.Reserved(ds, study, table)
            case kinds.TrainDone(study=study, ds=ds, eps_total_u=total_u):
                yield folds.Spent(ds, study, total_u)
            case kinds.PrivacySpent(ds=ds, eps_total_u=total_u):
                yield folds.Spent(ds, b"", total_u)  # no round of its study
            case (
                kinds.StudyRefused(study=study)
                | kinds.StudyRevoked(study=study)
                | kinds.StudyClosed(study=study)
            ) if study in dataset_of:
                yield folds.Closed(dataset_of[study], study)
            case kinds.DatasetRevoked(ds=ds):
                yield folds.Revoked(ds)
            case kinds.SpendingUnknown(ds=ds):
                yield folds.Unknown(ds)
            case kinds.SpendingAccepted(ds=ds, eps_total_u=total_u):
                yield folds.Accepted(ds, total_u)
            case _:
                pass  # other kinds say nothing about budgets


@dataclass(frozen=True, slots=True)
class StudyShare:
    """One study's use of a dataset."""

    study: bytes
    standing: str
    rounds_spent: int
    rounds_planned: int
    epsilon: float
    """ε of this study alone, so far."""


@dataclass(frozen=True, slots=True)
class BudgetSeen:
    """A dataset's budget: cap = spent + reserved + left."""

    name: str
    ds: bytes
    delta: str
    cap: float
    spent: float
    reserved: float
    left: float
    revoked: bool
    unprotected_rounds: int
    """Rounds trained without privacy; no ε describes them."""
    studies: tuple[StudyShare, ...]


def privacy_status(home: Home, entries: Iterable[Entry]) -> tuple[BudgetSeen, ...]:
    """Every dataset's budget, from the ledger alone."""
    listed = list(entries)
    history = History(listed)
    budgets = folds.fold(budget_events(listed))
    names = {dataset.ds: dataset.name for dataset in local_datasets(home)}
    return tuple(
        BudgetSeen(
            name=names.get(ds, ds.hex()[:12]),
            ds=ds,
            delta=found.delta,
            cap=found.cap_u / MICRO,
            spent=found.spent_u / MICRO,
            reserved=found.reserved_u / MICRO,
            left=found.left_u / MICRO,
            revoked=found.withdrawn,
            unprotected_rounds=_unprotected(history, ds),
            studies=tuple(_shares(history, ds)),
        )
        for ds, found in budgets.items()
    )


def budget_of(entries: Iterable[Entry], ds: bytes) -> folds.Budget:
    """One dataset's budget."""
    return folds.fold(budget_events(entries))[ds]


def _unprotected(history: History, ds: bytes) -> int:
    return sum(
        1
        for past in history.studies.values()
        for training in past.trained.values()
        if training.ds == ds and training.dp.mech == "none"
    )


def _shares(history: History, ds: bytes) -> Iterator[StudyShare]:
    for study, past in sorted(history.studies.items()):
        approval = past.approval
        if approval is None or approval.ds != ds:
            continue
        yield StudyShare(
            study=study,
            standing=past.standing.value,
            rounds_spent=len(past.trained),
            rounds_planned=len(approval.eps_table_u) - 1,
            epsilon=past.eps_u / MICRO,
        )
