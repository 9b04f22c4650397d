"""A map of patients: a variational autoencoder of a table's columns, which predicts nothing."""

import torch
from torch import nn


class Autoencoder(nn.Module):
    def __init__(self, features, hidden, latent):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(features, hidden), nn.SiLU())
        self.mean = nn.Linear(hidden, latent)
        self.spread = nn.Linear(hidden, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden), nn.SiLU(), nn.Linear(hidden, features)
        )

    def forward(self, columns):
        inner = self.encoder(columns)
        mean, spread = self.mean(inner), 4.0 * torch.tanh(self.spread(inner) / 4.0)
        drawn = mean
        if self.training:
            drawn = mean + torch.exp(spread) * torch.randn_like(mean)
        # Nothing is predicted, so the target is zeros: what the loss needs comes along.
        return columns, self.decoder(drawn), mean, spread


class Plan:
    arguments = {"hidden": 32, "latent": 2, "beta": 1.0}
    steerable = ["beta"]
    measures = {"squared_error": (0.0, 10.0)}

    def model(self, inputs, arguments):
        return Autoencoder(inputs.features, arguments["hidden"], arguments["latent"])

    def loss(self, outputs, target):
        columns, made, mean, spread = outputs
        off = 0.5 * ((made - columns) ** 2).sum(dim=1)
        apart = 0.5 * (mean**2 + torch.exp(2 * spread) - 1.0 - 2 * spread).sum(dim=1)
        return off + self.arguments["beta"] * apart

    def metrics(self, outputs, target):
        columns, made, _, _ = outputs
        return {"squared_error": ((made - columns) ** 2).mean().clamp(max=10.0)}
