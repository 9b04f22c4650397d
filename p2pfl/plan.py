"""What a researcher's own training plan is made of: `class Plan` in a file of its own.

The class may be written from nothing; deriving it from `Plan` here only saves what it leaves out.
Importing this loads no torch. docs/code-plans.md explains every part with examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

Scalar = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the study's [data] section says a model gets, for one patient."""

    columns: tuple[str, ...] = ()
    """Names of a table's inputs, categories one by one; float32[n, len(columns)] in −1…1."""
    target: str = ""
    """What is predicted, in words; empty where nothing is, and the target is zeros."""
    channels: int = 0
    """Of images: modalities, twice as many where some may be missing. 0: no images."""
    window: tuple[int, ...] = ()
    """Voxels of an image along each axis; float32[n, channels, *window]."""
    regions: tuple[str, ...] = ()
    """Names of what is marked; the target is then float32[n, len(regions), *window], 0 or 1."""

    @property
    def features(self) -> int:
        """Number of a table's inputs."""
        return len(self.columns)


class Plan:
    """A training plan with nothing in it yet. `model` and `loss` have to be written."""

    arguments: ClassVar[Mapping[str, Scalar]] = {}
    """Own arguments and their defaults; `self.arguments` holds what is in force."""
    steerable: ClassVar[Sequence[str]] = ()
    """Those that may change while a study runs; none of them may shape the model."""
    measures: ClassVar[Mapping[str, tuple[float, float]]] = {}
    """What `metrics` returns: names and ranges."""

    def model(self, inputs: Inputs, arguments: Mapping[str, Scalar]) -> Any:
        """The model, a torch.nn.Module; its parameters are what sites exchange."""
        raise NotImplementedError

    def loss(self, outputs: Any, target: Any) -> Any:
        """One value per patient, a tensor float[n], each depending on that patient alone."""
        raise NotImplementedError
