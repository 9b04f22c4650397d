"""The plan `tabular-vae`: a variational autoencoder of a table's columns.

It predicts nothing: it learns which few numbers a patient's many can be made from, to look at how
hospitals' patients lie among each other. The headline score is the share of the columns' variance
that the reconstruction explains.
Source: Kingma & Welling 2014; β as in Higgins et al. 2017.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from p2pfl.core.manifest_terms import DataTerms, PrivacyTerms
from p2pfl.learning.datasets.patients import Patients
from p2pfl.learning.errors import PlanRefused
from p2pfl.learning.plans.arguments import TRAINING, Arguments, Scalar, checked
from p2pfl.learning.plans.options import check_options
from p2pfl.learning.plans.privacy_checks import check_privacy
from p2pfl.learning.scoring import Score
from p2pfl.learning.vector import NamedShape, Schema, Vector, flatten

if TYPE_CHECKING:
    import torch

KNOWN: Final = TRAINING | {"hidden", "latent", "beta", "loss"}
WORDS: Final[Mapping[str, tuple[str, ...]]] = {"loss": ("gaussian", "bernoulli")}
DEFAULTS: Final = Arguments(
    learning_rate=0.003, local_steps=10, momentum=0.9, optimiser="adam", loss="gaussian"
)


@dataclass(frozen=True, slots=True)
class TabularVae:
    """p columns → `hidden` → `latent` → `hidden` → p columns."""

    name: str = "tabular-vae"
    batch_default: int = 0

    def arguments(self, written: Mapping[str, Scalar]) -> Arguments:
        """Check the arguments; see `DEFAULTS` for what is not written."""
        return checked(written, KNOWN, DEFAULTS, WORDS)

    def check(self, data: DataTerms, arguments: Arguments, privacy: PrivacyTerms) -> None:
        """A table without a target."""
        if data.images is not None or data.target is not None:
            raise PlanRefused(
                f'plan "{self.name}" needs kind = "tabular" and target = "none": it models its '
                "inputs"
            )
        check_privacy(arguments, privacy)
        check_options(self.name, arguments, privacy)

    def schema(self, data: DataTerms, arguments: Arguments) -> Schema:
        """Encoder, the two heads of the latent normal, decoder."""
        p, hidden, latent = data.features, arguments.hidden, arguments.latent
        layers = (
            ("encoder", hidden, p),
            ("mean", latent, hidden),
            ("log_variance", latent, hidden),
            ("decoder", hidden, latent),
            ("out", p, hidden),
        )
        shapes = []
        for name, outputs, inputs in layers:
            shapes += [NamedShape(f"{name}.weight", (outputs, inputs))]
            shapes += [NamedShape(f"{name}.bias", (outputs,))]
        return Schema(tuple(shapes))

    def initial(self, data: DataTerms, arguments: Arguments, seed: int) -> Vector:
        """Glorot's uniform weights, no biases; the same seed gives the same model.

        Source: Glorot & Bengio 2010.
        """
        generator = np.random.Generator(np.random.PCG64(seed))
        schema = self.schema(data, arguments)
        named: dict[str, Vector] = {}
        for tensor in schema.tensors:
            values = np.zeros(tensor.shape, dtype=np.float32)
            if len(tensor.shape) == 2:
                bound = float(np.sqrt(6.0 / sum(tensor.shape)))
                values[:] = generator.uniform(-bound, bound, tensor.shape)
            named[tensor.name] = values
        return flatten(named, schema)

    def module(self, data: DataTerms, arguments: Arguments) -> torch.nn.Module:
        """See `vae_module.Vae`."""
        from p2pfl.learning.plans.vae_module import Vae

        return Vae(data.features, arguments.hidden, arguments.latent)

    def loss_sum(
        self, outputs: torch.Tensor, target: torch.Tensor, arguments: Arguments
    ) -> torch.Tensor:
        """Reconstruction and β times the divergence. target: unused, the inputs are kept."""
        from p2pfl.learning.plans.vae_module import parts_of, vae_loss_sum

        parts = parts_of(outputs, arguments.latent)
        return vae_loss_sum(parts, beta=arguments.beta, kind=arguments.loss)

    def score(self, module: torch.nn.Module, on: Patients, arguments: Arguments) -> Score:
        """The share of variance explained, 0 where there is none, as `accuracy`."""
        import torch

        from p2pfl.learning.plans.vae_module import parts_of, reconstructed

        batch = on.batch(None, None)
        with torch.no_grad():
            device = next(module.parameters()).device
            outputs = module(torch.from_numpy(batch.inputs[0]).to(device)).cpu()
        parts = parts_of(outputs, arguments.latent)
        wanted = batch.inputs[0].astype(np.float64)
        off = reconstructed(parts, arguments.loss).numpy().astype(np.float64) - wanted
        spread = float(((wanted - wanted.mean(axis=0)) ** 2).sum())
        explained = 1.0 - float((off**2).sum()) / spread if spread else 0.0
        loss = float(self.loss_sum(outputs, torch.empty(0), arguments)) / on.size
        measures = {"explained": explained, "mean squared error": float((off**2).mean())}
        return Score(None, max(0.0, explained), loss, on.size, measures)

    def log_odds(self, outputs: torch.Tensor) -> torch.Tensor:
        """Raises PlanRefused: nothing is predicted."""
        raise PlanRefused(f'plan "{self.name}" models its inputs; it predicts nothing')


VAE: Final = TabularVae()
