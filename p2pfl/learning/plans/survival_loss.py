"""The losses of survival models, and the module that makes their outputs."""

from __future__ import annotations

import torch
from torch import nn


class Hazards(nn.Module):
    """float32[n, p] → float32[n, 1 + intervals]: log risk, then the log baseline hazards."""

    def __init__(self, features: int, intervals: int) -> None:
        super().__init__()
        self.risk = nn.Linear(features, 1, bias=False)
        # A layer of a constant 1, and not a bare parameter: so each patient's gradient is known.
        self.hazard = nn.Linear(1, intervals, bias=False) if intervals else None

    def forward(self, columns: torch.Tensor) -> torch.Tensor:
        """The same baseline in every row."""
        risk: torch.Tensor = self.risk(columns)
        if self.hazard is None:
            return risk
        return torch.cat([risk, self.hazard(torch.ones_like(risk))], dim=1)


def partial_loss_sum(risk: torch.Tensor, times: torch.Tensor, events: torch.Tensor) -> torch.Tensor:
    """Minus Cox's log partial likelihood, ties after Breslow. float32[n] each; returns a scalar.

    Patients depend on each other: each event is compared with all who were still at risk.
    """
    order = torch.argsort(times, descending=True, stable=True)
    risk, times, events = risk[order], times[order], events[order]
    at_risk = torch.logcumsumexp(risk, dim=0)
    # Of equal times all are at risk: the last one's sum holds for each of them.
    last = torch.searchsorted(-times, -times, right=True) - 1
    return (events * (at_risk[last] - risk)).sum()


def piecewise_loss_sum(outputs: torch.Tensor, target: torch.Tensor, horizon: float) -> torch.Tensor:
    """Minus the log likelihood with a constant hazard in each part of the horizon.

    outputs: float32[n, 1 + intervals]; target: float32[n, 2], times and events. Time is counted in
    parts of the horizon; who is still there at its end is no event.
    """
    risk, hazards = outputs[:, 0], outputs[:, 1:]
    intervals = hazards.shape[1]
    passed = (target[:, 0] / horizon * intervals).clamp(max=float(intervals))
    starts = torch.arange(intervals, device=outputs.device, dtype=outputs.dtype)
    exposed = (passed[:, None] - starts).clamp(0.0, 1.0)
    happened = target[:, 1] * (target[:, 0] <= horizon)
    # An event at the very border belongs to the part that ends there.
    part = (torch.ceil(passed).long() - 1).clamp(0, intervals - 1)
    expected = (torch.exp(hazards + risk[:, None]) * exposed).sum(dim=1)
    seen = happened * (risk + hazards.gather(1, part[:, None])[:, 0])
    return (expected - seen).sum()
