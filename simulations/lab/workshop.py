"""What the sites of a scenario compute: training, scoring and averaging, many sites at once.

Training is the node's own: its plan, its optimizer, its options. Sites' models are stacked and
their gradients taken together (`torch.func.vmap`), so a thousand small sites cost a few large
operations. Runs in the simulation's own process, in a pool's or in a Ray actor."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from p2pfl.averaging import average, spread_of
from p2pfl.core.encoding import header_of
from p2pfl.core.manifest_terms import NO_PRIVACY, DataTerms, NumberColumn, Target
from p2pfl.learning.at_home import home_positions
from p2pfl.learning.corrections import Memory
from p2pfl.learning.errors import PlanRefused
from p2pfl.learning.flat_model import LocalOptimizer
from p2pfl.learning.plans import plan_named
from p2pfl.learning.scoring import area_under_curve
from p2pfl.learning.training import scheduled
from simulations.lab.shares import shares_of
from simulations.lab.terms import Scenario

Matrix = NDArray[np.float32]
Numbers = NDArray[np.int64]
AUC_SITES_MAX: Final = 64
"""Ranking every hold-out of more sites than this after each round would cost more than training."""
STACKED_VALUES_MAX: Final = 1 << 26
"""Gradients of this many values are taken together: 256 MiB of float32."""


@dataclass(frozen=True, slots=True)
class TrainTask:
    """sites: int64[n]. rounds: int64[n]. bases: float32[n, d]. fresh: whose process is new."""

    sites: Numbers
    rounds: Numbers
    bases: Matrix
    fresh: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """sites: int64[n]. models: float32[n, d]."""

    sites: Numbers
    models: Matrix


@dataclass(frozen=True, slots=True)
class AverageTask:
    """Several averagings by one rule: each the own model first, float32[m + 1, d], and weights."""

    rule: str
    parameters: tuple[tuple[str, float], ...]
    models: tuple[Matrix, ...]
    weights: tuple[Matrix, ...]


Task = TrainTask | ScoreTask | AverageTask


@dataclass(frozen=True, slots=True)
class Trained:
    """model: float32[d]. digest: of its file. loss: on the own training patients."""

    model: Matrix
    digest: bytes
    loss: float


@dataclass(frozen=True, slots=True)
class Scored:
    """On the own hold-out, with the layers that stay at home."""

    accuracy: float
    auc: float | None
    loss: float


@dataclass(frozen=True, slots=True)
class Mixed:
    """model: float32[d]. distance, median_distance: as the node records them."""

    model: Matrix
    digest: bytes
    verdicts: tuple[str, ...]
    distance: float
    median_distance: float


Answer = Trained | Scored | Mixed


def data_terms(features: int) -> DataTerms:
    """The [data] section of a scenario's study."""
    columns = tuple(NumberColumn(f"c{i}", -1.0, 1.0, 0.0, ()) for i in range(features))
    return DataTerms("tabular", 2, 0.3, Target("y", 0.0), columns)


class Workshop:
    """Everybody's patients, and what each site remembers from round to round."""

    def __init__(self, scenario: Scenario) -> None:
        """Raises DataRefused, PlanRefused."""
        self.scenario = scenario
        self.shares = shares_of(scenario)
        self.arguments = scenario.training
        self._plan = plan_named(f"tabular-{scenario.model}")
        terms = data_terms(self.shares[0].x.shape[1])
        self._plan.check(terms, self.arguments, NO_PRIVACY)
        self.schema = self._plan.schema(terms, self.arguments)
        self.initial: Matrix = self._plan.initial(terms, self.arguments, scenario.seed)
        self._module = self._plan.module(terms, self.arguments)
        self._home = torch.from_numpy(home_positions(self._module, self.schema, self.arguments))
        n = len(self.shares)
        self._at_home = torch.from_numpy(self.initial)[self._home].repeat(n, 1)
        self._last_round = torch.full((n, 1), -2, dtype=torch.int64)
        self._memory: Memory = {}
        self._train = _Stack([(share.x, share.y) for share in self.shares])
        self._holdout = _Stack([(share.holdout_x, share.holdout_y) for share in self.shares])
        if self.arguments.consolidation:
            raise PlanRefused("consolidation is for a study that goes on: try it on a real node")
        self._losses = torch.func.vmap(self._loss)

    def do(self, task: Task) -> list[Answer]:
        """Work off a task; answers in its order."""
        match task:
            case TrainTask():
                return list(self._trained(task))
            case ScoreTask():
                return list(self._scored(task))
            case AverageTask():
                return [self._mixed(task, at) for at in range(len(task.models))]

    # -- training --------------------------------------------------------------------------------

    def _trained(self, task: TrainTask) -> list[Trained]:
        """Sites in the same round learn together; the others one group after the other."""
        for site in task.fresh:
            self._forget(site)
        found: dict[int, Trained] = {}
        per_site = self._train.x[0].numel() + 8 * len(self.initial)
        most = max(1, STACKED_VALUES_MAX // per_site)
        for round_ in np.unique(task.rounds):
            chosen = np.flatnonzero(task.rounds == round_)
            for start in range(0, len(chosen), most):
                part = chosen[start : start + most]
                trained = self._train_group(task.sites[part], int(round_), task.bases[part])
                found |= zip(part.tolist(), trained, strict=True)
        return [found[place] for place in range(len(task.sites))]

    def _train_group(self, sites: Numbers, round_: int, bases: Matrix) -> list[Trained]:
        rows = torch.from_numpy(sites)
        model = _Stacked(self._with_home(rows, torch.from_numpy(bases)))
        optimizer = LocalOptimizer(model)
        for name, kept in self._memory.items():
            optimizer.memory[name] = kept[rows].clone()
        arguments = self.arguments
        factor = scheduled(arguments, round_, self.scenario.rounds)
        follows = self._last_round[rows] == round_ - 1
        optimizer.begin_round(arguments, factor, steps=arguments.local_steps, follows=follows)
        x, y, weights = self._train.of(rows)
        loss = torch.zeros(len(rows))
        for drawn in self._batches(sites, round_):
            part = (x, y, weights) if drawn is None else _drawn(x, y, drawn)
            gradient, loss = self._gradients(model.values, *part)
            model.gradient.copy_(gradient)
            optimizer.step()
        optimizer.end_round()
        self._keep(rows, optimizer.memory, round_, model.values)
        leaving = model.values.clone()
        leaving[:, self._home] = torch.from_numpy(bases)[:, self._home]
        return [
            Trained(one, digest_of(one), float(value))
            for one, value in zip(leaving.numpy(), loss, strict=True)
        ]

    def _gradients(
        self, values: torch.Tensor, x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Each site's gradient, float32[n, d], and loss, float32[n].

        A site's loss depends on its own row alone, so the rows of the sum's gradient are theirs."""
        moved = values.detach().requires_grad_()
        losses = self._losses(moved, x, y, weights)
        (gradient,) = torch.autograd.grad(losses.sum(), moved)
        return gradient, losses.detach()

    def _loss(
        self, values: torch.Tensor, x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Mean loss of one site. values: float32[d]; x: float32[r, p]; weights: 0 for padding."""
        return self._loss_of(self._outputs(values, x), y, weights)

    def _outputs(self, values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """What one site's model says of its patients, float32[r, outputs]."""
        found: torch.Tensor = torch.func.functional_call(self._module, self._named(values), (x,))
        return found

    def _loss_of(
        self, outputs: torch.Tensor, y: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        def one(output: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
            return self._plan.loss_sum(output[None], label[None], self.arguments)

        return (torch.func.vmap(one)(outputs, y) * weights).sum()

    def _named(self, values: torch.Tensor) -> dict[str, torch.Tensor]:
        named, start = {}, 0
        for tensor in self.schema.tensors:
            named[tensor.name] = values[start : start + tensor.size].view(tensor.shape)
            start += tensor.size
        return named

    def _batches(self, sites: Numbers, round_: int) -> list[torch.Tensor | None]:
        """Rows of each step, int64[n, b], drawn by seed, site and round; None: everybody."""
        size, steps = self.arguments.batch_size, self.arguments.local_steps
        if size == 0:
            return [None] * steps
        drawn = np.empty((len(sites), steps * size), dtype=np.int64)
        for place, site in enumerate(sites.tolist()):
            rng = np.random.Generator(np.random.PCG64([self.scenario.seed, site, round_]))
            drawn[place] = rng.integers(len(self.shares[site].y), size=steps * size)
        return [torch.from_numpy(drawn[:, s * size : (s + 1) * size]) for s in range(steps)]

    def _keep(self, rows: torch.Tensor, memory: Memory, round_: int, values: torch.Tensor) -> None:
        for name, kept in memory.items():
            if name not in self._memory:
                shape = (len(self.shares), *kept.shape[1:])
                self._memory[name] = torch.zeros(shape, dtype=kept.dtype)
            self._memory[name][rows] = kept
        self._last_round[rows] = round_
        self._at_home[rows] = values[:, self._home]

    def _forget(self, site: int) -> None:
        """A new training process remembers the layers at home and nothing else."""
        for kept in self._memory.values():
            kept[site] = 0
        self._last_round[site] = -2

    def _with_home(self, rows: torch.Tensor, models: torch.Tensor) -> torch.Tensor:
        used = models.clone()
        used[:, self._home] = self._at_home[rows]
        return used

    # -- scoring and averaging -------------------------------------------------------------------

    @torch.no_grad()
    def _scored(self, task: ScoreTask) -> list[Scored]:
        rows = torch.from_numpy(task.sites)
        models = self._with_home(rows, torch.from_numpy(task.models))
        x, y, weights = self._holdout.of(rows)
        outputs = torch.func.vmap(self._outputs)(models, x)
        loss = torch.func.vmap(self._loss_of)(outputs, y, weights)
        if outputs.shape[2] == 1:
            predicted = (outputs[..., 0] > 0).to(y.dtype)
        else:
            predicted = outputs.argmax(dim=2).to(y.dtype)
        accuracy = ((predicted == y) * weights).sum(dim=1)
        aucs = self._aucs(task.sites, outputs)
        return [Scored(float(a), u, float(v)) for a, u, v in zip(accuracy, aucs, loss, strict=True)]

    def _aucs(self, sites: Numbers, outputs: torch.Tensor) -> list[float | None]:
        if len(self.shares) > AUC_SITES_MAX or outputs.shape[2] > 2:
            return [None] * len(sites)
        odds = outputs[..., -1] - (outputs[..., 0] if outputs.shape[2] == 2 else 0.0)
        found: list[float | None] = []
        for place, site in enumerate(sites.tolist()):
            labels = self.shares[site].holdout_y.astype(np.float32)
            found.append(area_under_curve(odds[place, : len(labels)].numpy(), labels))
        return found

    def _mixed(self, task: AverageTask, at: int) -> Mixed:
        own, others = task.models[at][0], task.models[at][1:]
        mixed = average(task.rule, own, others, task.weights[at], **dict(task.parameters))
        verdicts = tuple(str(evidence.verdict) for evidence in mixed.evidence)
        spread = mixed.spread or spread_of(own, others)
        digest = digest_of(mixed.value)
        return Mixed(mixed.value, digest, verdicts, spread.largest, spread.median)


class _Stacked:
    """Many sites' models of one shape, as the optimizer moves them."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values
        self.gradient = torch.zeros_like(values)
        self.parameters: list[torch.nn.Parameter] = []


class _Stack:
    """Patients side by side: x float32[n, r, p], y float32[n, r], weights 1/rows, 0 for padding."""

    def __init__(self, sites: Sequence[tuple[Matrix, Numbers]]) -> None:
        rows = max(len(labels) for _, labels in sites)
        p = sites[0][0].shape[1]
        self.x = torch.zeros(len(sites), rows, p)
        self.y = torch.zeros(len(sites), rows)
        self.weights = torch.zeros(len(sites), rows)
        for place, (x, y) in enumerate(sites):
            self.x[place, : len(y)] = torch.from_numpy(x)
            self.y[place, : len(y)] = torch.from_numpy(y.astype(np.float32))
            self.weights[place, : len(y)] = 1.0 / len(y)

    def of(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of some sites."""
        if len(rows) == len(self.x) and torch.equal(rows, torch.arange(len(rows))):
            return self.x, self.y, self.weights
        return self.x[rows], self.y[rows], self.weights[rows]


def _drawn(
    x: torch.Tensor, y: torch.Tensor, drawn: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A batch of each site. drawn: int64[n, b]."""
    wide = drawn[:, :, None].expand(-1, -1, x.shape[2])
    weights = torch.full(drawn.shape, 1.0 / drawn.shape[1])
    return x.gather(1, wide), y.gather(1, drawn), weights


def digest_of(model: Matrix) -> bytes:
    """SHA-256 of the file that a node would store: header and values."""
    return hashlib.sha256(file_of(model)).digest()


def file_of(model: Matrix) -> bytes:
    """The bytes that a node would store; those of a hostile model may hold NaN."""
    return header_of(len(model)) + model.tobytes()
