"""What confinement costs, and what a gradient from a cell costs beside Opacus' in one process.

    python -m simulations.benchmarks.cells_bench [--patients 20] [--steps 1000]

Start and step: the same program, confined and not, in turn, each the best of five; steps are
counted in processor time. Cells: one process for each patient and step, as a study with
`[code] gradients = "outside"` has them, without the waiting that fills a turn; Opacus' reference
takes the same patients as one batch, in this process. Linux only.
"""

from __future__ import annotations

import argparse
import base64
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from p2pfl.core.manifest_code import text_digest
from p2pfl.core.manifest_terms import DataTerms, NumberColumn, PrivacyTerms, Target
from p2pfl.learning.datasets.patients import Batch
from p2pfl.learning.datasets.tabular import Prepared
from p2pfl.learning.demo_data import terms_toml
from p2pfl.learning.gradient_cells.asking import Cells
from p2pfl.learning.gradient_cells.wire import Task
from p2pfl.privacy.noise import GaussianStream
from p2pfl.runtime.confinement.cell_filter import cell_program
from p2pfl.runtime.confinement.starting import confined_command
from p2pfl.runtime.confinement.terms import Terms, keeper_terms, terms_here
from simulations.benchmarks.report import (
    Measured,
    at_most,
    exit_status,
    machine,
    print_section,
    write_json,
)

GOAL_START_S: Final = 0.2
GOAL_STEP_PERCENT: Final = 2.0
FEATURES: Final = 20
HIDDEN: Final = {1_000: 45, 100_000: 4_545, 1_000_000: 45_454}
REPEATS: Final = 5
TEXT: Final = """\
from torch import nn
from torch.nn import functional


class Plan:
    arguments = {"hidden": 8}

    def model(self, inputs, arguments):
        hidden = arguments["hidden"]
        return nn.Sequential(nn.Linear(inputs.features, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def loss(self, outputs, target):
        return functional.binary_cross_entropy_with_logits(
            outputs[:, 0], target, reduction="none"
        )
"""
STEPPING: Final = """\
import sys, time
import torch
torch.set_num_threads(1)
torch.manual_seed(1)
net = torch.nn.Sequential(torch.nn.Linear(20, 512), torch.nn.ReLU(), torch.nn.Linear(512, 1))
x, y = torch.randn(256, 20), torch.rand(256)
def step():
    loss = torch.nn.functional.mse_loss(net(x)[:, 0], y)
    net.zero_grad()
    loss.backward()
    with torch.no_grad():
        for one in net.parameters():
            one -= 0.1 * one.grad
for _ in range(20):
    step()
started = time.process_time()
for _ in range(int(sys.argv[1])):
    step()
print(time.process_time() - started)
"""


def child(terms: Terms | None, script: Path, *arguments: str) -> str:
    """What a program prints, confined or not."""
    program = (str(script), *arguments)
    bare = (sys.executable, *program)
    started = bare if terms is None else confined_command(terms, program, environment())
    return subprocess.run(  # noqa: S603 - our own interpreter and script
        started,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def environment() -> dict[str, str]:
    """The same libraries, one thread."""
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    return {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "USER": "node"}


def confinement(steps: int) -> list[Measured]:
    """Start and step, unconfined and at each level of this machine."""
    best = terms_here()
    bare = replace(best, bubblewrap=None)
    levels = {"unconfined": None} | {one.level.value: one for one in (bare, best)}
    costs = {name: Cost() for name in levels}
    with tempfile.TemporaryDirectory() as folder:
        empty, stepping = Path(folder) / "empty.py", Path(folder) / "stepping.py"
        empty.write_text("print(1)\n")
        stepping.write_text(STEPPING)
        for _ in range(REPEATS):
            for name, given in levels.items():
                terms = None if given is None else given.with_paths((Path(folder),), ())
                before_s = time.perf_counter()
                child(terms, empty)
                costs[name].wall_s.append(time.perf_counter() - before_s)
                costs[name].step_s.append(float(child(terms, stepping, str(steps))) / steps)
    plain = costs.pop("unconfined")
    lines = [
        Measured("start of an empty program, unconfined", min(plain.wall_s), "s"),
        Measured("processor time of a step, unconfined", 1000 * min(plain.step_s), "ms"),
    ]
    for name, cost in costs.items():
        more_s = min(cost.wall_s) - min(plain.wall_s)
        percent = 100 * (min(cost.step_s) / min(plain.step_s) - 1)
        lines += [
            at_most(f"level {name}: more for a start", more_s, "s", GOAL_START_S),
            at_most(f"level {name}: more for a step", percent, "%", GOAL_STEP_PERCENT),
        ]
    return lines


@dataclass
class Cost:
    """What each repetition took."""

    wall_s: list[float] = field(default_factory=list)
    step_s: list[float] = field(default_factory=list)


def cells(patients: int) -> list[Measured]:
    """One patient's gradient for models of three sizes, and Opacus' share of a batch."""
    lines: list[Measured] = []
    for size, hidden in HIDDEN.items():
        d = hidden * (FEATURES + 2) + 1
        cell_ms, opacus_ms = by_cells(hidden, d, patients), by_opacus(hidden, d, patients)
        name = f"d = {size:,}"
        lines += [
            Measured(f"{name}: a cell's gradient, one at a time", cell_ms, "ms"),
            Measured(f"{name}: Opacus, share of a batch", opacus_ms, "ms"),
            Measured(f"{name}: ratio", cell_ms / opacus_ms, ""),
        ]
    return lines


def terms() -> DataTerms:
    """A table of twenty numbers."""
    columns = tuple(NumberColumn(f"c{i}", -1.0, 1.0, 0.0, ()) for i in range(FEATURES))
    return DataTerms("tabular", 2, 0.34, Target("sick", 0.0), columns)


def by_cells(hidden: int, d: int, patients: int) -> float:
    """Milliseconds from asking for a cell to having its gradient, median."""
    record = Batch((np.ones((1, FEATURES), np.float32),), np.ones(1, np.float32))
    taken = []
    with kept(study(hidden, d)) as asked:
        asked.open(d)
        asked.load(np.full(d, 0.01, np.float32))
        for _ in range(patients):
            started_s = time.perf_counter()
            found = asked.gradient(Task("gradient", {}, 1), record, d, 60.0)
            taken.append(1000 * (time.perf_counter() - started_s))
            assert found is not None, "a cell gave no gradient"
    return float(np.median(taken))


def by_opacus(hidden: int, d: int, patients: int) -> float:
    """Milliseconds of processor time per patient of one private step, noise and all."""
    import torch

    from p2pfl.learning.flat_model import FlatModel, LocalOptimizer
    from p2pfl.learning.plans.code import code_plan
    from p2pfl.learning.private_steps import PrivateSteps

    torch.set_num_threads(1)
    plan = code_plan(TEXT)  # our own text, in this process
    arguments = plan.arguments({"hidden": hidden})
    model = FlatModel(plan.module(terms(), arguments), plan.schema(terms(), arguments))
    local = LocalOptimizer(model)
    local.begin_round(arguments)
    privacy = PrivacyTerms("gaussian", 3.0, "1e-3", 1.0, "patient", "full", 1.0, 2.0, 1)
    steps = PrivateSteps(plan, model, local, privacy, denominator=patients)
    keys = tuple(row.to_bytes(32, "big") for row in range(patients))
    names = tuple(f"c{i}" for i in range(FEATURES))
    values = np.ones((patients, FEATURES), np.float32)
    met = Prepared(values, np.ones(patients, np.float32), names, keys, ())
    taken = []
    for _ in range(REPEATS):
        started_s = time.process_time()
        steps.run(met, GaussianStream(bytes(32)), None)
        taken.append(1000 * (time.process_time() - started_s) / patients)
    return min(taken)


def study(hidden: int, d: int) -> bytes:
    """A manifest whose gradients come from cells."""
    sites = ", ".join(f'"{site:02x}{"00" * 31}"' for site in range(1, 3))
    return (
        f"""\
[study]
name = "cells"
rounds = 1
consensus_rounds = 0
sites = [{sites}]
sites_min = 2
neighbours_min = 1
round_deadline_s = 30.0
expires = 2090-01-01T00:00:00Z
seed = 7
initial_model = "{"00" * 32}"
parameters = {d}

[plan]
name = "code"
arguments = {{ hidden = {hidden} }}
ranges = {{}}

[code]
text = '''
{TEXT}'''
sha256 = "{text_digest(TEXT).hex()}"
gradients = "outside"
packages = {{ torch = "2.13.0" }}

[privacy]
mechanism = "gaussian"
epsilon = 3.0
delta = "1e-3"
clip_norm = 1.0
unit = "patient"
sampling = "full"
sampling_rate = 1.0
noise_multiplier = 2.0
steps_per_round = 1

[averaging]
rule = "gossip"
topology = "complete"
weighting = "patients"
share_max = 0.5
byzantine = 0.0
parameters = {{}}

""".encode()
        + terms_toml(terms())
    )


@contextmanager
def kept(raw: bytes) -> Iterator[Cells]:
    """Cells with a keeper of their own, confined as a node does it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            program = (
                *("-m", "p2pfl.learning.gradient_cells.keeper"),
                *("--control", str(theirs.fileno())),
                *("--filter", base64.b64encode(cell_program()).decode()),
            )
            keeper = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                confined_command(keeper_terms(terms_here()), program, environment()),
                env=environment(),
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                cwd="/",
            )
        try:
            yield Cells(ours, raw)
        finally:
            keeper.kill()
            keeper.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--patients", type=int, default=20, help="cells of each size [20]")
    parser.add_argument("--steps", type=int, default=1000, help="of each training [1000]")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    given = parser.parse_args(arguments)
    print(machine())
    sections = {"confinement": confinement(given.steps), "cells": cells(given.patients)}
    for title, lines in sections.items():
        print_section(title, lines)
    write_json(given.json, sections)
    return exit_status(sections)


if __name__ == "__main__":
    sys.exit(main())
