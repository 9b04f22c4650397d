"""A yes or no from a table: a small network whose loss cares more about the sick."""

from torch import nn
from torch.nn import functional


class Plan:
    arguments = {"hidden": 16, "weight": 2.0}
    steerable = ["weight"]
    measures = {"sensitivity": (0.0, 1.0)}

    def model(self, inputs, arguments):
        return nn.Sequential(
            nn.Linear(inputs.features, arguments["hidden"]),
            nn.ReLU(),
            nn.Linear(arguments["hidden"], 1),
        )

    def loss(self, outputs, target):
        weight = 1.0 + (self.arguments["weight"] - 1.0) * target
        return weight * functional.binary_cross_entropy_with_logits(
            outputs[:, 0], target, reduction="none"
        )

    def log_odds(self, outputs):
        return outputs[:, 0]

    def metrics(self, outputs, target):
        found = ((outputs[:, 0] > 0) & (target > 0.5)).sum()
        return {"sensitivity": found / (target > 0.5).sum().clamp(min=1)}
