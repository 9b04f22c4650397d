"""MRI augmentation: what scanners and positions change, drawn anew for each training window.

MONAI's transforms do the work; every draw comes from the caller's generator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.learning.datasets.patients import Values

SEED_END: Final = 1 << 31


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How strong, and how often."""

    flip_share: float = 0.5
    intensity_share: float = 0.5
    scale: float = 0.1
    shift: float = 0.1
    """In deviations of the volume's intensities."""
    noise: float = 0.05
    bias_share: float = 0.3
    bias: float = 0.2

    def drawn(
        self,
        image: Values,
        mask: NDArray[np.uint8],
        generator: np.random.Generator,
        *,
        measured: int,
    ) -> tuple[Values, NDArray[np.uint8]]:
        """A changed copy. image: float32[channels, …]; measured: its first channels, the others
        say which modality is there and are turned alone; mask: uint8[…]."""
        spatial, intensity = self._transforms(image.ndim - 1)
        seed = int(generator.integers(0, SEED_END))
        spatial.set_random_state(seed)
        intensity.set_random_state(seed)
        together = np.concatenate([image, mask[None].astype(np.float32)])
        turned = np.asarray(spatial(together), dtype=np.float32)
        changed = turned[:-1].copy()
        changed[:measured] = np.asarray(intensity(changed[:measured]), dtype=np.float32)
        return changed, turned[-1].astype(np.uint8)

    def _transforms(self, axes: int) -> tuple[Any, Any]:
        from monai.data import set_track_meta
        from monai.transforms import (
            Compose,
            RandBiasField,
            RandFlip,
            RandGaussianNoise,
            RandScaleIntensity,
            RandShiftIntensity,
        )

        set_track_meta(False)
        flips = [RandFlip(prob=self.flip_share, spatial_axis=axis) for axis in range(axes)]
        return Compose(flips), Compose(
            [
                RandScaleIntensity(factors=self.scale, prob=self.intensity_share),
                RandShiftIntensity(offsets=self.shift, prob=self.intensity_share),
                RandBiasField(prob=self.bias_share, coeff_range=(0.0, self.bias)),
                RandGaussianNoise(prob=self.intensity_share, std=self.noise),
            ]
        )
