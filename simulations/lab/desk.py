"""Collects what sites ask for until the first answer is due, then has it worked off together.

What is put together follows from virtual time and from the scenario's benches alone, so that a run
repeats itself to the bit on every engine with any number of places."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from simulations.lab.benches import Benches
from simulations.lab.engines import Engine, Pending
from simulations.lab.workshop import (
    Answer,
    AverageTask,
    Mixed,
    Scored,
    ScoreTask,
    Task,
    Trained,
    TrainTask,
)

Vector = NDArray[np.float32]
AVERAGED_TOGETHER: Final = 25
"""Averages are worked out one by one: more at a time would only make others wait."""


class Ticket:
    """A place in the queue; `answer` waits until it was served."""

    __slots__ = ("_answer", "_batch", "_place", "site", "what")

    def __init__(self, batch: "_Batch", place: int, site: int) -> None:
        self.site = site
        self._batch: _Batch | None = batch
        self._place = place
        self._answer: Answer | None = None

    @property
    def answer(self) -> Answer:
        """Waits for it."""
        if self._answer is None:
            assert self._batch is not None
            self._answer = self._batch.answers()[self._place]
            self._batch = None
        return self._answer


class _Batch:
    """Requests of one kind at one place of the engine."""

    def __init__(
        self, engine: Engine, place: int, make: Callable[[Sequence[tuple[Any, ...]]], Task]
    ) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self._engine = engine
        self._place = place
        self._make = make
        self._pending: Pending | None = None
        self._answers: list[Answer] | None = None

    def start(self) -> None:
        """Hand it to the engine, once."""
        if self._pending is None:
            self._pending = self._engine.submit(self._place, self._make(self.asked))
            self.asked = []

    @property
    def is_open(self) -> bool:
        """Whether more may be added."""
        return self._pending is None

    def answers(self) -> list[Answer]:
        """All of them."""
        self.start()
        if self._answers is None:
            assert self._pending is not None
            self._answers = self._pending()
        return self._answers


class Desk:
    """Where sites hand in their work."""

    def __init__(
        self,
        engine: Engine,
        rule: str,
        parameters: tuple[tuple[str, float], ...],
        benches: Benches,
    ) -> None:
        self._engine = engine
        self._benches = benches
        self._open: dict[tuple[str, int], _Batch] = {}
        self._fresh: list[set[int]] = [set() for _ in range(benches.count)]
        self._average = lambda asked: _average_task(rule, parameters, asked)

    def opened(self, site: int) -> None:
        """A site's training process is new."""
        self._fresh[self._benches.of(site)].add(site)

    def train(self, site: int, round_: int, base: Vector) -> Ticket:
        """One round of local work; `answer` is a Trained."""
        fresh = self._fresh[self._benches.of(site)]
        return self._ask("train", site, (site, round_, base), lambda a: _train_task(a, fresh))

    def score(self, site: int, model: Vector) -> Ticket:
        """On the own hold-out; `answer` is a Scored."""
        return self._ask("score", site, (site, model), _score_task)

    def average(self, site: int, models: Sequence[Vector], weights: Vector) -> Ticket:
        """models: the own one first; `answer` is a Mixed."""
        return self._ask("average", site, (models, weights), self._average)

    def _ask(
        self,
        kind: str,
        site: int,
        request: tuple[Any, ...],
        make: Callable[[Sequence[tuple[Any, ...]]], Task],
    ) -> Ticket:
        bench = self._benches.of(site)
        batch = self._open.get((kind, bench))
        if batch is None or not batch.is_open:
            batch = _Batch(self._engine, bench % self._engine.places, make)
            self._open[kind, bench] = batch
        ticket = Ticket(batch, len(batch.asked), site)
        batch.asked.append(request)
        if kind == "average" and len(batch.asked) >= AVERAGED_TOGETHER:
            batch.start()
        return ticket


def _train_task(asked: Sequence[tuple[Any, ...]], fresh: set[int]) -> TrainTask:
    sites, rounds, bases = zip(*asked, strict=True)
    new = tuple(sorted(fresh & set(sites)))
    fresh.difference_update(new)
    return TrainTask(np.array(sites), np.array(rounds), np.stack(bases), new)


def _score_task(asked: Sequence[tuple[Any, ...]]) -> ScoreTask:
    sites, models = zip(*asked, strict=True)
    return ScoreTask(np.array(sites), np.stack(models))


def _average_task(
    rule: str, parameters: tuple[tuple[str, float], ...], asked: Sequence[tuple[Any, ...]]
) -> AverageTask:
    models, weights = zip(*asked, strict=True)
    return AverageTask(rule, parameters, tuple(np.stack(m) for m in models), weights)


__all__ = ["Desk", "Mixed", "Scored", "Ticket", "Trained"]
