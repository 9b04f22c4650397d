"""Released models that a study builds on, opened: what [evaluate] and [standardise] name.

Responsible for reading their verified files. Must not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from p2pfl.core.manifest_terms import Manifest, Use
from p2pfl.learning.errors import RequestRefused
from p2pfl.learning.standardisation import Standards, standards_of
from p2pfl.learning.vector import Vector, read_vector


@dataclass(frozen=True, slots=True)
class Materials:
    """standards: how [standardise] scales columns; evaluated: float32[d] of [evaluate]; start: of
    [start], where its path was given (training gets it as the first round's base).
    """

    standards: Standards | None = None
    evaluated: Vector | None = None
    start: Vector | None = None

    @classmethod
    def open(cls, manifest: Manifest, paths: Mapping[str, object]) -> Self:
        """paths: use → file. Raises RequestRefused, ModelRefused, StatisticsRefused."""
        statistics = _read(manifest, paths, "standardise")
        return cls(
            None if statistics is None else standards_of(manifest.data.columns, statistics),
            _read(manifest, paths, "evaluate"),
            _read(manifest, paths, "start") if "start" in paths else None,
        )


def _read(manifest: Manifest, paths: Mapping[str, object], use: Use) -> Vector | None:
    material = manifest.material(use)
    if material is None:
        return None
    path = paths.get(use)
    if not isinstance(path, str):
        raise RequestRefused(f"the request does not say where the model of [{use}] lies")
    return read_vector(Path(path), material.parameters)
