"""Plans that count: each patient contributes once, sites add up, neighbours average the sums.

One file per plan: `statistics` (means, variances, quantiles, histograms of columns) and
`evaluation` (a released model's metrics). What goes out is a vector like any other update, so
privacy, ledger, averaging and audit are those of training. Importing this loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning.errors import PlanRefused
from p2pfl.learning.tallies.evaluation import EVALUATION
from p2pfl.learning.tallies.statistics import STATISTICS
from p2pfl.learning.tallies.tally import Tally

TALLIES: Final[Mapping[str, Tally]] = {plan.name: plan for plan in (STATISTICS, EVALUATION)}


def tally_of(manifest: Manifest) -> Tally:
    """The counting plan of a study. Raises PlanRefused."""
    try:
        return TALLIES[manifest.plan.name]
    except KeyError:
        raise PlanRefused(f'plan "{manifest.plan.name}" counts nothing') from None
