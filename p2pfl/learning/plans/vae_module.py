"""The variational autoencoder's module and loss."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional


class VaeParts(NamedTuple):
    """What a pass through the model gives, one row per patient.

    inputs, made: float32[n, p], the second before its last function; mean, log_variance:
    float32[n, latent].
    """

    inputs: torch.Tensor
    made: torch.Tensor
    mean: torch.Tensor
    log_variance: torch.Tensor


class Vae(nn.Module):
    """Inputs → [inputs, made, mean, log variance] side by side; see `parts_of`."""

    def __init__(self, features: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(features, hidden)
        self.mean = nn.Linear(hidden, latent)
        self.log_variance = nn.Linear(hidden, latent)
        self.decoder = nn.Linear(latent, hidden)
        self.out = nn.Linear(hidden, features)
        self.act = nn.SiLU()

    def forward(self, columns: torch.Tensor) -> torch.Tensor:
        """In training one draw of the latent normal, else its mean."""
        inner = self.act(self.encoder(columns))
        mean = self.mean(inner)
        # Bounded: a neighbour's odd model must not make the exponential overflow.
        log_variance = 8.0 * torch.tanh(self.log_variance(inner) / 8.0)
        latent = mean
        if self.training:
            latent = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        made = self.out(self.act(self.decoder(latent)))
        return torch.cat([columns, made, mean, log_variance], dim=1)


def parts_of(outputs: torch.Tensor, latent: int) -> VaeParts:
    """Take apart what `Vae` put side by side."""
    features = (outputs.shape[1] - 2 * latent) // 2
    return VaeParts(*torch.split(outputs, [features, features, latent, latent], dim=1))


def reconstructed(parts: VaeParts, kind: str) -> torch.Tensor:
    """The columns as they are made, float32[n, p] in −1…1 as the inputs are."""
    return 2.0 * torch.sigmoid(parts.made) - 1.0 if kind == "bernoulli" else parts.made


def vae_loss_sum(parts: VaeParts, *, beta: float, kind: str) -> torch.Tensor:
    """Minus the evidence lower bound with β, added up over patients and columns.

    kind "gaussian": squared distance, unit variance; "bernoulli": −1…1 read as chances 0…1, for
    pictures and codes.
    """
    if kind == "bernoulli":
        chances = ((parts.inputs + 1.0) / 2.0).clamp(0.0, 1.0)
        off = functional.binary_cross_entropy_with_logits(parts.made, chances, reduction="sum")
    else:
        off = 0.5 * ((parts.made - parts.inputs) ** 2).sum()
    variance = torch.exp(parts.log_variance)
    divergence = 0.5 * (parts.mean**2 + variance - 1.0 - parts.log_variance).sum()
    return off + beta * divergence
