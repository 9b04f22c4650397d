"""What happens to the nodes, and when: drawn from a seed before anything starts.

The same seed, minutes, nodes and faults give the same plan. A plan says when a fault begins and how
long it lasts; what a node does at that moment is the run's."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, assert_never, get_args

WARM_UP_S: Final = 20.0
"""Nothing happens before, so that every node has been up once."""
CALM_S: Final = 20.0
"""No fault begins so shortly before the end."""
GAP_S: Final = (3.0, 15.0)
"""Between the beginnings of two faults: they overlap."""
PAUSE_S: Final = (2.0, 25.0)
DOWN_S: Final = (0.0, 20.0)
FULL_S: Final = (3.0, 20.0)
APART_S: Final = (10.0, 60.0)
SLOW_S: Final = (10.0, 60.0)
JUMP_S: Final = (60.0, 600.0)
AHEAD_S: Final = (5.0, 60.0)


@dataclass(frozen=True, slots=True)
class Kill:
    """kill -9, and a restart after `lasts_s`."""

    place: int
    lasts_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """SIGSTOP, and SIGCONT after `lasts_s`: a virtual machine that is moved."""

    place: int
    lasts_s: float


@dataclass(frozen=True, slots=True)
class Part:
    """Two groups that do not reach each other: these places, and all others."""

    places: tuple[int, ...]
    lasts_s: float


@dataclass(frozen=True, slots=True)
class OneWay:
    """Nothing that `place` sends reaches `other`; the other way everything does."""

    place: int
    other: int
    lasts_s: float


@dataclass(frozen=True, slots=True)
class Slow:
    """A bad line: delay one way in seconds, share of frames lost, bits per second of sending."""

    place: int
    delay_s: float
    loss: float
    rate_bps: float
    lasts_s: float


@dataclass(frozen=True, slots=True)
class FullDisk:
    """The home's disk has no byte left for `lasts_s`."""

    place: int
    lasts_s: float


@dataclass(frozen=True, slots=True)
class ClockJump:
    """The wall clock is `by_s` ahead (or behind) for `lasts_s`, then right again: two jumps."""

    place: int
    by_s: float
    lasts_s: float


Fault = Kill | Pause | Part | OneWay | Slow | FullDisk | ClockJump
NODE_FAULTS: Final = (Kill, Pause, FullDisk, ClockJump)


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault and when it begins, in seconds after the nodes were started."""

    at_s: float
    fault: Fault

    @property
    def until_s(self) -> float:
        """When it is over."""
        return self.at_s + self.fault.lasts_s


def draw_plan(
    *,
    seed: int,
    lasts_s: float,
    places: int,
    kinds: Sequence[str],
    warm_up_s: float = WARM_UP_S,
) -> list[Planned]:
    """The faults of a run. Only one hits a place at a time, and one network fault of a kind."""
    drawn = random.Random(seed)  # noqa: S311 - a plan that can be drawn again
    plan: list[Planned] = []
    at_s = warm_up_s + drawn.uniform(0.0, GAP_S[1])
    while kinds and at_s < lasts_s - CALM_S:
        fault = _DRAWING[drawn.choice(kinds)](drawn, places)
        going = [planned.fault for planned in plan if planned.until_s > at_s]
        if not any(_collide(fault, other) for other in going):
            plan.append(Planned(round(at_s, 1), fault))
        at_s += drawn.uniform(*GAP_S)
    return plan


def _collide(fault: Fault, other: Fault) -> bool:
    if isinstance(fault, NODE_FAULTS) and isinstance(other, NODE_FAULTS):
        return fault.place == other.place
    return type(fault) is type(other) or (_parts(fault) and _parts(other))


def _parts(fault: Fault) -> bool:
    return isinstance(fault, Part | OneWay)


def _seconds(drawn: random.Random, between: tuple[float, float]) -> float:
    return round(drawn.uniform(*between), 1)


def _draw_parting(drawn: random.Random, places: int) -> Fault:
    lasts_s = _seconds(drawn, APART_S)
    if drawn.random() < 1 / 3:
        place, other = drawn.sample(range(places), 2)
        return OneWay(place, other, lasts_s)
    count = drawn.randint(1, max(1, places // 2))
    return Part(tuple(sorted(drawn.sample(range(places), count))), lasts_s)


def _draw_slow(drawn: random.Random, places: int) -> Fault:
    delay_s, loss = round(drawn.uniform(0.02, 0.3), 3), round(drawn.uniform(0.0, 0.05), 3)
    rate_bps = drawn.choice((1e6, 5e6, 20e6))
    return Slow(drawn.randrange(places), delay_s, loss, rate_bps, _seconds(drawn, SLOW_S))


def _draw_jump(drawn: random.Random, places: int) -> Fault:
    by_s = round(drawn.choice((-1.0, 1.0)) * drawn.uniform(*JUMP_S))
    return ClockJump(drawn.randrange(places), by_s, _seconds(drawn, AHEAD_S))


_DRAWING: Final[dict[str, Callable[[random.Random, int], Fault]]] = {
    "kill": lambda drawn, places: Kill(drawn.randrange(places), _seconds(drawn, DOWN_S)),
    "pause": lambda drawn, places: Pause(drawn.randrange(places), _seconds(drawn, PAUSE_S)),
    "partition": _draw_parting,
    "slow": _draw_slow,
    "disk": lambda drawn, places: FullDisk(drawn.randrange(places), _seconds(drawn, FULL_S)),
    "clock": _draw_jump,
}
KINDS: Final = tuple(_DRAWING)


def words(fault: Fault) -> str:
    """A fault as people read it; places are counted from 0, like the homes."""
    match fault:
        case Kill(place=place):
            return f"kill -9 of site{place}, down for {fault.lasts_s:g} s"
        case Pause(place=place):
            return f"site{place} stands still for {fault.lasts_s:g} s"
        case Part(places=places):
            apart = " ".join(map(str, places))
            return f"sites {apart} apart from the others for {fault.lasts_s:g} s"
        case OneWay(place=place, other=other):
            return f"nothing from site{place} reaches site{other} for {fault.lasts_s:g} s"
        case Slow(place=place):
            return (
                f"site{place}'s line: {fault.delay_s * 1000:.0f} ms, {fault.loss:.1%} lost, "
                f"{fault.rate_bps / 1e6:g} Mbit/s for {fault.lasts_s:g} s"
            )
        case FullDisk(place=place):
            return f"site{place}'s disk is full for {fault.lasts_s:g} s"
        case ClockJump(place=place, by_s=by_s):
            return f"site{place}'s clock {by_s:+g} s for {fault.lasts_s:g} s"
        case _:
            assert_never(fault)


assert len(get_args(Fault)) == 7, "a new fault needs its words and its performer"
