"""Collects what sites ask for until the first answer is due, then has it worked off together.

What is put together follows from virtual time and from `together_max` alone, so that a run
repeats itself to the bit on every engine with the same number of places."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

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
TOGETHER_MAX: Final = 250
"""So many requests are worth starting before the first answer is due."""


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

    def __init__(self, place: int, make: Callable[[Sequence[tuple[Any, ...]]], Task]) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self._place = place
        self._make = make
        self._pending: Pending | None = None
        self._answers: list[Answer] | None = None
        self.engine: Engine

    def start(self) -> None:
        """Hand it to the engine, once."""
        if self._pending is None:
            self._pending = self.engine.submit(self._place, self._make(self.asked))
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
        together_max: int = TOGETHER_MAX,
    ) -> None:
        self._engine = engine
        self._together_max = together_max
        self._open: dict[tuple[str, int], _Batch] = {}
        self._fresh: list[set[int]] = [set() for _ in range(engine.places)]
        self._average = lambda asked: _average_task(rule, parameters, asked)

    def opened(self, site: int) -> None:
        """A site's training process is new."""
        self._fresh[site % self._engine.places].add(site)

    def train(self, site: int, round_: int, base: Vector) -> Ticket:
        """One round of local work; `answer` is a Trained."""
        fresh = self._fresh[site % self._engine.places]
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
        place = site % self._engine.places
        batch = self._open.get((kind, place))
        if batch is None or not batch.is_open:
            batch = self._open[kind, place] = _Batch(place, make)
            batch.engine = self._engine
        ticket = Ticket(batch, len(batch.asked), site)
        batch.asked.append(request)
        if len(batch.asked) >= self._together_max:
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
