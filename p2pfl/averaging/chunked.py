"""Sums over many coordinates, chunk by chunk, the same to the bit everywhere.

No BLAS: its results change with the number of threads. Elementwise products and NumPy's pairwise
`add.reduce` have one fixed order, so neither threads nor SIMD width can change a bit. Everything
works on differences to the own model in float64 and needs one chunk of memory beside the result.
"""

from collections.abc import Iterator

import numpy as np

from p2pfl.averaging.inputs import CHUNK_COORDINATES, Inputs, Vector, Wide, chunks


def squared_distances(inputs: Inputs) -> Wide:
    """‖x_j − own‖² of every neighbour. Returns float64[m]."""
    total = np.zeros(len(inputs.rows))
    for _, differences in _differences(inputs):
        np.multiply(differences, differences, out=differences)
        total += np.add.reduce(differences, axis=1)
    return total


def gram_matrix(inputs: Inputs) -> Wide:
    """Inner products of x_j − own, own model first (its row and column are zero).

    Returns float64[N, N], symmetric to the bit.
    """
    m = len(inputs.rows)
    inner = np.zeros((m, m))
    products = np.empty((m, min(CHUNK_COORDINATES, inputs.own.size)))
    for part, differences in _differences(inputs):
        width = part.stop - part.start
        for i in range(m):
            block = products[i:, :width]
            np.multiply(differences[i:], differences[i], out=block)
            inner[i, i:] += np.add.reduce(block, axis=1)
    gram = np.zeros((m + 1, m + 1))
    gram[1:, 1:] = np.triu(inner) + np.triu(inner, 1).T
    return gram


def combine(inputs: Inputs, coefficients: Wide) -> Vector:
    """own + Σ_j coefficients[j] (x_j − own). coefficients: float64[m]. Returns float32[d]."""
    result = np.empty(inputs.own.size, dtype=np.float32)
    column = coefficients[:, np.newaxis]
    for part, differences in _differences(inputs):
        np.multiply(differences, column, out=differences)
        result[part] = inputs.own[part] + np.add.reduce(differences, axis=0)
    return result


def _differences(inputs: Inputs) -> Iterator[tuple[slice, Wide]]:
    """x_j − own for each chunk: float64[m, width], a buffer that the caller may overwrite."""
    d = inputs.own.size
    buffer = np.empty((len(inputs.rows), min(CHUNK_COORDINATES, d)))
    for part in chunks(d):
        width = part.stop - part.start
        own = inputs.own[part]
        for index, row in enumerate(inputs.rows):
            np.subtract(row[part], own, out=buffer[index, :width], dtype=np.float64)
        yield part, buffer[:, :width]
