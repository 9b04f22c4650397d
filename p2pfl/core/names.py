"""The identifiers of the core, each a distinct type so that they cannot be mixed up.

All digests are 32 raw bytes; hexadecimal belongs to the edges (CLI, JSON, logs)."""

from typing import NewType

from p2pfl.core.manifest_terms import StudyId

__all__ = ["DatasetId", "ModelHash", "Round", "StudyId"]

DatasetId = NewType("DatasetId", bytes)
"""Identifies a registered dataset inside its own site."""

ModelHash = NewType("ModelHash", bytes)
"""SHA-256 of a model's safetensors file (`sha256sum` prints the same)."""

Round = NewType("Round", int)
"""Counts from 0; training rounds come first, consensus rounds after them."""
