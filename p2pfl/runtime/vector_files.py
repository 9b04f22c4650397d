"""Model files, read and written a block at a time: no model has to fit into memory for it.

Files may come from other sites or from a training process: size and header are compared with the
only right ones before a value is looked at, and each value is checked as it passes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from p2pfl.core.encoding import (
    ENCODINGS,
    SCALED_TOGETHER,
    Encoding,
    blob_size_bytes,
    header_of,
    scales_of,
)
from p2pfl.runtime.encoding import (
    BLOCK,
    Rounding,
    from_bf16,
    from_int8,
    int8_scales,
    require_finite,
    to_bf16,
    to_int8,
)
from p2pfl.runtime.errors import NotAVector, WrongLength

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float32]

HEADER_BYTES_MAX: Final = 1024
"""A file with one tensor and no metadata needs about 80."""

Blocks = Callable[[], Iterator["Values"]]
"""The values of a model from the first on, as often as it is called: float32[≤ BLOCK] each."""


class Hash(Protocol):
    """What hashlib's objects do."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Take bytes in."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a model lies in a file."""

    encoding: Encoding
    parameters: int

    @property
    def size_bytes(self) -> int:
        """Of the whole file."""
        return blob_size_bytes(self.parameters, self.encoding)

    @property
    def offset(self) -> int:
        """Where the header ends."""
        return len(header_of(self.parameters, self.encoding))


def layout_of(start: bytes, size_bytes: int) -> Layout:
    """The layout of a file of so many bytes that begins with `start`. Raises NotAVector.

    start: at least 8 + HEADER_BYTES_MAX bytes, or the whole file.
    """
    header_bytes = 8 + int.from_bytes(start[:8], "little")
    body = size_bytes - header_bytes
    if size_bytes < 8 or header_bytes > 8 + HEADER_BYTES_MAX or body <= 0:
        raise NotAVector(f"{size_bytes} bytes with a header of {header_bytes - 8} hold no vector")
    scales = -(-body // (SCALED_TOGETHER + 4))
    counts: dict[Encoding, int] = {
        "float32": body // 4,
        "bf16": body // 2,
        "int8": body - 4 * scales,
    }
    for encoding in ENCODINGS:
        layout = Layout(encoding, counts[encoding])
        if layout.parameters < 1 or layout.size_bytes != size_bytes:
            continue
        if start[:header_bytes] == header_of(layout.parameters, encoding):
            return layout
    raise NotAVector("header is not that of exactly one vector, as float32, bf16 or int8")


class VectorFile:
    """A model file that is open for reading.

    hasher: takes in every byte as it is read, the header first. size_bytes: where the file is none
    of the operating system's.
    """

    def __init__(
        self, file: BinaryIO, hasher: Hash | None = None, size_bytes: int | None = None
    ) -> None:
        """Raises NotAVector, OSError."""
        self._file = file
        self._hasher = hasher
        if size_bytes is None:
            size_bytes = os.fstat(file.fileno()).st_size
        start = file.read(8 + HEADER_BYTES_MAX)
        self.layout = layout_of(start, size_bytes)
        file.seek(self.layout.offset)
        if hasher is not None:
            hasher.update(start[: self.layout.offset])

    def require(self, parameters: int, encoding: Encoding | None = None) -> None:
        """Raises WrongLength, NotAVector if it is another model than expected."""
        if self.layout.parameters != parameters:
            raise WrongLength(expected=parameters, actual=self.layout.parameters)
        if encoding is not None and self.layout.encoding != encoding:
            raise NotAVector(f"values are {self.layout.encoding}, expected {encoding}")

    def blocks(self, into: Values | None = None) -> Iterator[Values]:
        """The decoded values, finite; to be asked for once.

        into: float32[d] that is filled on the way; without, each block is valid until the next.
        Raises NotFinite, NotAVector, OSError.
        """
        import numpy as np

        d = self.layout.parameters
        room = np.empty(min(d, BLOCK), dtype="<f4") if into is None else into
        scales = np.empty(scales_of(d) if self.layout.encoding == "int8" else 0, dtype="<f4")
        self._read(scales.data.cast("B"))
        for first in range(0, d, BLOCK):
            count = min(BLOCK, d - first)
            block = room[:count] if into is None else room[first : first + count]
            part = scales[first // SCALED_TOGETHER :]
            self._decode(block, part[: scales_of(count)])
            yield block

    def again(self) -> Iterator[Values]:
        """The same from the first value on, as often as it is asked for; nothing is hashed."""
        self._file.seek(self.layout.offset)
        self._hasher = None
        return self.blocks()

    def _decode(self, block: Values, scales: Values) -> None:
        import numpy as np

        match self.layout.encoding:
            case "float32":
                self._read(block.data.cast("B"))
                require_finite(block)
            case "bf16":
                halves = np.empty(len(block), dtype="<u2")
                self._read(halves.data.cast("B"))
                from_bf16(halves, block)
            case "int8":
                whole = np.empty(len(block), dtype=np.int8)
                self._read(whole.data.cast("B"))
                from_int8(scales, whole, block)

    def _read(self, room: memoryview) -> None:
        done = 0
        while done < len(room):
            got = self._file.readinto(room[done:])  # type: ignore[attr-defined] # files have it
            if not got:
                raise NotAVector("the file became shorter while it was read")
            done += got
        if self._hasher is not None:
            self._hasher.update(room)


def write_blocks(file: BinaryIO, layout: Layout, blocks: Blocks, rounding: Rounding) -> bytes:
    """Write a model; returns the SHA-256 of the file. blocks: finite values.

    Raises NotFinite, OSError.
    """
    hasher = hashlib.sha256()

    def put(data: bytes | memoryview) -> None:
        hasher.update(data)
        file.write(data)

    put(header_of(layout.parameters, layout.encoding))
    if layout.encoding == "int8":
        # They come first in the file: values are looked at twice rather than kept.
        for block in blocks():
            require_finite(block)
            put(int8_scales(block).tobytes())
    for block in blocks():
        require_finite(block)
        put(_encoded(block, layout.encoding, rounding))
    return hasher.digest()


def _encoded(block: Values, encoding: Encoding, rounding: Rounding) -> memoryview:
    match encoding:
        case "float32":
            return block.data.cast("B")
        case "bf16":
            return to_bf16(block, rounding).data.cast("B")
        case "int8":
            return to_int8(block, int8_scales(block), rounding).data.cast("B")


def blocks_of(vector: Values) -> Blocks:
    """The blocks of a vector in memory; no copies where its values lie one after the other."""
    import numpy as np

    values = np.ascontiguousarray(vector, dtype="<f4")

    def blocks() -> Iterator[Values]:
        for first in range(0, len(values), BLOCK):
            yield values[first : first + BLOCK]

    return blocks
