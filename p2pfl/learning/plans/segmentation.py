"""The plan `segmentation`: a UNet or SegResNet that marks regions in 2D or 3D images.

Every region has a logit of its own, so regions may lie inside each other. The headline score is
the mean Dice over regions and patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from p2pfl.core.manifest_terms import DataTerms, PrivacyTerms
from p2pfl.learning.datasets.patients import Patients
from p2pfl.learning.errors import PlanRefused
from p2pfl.learning.plans.arguments import IMAGING, Arguments, Scalar, checked
from p2pfl.learning.plans.options import check_options
from p2pfl.learning.plans.privacy_checks import check_privacy
from p2pfl.learning.scoring import Score
from p2pfl.learning.vector import Schema, Vector

if TYPE_CHECKING:
    import torch

WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "network": ("unet", "segresnet"),
    "loss": ("dice", "dice-ce", "dice-focal", "tversky", "dice-batch"),
}
DEFAULTS: Final = Arguments(
    learning_rate=0.01,
    local_steps=25,
    momentum=0.9,
    optimiser="adam",
    network="unet",
    loss="dice-ce",
)


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Regions of images."""

    name: str = "segmentation"
    batch_default: int = 2

    def arguments(self, written: Mapping[str, Scalar]) -> Arguments:
        """Check the arguments; see `DEFAULTS` for what is not written."""
        return checked(written, IMAGING, DEFAULTS, WORDS)

    def check(self, data: DataTerms, arguments: Arguments, privacy: PrivacyTerms) -> None:
        """Images with regions, and nothing that ties patients together under privacy."""
        from p2pfl.learning.plans.networks import check_window

        if data.images is None or not data.images.regions:
            raise PlanRefused(
                f'plan "{self.name}" needs kind = "images" and [[data.images.regions]]'
            )
        if data.target is not None or data.columns:
            raise PlanRefused(f'plan "{self.name}" uses no target and no columns of a table')
        check_window(self.name, data.images, arguments)
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
        """MONAI's network."""
        from p2pfl.learning.plans.networks import segmentation_network

        return segmentation_network(data, arguments)

    def loss_sum(
        self, outputs: torch.Tensor, target: torch.Tensor, arguments: Arguments
    ) -> torch.Tensor:
        """Soft Dice, alone or with cross-entropy or focal loss per voxel; or Tversky's index."""
        from p2pfl.learning.plans.segmentation_loss import segmentation_loss_sum

        return segmentation_loss_sum(outputs, target, arguments.loss)

    def score(self, module: torch.nn.Module, on: Patients, arguments: Arguments) -> Score:
        """Mean Dice as `accuracy`; `measures` has it per region."""
        from p2pfl.learning.plans.segmentation_score import segmentation_score

        return segmentation_score(module, on, arguments, self)

    def log_odds(self, outputs: torch.Tensor) -> torch.Tensor:
        """Raises PlanRefused: regions are no yes or no."""
        raise PlanRefused(f'plan "{self.name}" marks regions; it has no single probability')


SEGMENTATION: Final = Segmentation()
