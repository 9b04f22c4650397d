"""Compiled loops read and write buffers by address: each has to live until the last loop is over.

numba gives an array back after the last line that names it, whatever its address is used for
later. That was so once, and ended in damaged memory when several threads averaged.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import p2pfl.averaging
from p2pfl.averaging.passes import prepare

PACKAGE = Path(p2pfl.averaging.__file__).parent
KERNELS = ("kernels", "trimming_kernels", "blocks")

# Freed memory is filled with a pattern by the C library: what is read from it is wrong.
SCRIPT = """
import numpy as np
from p2pfl.averaging import kernels, reference
from p2pfl.averaging.layout import segment_count, segment_length
from p2pfl.averaging.packed import Halves, place_of
rng = np.random.Generator(np.random.PCG64(7))
for d, n in ((1, 2), (300, 4), (70_000, 5)):
    models = [rng.normal(size=d).astype(np.float32) for _ in range(n - 1)]
    models.append(Halves((models[0].view(np.uint32) >> 16).astype(np.uint16)))
    at = np.array([place_of(model) for model in models], dtype=np.uintp)
    length, segments, even = segment_length(d), segment_count(d), n - 1 + (n - 1) % 2
    for name, shape in (("add_distances", (n,)), ("add_products", (even, even))):
        found, expected = np.zeros((segments, *shape)), np.zeros((segments, *shape))
        getattr(kernels, name)(at, d, length, 0, segments, found)
        getattr(reference, name)(tuple(models), d, length, 0, segments, expected)
        pairs = (found, expected) if len(shape) == 1 else (np.triu(found), np.triu(expected))
        assert np.array_equal(*pairs), (name, d)
print("alike")
"""


def dying_too_early(function: ast.FunctionDef) -> list[str]:
    """Buffers whose address is taken before a loop and that no later line names."""
    loops = [node for node in function.body if isinstance(node, ast.For)]
    if not loops:
        return []
    first = loops[0].lineno
    named = {
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and node.lineno >= first
    }
    addressed = {
        name.id
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and node.attr == "ctypes" and node.lineno < first
        for name in ast.walk(node.value)
        if isinstance(name, ast.Name)
    }
    return sorted(addressed - named - {argument.arg for argument in function.args.args})


@pytest.mark.parametrize("module", KERNELS)
def test_no_buffer_is_given_back_before_the_loops_that_use_its_address(module: str) -> None:
    tree = ast.parse((PACKAGE / f"{module}.py").read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert functions
    assert {f.name: found for f in functions if (found := dying_too_early(f))} == {}


def test_a_buffer_that_dies_too_early_is_seen() -> None:
    text = "def f(n):\n    a, b = g(n), g(n)\n    at, to = a.ctypes.data, b.ctypes.data\n"
    text += "    for i in range(n):\n        h(at, to)\n        b[0] = 1\n"
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef)
    assert dying_too_early(function) == ["a"]


def test_kernels_agree_with_the_reference_where_freed_memory_is_overwritten() -> None:
    pytest.importorskip("numba")
    prepare()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "MALLOC_PERTURB_": "90"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.stdout == "alike\n", done.stderr
