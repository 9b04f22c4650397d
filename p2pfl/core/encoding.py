"""How a model vector lies in a file: the encodings that a study may choose for its updates.

A file's header is a function of the encoding and of d, so that it is compared and never parsed:
equal contents have equal digests, and nothing can hide in metadata. The digest of the encoded
file stands for the values that decoding it gives; everybody averages those, its sender, too.

Source: the safetensors format, https://huggingface.co/docs/safetensors/index#format
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal, get_args

Encoding = Literal["float32", "bf16", "int8"]
ENCODINGS: Final[tuple[Encoding, ...]] = get_args(Encoding)

SCALED_TOGETHER: Final = 4096
"""Values of an int8 file that share a scale."""
_VALUE_BYTES: Final[dict[Encoding, int]] = {"float32": 4, "bf16": 2, "int8": 1}
_ALIGNMENT: Final = 8  # safetensors pads its header with spaces to a multiple of this


def scales_of(parameters: int) -> int:
    """How many scales an int8 file of so many values has.

    >>> scales_of(1), scales_of(4096), scales_of(4097)
    (1, 1, 2)
    """
    return -(-parameters // SCALED_TOGETHER)


@lru_cache(64)
def header_of(parameters: int, encoding: Encoding = "float32") -> bytes:
    """What precedes the values: the only header that a file of this kind may have.

    >>> header_of(17, "bf16")[8:]
    b'{"vector":{"dtype":"BF16","shape":[17],"data_offsets":[0,34]}}  '
    """
    match encoding:
        case "float32":
            text = _tensor("vector", "F32", parameters, 0, 4 * parameters)
        case "bf16":
            text = _tensor("vector", "BF16", parameters, 0, 2 * parameters)
        case "int8":
            count = scales_of(parameters)
            scales = _tensor("scales", "F32", count, 0, 4 * count)
            text = f"{scales},{_tensor('vector', 'I8', parameters, 4 * count, parameters)}"
    raw = f"{{{text}}}".encode()
    padded = raw.ljust(-(-len(raw) // _ALIGNMENT) * _ALIGNMENT)
    return len(padded).to_bytes(8, "little") + padded


@lru_cache(64)
def blob_size_bytes(parameters: int, encoding: Encoding = "float32") -> int:
    """Size of the file of a model vector with that many values.

    >>> blob_size_bytes(17), blob_size_bytes(17, "bf16"), blob_size_bytes(17, "int8")
    (140, 106, 173)
    """
    scales = 4 * scales_of(parameters) if encoding == "int8" else 0
    values = _VALUE_BYTES[encoding] * parameters
    return len(header_of(parameters, encoding)) + scales + values


def _tensor(name: str, dtype: str, count: int, start: int, size: int) -> str:
    offsets = f"[{start},{start + size}]"
    return f'"{name}":{{"dtype":"{dtype}","shape":[{count}],"data_offsets":{offsets}}}'
