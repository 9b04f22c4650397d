"""A data owner's decisions on a study: approve, refuse, revoke. Each one is an entry."""

from __future__ import annotations

from dataclasses import dataclass

from ledger.log import Draft, Entry, commitment_of
from ledger.provenance import kinds
from ledger.provenance.moments import moment_of
from p2pfl.core.history import History, Standing
from p2pfl.core.manifest import Manifest
from p2pfl.core.names import DatasetId, StudyId
from p2pfl.privacy.budget import check_reservation
from p2pfl.privacy.errors import BudgetExhausted
from p2pfl.runtime.commands.budgets import (
    MICRO,
    accepted,
    account,
    budget_of,
    dp_terms,
    epsilon_tables,
    released,
    reserved,
)
from p2pfl.runtime.commands.bundles import require_approvable_bundle
from p2pfl.runtime.commands.clock import check_clock
from p2pfl.runtime.commands.code_seen import code_drafts, require_approvable
from p2pfl.runtime.commands.codes import checked_code
from p2pfl.runtime.commands.data_images import check_fits
from p2pfl.runtime.commands.datasets import usable_dataset
from p2pfl.runtime.commands.opening import Site
from p2pfl.runtime.commands.spending import require_known
from p2pfl.runtime.commands.studies import require_standing
from p2pfl.runtime.commands.study_lookup import find_study, read_manifest
from p2pfl.runtime.commands.study_materials import adoptions, check_materials
from p2pfl.runtime.datasets import check_unchanged, dataset_of
from p2pfl.runtime.errors import EXIT_REFUSED, EXIT_UNAVAILABLE, OperatorError
from p2pfl.runtime.keeping import require_room
from p2pfl.runtime.keeping_terms import keep_of
from p2pfl.runtime.ledger_writer import Unless, decides_on
from p2pfl.runtime.policy import objections

APPROVER_FIELD = "approver"
"""Also the start of the commitment's name in the entry: the log opens the one with the other."""
MEANING = "train-and-release-updates"
"""What an approval lets the node do with the dataset."""


@dataclass(frozen=True, slots=True)
class StudyApprove:
    """Let a study train on a dataset. approver: the person, kept as an erasable secret."""

    study: str
    data: str
    approver: str
    role: str = ""


@dataclass(frozen=True, slots=True)
class StudyDecide:
    """Refuse a study, take an approval back, or be away. reason: a code, it stays on record."""

    study: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision on record."""

    study: bytes
    name: str
    decision: str
    seq: int
    epsilon_before: float = 0.0
    """ε of the dataset before the study, reservations included."""
    epsilon_after: float = 0.0
    """ε of the dataset if every planned round is trained."""
    epsilon_cap: float = 0.0
    delta: str = ""


def study_approve(site: Site, request: StudyApprove) -> Decided:
    """Check policy, data and budget, reserve the study's whole ε, and record study.approved.

    Raises OperatorError with everything the policy has against the study, or with what is left
    of the budget.
    """
    history = site.history()
    study = find_study(site.home, history, request.study)
    manifest = read_manifest(site.home, study)
    require_standing(history, study, Standing.UNDECIDED, Standing.REFUSED, Standing.REVOKED)
    role = _role(site, request.role)
    dataset = usable_dataset(site.home, history, request.data)
    recorded = history.datasets[DatasetId(dataset.ds)]
    require_known(dataset, recorded)
    terms = recorded.terms
    _check_open(site, manifest)
    _check_policy(site, manifest, terms)
    require_approvable(manifest)
    require_approvable_bundle(site.home, manifest)
    require_room(site.home.blobs, manifest, keep_of(site.home))
    check_unchanged(site.home, dataset)
    # The study's own terms may differ from those the data was registered with.
    check_fits(site.home, dataset, manifest.data)
    found = account(site.ledger.entries())
    entries = found.entries
    check_clock(site.now_us(), found.newest_us)
    check_materials(site, manifest, entries)
    tables = epsilon_tables(
        manifest,
        before=released(entries, dataset.ds) + reserved(history, dataset.ds, besides=study),
        own_before=released(entries, dataset.ds, study=study),
        delta=terms.delta,
        decided=accepted(entries, dataset.ds),
    )
    if manifest.privacy.is_private:
        _check_budget(entries, dataset.ds, tables.total_u)
    salt = site.random_bytes(32)
    approver = request.approver.encode()[:512]
    approved = kinds.StudyApproved(
        study=study,
        role=role,
        meaning=MEANING,
        approver_commit=commitment_of(APPROVER_FIELD, salt, approver),
        ds=dataset.ds,
        expires_us=manifest.study.expires_us,
        dp=dp_terms(manifest, terms.delta, tables.accountant, tables.version),
        eps_table_u=tables.total_u,
        eps_study_u=tables.study_u,
    )
    # The approval comes first; its code and what it builds on are recorded in the same commit.
    beside = (*code_drafts(manifest), *adoptions(manifest))
    entry = site.record(approved.draft(role), *beside)[-1 - len(beside)]
    site.ledger.put_secret(entry.seq, APPROVER_FIELD, salt, approver)
    return Decided(
        study=study,
        name=manifest.study.name,
        decision="approved",
        seq=entry.seq,
        epsilon_before=tables.total_u[0] / MICRO,
        epsilon_after=tables.total_u[-1] / MICRO,
        epsilon_cap=terms.cap_u / MICRO,
        delta=terms.delta,
    )


def study_refuse(site: Site, request: StudyDecide) -> Decided:
    """Record study.refused. Raises OperatorError for a study that is approved or over."""
    history = site.history()
    study = find_study(site.home, history, request.study)
    require_standing(history, study, Standing.UNDECIDED)
    draft = kinds.StudyRefused(study, checked_code(request.reason)).draft(site.policy.roles[0])
    name = read_manifest(site.home, study).study.name
    return Decided(study, name, "refused", site.record(draft)[-1].seq)


def study_away(site: Site, request: StudyDecide) -> Decided:
    """Record study.away: training stops at once, the others go on without this site.

    The approval and its reservation of ε stay. Raises OperatorError unless it is approved."""
    history = site.history()
    study = find_study(site.home, history, request.study)
    require_standing(history, study, Standing.APPROVED)
    draft = kinds.StudyAway(study, checked_code(request.reason)).draft(site.policy.roles[0])
    return _turned(site, history, study, "away", draft)


def study_back(site: Site, request: StudyDecide) -> Decided:
    """Record study.back: this site takes part again, under the approval it had.

    Raises OperatorError unless it is away, the study is open, and its data are unchanged."""
    history = site.history()
    study = find_study(site.home, history, request.study)
    require_standing(history, study, Standing.AWAY)
    _check_open(site, read_manifest(site.home, study))
    approval = history.study(study).approval
    assert approval is not None, "who is away had approved"
    check_unchanged(site.home, dataset_of(site.home, approval.ds))
    return _turned(site, history, study, "back", kinds.StudyBack(study).draft(site.policy.roles[0]))


def _turned(site: Site, history: History, study: StudyId, done: str, draft: Draft) -> Decided:
    """Record it, unless the study was decided on or closed meanwhile."""
    unless = Unless(history.size, lambda kind, body: decides_on(kind, body, study))
    entries = site.record_unless(unless, draft)
    if entries is None:
        raise OperatorError(
            f"Study {study.hex()[:12]} was decided on, or ended, at the same moment.",
            fix="Nothing was changed. `p2pfl study list` says how it stands here.",
            exit_code=EXIT_UNAVAILABLE,
        )
    return Decided(study, read_manifest(site.home, study).study.name, done, entries[-1].seq)


def study_revoke(site: Site, request: StudyDecide) -> Decided:
    """Record study.revoked: training stops at once, nothing more is released."""
    history = site.history()
    study = find_study(site.home, history, request.study)
    require_standing(history, study, Standing.APPROVED, Standing.AWAY)
    draft = kinds.StudyRevoked(study, checked_code(request.reason)).draft(site.policy.roles[0])
    name = read_manifest(site.home, study).study.name
    return Decided(study, name, "revoked", site.record(draft)[-1].seq)


def _role(site: Site, given: str) -> str:
    role = given or site.policy.roles[0]
    if role not in site.policy.roles:
        raise OperatorError(
            f'The role "{role}" may not approve studies here.',
            fix=f"policy.toml allows: {', '.join(site.policy.roles)}.",
            exit_code=EXIT_REFUSED,
        )
    return role


def _check_open(site: Site, manifest: Manifest) -> None:
    if site.now_us() >= manifest.study.expires_us:
        raise OperatorError(
            f"The study expired at {moment_of(manifest.study.expires_us)}; this machine's clock "
            f"says {moment_of(site.now_us())}.",
            fix="Ask the proposer for a new one, or set the clock if it is wrong.",
            exit_code=EXIT_REFUSED,
        )


def _check_policy(site: Site, manifest: Manifest, terms: kinds.DatasetRegistered) -> None:
    against = tuple(objections(site.policy, manifest, terms.delta, terms.patients_bucket))
    if against:
        listed = "; ".join(objection.sentence for objection in against)
        raise OperatorError(
            f"This site's policy refuses the study: {listed}.",
            fix=f"Record it with `p2pfl study refuse {manifest.study_id.hex()[:12]} --reason "
            f"{against[0].code}`, or have the policy changed in policy.toml.",
            exit_code=EXIT_REFUSED,
        )


def _check_budget(entries: tuple[Entry, ...], ds: bytes, table_u: tuple[int, ...]) -> None:
    budget = budget_of(entries, ds)
    try:
        check_reservation(budget, table_u)
    except BudgetExhausted as error:
        raise OperatorError(
            f"The study would bring this dataset to ε = {table_u[-1] / MICRO:.3f}, its cap is "
            f"{budget.cap_u / MICRO:g}; {error.left_u / MICRO:.3f} is left.",
            fix="Ask the proposer for fewer rounds or more noise, or choose another dataset.",
            exit_code=EXIT_REFUSED,
        ) from error
