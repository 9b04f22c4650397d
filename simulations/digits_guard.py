"""The hold-out guard of a simulated site: as much of a mixing step as its hold-out bears.

The node's own guard works in the training process; this one is the same arithmetic.
"""

import math
from dataclasses import dataclass

import numpy as np

from p2pfl.runtime.guarding import STEPS, Compared
from simulations.digits_sites import Images, Matrix, losses


@dataclass(slots=True)
class Guarded:
    """A site's hold-out. cut: how many steps were not taken whole."""

    holdout: Images
    cut: int = 0

    def taken(self, base: Matrix, own: Matrix, mixed: Matrix) -> Matrix:
        """The new model: own + the largest of STEPS that is no worse than `base` but for chance.

        base: what the round began from. All float32[d].
        """
        before = losses(base, self.holdout)
        for step in STEPS:
            moved = own + np.float32(step) * (mixed - own)
            if self._compared(before, moved).is_borne:
                return moved
            self.cut += step == STEPS[0]
        return own

    def _compared(self, before: Matrix, moved: Matrix) -> Compared:
        rises = losses(moved, self.holdout) - before
        band = 2.0 * float(rises.std(ddof=1)) / math.sqrt(len(rises))
        return Compared(float(rises.mean()), band)
