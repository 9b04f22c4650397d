"""Models in half or a quarter of the bytes, decoded block by block where a pass reads them.

A model of 20 MB would else have to be written out before it is averaged: most of an average's time
where new memory is dear. Decoding is exact, so that the bits are those of the decoded model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from p2pfl.averaging.errors import WrongShape, WrongType
from p2pfl.averaging.layout import BLOCK

_EVERYTHING = slice(None)


@dataclass(frozen=True, slots=True, eq=False)
class Halves:
    """bfloat16: the upper half of each float32. halves: uint16[d], one after the other."""

    halves: npt.NDArray[np.uint16]

    def __post_init__(self) -> None:
        """Raises: WrongType, WrongShape."""
        _require_row(self.halves, np.dtype(np.uint16), "halves")

    @property
    def shape(self) -> tuple[int, ...]:
        """(d,)."""
        return self.halves.shape

    @property
    def size(self) -> int:
        """d."""
        return self.halves.size

    def __getitem__(self, part: slice) -> npt.NDArray[np.float32]:
        """Decoded values, float32."""
        bits = self.halves[part].astype(np.uint32)
        bits <<= np.uint32(16)
        return bits.view(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """Whole multiples of scales. whole: int8[d]; scales: float32[⌈d/together⌉].

    together: values that share a scale, in their order; a multiple of BLOCK.
    """

    whole: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    together: int

    def __post_init__(self) -> None:
        """Raises: WrongType, WrongShape."""
        _require_row(self.whole, np.dtype(np.int8), "whole")
        _require_row(self.scales, np.dtype(np.float32), "scales")
        expected = -(-self.whole.size // self.together)
        if self.together % BLOCK or self.scales.size != expected:
            raise WrongShape("scales", f"({expected},)", self.scales.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """(d,)."""
        return self.whole.shape

    @property
    def size(self) -> int:
        """d."""
        return self.whole.size

    def __getitem__(self, part: slice) -> npt.NDArray[np.float32]:
        """Decoded values, float32: one product each."""
        first, last, _ = part.indices(self.size)
        scales = self.scales[np.arange(first, last) // self.together]
        return np.multiply(scales, self.whole[part], dtype=np.float32)


Model = npt.NDArray[np.float32] | Halves | Scaled
"""float32[d], as it is or packed."""


def values_of(model: Model) -> npt.NDArray[np.float32]:
    """The values as an array, float32[d]."""
    return model if isinstance(model, np.ndarray) else model[_EVERYTHING]


def place_of(model: Model) -> tuple[int, int, int, int]:
    """Where compiled code finds a model: a row of its `members`.

    Address of the first value, bytes per value, address of the first scale, values per scale.
    """
    match model:
        case Halves(halves=halves):
            return _address(halves), 2, 0, 1
        case Scaled(whole=whole, scales=scales, together=together):
            return _address(whole), 1, _address(scales), together
        case _:
            return _address(model), 4, 0, 1


def _address(array: npt.NDArray[np.generic]) -> int:
    """Of its first value. `array.ctypes.data` says the same, ten times as slowly."""
    address: int = array.__array_interface__["data"][0]
    return address


def _require_row(array: npt.NDArray[np.generic], dtype: np.dtype[np.generic], what: str) -> None:
    if array.dtype != dtype:
        raise WrongType(what, str(array.dtype))
    if array.ndim != 1 or not array.size or not array.flags.c_contiguous:
        raise WrongShape(what, "(d,) with d ≥ 1, one after the other", array.shape)
