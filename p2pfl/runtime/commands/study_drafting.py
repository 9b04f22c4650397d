"""Writing a study's manifest: everything a proposer leaves out is filled in and said aloud."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from gossip.identifiers import Digest, SiteId
from gossip.roster import Roster
from ledger.provenance import kinds
from p2pfl.core.history import History
from p2pfl.core.manifest import (
    MANIFEST_BYTES_MAX,
    NO_PRIVACY,
    AveragingTerms,
    DataTerms,
    Guard,
    Manifest,
    PlanTerms,
    PrivacyTerms,
    Scalar,
    StudyTerms,
    parse_data_section,
    parse_manifest,
    render_manifest,
)
from p2pfl.core.names import DatasetId
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.children import output_of, run_module
from p2pfl.runtime.commands.budgets import ask_accountant
from p2pfl.runtime.commands.datasets import usable_dataset
from p2pfl.runtime.commands.opening import required_roster
from p2pfl.runtime.commands.plan_recipes import recipe_arguments
from p2pfl.runtime.datasets import schema_of
from p2pfl.runtime.errors import (
    EXIT_CANNOT_CREATE,
    EXIT_DATA,
    EXIT_USAGE,
    OperatorError,
)
from p2pfl.runtime.home import Home, read_bounded, write_durably
from p2pfl.runtime.policy import Policy, objections, read_policy

Privacy = Literal["gaussian", "none"]


@dataclass(frozen=True, slots=True)
class StudyNew:
    """What a proposer says; 0 and "" stand for the defaults named in `p2pfl study new --help`."""

    out: Path
    data: str
    name: str = "study"
    schema: Path | None = None
    plan: str = "tabular-logistic"
    arguments: Mapping[str, Scalar] | None = None
    rounds: int = 30
    consensus_rounds: int = 3
    privacy: Privacy = "gaussian"
    epsilon: float = 3.0
    delta: str = ""
    clip_norm: float = 2.0
    unit: Literal["patient", "record"] = "patient"
    sampling_rate: float = 0.0
    """0: chosen from patients and ε, together with the steps."""
    steps_per_round: int = 0
    rule: str = "gm_clip"
    topology: str = "complete"
    degree: int = 0
    weighting: Literal["patients", "uniform"] = "patients"
    share_max: float = 0.5
    redraw_rounds: int = 0
    guard: Guard = "none"
    byzantine: float = 0.2
    rule_parameters: Mapping[str, Scalar] | None = None
    sites_min: int = 0
    neighbours_min: int = 0
    round_deadline_s: float = 30.0
    expires_days: int = 365
    seed: int = 1
    patients_min: int = 0
    holdout: float = 0.0


@dataclass(frozen=True, slots=True)
class StudyDrafted:
    """A manifest that was written, and what was chosen for the proposer."""

    file: Path
    study: bytes
    parameters: int
    initial_model: bytes
    choices: tuple[str, ...]


def study_new(home: Home, history: History, request: StudyNew, *, now_s: int) -> StudyDrafted:
    """Write a complete manifest to `request.out` and keep its initial model in the home.

    Nothing is recorded and nobody is told: that is `study propose`. Raises OperatorError or
    ManifestError; then no file was written.
    """
    if request.out.exists():
        raise OperatorError(
            f"{request.out} exists.",
            fix="Name another file with -o; a manifest is never overwritten.",
            exit_code=EXIT_CANNOT_CREATE,
        )
    roster = required_roster(home)
    dataset = usable_dataset(home, history, request.data)
    registered = history.datasets[DatasetId(dataset.ds)].terms
    data = _data(home, request)
    plan = _plan(request)
    privacy, privacy_sentence = _privacy(
        request, request.delta or registered.delta, registered.patients_bucket
    )
    study = _study(request, roster, now_s)
    averaging = _averaging(request, len(roster.members))
    draft = render_manifest(study=study, plan=plan, data=data, privacy=privacy, averaging=averaging)
    parse_manifest(draft)
    digest, parameters = build_initial_model(home, parse_manifest(draft))
    study = replace(study, initial_model=digest, parameters=parameters)
    raw = render_manifest(study=study, plan=plan, data=data, privacy=privacy, averaging=averaging)
    manifest = parse_manifest(raw)
    policy, _ = read_policy(home.policy)
    warnings = hindrances(policy, manifest, registered)
    write_durably(request.out, raw, mode=0o644)
    return StudyDrafted(
        file=request.out,
        study=manifest.study_id,
        parameters=parameters,
        initial_model=digest,
        choices=(
            privacy_sentence,
            f"{len(study.sites)} sites from the roster, {study.sites_min} of them have to approve",
            *warnings,
        ),
    )


def hindrances(
    policy: Policy, manifest: Manifest, registered: kinds.DatasetRegistered
) -> list[str]:
    """Why this site could not approve its own study on a dataset: said before others see it."""
    against = objections(policy, manifest, registered.delta, registered.patients_bucket)
    found = [objection.sentence for objection in against]
    epsilon, cap = manifest.privacy.epsilon, registered.cap_u / 1e6
    if manifest.privacy.is_private and epsilon > cap:
        found.append(f"ε = {epsilon:g} is more than the cap of its dataset, {cap:g}")
    return [f"Warning: this site could not approve it: {sentence}" for sentence in found]


def build_initial_model(home: Home, manifest: Manifest) -> tuple[Digest, int]:
    """Make a study's initial model from its seed and keep it. Returns its digest and d.

    Raises OperatorError, with the plan's own complaint about its arguments.
    """
    with tempfile.TemporaryDirectory(prefix=".initial-", dir=home.blobs) as directory:
        path = Path(directory) / "model"
        draft = Path(directory) / "study.toml"
        draft.write_bytes(manifest.raw)
        purpose = "Making the initial model"
        finished = run_module(
            "p2pfl.learning.initial",
            ("--manifest", str(draft), "--out", str(path)),
            given=b"",
            deadline_s=120.0,
            purpose=purpose,
        )
        made = json.loads(output_of(finished, purpose))
        digest = BlobStore(home.blobs).put_file(path)
    if digest.hex() != made["digest"]:
        raise OperatorError(
            "The initial model changed while it was written.",
            fix="Check the disk, then run the command again.",
            exit_code=EXIT_DATA,
        )
    return digest, int(made["parameters"])


def _data(home: Home, request: StudyNew) -> DataTerms:
    raw = (
        read_bounded(request.schema, MANIFEST_BYTES_MAX)
        if request.schema is not None
        else schema_of(home, request.data)
    )
    if not raw:
        raise OperatorError(
            f'The dataset "{request.data}" was registered without a schema.',
            fix="Give --schema FILE: a TOML file with a [data] section, as another study's.",
            exit_code=EXIT_USAGE,
        )
    terms = parse_data_section(raw)
    return replace(
        terms,
        patients_min=request.patients_min or terms.patients_min,
        holdout=request.holdout or terms.holdout,
    )


def _plan(request: StudyNew) -> PlanTerms:
    arguments = recipe_arguments(
        request.plan, request.arguments or {}, is_private=request.privacy != "none"
    )
    rate = arguments["learning_rate"]
    ranges = {}
    if isinstance(rate, int | float) and not isinstance(rate, bool) and rate > 0:
        ranges["learning_rate"] = (rate / 50, rate * 4)
    return PlanTerms(name=request.plan, arguments=arguments, ranges=ranges)


def _privacy(request: StudyNew, delta: str, bucket: int) -> tuple[PrivacyTerms, str]:
    """The terms and a sentence that says what was chosen and why."""
    if request.privacy == "none":
        return NO_PRIVACY, (
            "No differential privacy: updates may reveal single patients; sites whose policy "
            "forbids this will refuse"
        )
    if request.sampling_rate or request.steps_per_round:
        rate, steps = request.sampling_rate or 1.0, request.steps_per_round or 1
        answer = ask_accountant(
            {
                "request": "calibrate",
                "epsilon": repr(request.epsilon),
                "q": repr(rate),
                "steps_total": steps * request.rounds,
                "delta": delta,
            }
        )
        sigma = float(str(answer["sigma"]))
        sentence = f"Noise multiplier {sigma:g} for ε ≤ {request.epsilon:g} at δ = {delta}"
    else:
        answer = ask_accountant(
            {
                "request": "schedule",
                "bucket": bucket,
                "epsilon": repr(request.epsilon),
                "delta": delta,
                "rounds": request.rounds,
            }
        )
        rate, sigma = float(str(answer["rate"])), float(str(answer["noise_multiplier"]))
        steps = int(str(answer["steps_per_round"]))
        sentence = str(answer["sentence"])
    terms = PrivacyTerms(
        mechanism="gaussian",
        epsilon=request.epsilon,
        delta=delta,
        clip_norm=request.clip_norm,
        unit=request.unit,
        sampling="full" if rate == 1.0 else "poisson",
        sampling_rate=rate,
        noise_multiplier=sigma,
        steps_per_round=steps,
    )
    return terms, sentence


def _study(request: StudyNew, roster: Roster, now_s: int) -> StudyTerms:
    sites: Sequence[SiteId] = roster.sites
    return StudyTerms(
        name=request.name,
        rounds=request.rounds,
        consensus_rounds=request.consensus_rounds,
        sites=tuple(sites),
        sites_min=request.sites_min or len(sites),
        neighbours_min=request.neighbours_min or min(2, len(sites) - 1),
        round_deadline_s=request.round_deadline_s,
        expires_s=now_s + request.expires_days * 86_400,
        seed=request.seed,
        initial_model=Digest(bytes(32)),
        parameters=1,
    )


def _averaging(request: StudyNew, sites: int) -> AveragingTerms:
    return AveragingTerms(
        rule=request.rule,
        topology=request.topology,
        degree=request.degree,
        edges=(),
        weighting=request.weighting,
        # Two sites cannot each have less than half.
        share_max=max(request.share_max, 1.0 / sites),
        byzantine=request.byzantine,
        parameters=dict(request.rule_parameters or {}),
        redraw_rounds=request.redraw_rounds,
        guard=request.guard,
    )
