"""What is noted of a simulated study while it runs, in columns: one row per site and round."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulations.lab.benches import Benches
from simulations.lab.workshop import Scored

Vector = NDArray[np.float32]


class Row(NamedTuple):
    """One site after one round. accuracy, auc, loss: of the average, on the own hold-out."""

    round: int
    site: int
    time_s: float
    accuracy: float
    auc: float | None
    loss: float
    train_loss: float | None
    clipped: int
    dropped: int


@dataclass(slots=True)
class _Spread:
    """Enough of a round's models to know how far apart they are."""

    count: int = 0
    origin: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """The first one: what is added up are distances from it, so that rounding hides nothing."""
    total: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    squares: float = 0.0


class Records:
    """Results of honest sites.

    What depends on the order of additions is added up bench by bench: see `benches`."""

    def __init__(self, benches: Benches) -> None:
        self.rows: list[Row] = []
        self.rounds_done = 0
        """Site-rounds: averagings that were used."""
        self._benches = benches
        self._losses: dict[tuple[int, int], float] = {}
        self._verdicts: dict[tuple[int, int], tuple[int, int]] = {}
        self._spreads: dict[int, dict[int, _Spread]] = {}
        """Round → bench → its models."""

    def trained(self, round_: int, site: int, loss: float) -> None:
        """A site's own training ended."""
        self._losses[round_, site] = loss

    def averaged(self, round_: int, site: int, model: Vector, verdicts: tuple[str, ...]) -> None:
        """A site's average is there."""
        self.rounds_done += 1
        spread = self._spreads.setdefault(round_, {}).setdefault(self._benches.of(site), _Spread())
        if not spread.count:
            spread.origin, spread.total = model.astype(np.float64), np.zeros(model.size)
        away = model - spread.origin
        spread.count += 1
        spread.total += away
        spread.squares += float(np.dot(away, away))
        self._verdicts[round_, site] = (verdicts.count("clipped"), verdicts.count("dropped"))

    def scored(self, round_: int, site: int, time_s: float, scored: Scored) -> None:
        """An averaged model was tried on the site's hold-out."""
        loss = self._losses.pop((round_, site), None)
        clipped, dropped = self._verdicts.pop((round_, site), (0, 0))
        accuracy, auc = scored.accuracy, scored.auc
        row = Row(round_, site, time_s, accuracy, auc, scored.loss, loss, clipped, dropped)
        self.rows.append(row)

    def consensus_distance(self, round_: int) -> float:
        """Root mean squared distance of the sites' models from their mean, in norms of the mean."""
        benches = [spread for _, spread in sorted(self._spreads.get(round_, {}).items())]
        if not benches:
            return float("nan")
        origin = benches[0].origin
        count, total, squares = 0, np.zeros(origin.size), 0.0
        for bench in benches:
            away = bench.origin - origin
            count += bench.count
            total += bench.total + bench.count * away
            squares += bench.squares + 2 * float(away @ bench.total)
            squares += bench.count * float(away @ away)
        mean = total / count
        around = max(0.0, squares / count - float(mean @ mean))
        norm = float(np.linalg.norm(origin + mean))
        return float(np.sqrt(around)) / max(1e-12, norm)

    def add(self, other: "Records") -> None:
        """Take over what was noted elsewhere of other sites."""
        self.rows = sorted((*self.rows, *other.rows), key=lambda row: row[:2])
        self.rounds_done += other.rounds_done
        for round_, benches in other._spreads.items():
            self._spreads.setdefault(round_, {}).update(benches)

    @property
    def rounds(self) -> list[int]:
        """Rounds of which anything is known, ascending."""
        return sorted(self._spreads)
