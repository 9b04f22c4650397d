"""Which libraries numbers depend on here, as a hash that two sites with the same ones get alike.

Asked by a training process about itself, and by the node where foreign code runs in that process:
there 32 bytes of its own choice would travel to every site with each round's entry.
"""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import version
from typing import Final

_LIBRARIES: Final = ("torch", "numpy", "opacus")


def environment() -> dict[str, str]:
    """The versions that numbers depend on."""
    found = {"machine": platform.machine(), "python": platform.python_version()}
    for library in _LIBRARIES:
        found[library] = version(library)
    return found


def env_hash() -> bytes:
    """SHA-256 over `environment()` as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(environment(), sort_keys=True).encode()).digest()
