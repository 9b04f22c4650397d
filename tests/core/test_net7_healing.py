"""Ten sites parted into six and four, and together again: everybody is in one round at once."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from core_worlds import FOUR, Story, started

from gossip import dissemination as dis
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from simulations.site import SimulatedSite

TEN = replace(
    FOUR, sites=10, sites_min=10, rounds=200, consensus_rounds=0, neighbours_min=5, deadline_s=20.0
)
TRAIN_S = 1.5
CUT_S = 40.0
NOTICED_S = (10.0, 28.0)
MET_S = (0.5, 3.0)
GOAL_S = 10.0
"""After the end of the cut; a round takes two seconds of it."""


def pairs(story: Story) -> Iterator[tuple[SimulatedSite, SimulatedSite]]:
    for one in story.sites[:6]:
        for other in story.sites[6:]:
            yield one, other


def part(story: Story, random: np.random.Generator) -> None:
    """Nothing passes between six and four; each notices by its connections, sooner or later."""
    world = story.world
    world.cut = {frozenset((one.id, other.id)) for one, other in pairs(story)}
    for one, other in pairs(story):
        delay_s = float(random.uniform(*NOTICED_S))
        for site, gone in ((one, other), (other, one)):
            world.submit(site, ev.Lost(gone.id), delay_s)
            lost = dis.Disconnected(gone.id)
            world.later(site, delay_s, lambda s=site, e=lost: world._disseminate(s, e))  # type: ignore[misc]


def heal(story: Story, random: np.random.Generator) -> None:
    """Whoever dials next gets through."""
    world = story.world
    world.cut = set()
    for one, other in pairs(story):
        delay_s = float(random.uniform(*MET_S))
        world.at(delay_s, lambda a=one, b=other: (world._meet(a, b), world._meet(b, a)))  # type: ignore[misc]


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(n, marks=pytest.mark.long) for n in range(2, 8))]
)
def test_after_a_cut_all_ten_are_in_one_round_within_seconds(seed: int) -> None:
    story, random = started(seed, TEN), np.random.default_rng(seed)
    for number, site in enumerate(story.sites):
        site.train_s = TRAIN_S * (1 + number / 20)
    story.wait(20.0)
    part(story, random)
    story.wait(CUT_S)
    heal(story, random)
    seen = {site.name: len(site.notices) for site in story.sites}

    def met(site: SimulatedSite) -> bool:
        rounds = (n for n in site.notices[seen[site.name] :] if isinstance(n, fx.RoundDone))
        return any(done.heard == 9 for done in rounds)

    began_s = story.world.now_s
    assert story.runs_until(lambda: all(map(met, story.sites)), 60.0)
    assert story.world.now_s - began_s < GOAL_S
