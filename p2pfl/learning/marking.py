"""A study's network on whole volumes: what any of its models marks there."""

from __future__ import annotations

import numpy as np
import torch

from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning.datasets.images import ImagePatients
from p2pfl.learning.datasets.patients import Values
from p2pfl.learning.plans import plan_of
from p2pfl.learning.plans.segmentation_score import Marks, hd95_of, volume_logits
from p2pfl.learning.vector import Vector


class Marker:
    """Marks whole volumes; the vector may change from call to call."""

    def __init__(self, manifest: Manifest) -> None:
        """Raises PlanRefused."""
        assert manifest.data.images is not None, "these are images"
        plan = plan_of(manifest)
        self._terms = manifest.data.images
        self._module = plan.module(manifest.data, plan.arguments(manifest.plan.arguments)).eval()

    def logits(self, model: Vector, volume: Values) -> Values:
        """float32[regions, x, y, z]. model: float32[d]; volume: float32[channels, x, y, z]."""
        torch.nn.utils.vector_to_parameters(torch.from_numpy(model), self._module.parameters())
        return volume_logits(self._module, volume, self._terms.window)

    def marks(self, model: Vector, volume: Values) -> Marks:
        """bool[regions, x, y, z], true where a region is likelier than not."""
        marked: Marks = self.logits(model, volume) > 0.0
        return marked

    def distance(self, model: Vector, on: ImagePatients) -> float | None:
        """HD95, the mean over regions and patients; None where a model marks nothing.

        In millimetres where [data.images] has a spacing, else in voxels. model: float32[d].
        """
        spacing = (*self._terms.spacing, 1.0, 1.0, 1.0)[:3]
        found = []
        for row in range(on.size):
            volume, mask = on.volume(row)
            marked, truth = self.marks(model, volume), on.regions_of(mask) > 0.5
            found += [hd95_of(one, true, spacing) for one, true in zip(marked, truth, strict=True)]
        known = [distance for distance in found if distance is not None]
        return float(np.mean(known)) if known else None
