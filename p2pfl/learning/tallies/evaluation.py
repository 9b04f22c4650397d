"""The plan `evaluation`: a released model is tried on each site's patients, sums of metrics go out.

Of a yes-or-no model each patient adds one to a histogram of predicted probabilities, one per
outcome, and whether the prediction was right and how far off (Brier); AUC and calibration of all
sites together follow from the sums. Of a segmentation each patient adds its Dice per region.

Arguments: those of counting plans; `of`, the plan of the model that is tried; `part`, "holdout"
(the patients whom the model's own study held out, by the same seed and share) or "all"; `cut`,
how that study cut its hold-out; and the arguments of the plan that `of` names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from p2pfl.core.manifest_terms import Manifest, Target
from p2pfl.learning.datasets.patients import Patients, Rows, Values
from p2pfl.learning.errors import ModelRefused, PlanRefused
from p2pfl.learning.materials import Materials
from p2pfl.learning.plans import plan_named
from p2pfl.learning.plans.arguments import Arguments, Scalar
from p2pfl.learning.plans.plan import Plan
from p2pfl.learning.tallies.tally import SHARED, Wide, check_shared, counted, one_hot, tensor
from p2pfl.learning.vector import Schema, Vector

if TYPE_CHECKING:
    from p2pfl.learning.flat_model import FlatModel

PARTS: Final = ("holdout", "all")
CUTS: Final = ("independent", "stratified")
OWN: Final = SHARED | {"of", "part", "cut"}
PATIENTS_AT_ONCE: Final = 64
IMAGES_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A released model on patients."""

    name: str = "evaluation"

    def check(self, manifest: Manifest) -> None:
        """A model of a shipped plan that fits the data and says something that can be summed."""
        plan, arguments = tried(manifest)
        written, data = manifest.plan.arguments, manifest.data
        for key, choices in (("part", PARTS), ("cut", CUTS)):
            if written.get(key) not in choices:
                raise PlanRefused(f'argument "{key}" has to be {" or ".join(choices)}')
        if manifest.study.rounds != 1:
            raise PlanRefused(f'plan "{self.name}" takes rounds = 1')
        if written["part"] == "holdout" and data.holdout == 0.0:
            raise PlanRefused('part = "holdout" needs data.holdout, as the model\'s study had it')
        if not isinstance(data.target, Target) and not _regions(manifest):
            raise PlanRefused(
                f'plan "{self.name}" tries models of a yes or no, and segmentations; the model\'s '
                "study has neither a [data.target] with positive_above nor regions"
            )
        d, material = plan.schema(data, arguments).parameters, manifest.material("evaluate")
        if material is None or material.parameters != d:
            raise PlanRefused(f'a model of plan "{plan.name}" has {d} parameters here')
        check_shared(self, manifest)

    def sums_schema(self, manifest: Manifest) -> Schema:
        """Yes or no: how many, right, squared distance, histogram [2, bins]; regions: Dice."""
        if _regions(manifest):
            return Schema((tensor("patients", 1), tensor("dice", len(_regions(manifest)))))
        bins = counted(_own(manifest)).bins
        singles = (tensor(name, 1) for name in ("patients", "correct", "brier"))
        return Schema((*singles, tensor("histogram", 2, bins)))

    def public_schema(self, manifest: Manifest) -> Schema:
        """Nothing."""
        return Schema(())

    def bound(self, manifest: Manifest) -> float:
        """1 for the patient and for each measure in 0…1, 1 for the place in the histogram."""
        regions = len(_regions(manifest))
        return math.sqrt(1.0 + regions) if regions else 2.0

    def sensitivity(self, manifest: Manifest) -> float:
        """Twice the bound where one patient more can push another over a stratified cut."""
        arguments = manifest.plan.arguments
        is_tied = arguments["part"] == "holdout" and arguments["cut"] == "stratified"
        return self.bound(manifest) * (2.0 if is_tied else 1.0)

    def public(self, manifest: Manifest, base: Vector, round_: int) -> Vector:
        """Nothing."""
        return np.empty(0, dtype=np.float32)

    def contributions(
        self, manifest: Manifest, patients: Patients, public: Vector, materials: Materials
    ) -> Iterator[Wide]:
        """Blocks of patients, so that volumes need not lie in memory together."""
        model, plan, arguments = opened(manifest, materials)
        if _regions(manifest):
            yield from _dice(model, plan, arguments, patients)
            return
        at_once = IMAGES_AT_ONCE if manifest.data.images is not None else PATIENTS_AT_ONCE
        bins = counted(_own(manifest)).bins
        for start in range(0, patients.size, at_once):
            rows = np.arange(start, min(start + at_once, patients.size))
            odds, labels = log_odds(model, plan, patients, rows)
            yield _of_outcomes(odds, labels, bins)


def tried(manifest: Manifest) -> tuple[Plan, Arguments]:
    """The plan of the model that is tried, and its arguments. Raises PlanRefused."""
    of = manifest.plan.arguments.get("of")
    if not isinstance(of, str):
        raise PlanRefused('argument "of" has to name the plan of the model that is tried')
    plan = plan_named(of)
    rest = {key: value for key, value in manifest.plan.arguments.items() if key not in OWN}
    return plan, plan.arguments(rest)


def opened(manifest: Manifest, materials: Materials) -> tuple[FlatModel, Plan, Arguments]:
    """The released model, ready. Raises ModelRefused, PlanRefused."""
    from p2pfl.learning.device import best_device  # loads torch
    from p2pfl.learning.flat_model import FlatModel

    plan, arguments = tried(manifest)
    if materials.evaluated is None:
        raise ModelRefused("the model that is to be tried was not given")
    module = plan.module(manifest.data, arguments)
    model = FlatModel(module, plan.schema(manifest.data, arguments), best_device())
    model.load(materials.evaluated)
    model.module.eval()
    return model, plan, arguments


def log_odds(
    model: FlatModel,
    plan: Plan,
    patients: Patients,
    rows: Rows,
) -> tuple[Wide, Values]:
    """What the model says of some patients, and what they have: float64[m], float32[m]."""
    import torch

    batch = patients.batch(rows, None)
    with torch.no_grad():
        inputs = [torch.from_numpy(part).to(model.device) for part in batch.inputs]
        odds = plan.log_odds(model.module(*inputs)).cpu().numpy().astype(np.float64)
    return odds, batch.target


def _of_outcomes(odds: Wide, labels: Values, bins: int) -> Wide:
    """float64[m, 3 + 2·bins]."""
    odds = np.nan_to_num(odds, nan=0.0)
    probability = 1.0 / (1.0 + np.exp(-np.clip(odds, -700.0, 700.0)))
    positive = labels > 0.5
    correct = (probability > 0.5) == positive
    brier = (probability - positive) ** 2
    places = np.minimum((probability * bins).astype(np.int64), bins - 1) + bins * positive
    singles = np.stack([np.ones(len(odds)), correct, brier], axis=1)
    return np.concatenate([singles, one_hot(places, 2 * bins)], axis=1)


def _dice(model: FlatModel, plan: Plan, arguments: Arguments, patients: Patients) -> Iterator[Wide]:
    """float64[1, 1 + regions] for each patient."""
    from p2pfl.learning.datasets.images import ImagePatients
    from p2pfl.learning.plans.segmentation_score import dice_of, volume_logits

    if not isinstance(patients, ImagePatients):
        raise PlanRefused("segmentation is tried on images")
    for row in range(patients.size):
        volume, mask = patients.volume(row)
        found = volume_logits(model.module, volume, patients.terms.window) > 0.0
        truth = patients.regions_of(mask) > 0.5
        dice = [dice_of(one, other) for one, other in zip(found, truth, strict=True)]
        yield np.array([[1.0, *dice]])


def _own(manifest: Manifest) -> Mapping[str, Scalar]:
    return {key: value for key, value in manifest.plan.arguments.items() if key in SHARED}


def _regions(manifest: Manifest) -> tuple[str, ...]:
    images = manifest.data.images
    if images is None or manifest.data.target is not None:
        return ()
    return tuple(region.name for region in images.regions)


EVALUATION: Final = Evaluation()
