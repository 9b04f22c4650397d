"""The plan `tabular-cox`: how a patient's risk per time depends on a table's columns.

Two losses. "partial" is Cox's partial likelihood: each event is compared with everyone still at
risk then, so patients depend on each other and privacy cannot stand on it. "piecewise" gives each
of the horizon's equal parts a hazard of its own, as a Poisson regression does; a patient's share is
that patient's alone, and the coefficients agree with Cox's as the parts get smaller.

The headline score is the concordance: how often, of two patients, the one predicted at more risk
is the one who has the event first.
Source: Cox 1972; Breslow 1974 (ties, piecewise hazards); Harrell 1982 (concordance).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from p2pfl.core.manifest_terms import DataTerms, PrivacyTerms, SurvivalTarget
from p2pfl.learning.datasets.patients import Patients
from p2pfl.learning.errors import PlanRefused
from p2pfl.learning.plans.arguments import TRAINING, Arguments, Scalar, checked
from p2pfl.learning.plans.options import check_options
from p2pfl.learning.plans.privacy_checks import check_privacy
from p2pfl.learning.scoring import Score
from p2pfl.learning.survival_scoring import concordance
from p2pfl.learning.vector import NamedShape, Schema, Vector

if TYPE_CHECKING:
    import torch

KNOWN: Final = TRAINING | {"loss", "horizon", "intervals"}
WORDS: Final[Mapping[str, tuple[str, ...]]] = {"loss": ("partial", "piecewise")}
DEFAULTS: Final = Arguments(loss="partial")


@dataclass(frozen=True, slots=True)
class TabularCox:
    """Proportional hazards; d = p, or p + intervals with "piecewise"."""

    name: str = "tabular-cox"
    batch_default: int = 0

    def arguments(self, written: Mapping[str, Scalar]) -> Arguments:
        """Check the arguments; "piecewise" needs a horizon, which "partial" has no use for."""
        arguments = checked(written, KNOWN, DEFAULTS, WORDS)
        if arguments.loss == "piecewise" and "horizon" not in written:
            raise PlanRefused(
                'loss = "piecewise" needs a horizon: the longest time that is looked at, in the '
                "unit of the table, agreed on and not computed from patients"
            )
        for name in ("horizon", "intervals"):
            if arguments.loss == "partial" and name in written:
                raise PlanRefused(f'argument "{name}" means nothing with loss = "partial"')
        return arguments

    def check(self, data: DataTerms, arguments: Arguments, privacy: PrivacyTerms) -> None:
        """A table with times and events."""
        if data.images is not None or not isinstance(data.target, SurvivalTarget):
            raise PlanRefused(
                f'plan "{self.name}" needs kind = "tabular" and a [data.target] with time and event'
            )
        check_privacy(arguments, privacy)
        check_options(self.name, arguments, privacy)

    def schema(self, data: DataTerms, arguments: Arguments) -> Schema:
        """risk.weight [1, p], and with "piecewise" hazard.weight [intervals, 1]."""
        risk = NamedShape("risk.weight", (1, data.features))
        if arguments.loss == "partial":
            return Schema((risk,))
        return Schema((risk, NamedShape("hazard.weight", (arguments.intervals, 1))))

    def initial(self, data: DataTerms, arguments: Arguments, seed: int) -> Vector:
        """All zeros: both losses are convex."""
        return np.zeros(self.schema(data, arguments).parameters, dtype=np.float32)

    def module(self, data: DataTerms, arguments: Arguments) -> torch.nn.Module:
        """Linear without a bias, beside the logarithms of the baseline hazards."""
        from p2pfl.learning.plans.survival_loss import Hazards

        intervals = 0 if arguments.loss == "partial" else arguments.intervals
        return Hazards(data.features, intervals)

    def loss_sum(
        self, outputs: torch.Tensor, target: torch.Tensor, arguments: Arguments
    ) -> torch.Tensor:
        """Minus the log (partial) likelihood. target: float32[n, 2], time and event."""
        from p2pfl.learning.plans import survival_loss

        if arguments.loss == "partial":
            return survival_loss.partial_loss_sum(outputs[:, 0], target[:, 0], target[:, 1])
        return survival_loss.piecewise_loss_sum(outputs, target, arguments.horizon)

    def score(self, module: torch.nn.Module, on: Patients, arguments: Arguments) -> Score:
        """Concordance as `accuracy`, and loss; no AUC."""
        import torch

        batch = on.batch(None, None)
        with torch.no_grad():
            device = next(module.parameters()).device
            outputs = module(*(torch.from_numpy(part).to(device) for part in batch.inputs)).cpu()
        loss = float(self.loss_sum(outputs, torch.from_numpy(batch.target), arguments))
        found = concordance(outputs[:, 0].numpy(), batch.target[:, 0], batch.target[:, 1])
        measures = {} if found is None else {"concordance": found}
        return Score(None, 0.5 if found is None else found, loss / on.size, on.size, measures)

    def log_odds(self, outputs: torch.Tensor) -> torch.Tensor:
        """Raises PlanRefused: a hazard is no probability."""
        raise PlanRefused(f'plan "{self.name}" predicts how soon; it has no single probability')


COX: Final = TabularCox()
