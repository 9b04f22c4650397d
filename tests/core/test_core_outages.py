"""Sites that go down together, one after the other, or are parted: the study goes on by itself."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from core_worlds import FOUR, Story, begin, check, started

from gossip.identifiers import SiteId
from gossip.roster import draft_roster
from ledger.provenance import kinds
from p2pfl.core import events as ev
from simulations.scenario import ScenarioTerms
from simulations.site import Fetch, Payloads, SimulatedSite

STRICT = replace(FOUR, rounds=8, neighbours_min=3, deadline_s=60.0)
TEN = ScenarioTerms(
    sites=10, rounds=400, consensus_rounds=1, sites_min=10, neighbours_min=2, deadline_s=60.0
)
CUT_S = 60.0
HEALED_S = 10.0


def newest(story: Story, site: SimulatedSite) -> int:
    return max(story.past(site).averaged, default=-1)


def switch_off(story: Story, sites: list[SimulatedSite]) -> dict[str, list[bytes]]:
    """Power off. Returns what is on each one's record."""
    for site in sites:
        story.world.crash(site)
    return {site.name: [entry.leaf for entry in site.ledger.entries] for site in sites}


def check_history_kept(story: Story, before: dict[str, list[bytes]]) -> None:
    """The same study goes on in the same ledger: nothing is repeated, nothing forgotten."""
    for site in story.sites:
        kept = before.get(site.name, [])
        assert [entry.leaf for entry in site.ledger.entries[: len(kept)]] == kept
        past = story.past(site)
        assert sorted(past.averaged.keys() | past.skipped) == list(
            range(story.manifest.study.rounds_total)
        )
        trained = [record.round for record in story.records(site, kinds.TrainDone)]
        assert len(set(trained)) == len(trained), "no round is trained, and paid for, twice"


# -- restarts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("effects", range(60, 420, 45))
def test_all_nodes_down_at_once_go_on_where_their_ledgers_end(effects: int) -> None:
    story = started(terms=STRICT)
    assert story.runs_until(lambda: story.world.effects >= effects)
    before = switch_off(story, story.sites)
    story.wait(3600.0)
    story.boot(*story.sites)
    assert story.completes()
    check(story)
    check_history_kept(story, before)


@pytest.mark.parametrize("seed", range(4))
def test_all_nodes_down_and_started_one_by_one_over_an_hour(seed: int) -> None:
    random = np.random.Generator(np.random.PCG64(seed))
    story = started(seed, STRICT)
    effects = int(random.integers(80, 400))
    assert story.runs_until(lambda: story.world.effects >= effects)
    before = switch_off(story, story.sites)
    for number in random.permutation(4):
        story.wait(float(random.uniform(1.0, 1200.0)))
        story.boot(story.sites[number])
    assert story.completes()
    check(story)
    check_history_kept(story, before)


def test_restarts_one_after_the_other_while_the_rounds_go_on() -> None:
    story = started(terms=replace(STRICT, rounds=14))
    for site in [*story.sites, *story.sites]:
        goal = newest(story, site) + 1
        assert story.runs_until(lambda s=site, g=goal: newest(story, s) >= g)  # type: ignore[misc]
        story.world.crash(site)
        story.wait(3.0)
        story.boot(site)
    assert story.completes()
    check(story)
    check_history_kept(story, {})


def test_with_too_few_sites_up_everybody_waits_visibly_and_goes_on_with_the_next() -> None:
    story = started(terms=replace(STRICT, neighbours_min=2))
    one, two, three, four = story.sites
    assert story.runs_until(lambda: newest(story, one) >= 2)
    switch_off(story, [three, four])
    story.wait(1000.0)
    stood = newest(story, one)
    assert {"neighbours"} <= set(story.waiting(one)) & set(story.waiting(two))
    story.boot(three)
    back_s = story.world.now_s
    assert story.runs_until(lambda: newest(story, one) > stood)
    assert story.world.now_s - back_s < HEALED_S, "no deadline has to pass first"
    story.boot(four)
    assert story.completes()
    check(story)


# -- catching up -------------------------------------------------------------------------------


@pytest.mark.parametrize("missed", [8, 22])
def test_what_a_catch_up_brings_over_does_not_grow_with_the_rounds_missed(missed: int) -> None:
    terms = replace(FOUR, rounds=missed + 15, payloads=Payloads(inline_bytes_max=0))
    story = started(terms=terms)
    *others, gone = story.sites
    assert story.runs_until(lambda: newest(story, gone) >= 3)
    switch_off(story, [gone])
    assert story.runs_until(lambda: newest(story, others[0]) >= missed + 3)
    stored = len(gone.blobs)
    story.boot(gone)
    assert story.runs_until(lambda: bool(story.past(gone).skipped))
    neighbours = len(others)
    assert len(gone.blobs) - stored <= 3 * neighbours + 1, "newest ones, and the average of them"
    assert story.completes()
    check(story)
    assert max(story.past(gone).trained) > max(story.past(gone).skipped), "it takes part again"


def test_a_catch_up_takes_nothing_that_was_not_checked() -> None:
    """One of three sends what is no model: the site adopts the average of the others."""
    story = started(terms=replace(FOUR, rounds=30, payloads=Payloads(inline_bytes_max=0)))
    one, two, liar, gone = story.sites
    assert story.runs_until(lambda: newest(story, gone) >= 3)
    switch_off(story, [gone])
    assert story.runs_until(lambda: newest(story, one) >= 12)
    store = gone.take_in

    def lied_to(fetch: Fetch, data: bytes) -> ev.Event:
        return store(fetch, b"no model at all" if fetch.sites == (liar.id,) else data)

    gone.take_in = lied_to  # type: ignore[method-assign]
    story.boot(gone)
    assert story.runs_until(lambda: bool(story.past(gone).skipped))
    adopted = max(story.past(gone).skipped) + 1
    (average,) = [a for a in story.records(gone, kinds.AggDone) if a.round == adopted]
    assert {given.site for given in average.inputs} == {one.id, two.id}
    assert story.completes()
    check(story)


# -- partitions --------------------------------------------------------------------------------


def part(story: Story, first: int) -> set[frozenset[SiteId]]:
    sides = story.sites[:first], story.sites[first:]
    return {frozenset((a.id, b.id)) for a, b in itertools.product(*sides)}


def mixes_both_sides(story: Story, site: SimulatedSite, since_s: float) -> bool:
    """Whether it has averaged with sites of both sides since then."""
    sides = [{s.id for s in story.sites[:6]}, {s.id for s in story.sites[6:]}]
    for entry in reversed(site.ledger.entries):
        if entry.time_us < since_s * 1e6:
            return False
        if entry.kind == kinds.AggDone.KIND:
            record = kinds.parse(entry)
            assert isinstance(record, kinds.AggDone)
            used = {given.site for given in record.inputs}
            if used & sides[0] and used & sides[1]:
                return True
    return False


@pytest.mark.parametrize("neighbours_min", [pytest.param(2, marks=pytest.mark.long), 5])
def test_six_and_four_that_were_parted_for_a_minute_are_one_again_in_seconds(
    neighbours_min: int,
) -> None:
    """With two neighbours needed both sides went on; with five the four had to wait."""
    story = begin(terms=replace(TEN, neighbours_min=neighbours_min))
    for site in story.sites:
        site.train_s = 1.5
    story.approve(*story.sites)
    story.boot(*story.sites)
    assert story.runs_until(lambda: newest(story, story.sites[0]) >= 3)
    wires = part(story, 6)
    story.world.cut |= wires
    story.wait(CUT_S)
    six, four = newest(story, story.sites[0]), newest(story, story.sites[9])
    assert six > 20
    assert (four > 20) == (neighbours_min == 2)
    story.world.cut -= wires
    healed_s = story.world.now_s
    assert story.runs_until(
        lambda: all(mixes_both_sides(story, site, healed_s) for site in story.sites), HEALED_S
    )
    for site in story.sites:
        assert site.core.history.study(story.study).standing.value == "approved"


# -- sites that nobody can dial ----------------------------------------------------------------


def apart(story: Story) -> tuple[SimulatedSite, SimulatedSite]:
    """The last two sites, which only dial, and never meet."""
    one, other = story.sites[-2:]
    story.world.cut |= {frozenset((one.id, other.id))}
    return one, other


def averaged_with(story: Story, site: SimulatedSite) -> set[bytes]:
    return {given.site for done in story.records(site, kinds.AggDone) for given in done.inputs}


def test_two_sites_that_only_dial_are_no_neighbours_and_no_round_waits_for_them() -> None:
    story = begin(terms=replace(STRICT, neighbours_min=2, deadline_s=600.0, dial_only=2))
    one, other = apart(story)
    story.approve(*story.sites)
    began_s = story.world.now_s
    story.boot(*story.sites)
    assert story.completes()
    assert story.world.now_s - began_s < 60.0, "nobody's deadline was waited for"
    for site in story.sites:
        everyone = {each.id for each in story.sites} - {site.id}
        left_out = {one.id: {other.id}, other.id: {one.id}}.get(site.id, set())
        assert averaged_with(story, site) == everyone - left_out
        weights = [sum(g.weight_u for g in d.inputs) for d in story.records(site, kinds.AggDone)]
        assert all(0 < total < 1_000_000 for total in weights)
    check(story)


def test_a_site_that_can_be_dialled_from_now_on_is_a_neighbour_from_now_on() -> None:
    story = begin(terms=replace(STRICT, rounds=60, neighbours_min=2, dial_only=2))
    one, other = apart(story)
    for site in story.sites:
        site.train_s = 1.0
    story.approve(*story.sites)
    story.boot(*story.sites)
    assert story.runs_until(lambda: newest(story, story.sites[0]) >= 2)
    moved = [
        other.card(3) if card.site == other.id else card for card in story.world.roster.members
    ]
    roster = draft_roster(story.world.roster.consortium, moved)
    story.world.cut.clear()
    for site in story.sites:
        story.world.submit(site, ev.MembersChanged(roster), 0.0)
    assert story.completes()
    assert other.id in averaged_with(story, one)
    assert one.id in averaged_with(story, other)
