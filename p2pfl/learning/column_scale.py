"""A trained scale and shift per column: the normalisation layer of a table's model."""

from __future__ import annotations

import torch
from torch import nn


class ColumnScale(nn.Module):
    """x · scale + shift. inputs: float32[n, p]; returns float32[n, p]."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(columns))
        self.shift = nn.Parameter(torch.zeros(columns))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Scale every column."""
        return inputs * self.scale + self.shift
