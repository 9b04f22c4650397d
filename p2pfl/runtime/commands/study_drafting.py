"""Writing a study's manifest: everything a proposer leaves out is filled in and said aloud."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gossip.identifiers import Digest, SiteId
from gossip.keys import read_keys
from gossip.roster import Roster
from ledger.provenance import kinds
from p2pfl.core.encoding import blob_size_bytes
from p2pfl.core.errors import ManifestError
from p2pfl.core.history import History
from p2pfl.core.manifest import (
    MANIFEST_BYTES_MAX,
    NO_PRIVACY,
    AveragingTerms,
    DataTerms,
    Manifest,
    Material,
    PlanTerms,
    PrivacyTerms,
    StudyId,
    StudyTerms,
    parse_data_section,
)
from p2pfl.core.manifest_terms import COUNTING_PLANS
from p2pfl.core.names import DatasetId
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.children import output_of, run_module
from p2pfl.runtime.commands.budgets import ask_accountant
from p2pfl.runtime.commands.datasets import usable_dataset
from p2pfl.runtime.commands.opening import required_roster
from p2pfl.runtime.commands.plan_recipes import recipe_arguments
from p2pfl.runtime.commands.study_bundle import try_bundle, with_bundle
from p2pfl.runtime.commands.study_code import make_coded_model, with_text
from p2pfl.runtime.commands.study_counting import bounded, counting, with_materials
from p2pfl.runtime.commands.study_rendering import rendered
from p2pfl.runtime.commands.study_request import StudyNew
from p2pfl.runtime.datasets import schema_of
from p2pfl.runtime.errors import (
    EXIT_CANNOT_CREATE,
    EXIT_DATA,
    EXIT_REFUSED,
    EXIT_USAGE,
    OperatorError,
    as_sentence,
)
from p2pfl.runtime.home import Home, read_bounded, write_durably
from p2pfl.runtime.policy import Policy, objections, read_policy

CLIP_NORM_MAX = 1e6
SITES_MIN = 2
DEADLINE_S = 120.0
"""The longest wait for neighbours while nothing is known of them; what is learnt shortens it."""
SLOW_LINE_BITS_PER_S = 1_000_000


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

    Nothing is recorded and nobody is told: that is `study propose`. Raises OperatorError; then no
    file was written.
    """
    try:
        return _drafted(home, history, request, now_s)
    except ManifestError as error:
        raise OperatorError(
            as_sentence(f"The study would be refused: {error}"),
            fix="No file was written: change the command's options, or the schema, and run it "
            "again.",
            exit_code=EXIT_DATA,
        ) from error


def _drafted(home: Home, history: History, request: StudyNew, now_s: int) -> StudyDrafted:
    if request.out.exists():
        raise OperatorError(
            f"{request.out} exists.",
            fix="Name another file with -o; a manifest is never overwritten.",
            exit_code=EXIT_CANNOT_CREATE,
        )
    roster = required_roster(home)
    if len(roster.sites) < SITES_MIN:
        raise OperatorError(
            f"{roster.consortium} has one member; a study needs at least {SITES_MIN} sites.",
            fix="Invite another with `p2pfl consortium invite`; to try a plan out alone, use "
            "`p2pfl simulate`.",
            exit_code=EXIT_REFUSED,
        )
    dataset = usable_dataset(home, history, request.data)
    registered = history.datasets[DatasetId(dataset.ds)].terms
    me = read_keys(home.keys).site
    request, terms, materials, said = with_materials(home, me, request)
    request = counting(request, len(roster.members))
    plan, study = _plan(request), _from(materials, _study(request, roster, now_s))
    privacy, privacy_sentence = _privacy(
        request, request.delta or registered.delta, registered.patients_bucket
    )
    draft = Manifest(
        study=study,
        plan=plan,
        data=_data(home, request, terms),
        privacy=privacy,
        averaging=_averaging(request, len(roster.members)),
        raw=b"",
        study_id=StudyId(bytes(32)),
        materials=materials,
    )
    if request.text is not None:
        draft = with_text(home, draft, request.text, request.gradients)
    if request.bundle:
        draft = with_bundle(home, draft, request.bundle)
    manifest = _completed(home, draft)
    if not request.round_deadline_s:
        manifest = _with_deadline(manifest)
    digest, parameters = manifest.study.initial_model, manifest.study.parameters
    raw = manifest.raw
    policy, _ = read_policy(home.policy)
    warnings = hindrances(policy, manifest, registered)
    write_durably(request.out, raw, mode=0o644)
    return StudyDrafted(
        file=request.out,
        study=manifest.study_id,
        parameters=parameters,
        initial_model=digest,
        choices=(
            *said,
            privacy_sentence,
            f"{len(study.sites)} sites from the roster, {study.sites_min} of them have to approve",
            *warnings,
        ),
    )


def _from(materials: tuple[Material, ...], study: StudyTerms) -> StudyTerms:
    """The study's terms with the released model that it goes on from, if there is one."""
    start = next((one for one in materials if one.use == "start"), None)
    if start is None:
        return study
    return replace(study, initial_model=start.model, parameters=start.parameters)


def _completed(home: Home, draft: Manifest) -> Manifest:
    """The manifest with its initial model, and what a plan that counts says of its own norms.

    Raises OperatorError, ManifestError.
    """
    if draft.material("start") is not None or draft.bundle is not None:
        return rendered(draft)  # a bundle was tried, and made its initial model then
    if draft.is_counting and draft.privacy.is_private:
        # The plan knows the norm; a larger one never hurts while it is asked.
        asked = rendered(replace(draft, privacy=replace(draft.privacy, clip_norm=CLIP_NORM_MAX)))
        made = make_initial_model(home, asked)
        draft = replace(draft, privacy=replace(draft.privacy, clip_norm=made.clip_norm))
    if draft.is_counting:
        privacy = draft.privacy
        arguments = bounded(dict(draft.plan.arguments), privacy.noise_multiplier, privacy.clip_norm)
        draft = replace(draft, plan=replace(draft.plan, arguments=arguments))
    made = make_initial_model(home, rendered(draft))
    terms = replace(draft.study, initial_model=made.digest, parameters=made.parameters)
    return rendered(replace(draft, study=terms))


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


@dataclass(frozen=True, slots=True)
class InitialModel:
    """What lies in the blob store. clip_norm: of a plan that counts, else 0."""

    digest: Digest
    parameters: int
    clip_norm: float


def make_initial_model(home: Home, manifest: Manifest) -> InitialModel:
    """Make a study's initial model from its seed and keep it.

    Raises OperatorError, with the plan's own complaint about its arguments.
    """
    if manifest.bundle is not None:
        tried = try_bundle(home, manifest)
        return InitialModel(tried.initial, tried.parameters, 0.0)
    if manifest.code is not None:
        return InitialModel(*make_coded_model(home, manifest), 0.0)
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
    return InitialModel(digest, int(made["parameters"]), float(made["clip_norm"]))


def _data(home: Home, request: StudyNew, given: DataTerms | None) -> DataTerms:
    """given: of the study that this one builds on."""
    if given is not None:
        return replace(
            given,
            patients_min=request.patients_min or given.patients_min,
            holdout=request.holdout or given.holdout,
        )
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
    if request.plan in COUNTING_PLANS:
        return PlanTerms(name=request.plan, arguments=dict(request.arguments or {}), ranges={})
    arguments = recipe_arguments(
        request.plan,
        request.arguments or {},
        is_private=request.privacy != "none" and request.unit != "site",
    )
    rate = arguments.get("learning_rate", 0.0)
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
    if request.sampling_rate or request.steps_per_round or request.unit == "site":
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


def _with_deadline(manifest: Manifest) -> Manifest:
    """The study whose longest wait leaves a slow line the time to carry its model."""
    carried_s = 8 * blob_size_bytes(manifest.study.parameters) // SLOW_LINE_BITS_PER_S
    terms = replace(manifest.study, round_deadline_s=DEADLINE_S + carried_s)
    return rendered(replace(manifest, study=terms))


def _study(request: StudyNew, roster: Roster, now_s: int) -> StudyTerms:
    sites: Sequence[SiteId] = roster.sites
    return StudyTerms(
        name=request.name,
        rounds=request.rounds,
        consensus_rounds=request.consensus_rounds,
        sites=tuple(sites),
        sites_min=request.sites_min or len(sites),
        neighbours_min=request.neighbours_min or min(2, len(sites) - 1),
        round_deadline_s=request.round_deadline_s or DEADLINE_S,
        expires_s=now_s + request.expires_days * 86_400,
        seed=request.seed,
        initial_model=Digest(bytes(32)),
        parameters=1,
        patience=request.patience,
        work_limit_s=request.work_limit_s,
        keep=request.keep,
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
        encoding=request.encoding,
        staleness=request.staleness,
    )
