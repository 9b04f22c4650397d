"""The bundle's own code: its network, and what its metric compares."""

import torch
from torch import nn


class RiskNet(nn.Module):
    """Logistic regression: columns in, one log-odds out."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.layer = nn.Linear(features, 1)

    def forward(self, columns: torch.Tensor) -> torch.Tensor:
        """columns: float32[n, features]. Returns float32[n, 1]."""
        return self.layer(columns)


def answers(output: list[dict[str, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Yes or no, predicted and true, of each patient in a batch."""
    predicted = torch.stack([one["pred"][0] > 0.0 for one in output]).long()
    true = torch.stack([one["label"][0] > 0.5 for one in output]).long()
    return predicted, true
