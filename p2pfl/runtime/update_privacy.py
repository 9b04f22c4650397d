"""Whole updates clipped and noised by the node itself, outside the process that trains.

For studies with unit "site": whatever the training did with patients, and whether or not it is the
code it says it is, what leaves the house is one vector of a bounded norm under noise.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from p2pfl.core.manifest import PrivacyTerms

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def protected_model(
    trained: NDArray[np.float32],
    base: NDArray[np.float32],
    privacy: PrivacyTerms,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> NDArray[np.float32]:
    """base + the clipped change under noise. All float32[d]. Raises VectorRefused."""
    import numpy as np

    from p2pfl.privacy.noise import KEY_BYTES, GaussianStream
    from p2pfl.privacy.vectors import clip_and_noise

    update = trained.astype(np.float64) - base
    released = clip_and_noise(
        update,
        clip_norm=privacy.clip_norm,
        std=privacy.update_deviation,
        stream=GaussianStream(random_bytes(KEY_BYTES)),
    )
    return (base.astype(np.float64) + released).astype(np.float32)
