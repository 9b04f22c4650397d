"""Model values as the bytes of an encoding and back, a block at a time.

bf16 and int8 round at random, up or down so that the mean is right: a step smaller than the last
digit is then not lost in every round, but taken in some. The random bits are the node's own and
protect nothing; they come after any privacy noise. What is rounded is the sender's canonical
update: it averages with what it decodes itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from p2pfl.core.encoding import SCALED_TOGETHER
from p2pfl.runtime.errors import NotAVector, NotFinite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float32]

BLOCK: Final = 64 * SCALED_TOGETHER
"""Values worked on at a time: 1 MiB of float32."""
LARGEST: Final = 127
SCALE_MAX: Final = float.fromhex("0x1.020406p+121")
"""The largest float32 that LARGEST times is still one."""
_SEED_BYTES: Final = 16
_EXPONENT: Final = 0x7F80
"""Of a bf16: all ones in NaN and infinity."""


class Rounding:
    """Random bits for rounding. random_bytes: the operating system's, in production."""

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        import numpy as np

        seed = int.from_bytes(random_bytes(_SEED_BYTES), "little")
        self._generator = np.random.Generator(np.random.SFC64(seed))

    def halves(self, count: int) -> NDArray[np.uint32]:
        """uint32[count] below 2¹⁶."""
        import numpy as np

        return self._drawn(count).astype(np.uint32)

    def fractions(self, count: int) -> Values:
        """float32[count] in [0, 1)."""
        import numpy as np

        found = self._drawn(count).astype(np.float32)
        found *= np.float32(1 / 65536)
        return found

    def _drawn(self, count: int) -> NDArray[np.uint16]:
        words = self._generator.bit_generator.random_raw(-(-count // 4))
        drawn: NDArray[np.uint16] = words.view("<u2")[:count]
        return drawn


def require_finite(block: Values) -> None:
    """Raises NotFinite."""
    import numpy as np

    finite = np.isfinite(block)
    if not finite.all():
        raise NotFinite(count=int(block.size - np.count_nonzero(finite)))


def to_bf16(block: Values, rounding: Rounding) -> NDArray[np.uint16]:
    """The upper half of each float32, rounded at random. block: finite. Returns uint16[n]."""
    import numpy as np

    bits = block.view(np.uint32)
    raised = rounding.halves(len(block))
    raised += bits
    raised >>= np.uint32(16)
    halves: NDArray[np.uint16] = raised.astype("<u2")
    # Beyond the largest bf16 there is only infinity: there the lower neighbour is taken.
    infinite = halves & _EXPONENT == _EXPONENT
    if infinite.any():
        halves[infinite] = bits[infinite] >> np.uint32(16)
    return halves


def from_bf16(halves: NDArray[np.uint16], out: Values) -> None:
    """Decode n values into `out`. Raises NotFinite."""
    import numpy as np

    if (halves & _EXPONENT == _EXPONENT).any():
        bad = int(np.count_nonzero(halves & _EXPONENT == _EXPONENT))
        raise NotFinite(count=bad)
    bits = out.view(np.uint32)
    bits[:] = halves
    bits <<= np.uint32(16)


def int8_scales(block: Values) -> Values:
    """What the values of an int8 file are multiples of. Returns float32[⌈n/SCALED_TOGETHER⌉]."""
    import numpy as np

    firsts = np.arange(0, len(block), SCALED_TOGETHER)
    largest: Values = np.maximum.reduceat(np.abs(block), firsts)
    largest /= np.float32(LARGEST)
    return np.minimum(largest, np.float32(SCALE_MAX))


def to_int8(block: Values, scales: Values, rounding: Rounding) -> NDArray[np.int8]:
    """Whole multiples of the scales, rounded at random. block: finite. Returns int8[n]."""
    import numpy as np

    # A scale of 0 stands for zeros, and for what is too small to have a scale.
    divisors = np.where(scales > 0, scales, np.float32(np.inf))
    raised = np.empty(len(block), dtype=np.float32)
    rows, rest = len(block) // SCALED_TOGETHER, len(block) % SCALED_TOGETHER
    even, shape = len(block) - rest, (rows, SCALED_TOGETHER)
    # Row by row: writing out the divisor of each value took as long as the rest.
    np.divide(
        block[:even].reshape(shape), divisors[:rows, np.newaxis], out=raised[:even].reshape(shape)
    )
    if rest:
        np.divide(block[even:], divisors[-1], out=raised[even:])
    raised += rounding.fractions(len(block))
    np.floor(raised, out=raised)
    np.clip(raised, -LARGEST, LARGEST, out=raised)
    whole: NDArray[np.int8] = raised.astype(np.int8)
    return whole


def from_int8(scales: Values, whole: NDArray[np.int8], out: Values) -> None:
    """Decode n values into `out`: one float32 product each. Raises NotFinite, NotAVector."""
    import numpy as np

    require_scales(scales)
    require_whole(whole)
    np.multiply(np.repeat(scales, SCALED_TOGETHER)[: len(whole)], whole, out=out, dtype=np.float32)


def require_scales(scales: Values) -> None:
    """Such that every product is finite. Raises NotFinite."""
    import numpy as np

    bad = ~((scales >= 0) & (scales <= np.float32(SCALE_MAX)))
    if bad.any():
        raise NotFinite(count=int(np.count_nonzero(bad)))


def require_whole(whole: NDArray[np.int8]) -> None:
    """What every writer writes. whole: int8[n], n ≥ 1. Raises NotAVector."""
    if int(whole.min()) < -LARGEST:
        raise NotAVector(f"a value is {-LARGEST - 1}: int8 files hold -{LARGEST} to {LARGEST}")
