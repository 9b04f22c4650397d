"""What sites' training, averaging and scoring come to: the events that a node's jobs end in.

Responsible for handing work to the desk, for what hostile sites publish instead of what they
trained, and for noting results. Knows nothing of wires and clocks."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.encoding import blob_size_bytes
from p2pfl.core.names import ModelHash
from simulations.adversaries_adaptive import RuleInUse
from simulations.lab.attackers import ATTACKS, hostile_model
from simulations.lab.desk import Desk, Mixed, Scored, Trained
from simulations.lab.records import Records
from simulations.lab.terms import Scenario
from simulations.lab.workshop import digest_of
from simulations.site import ENVIRONMENT, UNPROTECTED

Vector = NDArray[np.float32]
ROUNDS_REMEMBERED: Final = 3
AVERAGE_S: Final = 0.1
SCORE_S: Final = 0.1
"""Virtual seconds; what begins within them is worked off together."""


class Worker(Protocol):
    """A site as labour sees it."""

    number: int

    def keep_own(self, digest: bytes, model: Vector) -> None:
        """Store an own model."""

    def model(self, digest: bytes) -> Vector:
        """A stored model."""


class Labour:
    """The work of one scenario's sites.

    graph: number of a site → numbers of its neighbours.
    """

    def __init__(
        self,
        scenario: Scenario,
        desk: Desk,
        graph: Mapping[int, Sequence[int]],
        rule: RuleInUse,
        parameters: int,
        records: Records,
    ) -> None:
        self._scenario = scenario
        self._desk = desk
        self._graph = graph
        self._rule = rule
        self._size_bytes = blob_size_bytes(parameters)
        self._records = records
        self._trained: dict[int, dict[int, Vector]] = defaultdict(dict)
        """Site → round → what it trained; attackers see it. The newest rounds."""
        self._hostile = frozenset(scenario.hostile)

    def is_hostile(self, worker: Worker) -> bool:
        """Whether it is one of the attackers."""
        return worker.number in self._hostile

    def opened(self, worker: Worker) -> None:
        """Its training process is new."""
        self._desk.opened(worker.number)

    def train(self, worker: Worker, effect: fx.Train) -> Callable[[], ev.Event]:
        """One round; call when it is due."""
        ticket = self._desk.train(worker.number, effect.round, worker.model(effect.base))

        def done() -> ev.Event:
            answer = ticket.answer
            assert isinstance(answer, Trained)
            model, digest = answer.model, answer.digest
            if self._hostile:
                model = self._published(worker, effect.round, model)
                digest = digest if model is answer.model else digest_of(model)
            worker.keep_own(digest, model)
            self._records.trained(effect.round, worker.number, answer.loss)
            return ev.Trained(
                effect.study,
                effect.round,
                ModelHash(digest),
                self._size_bytes,
                UNPROTECTED,
                answer.loss,
                0.0,
            )

        return done

    def average(self, worker: Worker, effect: fx.Average) -> Callable[[], ev.Event]:
        """One averaging; call when it is due."""
        # An attacker goes on from what it trained, not from what it told the others.
        is_hostile = worker.number in self._hostile
        honest = self._trained[worker.number].get(effect.round) if is_hostile else None
        own = worker.model(effect.own) if honest is None else honest
        models = [own, *(worker.model(i.model) for i in effect.inputs)]
        weights = np.array([i.weight_u / 1e6 for i in effect.inputs], dtype=np.float32)
        ticket = self._desk.average(worker.number, models, weights)

        def done() -> ev.Event:
            answer = ticket.answer
            assert isinstance(answer, Mixed)
            worker.keep_own(answer.digest, answer.model)
            if worker.number not in self._hostile:
                self._records.averaged(effect.round, worker.number, answer.model, answer.verdicts)
            return ev.Averaged(
                effect.study,
                effect.round,
                ModelHash(answer.digest),
                answer.verdicts,
                answer.distance,
                ENVIRONMENT,
                median_distance=answer.median_distance,
            )

        return done

    def score(self, worker: Worker, effect: fx.Score, now_s: float) -> Callable[[], ev.Event]:
        """The averaged model on the own hold-out; call when it is due. now_s: since the start."""
        ticket = self._desk.score(worker.number, worker.model(effect.model))

        def done() -> ev.Event:
            answer = ticket.answer
            assert isinstance(answer, Scored)
            if worker.number not in self._hostile:
                self._records.scored(effect.round, worker.number, now_s, answer)
            return ev.Scored(effect.study, effect.round, answer.auc, answer.accuracy)

        return done

    # -- attackers -------------------------------------------------------------------------------

    def _published(self, worker: Worker, round_: int, trained: Vector) -> Vector:
        """What leaves the site: the model itself, or what an attacker makes of it."""
        remembered = self._trained[worker.number]
        remembered[round_] = trained
        for old in sorted(remembered)[:-ROUNDS_REMEMBERED]:
            del remembered[old]
        if worker.number not in self._hostile:
            return trained
        targets = []
        for target in self._graph[worker.number]:
            model = self._honest(target, round_)
            around = [self._honest(other, round_) for other in self._graph[target]]
            seen = [one for one in around if one is not None]
            if model is not None and seen:
                targets.append((model, seen))
        if not targets:
            return trained
        terms = self._scenario.attack
        attack = ATTACKS[terms.kind](terms.strength, trained, self._rule)
        attackers = max(1, sum(n in self._hostile for n in self._graph[worker.number]))
        rng = np.random.Generator(np.random.PCG64([self._scenario.seed, worker.number, round_]))
        return hostile_model(attack, targets, attackers, rng)

    def _honest(self, site: int, round_: int) -> Vector | None:
        """The newest model up to a round that an honest site trained."""
        remembered = {} if site in self._hostile else self._trained[site]
        known = [r for r in remembered if r <= round_]
        return remembered[max(known)] if known else None
