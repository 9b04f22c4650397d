"""Plans as a researcher writes them, for tests: ours, so they may run in this process."""

from __future__ import annotations

PLAIN = """\
import torch
from torch import nn
from torch.nn import functional


class Plan:
    arguments = {"hidden": 8, "weight": 1.0}
    steerable = ["weight"]
    measures = {"right": (0.0, 1.0)}

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
        return {"right": ((outputs[:, 0] > 0) == (target > 0.5)).float().mean()}
"""

STEP = PLAIN.replace(
    "    def log_odds",
    """\
    def transform(self, columns):
        return columns * 0.5

    def training_step(self, model, inputs, target):
        return self.loss(model(*inputs), target).mean() * 2.0

    def log_odds""",
)
