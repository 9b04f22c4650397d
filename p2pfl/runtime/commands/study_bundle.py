"""Drafting and trying a study with a bundle of this site: what `study new --bundle` fills in.

Responsible for the [bundle] section and for the confined child that runs a round on patients who do
not exist and makes the initial model. What that child says is hearsay and checked here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Final

from gossip.identifiers import Digest
from p2pfl.core.manifest import Manifest, PlanTerms
from p2pfl.core.manifest_bundle import BUNDLE_PLAN, BundleTerms
from p2pfl.core.manifest_code import METRICS_MAX
from p2pfl.runtime.bundles import bundle_with, find_bundle
from p2pfl.runtime.children import output_of
from p2pfl.runtime.commands.bundles import report_of_bundle
from p2pfl.runtime.commands.initial_models import keep_initial
from p2pfl.runtime.commands.plan_texts import answer_of, confined_folders
from p2pfl.runtime.commands.study_rendering import rendered
from p2pfl.runtime.confined_child import run_confined
from p2pfl.runtime.errors import EXIT_DATA, EXIT_UNAVAILABLE, OperatorError
from p2pfl.runtime.home import Home
from p2pfl.runtime.plan_code import versions_here
from p2pfl.runtime.policy import allowance_of

TRIED_S: Final = 300.0
PARAMETERS_MAX: Final = 500_000_000
EPOCHS: Final = "local_epochs"
"""The argument that every bundle has."""
_METRIC: Final = re.compile(r"[A-Za-z0-9_]{1,40}")
_PURPOSE: Final = "Trying the bundle"


@dataclass(frozen=True, slots=True)
class BundleTried:
    """What a trial says. initial: the model a study with it starts from, kept in the home;
    metrics: what its evaluator gave numbers for; unit: those within 0 to 1."""

    parameters: int
    initial: Digest
    metrics: tuple[str, ...]
    unit: tuple[str, ...]


def with_bundle(home: Home, draft: Manifest, given: str) -> Manifest:
    """The draft with a bundle of this site, tried. given: its name or digest.

    It then names its initial model, too. Its metrics within 0 to 1 are those the study shows.
    Raises OperatorError."""
    bundle = find_bundle(home, given)
    report = report_of_bundle(bundle)
    if report.problem:
        raise OperatorError(
            f"The bundle cannot be read: {report.problem}.",
            fix="Correct the file, then add the bundle again with `p2pfl bundle add`.",
            exit_code=EXIT_DATA,
        )
    versions = versions_here(report.packages)
    absent = [name for name, version in versions.items() if not version]
    if absent:
        raise OperatorError(
            f"The bundle uses {', '.join(absent)}, not installed here.",
            fix="Install it where p2pfl is installed, at every site, or choose another bundle.",
            exit_code=EXIT_UNAVAILABLE,
        )
    arguments = {EPOCHS: 1, **draft.plan.arguments}
    terms = BundleTerms(bundle.name, Digest(bundle.digest), versions)
    drafted = replace(
        draft, bundle=terms, plan=PlanTerms(BUNDLE_PLAN, arguments, draft.plan.ranges)
    )
    tried = try_bundle(home, rendered(drafted))
    start = draft.material("start")
    if start is not None and start.parameters != tried.parameters:
        raise OperatorError(
            f"The released model has {start.parameters} parameters, the bundle's network "
            f"{tried.parameters}.",
            fix="The network needs the same tensors in the same order as the released model.",
            exit_code=EXIT_DATA,
        )
    study = draft.study
    if start is None:
        study = replace(study, initial_model=tried.initial, parameters=tried.parameters)
    metrics = dict.fromkeys(tried.unit, (0.0, 1.0))
    return replace(drafted, study=study, bundle=replace(terms, metrics=metrics))


def try_bundle(home: Home, manifest: Manifest) -> BundleTried:
    """Run a round of a study's bundle, confined, on patients who do not exist.

    Raises OperatorError, also where this machine cannot confine it."""
    assert manifest.bundle is not None, "asked of studies with a bundle"
    bundle = bundle_with(home, manifest.bundle.sha256)
    with confined_folders(manifest) as (given, work):
        out = work / "model"
        request = {
            "manifest": str(given / "study.toml"),
            "bundle": str(bundle.folder.resolve()),
            "out": str(out),
        }
        finished = run_confined(
            "p2pfl.learning.bundles.check",
            given=json.dumps(request).encode(),
            read=(given, bundle.folder),
            work=work,
            deadline_s=TRIED_S,
            purpose=_PURPOSE,
            allowance=allowance_of(home),
        )
        answer = answer_of(output_of(finished, _PURPOSE), _PURPOSE)
        parameters, metrics, unit = _told(answer)
        digest = keep_initial(home, out, parameters, "bundle")
    return BundleTried(parameters, digest, metrics, unit)


def check_bundle(home: Home, manifest: Manifest) -> None:
    """Try the bundle of a study that somebody wrote or proposed. Raises OperatorError."""
    if manifest.bundle is None:
        return
    tried = try_bundle(home, manifest)
    anew = "Make the manifest anew with `p2pfl study new --bundle`."
    if tried.parameters != manifest.study.parameters:
        raise OperatorError(
            f"The bundle's network has {tried.parameters} parameters, the manifest says "
            f"{manifest.study.parameters}.",
            fix=anew,
            exit_code=EXIT_DATA,
        )
    unknown = sorted(manifest.bundle.metrics.keys() - set(tried.metrics))
    if unknown:
        raise OperatorError(
            f'The bundle gives no metric "{unknown[0]}", which [bundle] metrics names.',
            fix=anew,
            exit_code=EXIT_DATA,
        )


def _told(answer: object) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    match answer:
        case {"parameters": int() as d, "metrics": [*metrics], "unit": [*unit]} if (
            1 <= d <= PARAMETERS_MAX
        ):
            names = tuple(str(one) for one in metrics if _METRIC.fullmatch(str(one)))
            within = tuple(str(one) for one in unit if str(one) in names)
            return d, names, within[:METRICS_MAX]
        case _:
            raise OperatorError(
                f"{_PURPOSE} gave an answer that makes no sense.",
                fix="The bundle writes where only an answer belongs, to standard output: leave "
                "that out.",
                exit_code=EXIT_DATA,
            )
