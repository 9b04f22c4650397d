"""How kernels are compiled and where the machine code is kept between processes.

The cache is numba's: beside the source where that may be written, else in the user's cache
directory, else (or wherever NUMBA_CACHE_DIR says) nowhere, and then each process compiles anew for
a few seconds. Entries name processor and numba version, are replaced as whole files, and may be
written by several processes at once. They are code: as trusted as the source beside them, never
something that came from a peer.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., Any])

_SOURCES = (
    "compiling",
    "layout",
    "sorting",
    "lanes",
    "column_lanes",
    "blocks",
    "kernels",
    "trimming_kernels",
)


def _source_digest() -> str:
    """Kernels include pieces of all these files; numba itself looks at one file for each kernel."""
    here = Path(__file__).parent
    sources = b"".join((here / f"{name}.py").read_bytes() for name in _SOURCES)
    return hashlib.sha256(sources).hexdigest()[:12]


_DIGEST = _source_digest()


def compiled(signature: str) -> Callable[[_Function], _Function]:
    """Compile now, or load what an earlier process compiled; the GIL is free during a call."""

    def compile_or_load(function: _Function) -> _Function:
        # The cache files an entry under this name: other sources, another entry.
        function.__qualname__ = f"{function.__name__}_{_DIGEST}"
        kept: _Function
        try:
            kept = njit(signature, nogil=True, error_model="numpy", cache=True)(function)
        except Exception:  # a cache that cannot be found, read or written must not stop a round
            kept = njit(signature, nogil=True, error_model="numpy")(function)
        return kept

    return compile_or_load


def inlined(function: _Function) -> _Function:
    """A piece of kernels: compiled into each of them, and cached with them."""
    piece: _Function = njit(nogil=True, error_model="numpy")(function)
    return piece
