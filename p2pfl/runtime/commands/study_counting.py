"""Defaults of studies that count, or that build on a released model: what `study new` fills in.

Statistics and evaluations take one round of sums and a plain mean over all sites; a model that is
tried or trained further brings its data terms, plan and seed along.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from gossip.identifiers import SiteId
from p2pfl.core.manifest import Manifest, Material, Scalar
from p2pfl.core.manifest_terms import COUNTING_PLANS, DataTerms
from p2pfl.runtime.commands.study_materials import material_of
from p2pfl.runtime.commands.study_request import StudyNew
from p2pfl.runtime.errors import EXIT_USAGE, OperatorError
from p2pfl.runtime.home import Home

SCALE: Final = 1000
PATIENTS_MAX: Final = 100_000
"""Of one site: with `scale` it bounds what a site can claim; --argument value_max says another."""
NOISE_TAILS: Final = 8.0
"""Standard deviations of noise that an honest update does not exceed (1e-15 per value)."""


def with_materials(
    home: Home, me: SiteId, request: StudyNew
) -> tuple[StudyNew, DataTerms | None, tuple[Material, ...], tuple[str, ...]]:
    """The request completed by what it builds on: data terms, materials, sentences about them.

    Raises OperatorError.
    """
    if request.go_on_from and request.evaluate:
        raise OperatorError(
            "--continue and --evaluate exclude each other.",
            fix="A study either trains a released model further or tries it.",
            exit_code=EXIT_USAGE,
        )
    terms: DataTerms | None = None
    materials: list[Material] = []
    said: list[str] = []
    if request.go_on_from:
        material, found = material_of(home, me, request.go_on_from, "start")
        terms, source = found.manifest.data, found.manifest
        # With a text or a bundle of one's own, its arguments are one's own, too.
        if request.text is None and not request.bundle:
            _require_shipped(source)
            arguments = {**source.plan.arguments, **(request.arguments or {})}
            request = replace(request, plan=source.plan.name, arguments=arguments)
        materials += [material, *_of(source, "standardise")]
        said.append(f"Goes on from the model of {source.study.name}")
    if request.evaluate:
        material, found = material_of(home, me, request.evaluate, "evaluate")
        terms, source = found.manifest.data, found.manifest
        _require_shipped(source)
        request = _trying(request, source)
        materials += [material, *_of(source, "standardise")]
        said.append(f"Tries the model of {source.study.name} on {request.part} patients")
    if request.standardise:
        material, found = material_of(home, me, request.standardise, "standardise")
        if any(known.use == "standardise" for known in materials):
            raise OperatorError(
                "The model was trained on columns that other statistics scale.",
                fix="Leave --standardise out: the study takes over those statistics.",
                exit_code=EXIT_USAGE,
            )
        terms = terms or found.manifest.data
        request = replace(request, holdout=request.holdout or found.manifest.data.holdout)
        materials.append(material)
        said.append(f"Columns are scaled by the statistics of {found.manifest.study.name}")
    return request, terms, tuple(materials), tuple(said)


def _require_shipped(source: Manifest) -> None:
    """Raises OperatorError for a study whose plan is a researcher's own text."""
    if source.bundle is not None:
        raise OperatorError(
            f"{source.study.name} runs a bundle, which is not taken over silently.",
            fix="To train its model further, name the bundle with --bundle as well; models of "
            "bundles cannot be tried with --evaluate.",
            exit_code=EXIT_USAGE,
        )
    if source.code is not None:
        raise OperatorError(
            f"{source.study.name} has a plan of its own, which is not taken over silently.",
            fix="To train its model further, give the text with --from as well; models of such "
            "plans cannot be tried with --evaluate.",
            exit_code=EXIT_USAGE,
        )


def _of(source: Manifest, use: str) -> tuple[Material, ...]:
    """What the released model itself was built on, and still needs."""
    return tuple(material for material in source.materials if material.use == use)


def _trying(request: StudyNew, source: Manifest) -> StudyNew:
    arguments: dict[str, Scalar] = {
        **source.plan.arguments,
        **(request.arguments or {}),
        "of": source.plan.name,
        "part": request.part,
        "cut": "independent" if source.privacy.is_private else "stratified",
    }
    return replace(request, plan="evaluation", arguments=arguments, seed=source.study.seed)


def counting(request: StudyNew, sites: int) -> StudyNew:
    """Defaults of plans that count, where nothing else was said. `sites`: of the roster."""
    if request.plan not in COUNTING_PLANS:
        return request
    default = StudyNew(request.out, request.data)
    is_exact = request.plan == "statistics" and request.privacy == "none"
    rounds = 2 if is_exact and request.rule in ("mean", default.rule) else 1
    return replace(
        request,
        arguments={"scale": SCALE, **(request.arguments or {})},
        rounds=rounds if request.rounds == default.rounds else request.rounds,
        consensus_rounds=0,
        rule="mean" if request.rule == default.rule else request.rule,
        weighting="uniform",
        share_max=1.0,
        neighbours_min=request.neighbours_min or sites - 1,
        sampling_rate=1.0,
        steps_per_round=1,
    )


def bounded(
    arguments: dict[str, Scalar], noise_multiplier: float, clip_norm: float
) -> dict[str, Scalar]:
    """The arguments with the largest value that an honest site's update can have.

    noise_multiplier: 0 without privacy.
    """
    scale = arguments.get("scale", SCALE)
    if "value_max" in arguments or isinstance(scale, str | bool) or scale <= 0:
        return arguments
    most = (PATIENTS_MAX + NOISE_TAILS * noise_multiplier * clip_norm) / scale
    return {**arguments, "value_max": float(f"{most:.6g}")}
