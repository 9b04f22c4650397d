"""The same plans in the deterministic world, where hours take seconds.

A full disk ends a node at its next entry, and no start helps before there is room again; a slow
line is left to the world's own network terms."""

from collections.abc import Sequence
from functools import partial
from typing import assert_never

from p2pfl.core import effects as fx
from simulations.chaos import plan
from simulations.site import SimulatedSite
from simulations.world import World

KINDS = tuple(kind for kind in plan.KINDS if kind != "slow")


class VirtualChaos:
    """What a plan does to the sites of one world. `is_over`: everything is as it was."""

    def __init__(self, world: World, planned: Sequence[plan.Planned]) -> None:
        self._world = world
        self._sites = list(world.sites.values())
        self._full: set[SimulatedSite] = set()
        self._left = len(planned)
        world.before_effect = self._refuses
        for one in planned:
            world.at(one.at_s, partial(self._begin, one.fault))

    @property
    def is_over(self) -> bool:
        """Whether the last fault has ended."""
        return self._left == 0

    def _begin(self, fault: plan.Fault) -> None:
        world = self._world
        world.at(fault.lasts_s, lambda: self._end(fault))
        match fault:
            case plan.Kill(place=place):
                if self._sites[place].is_up:
                    world.crash(self._sites[place])
            case plan.Pause(place=place):
                world.pause(self._sites[place], fault.lasts_s)
            case plan.Part(places=places):
                inside = [self._sites[place].id for place in places]
                outside = [site.id for site in self._sites if site.id not in inside]
                world.cut = {frozenset((a, b)) for a in inside for b in outside}
            case plan.OneWay(place=place, other=other):
                world.one_way = {(self._sites[place].id, self._sites[other].id)}
            case plan.FullDisk(place=place):
                self._full.add(self._sites[place])
            case plan.ClockJump(place=place, by_s=by_s):
                self._sites[place].clock_off_s = by_s
            case plan.Slow():
                pass
            case _:
                assert_never(fault)

    def _end(self, fault: plan.Fault) -> None:
        self._left -= 1
        match fault:
            case plan.Kill(place=place):
                self._world.restart(self._sites[place], 0.0)
            case plan.Part():
                self._world.cut = set()
            case plan.OneWay():
                self._world.one_way = set()
            case plan.FullDisk(place=place):
                self._full.discard(self._sites[place])
                self._world.restart(self._sites[place], 0.0)
            case plan.ClockJump(place=place):
                self._sites[place].clock_off_s = 0.0
            case plan.Pause() | plan.Slow():
                pass
            case _:
                assert_never(fault)

    def _refuses(self, site: SimulatedSite, _count: int) -> bool:
        return site in self._full and isinstance(site.next_effect, fx.Append)
