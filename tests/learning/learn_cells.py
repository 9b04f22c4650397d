"""Gradient cells as a test keeps them: a keeper, confined as a node does it, and its asker."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pytest
from learn_manifests import manifest_bytes, table

from p2pfl.core.manifest import parse_manifest
from p2pfl.core.manifest_code import text_digest
from p2pfl.core.manifest_terms import DataTerms, Manifest
from p2pfl.learning.datasets.patients import Batch
from p2pfl.learning.gradient_cells.asking import Cells, Clock
from p2pfl.learning.gradient_cells.wire import Task
from p2pfl.runtime.confinement.cell_filter import cell_program
from p2pfl.runtime.confinement.errors import ConfinementError
from p2pfl.runtime.confinement.starting import confined_command, parent_seen
from p2pfl.runtime.confinement.terms import keeper_terms, terms_here

FEATURES = 4
TERMS = table(FEATURES)
PARAMETERS = 8 * FEATURES + 8 + 8 + 1
"""Of learn_texts.PLAIN."""
UNHURRIED = Clock(sleep_s=lambda _: None)
"""Turns that are over before their time are not waited for."""
PRIVATE: Mapping[str, object] = {
    "mechanism": "gaussian",
    "epsilon": 3.0,
    "delta": "1e-3",
    "clip_norm": 0.5,
    "unit": "patient",
    "sampling": "full",
    "sampling_rate": 1.0,
    "noise_multiplier": 2.0,
    "steps_per_round": 1,
}


def study(
    text: str,
    *,
    privacy: Mapping[str, object] = PRIVATE,
    parameters: int = PARAMETERS,
    arguments: Mapping[str, object] | None = None,
    ranges: Mapping[str, list[float]] | None = None,
    terms: DataTerms = TERMS,
) -> bytes:
    """A study with a text of its own whose gradients come from cells."""
    raw = manifest_bytes(
        terms,
        plan="code",
        arguments=arguments or {"learning_rate": 1.0, "momentum": 0.0},
        ranges=ranges,
        privacy=privacy,
        parameters=parameters,
    )
    return (
        raw
        + (
            f"\n[code]\ntext = '''\n{text}'''\nsha256 = \"{text_digest(text).hex()}\"\n"
            'gradients = "outside"\npackages = { torch = "2.13.0" }\n'
            "metrics = { right = [0.0, 1.0] }\n"
        ).encode()
    )


@contextlib.contextmanager
def kept() -> Iterator[tuple[Callable[[bytes], Cells], subprocess.Popen[bytes]]]:
    """Makes cells for a study, one study after the other; and their keeper's process.

    Skips where they cannot be confined."""
    try:
        terms, cell_filter = keeper_terms(terms_here()), cell_program()
    except ConfinementError as error:
        pytest.skip(f"this machine cannot confine: {error}")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            environment = {
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "OMP_NUM_THREADS": "1",
                "USER": "node",
            }
            program = (
                *("-m", "p2pfl.learning.gradient_cells.keeper"),
                *("--control", str(theirs.fileno())),
                *("--filter", base64.b64encode(cell_filter).decode()),
                *("--parent", str(parent_seen(terms))),
            )
            keeper = subprocess.Popen(
                confined_command(terms, program, environment),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                cwd="/",
            )
        try:
            yield (lambda raw: Cells(ours, raw, UNHURRIED)), keeper
        finally:
            keeper.kill()
            _, said = keeper.communicate(timeout=30)
            sys.stderr.write(said.decode("utf-8", "replace"))


def patient(value: float, label: float = 1.0) -> Batch:
    """One record whose columns all have this value."""
    return Batch((np.full((1, FEATURES), value, np.float32),), np.array([label], np.float32))


def gradient(cells: Cells, given: Batch, parameters: int = PARAMETERS, limit_s: float = 20.0):
    """One patient's gradient from a cell of its own."""
    return cells.gradient(Task("gradient", {}, 1), given, parameters, limit_s)


def parsed(raw: bytes) -> Manifest:
    """The manifest."""
    return parse_manifest(raw)
