"""MRI augmentation: what scanners and positions change, drawn anew for each training window.

MONAI's transforms do the work, each by its name in the study's arguments and with its range; every
draw comes from the caller's generator.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.learning.datasets.patients import Values
from p2pfl.learning.plans.arguments import AS_NAMED, Arguments

SEED_END: Final = 1 << 31
SHARE: Final = 0.5
"""How often each change but a flip is made."""


@dataclass(frozen=True, slots=True)
class Augmentation:
    """The largest change of each kind, 0 for none; the units are `Arguments.augment_…`'s."""

    flip: float = 0.0
    rotate: float = 0.0
    zoom: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    contrast: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    bias: float = 0.0

    def drawn(
        self,
        image: Values,
        mask: NDArray[np.uint8],
        generator: np.random.Generator,
        *,
        measured: int,
    ) -> tuple[Values, NDArray[np.uint8]]:
        """A changed copy. image: float32[channels, …]; measured: its first channels, the others
        say which modality is there and are flipped alone; mask: uint8[…]."""
        flips, affines, intensity = _transforms(self, image.ndim - 1)
        seed = int(generator.integers(0, SEED_END))
        together = np.concatenate([image, mask[None].astype(np.float32)])
        flips.set_random_state(seed)
        turned = np.array(flips(together), dtype=np.float32)
        changed, marked = turned[:-1], turned[-1:]
        if affines:
            of_image, of_mask = affines  # from one seed they turn alike
            of_image.set_random_state(seed)
            changed[:measured] = np.asarray(of_image(changed[:measured]), dtype=np.float32)
            of_mask.set_random_state(seed)
            marked = np.asarray(of_mask(marked), dtype=np.float32)
        intensity.set_random_state(seed)
        changed[:measured] = np.asarray(intensity(changed[:measured]), dtype=np.float32)
        return changed, np.rint(marked[0]).astype(np.uint8)


MRI: Final = Augmentation(
    flip=0.5, rotate=10.0, zoom=0.1, scale=0.1, shift=0.1, contrast=0.2, noise=0.05, bias=0.2
)
"""`augment = "mri"`: what two scanners, and two ways to lie in them, may differ by."""


def augmentation_of(arguments: Arguments) -> Augmentation | None:
    """What a study's arguments ask for, None if nothing.

    >>> augmentation_of(Arguments(augment_noise=0.1))
    Augmentation(flip=0.0, rotate=0.0, zoom=0.0, scale=0.0, shift=0.0, contrast=0.0, noise=0.1, \
blur=0.0, bias=0.0)
    """
    named = MRI if arguments.augment == "mri" else Augmentation()
    written = {
        field.name: float(getattr(arguments, f"augment_{field.name}"))
        for field in dataclasses.fields(Augmentation)
    }
    wanted = dataclasses.replace(
        named, **{name: value for name, value in written.items() if value != AS_NAMED}
    )
    return None if wanted == Augmentation() else wanted


@functools.cache
def _transforms(wanted: Augmentation, axes: int) -> tuple[Any, tuple[Any, ...], Any]:
    """Flips of everything; one affine each for image and mask, if any; changes of intensity."""
    from monai import transforms as monai
    from monai.data import set_track_meta

    set_track_meta(False)
    flips = [monai.RandFlip(prob=wanted.flip, spatial_axis=axis) for axis in range(axes)]
    affines: list[Any] = []
    if wanted.rotate or wanted.zoom:
        turns = (math.radians(wanted.rotate),) * (3 if axes == 3 else 1)
        for mode in ("bilinear", "nearest"):
            affines.append(
                monai.RandAffine(
                    prob=SHARE,
                    rotate_range=turns,
                    scale_range=(wanted.zoom,) * axes,
                    mode=mode,
                    padding_mode="zeros",
                )
            )
    gamma = (1.0 / (1.0 + wanted.contrast), 1.0 + wanted.contrast)
    blurred = (0.0, wanted.blur)
    asked: tuple[tuple[float, Any], ...] = (
        (wanted.contrast, lambda: monai.RandAdjustContrast(prob=SHARE, gamma=gamma)),
        (wanted.scale, lambda: monai.RandScaleIntensity(factors=wanted.scale, prob=SHARE)),
        (wanted.shift, lambda: monai.RandShiftIntensity(offsets=wanted.shift, prob=SHARE)),
        (wanted.bias, lambda: monai.RandBiasField(prob=SHARE, coeff_range=(0.0, wanted.bias))),
        (
            wanted.blur,
            lambda: monai.RandGaussianSmooth(blurred, blurred, blurred, prob=SHARE),
        ),
        (wanted.noise, lambda: monai.RandGaussianNoise(prob=SHARE, std=wanted.noise)),
    )
    changes = [make() for strength, make in asked if strength]
    return monai.Compose(flips), tuple(affines), monai.Compose(changes)
