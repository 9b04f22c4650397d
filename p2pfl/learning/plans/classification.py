"""The plans `image-classification` and `image-table-fusion`: a yes or no from images.

A DenseNet or ResNet of MONAI, with one logit; the second plan lets it see a table's columns, too.
Scored by AUC, accuracy and calibration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from p2pfl.core.manifest_terms import DataTerms, PrivacyTerms, Target
from p2pfl.learning.datasets.patients import Patients
from p2pfl.learning.errors import PlanRefused
from p2pfl.learning.plans.arguments import IMAGING, Arguments, Scalar, checked
from p2pfl.learning.plans.options import check_options
from p2pfl.learning.plans.privacy_checks import check_privacy
from p2pfl.learning.plans.tabular import binary_log_odds
from p2pfl.learning.scoring import Score, score
from p2pfl.learning.vector import Schema, Vector

if TYPE_CHECKING:
    import torch

WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "network": ("densenet", "resnet"),
    "loss": ("logistic", "focal"),
}
DEFAULTS: Final = Arguments(
    learning_rate=0.003,
    local_steps=25,
    momentum=0.9,
    optimiser="adam",
    network="densenet",
    levels=2,
    norm="group",
    loss="logistic",
    hidden=16,
)
SCORED_AT_ONCE: Final = 8
FOCUS: Final = 2.0
"""γ of the focal loss."""


@dataclass(frozen=True, slots=True)
class ImageClassification:
    """One logit from images; with `with_table` from images and columns."""

    name: str
    with_table: bool
    batch_default: int = 4

    def arguments(self, written: Mapping[str, Scalar]) -> Arguments:
        """Check the arguments; see `DEFAULTS` for what is not written."""
        known = IMAGING | {"hidden"} if self.with_table else IMAGING
        return checked(written, known, DEFAULTS, WORDS)

    def check(self, data: DataTerms, arguments: Arguments, privacy: PrivacyTerms) -> None:
        """Images with an outcome, and columns where they are used."""
        if data.images is None or not isinstance(data.target, Target):
            raise PlanRefused(
                f'plan "{self.name}" needs kind = "images" and a [data.target] with column and '
                "positive_above"
            )
        if data.images.regions:
            raise PlanRefused(f'plan "{self.name}" marks no regions: leave them out of [data]')
        if self.with_table != bool(data.columns):
            wanted = "needs [[data.columns]]" if self.with_table else "uses no [[data.columns]]"
            raise PlanRefused(
                f'plan "{self.name}" {wanted}; see also '
                f'"{IMAGES.name if self.with_table else FUSION.name}"'
            )
        _check_window(self.name, data.images.window, arguments)
        check_privacy(arguments, privacy)
        check_options(self.name, arguments, privacy)

    def schema(self, data: DataTerms, arguments: Arguments) -> Schema:
        """The network's tensors."""
        from p2pfl.learning.plans.networks import module_schema

        return module_schema(self.module(data, arguments))

    def initial(self, data: DataTerms, arguments: Arguments, seed: int) -> Vector:
        """Seeded; see `seeded_start`."""
        from p2pfl.learning.plans.networks import seeded_start

        return seeded_start(self.module(data, arguments), seed)

    def module(self, data: DataTerms, arguments: Arguments) -> torch.nn.Module:
        """MONAI's network, and for the fusion two layers after it."""
        from p2pfl.learning.plans import classification_networks as networks

        if self.with_table:
            return networks.fusion_network(data, arguments)
        return networks.image_classifier(data, arguments, 1)

    def loss_sum(
        self, outputs: torch.Tensor, target: torch.Tensor, arguments: Arguments
    ) -> torch.Tensor:
        """Logistic loss, or with "focal" less of it from patients who are predicted right."""
        import torch
        from torch.nn import functional

        each = functional.binary_cross_entropy_with_logits(outputs[:, 0], target, reduction="none")
        if arguments.loss == "focal":
            each = each * (1.0 - torch.exp(-each)) ** FOCUS
        return each.sum()

    def score(self, module: torch.nn.Module, on: Patients, arguments: Arguments) -> Score:
        """AUC, accuracy, loss and calibration."""
        import torch

        device = next(module.parameters()).device
        odds, labels = [], []
        for start in range(0, on.size, SCORED_AT_ONCE):
            rows = np.arange(start, min(start + SCORED_AT_ONCE, on.size))
            batch = on.batch(rows, None)
            with torch.no_grad():
                outputs = module(*(torch.from_numpy(part).to(device) for part in batch.inputs))
            odds.append(binary_log_odds(outputs).cpu().numpy())
            labels.append(batch.target)
        return score(np.concatenate(odds), np.concatenate(labels))

    def log_odds(self, outputs: torch.Tensor) -> torch.Tensor:
        """The logit itself."""
        return binary_log_odds(outputs)


def _check_window(plan: str, window: tuple[int, ...], arguments: Arguments) -> None:
    """Raises PlanRefused where the network would average over less than two voxels a side."""
    from p2pfl.learning.plans.classification_networks import halvings

    factor = 2 ** (halvings(arguments) + 1)
    small = [side for side in window if side < factor]
    if small:
        raise PlanRefused(
            f'plan "{plan}" halves the window {halvings(arguments)} times: its sides have to be '
            f"at least {factor}, not {small[0]}; choose a larger window, or fewer levels of a "
            "densenet"
        )


IMAGES: Final = ImageClassification("image-classification", with_table=False)
FUSION: Final = ImageClassification("image-table-fusion", with_table=True)
