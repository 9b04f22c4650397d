"""Bounded staleness: where an update is missing, a neighbour's older one counts, at less weight."""

from dataclasses import replace

import pytest
from core_worlds import FOUR, RESTART_S, Story, check, started

from ledger.provenance import kinds
from p2pfl.core.errors import Inconsistent, ManifestError
from p2pfl.core.manifest import parse_manifest
from simulations.scenario import ScenarioTerms
from simulations.site import SimulatedSite

OWN_S, SLOW_S = 4.0, 10.0
STALE = replace(FOUR, rounds=20, neighbours_min=2, deadline_s=60.0, staleness=2)


def with_a_slow_site(seed: int = 1, terms: ScenarioTerms = STALE) -> Story:
    story = started(seed, terms)
    for site in story.sites:
        site.train_s = OWN_S
    story.sites[-1].train_s = SLOW_S
    return story


def ages(story: Story, site: SimulatedSite, by: SimulatedSite) -> dict[int, int]:
    """Round → how old the update of `site` was that `by` averaged then."""
    received = {
        (record.sender, record.from_seq): record.round
        for record in story.records(by, kinds.UpdateReceived)
    }
    return {
        average.round: average.round - received[given.site, given.seq]
        for average in story.records(by, kinds.AggDone)
        for given in average.inputs
        if given.site == site.id
    }


def weights(story: Story, by: SimulatedSite, round_: int) -> dict[bytes, int]:
    (average,) = [a for a in story.records(by, kinds.AggDone) if a.round == round_]
    return {given.site: given.weight_u for given in average.inputs}


def test_an_older_update_counts_the_less_the_older_it_is() -> None:
    story = with_a_slow_site()
    one, two, _, slow = story.sites
    assert story.runs_until(story.is_complete, 4000.0)
    check(story)
    found = ages(story, slow, one)
    assert {1, 2} <= set(found.values()) <= {0, 1, 2}
    for round_, age in found.items():
        used = weights(story, one, round_)
        assert used[slow.id] == used[two.id] // (1 + age)
        assert sum(used.values()) <= 750_000, "what is missing is the own model's"


def test_every_entry_says_how_old_an_input_may_be() -> None:
    story = with_a_slow_site()
    assert story.runs_until(story.is_complete, 4000.0)
    told = {a.rule_params["staleness"] for a in story.records(story.sites[0], kinds.AggDone)}
    assert told == {"2"}


def test_nobody_waits_for_a_slow_site_whose_older_update_is_here() -> None:
    story = with_a_slow_site()
    one, *_, slow = story.sites
    assert story.runs_until(story.is_complete, 4000.0)
    at_s = {
        record.round: entry.time_us / 1e6
        for entry in one.ledger.entries[1:]
        if isinstance(record := kinds.parse(entry), kinds.AggDone)
    }
    old = [round_ for round_, age in ages(story, slow, one).items() if age > 0]
    assert len(old) > 5
    assert all(at_s[round_] - at_s[round_ - 1] < 1.5 * OWN_S + 1.0 for round_ in old)


def test_what_is_older_than_allowed_is_never_used() -> None:
    story = with_a_slow_site()
    one, *_, slow = story.sites
    assert story.runs_until(lambda: 4 in story.past(one).averaged)
    story.world.crash(slow)
    assert story.runs_until(lambda: 14 in story.past(one).averaged)
    used = ages(story, slow, one)
    assert max(used.values()) == 2
    assert max(used) <= max(story.past(slow).published) + 2
    story.boot(slow)
    assert story.runs_until(story.is_complete, 4000.0)
    check(story)


def test_sites_of_one_speed_use_nothing_old() -> None:
    story = started(terms=STALE)
    assert story.completes()
    check(story)
    for site in story.sites[1:]:
        assert set(ages(story, site, story.sites[0]).values()) == {0}


@pytest.mark.parametrize("seed", range(3))
def test_crashes_in_between_lose_nothing(seed: int) -> None:
    story = with_a_slow_site(seed)
    for round_ in (3, 8):
        for site in (story.sites[0], story.sites[-1]):
            assert story.runs_until(lambda r=round_: r in story.past(story.sites[1]).averaged)  # type: ignore[misc]
            story.world.crash(site)
            story.world.restart(site, RESTART_S)
    assert story.runs_until(story.is_complete, 4000.0)
    check(story)


def test_an_update_that_was_used_old_cannot_be_told_differently() -> None:
    """The receipt is on record: a second one for the same round is an equivocation."""
    story = with_a_slow_site()
    one, *_, slow = story.sites
    assert story.runs_until(lambda: 1 in ages(story, slow, one).values())
    receipts = story.records(one, kinds.UpdateReceived)
    of_slow = [record.round for record in receipts if record.sender == slow.id]
    assert len(of_slow) == len(set(of_slow)), "each is on record once, however often it counts"


# -- the manifest ------------------------------------------------------------------------------


def test_the_option_is_written_only_where_it_says_something() -> None:
    assert b"staleness" not in started(terms=FOUR).manifest.raw
    raw = started(terms=STALE).manifest.raw
    assert parse_manifest(raw).averaging.staleness == 2
    with pytest.raises(ManifestError, match="staleness"):
        parse_manifest(raw.replace(b"staleness = 2", b"staleness = 9"))
    with pytest.raises(Inconsistent, match="old round"):
        parse_manifest(raw.replace(b'"tabular-logistic"', b'"statistics"'))
