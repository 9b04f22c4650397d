"""Clip and noise of whole vectors: the Gaussian mechanism on a model update or a gradient sum.

Responsible for bounding what one contribution can change and for hiding the rest in noise, safely
in floating point. Must not know models, batches or budgets.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from p2pfl.privacy.errors import VectorRefused
from p2pfl.privacy.noise import GaussianStream

_BLOCK: Final = 1 << 16
_GRID_BITS: Final = 20
_INWARD: Final = 1.0 - 1e-12  # rounding must not leave a clipped vector outside its ball


def clipped(vector: NDArray[np.floating], clip_norm: float) -> NDArray[np.float64]:
    """Shorten a vector to Euclidean norm `clip_norm`; shorter ones stay as they are.

    vector: float[d], finite; clip_norm > 0. Returns float64[d]. Raises VectorRefused.

    >>> clipped(np.array([3.0, 4.0]), clip_norm=10.0).tolist()
    [3.0, 4.0]
    """
    _check_vector(vector)
    _check_positive("clip norm", clip_norm)
    wide = vector.astype(np.float64)
    largest = float(np.abs(wide).max(initial=0.0))
    if largest == 0.0:
        return wide
    unit = wide / largest  # the squares of entries of at most 1 cannot overflow
    unit_norm = math.sqrt(np.sum(np.square(unit)))
    if largest * unit_norm <= clip_norm * _INWARD:
        return wide
    return unit * (clip_norm / unit_norm * _INWARD)


def noisy(total: NDArray[np.floating], std: float, stream: GaussianStream) -> NDArray[np.float32]:
    """Add Gaussian noise to a sum of clipped contributions: what comes out may be released.

    total: float[d], finite; std > 0: noise multiplier × clip norm. Returns float32[d].
    Sum and noise meet in float64 and are rounded to multiples of a power of two near std / 2^20:
    so the last bits of the result tell nothing of the addends' own rounding (Mironov 2012), at a
    cost of 1e-12 in variance. Raises VectorRefused.
    """
    _check_vector(total)
    _check_positive("noise standard deviation", std)
    grid = 2.0 ** (math.floor(math.log2(std)) - _GRID_BITS)
    released = np.empty(total.shape, dtype=np.float32)
    for start in range(0, total.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        summed = total[part] + stream.normal(total[part].size, std)
        released[part] = np.rint(summed / grid) * grid
    return released


def clip_and_noise(
    update: NDArray[np.floating],
    *,
    clip_norm: float,
    std: float,
    stream: GaussianStream,
) -> NDArray[np.float32]:
    """Protect one site's whole update: clip to `clip_norm`, add noise.

    update: float[d], finite, the change against the round's base model (not the model itself).
    std: of the noise; see `PrivacyTerms.update_deviation`. The unit of privacy is the site.
    Returns float32[d]. Raises VectorRefused.
    """
    return noisy(clipped(update, clip_norm), std, stream)


def _check_vector(vector: NDArray[np.floating]) -> None:
    if vector.ndim != 1 or vector.dtype not in (np.float32, np.float64):
        actual = f"{vector.dtype}{list(vector.shape)}"
        raise VectorRefused("vector", expected="float32[d] or float64[d]", actual=actual)
    if not np.isfinite(vector).all():
        raise VectorRefused("vector", expected="finite numbers", actual="NaN or infinity")


def _check_positive(what: str, value: float) -> None:
    if not 0.0 < value < math.inf:
        raise VectorRefused(what, expected="a finite number > 0", actual=value)
