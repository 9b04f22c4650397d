"""Goes on from a released model of the plan tabular-mlp, and trains its last layer alone.

p2pfl study new --continue STUDY --from examples/code/fine_tuning.py --argument hidden=64 ...
"""

from torch import nn
from torch.nn import functional


class Plan:
    arguments = {"hidden": 64, "outputs": 2}
    measures = ["right"]

    def model(self, inputs, arguments):
        # The same tensors in the same order as the released model: its vector fits.
        body = nn.Linear(inputs.features, arguments["hidden"])
        head = nn.Linear(arguments["hidden"], arguments["outputs"])
        for parameter in body.parameters():
            # Still part of the model that sites exchange, but it does not move.
            parameter.register_hook(lambda gradient: gradient * 0.0)
        return nn.Sequential(body, nn.ReLU(), head)

    def loss(self, outputs, target):
        return functional.cross_entropy(outputs, target.long(), reduction="none")

    def log_odds(self, outputs):
        return outputs[:, 1] - outputs[:, 0]

    def metrics(self, outputs, target):
        return {"right": (outputs.argmax(dim=1) == target.long()).float().mean()}
