"""Layers that are trained and used at one site and never leave it.

Responsible for which coordinates of the model vector stay, for putting the site's own values into
every model that arrives, and for keeping them over restarts. Whatever leaves carries, in these
coordinates, what arrived: all sites start from the same initial model, so they stay as they were.

  norm       affine parameters of normalisation layers. Source: Li et al. 2021, FedBN.
  threshold  the bias of the last layer: each site's own share of positives.
  head       the last layer. Source: Arivazhagan et al. 2019, FedPer.

With differential privacy they are trained by the same private steps as everything else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from p2pfl.core.manifest_terms import Manifest
from p2pfl.learning.errors import ModelRefused, PlanRefused
from p2pfl.learning.plans import plan_of
from p2pfl.learning.plans.arguments import Arguments
from p2pfl.learning.vector import Schema, Vector, read_vector, write_vector

Positions = NDArray[np.int64]
_NORMS: Final = ("BatchNorm", "InstanceNorm", "GroupNorm", "LayerNorm", "ColumnScale")


def home_positions(module: torch.nn.Module, schema: Schema, arguments: Arguments) -> Positions:
    """Which coordinates of the vector stay at home, ascending. Raises PlanRefused."""
    if arguments.at_home == "none":
        return np.empty(0, dtype=np.int64)
    last = schema.tensors[-1].name.rpartition(".")[0]
    chosen: list[Positions] = []
    start = 0
    for tensor in schema.tensors:
        owner_name, _, own_name = tensor.name.rpartition(".")
        owner = module.get_submodule(owner_name)
        is_chosen = {
            "norm": type(owner).__name__.startswith(_NORMS),
            "threshold": owner_name == last and own_name == "bias",
            "head": owner_name == last,
        }[arguments.at_home]
        if is_chosen:
            chosen.append(np.arange(start, start + tensor.size))
        start += tensor.size
    found = sum(len(places) for places in chosen)
    if not 0 < found < schema.parameters:
        has = "no such layer" if found == 0 else "no other layer"
        raise PlanRefused(f'at_home = "{arguments.at_home}": the model has {has}')
    return np.concatenate(chosen)


def used_here(model: Vector, manifest: Manifest, path: Path) -> Vector:
    """A study's model as this site uses it. model: float32[d]; path: of its own layers, or nothing.

    Raises PlanRefused, ModelRefused."""
    plan = plan_of(manifest)
    arguments = plan.arguments(manifest.plan.arguments)
    if arguments.at_home == "none":
        return model
    module = plan.module(manifest.data, arguments)
    positions = home_positions(module, plan.schema(manifest.data, arguments), arguments)
    return HomeLayers(positions, path).put_into(model)


class HomeLayers:
    """The values that stay at this site.

    path: where they are kept over restarts; None: only in memory. Raises ModelRefused for a file
    of another model.
    """

    def __init__(self, positions: Positions, path: Path | None) -> None:
        self.positions = positions
        self._path = path
        self._values: Vector | None = None
        if len(positions) and path is not None and path.exists():
            self._values = read_vector(path, len(positions))

    def put_into(self, model: Vector) -> Vector:
        """A model as it is used here: with the own values. model: float32[d]."""
        if self._values is None:
            return model
        own = model.copy()
        own[self.positions] = self._values
        return own

    def keep_from(self, trained: Vector, base: Vector) -> Vector:
        """Keep the own values of a trained model; returns what may leave. All float32[d]."""
        if not len(self.positions):
            return trained
        self._values = trained[self.positions]
        if self._path is not None:
            try:
                write_vector(self._path, self._values)
            except OSError as error:
                raise ModelRefused(
                    f"the layers that stay at home cannot be kept: {error.strerror}"
                ) from None
        leaving = trained.copy()
        leaving[self.positions] = base[self.positions]
        return leaving
