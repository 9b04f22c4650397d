"""How long neighbours are waited for: what is learnt, how it is bounded, and what it costs."""

from dataclasses import replace

import pytest
from core_worlds import FOUR, RESTART_S, Story, check, started

from gossip.identifiers import SiteId
from ledger.provenance import kinds
from p2pfl.core import events as ev
from p2pfl.core.history import RoundPace
from p2pfl.core.names import Round
from p2pfl.core.patience import MISSES_MAX, Patience, expected_s
from simulations.site import SimulatedSite

DEADLINE_S = 120.0
SHORTEST_S = 12.0
MANY = replace(FOUR, rounds=30, deadline_s=DEADLINE_S)
SLOW = SiteId(b"s" * 32)


def heard_of(story: Story, site: SimulatedSite, by: SimulatedSite) -> list[int]:
    """Rounds in whose average a site used another one's update."""
    averages = story.records(by, kinds.AggDone)
    return [a.round for a in averages if site.id in {given.site for given in a.inputs}]


def rounds_of(story: Story, site: SimulatedSite) -> int:
    return max(story.past(site).averaged, default=-1)


def after_rounds(story: Story, rounds: int, *sites: SimulatedSite) -> float:
    """Let so many rounds more end at these sites. Returns the seconds they took."""
    began_s, goal = story.world.now_s, min(rounds_of(story, s) for s in sites) + rounds
    assert story.runs_until(lambda: all(rounds_of(story, s) >= goal for s in sites), 4000.0)
    return story.world.now_s - began_s


def cut_off(story: Story, site: SimulatedSite) -> set[frozenset[SiteId]]:
    """Nothing gets through to a site any more, and nobody notices: it hangs, it did not fall."""
    wires = {frozenset((site.id, other.id)) for other in story.sites if other is not site}
    story.world.cut |= wires
    return wires


def set_back(site: SimulatedSite, seconds: float) -> None:
    """From now on its node reads another time."""
    handle = site.core.handle
    site.core.handle = lambda now_s, event: handle(now_s - seconds, event)  # type: ignore[method-assign]


# -- what is learnt ----------------------------------------------------------------------------


def taught(lags_s: list[float], deadline_s: float = DEADLINE_S) -> Patience:
    patience = Patience(deadline_s)
    for round_, lag_s in enumerate(lags_s):
        patience.begin(Round(round_), 1000.0 * round_)
        patience.arrived(SLOW, Round(round_), 1000.0 * round_ + lag_s)
    return patience


def due_s(patience: Patience) -> float:
    """Counted from the start of the own round, whose training took a second."""
    return patience.due_s(SLOW, 0.0, 1.0)


def test_the_first_rounds_wait_for_the_studys_deadline() -> None:
    assert due_s(taught([])) == due_s(taught([30.0, 30.0])) == 1.0 + DEADLINE_S


def test_a_neighbour_is_waited_for_twice_its_usual_time() -> None:
    assert due_s(taught([30.0] * 5)) == 60.0


def test_one_outlier_teaches_nothing_and_real_variety_does() -> None:
    assert due_s(taught([30.0, 30.0, 30.0, 110.0, 31.0])) == 60.0
    assert expected_s((10.0, 20.0, 30.0)) == 80.0


@pytest.mark.parametrize("lags_s", [[0.0] * 9, [0.01] * 9])
def test_no_wait_is_shorter_than_a_hiccup(lags_s: list[float]) -> None:
    assert due_s(taught(lags_s)) == 1.0 + SHORTEST_S
    assert taught(lags_s, deadline_s=2.0).due_s(SLOW, 0.0, 1.0) == 3.0, "nor longer than allowed"


def test_no_liar_makes_a_wait_longer_than_the_study_allows() -> None:
    patience = taught([100.0, 5000.0, 9000.0, 9000.0, 1e12])
    assert due_s(patience) == 1.0 + DEADLINE_S
    for _ in range(3):
        patience.missed(SLOW)
        patience.late(SLOW, Round(4), 1e300)
    assert due_s(patience) == 1.0 + DEADLINE_S


def test_each_wait_in_vain_doubles_the_next_until_an_update_is_here() -> None:
    patience = taught([5.0] * 4)
    for longer in (2, 4, 8):
        patience.missed(SLOW)
        assert patience.is_hopeless(SLOW), "no sign of life, nothing to wait for"
        patience.heard(SLOW)
        assert not patience.is_hopeless(SLOW)
        assert due_s(patience) == 1.0 + longer * SHORTEST_S
    patience.arrived(SLOW, Round(3), 3005.0)
    assert due_s(patience) == 1.0 + SHORTEST_S


def test_words_without_an_update_are_not_believed_for_ever() -> None:
    patience = taught([5.0] * 4)
    for _ in range(MISSES_MAX):
        patience.missed(SLOW)
        patience.heard(SLOW)
    assert patience.is_hopeless(SLOW)
    patience.arrived(SLOW, Round(3), 3005.0)
    assert not patience.is_hopeless(SLOW)


# -- what it costs -----------------------------------------------------------------------------


def test_a_site_that_hangs_unnoticed_costs_one_short_wait_and_then_nothing() -> None:
    story = started(terms=MANY)
    *others, hangs = story.sites
    after_rounds(story, 5, *others)
    usual_s = after_rounds(story, 10, *others)
    cut_off(story, hangs)
    assert SHORTEST_S < after_rounds(story, 2, *others) < SHORTEST_S + 2 * usual_s
    assert after_rounds(story, 10, *others) < 2 * usual_s
    assert "neighbour_late" in story.happened(others[0])


@pytest.mark.parametrize(("is_noticed", "cost_s"), [(True, SHORTEST_S), (False, DEADLINE_S)])
def test_a_site_that_is_gone_before_anything_is_known_costs_one_wait(
    is_noticed: bool, cost_s: float
) -> None:
    story = started(terms=MANY)
    *others, gone = story.sites
    assert story.runs_until(
        lambda: all(gone.id in site.core.decisions.of(story.study) for site in others)
    )
    if is_noticed:
        story.world.crash(gone)
    else:
        cut_off(story, gone)
    assert cost_s <= after_rounds(story, 1, *others) < cost_s + 5.0
    assert after_rounds(story, 10, *others) < 5.0


def test_a_site_that_falls_while_it_is_waited_for_is_given_up_soon() -> None:
    story = started(terms=MANY)
    *others, falls = story.sites
    falls.train_s = 1000.0
    story.wait(60.0)
    assert all(rounds_of(story, site) == -1 for site in others)
    story.world.crash(falls)
    assert after_rounds(story, 1, *others) < 1.0
    assert story.completes(*others)


def test_a_clock_that_is_set_back_in_a_wait_does_not_prolong_it_when_somebody_goes() -> None:
    story = started(terms=MANY)
    *others, slow, falls = story.sites
    slow.train_s = falls.train_s = 1000.0
    story.wait(5.0)
    for other in others:
        set_back(other, 3600.0)
    story.world.crash(falls)
    story.wait(2 * DEADLINE_S + 60.0)
    assert any("neighbours" in story.waiting(other) for other in others), "one is too few, it says"


def test_who_hung_and_comes_back_is_waited_for_again() -> None:
    story = started(terms=MANY)
    *others, hangs = story.sites
    after_rounds(story, 5, *others)
    wires = cut_off(story, hangs)
    after_rounds(story, 8, *others)
    story.world.cut -= wires
    back = rounds_of(story, others[0])
    assert story.completes()
    check(story)
    used = [round_ for round_ in heard_of(story, hangs, others[0]) if round_ > back]
    total = story.manifest.study.rounds_total
    assert len(used) > 0.7 * (total - back), "in nearly every round after its return"


def test_a_slow_site_is_heard_in_every_round() -> None:
    story = started(terms=replace(MANY, rounds=12))
    *others, slow = story.sites
    slow.train_s = 40.0
    assert story.runs_until(story.is_complete, 4000.0)
    check(story)
    assert len(heard_of(story, slow, others[0])) == story.manifest.study.rounds_total


def test_a_site_that_becomes_slow_is_met_again_within_a_few_rounds() -> None:
    story = started(terms=replace(MANY, rounds=40))
    *others, slow = story.sites
    for site in story.sites:
        site.train_s = 4.0
    after_rounds(story, 5, *others)
    slow.train_s = 50.0
    assert story.runs_until(story.is_complete, 20_000.0)
    check(story)
    used = heard_of(story, slow, others[0])
    assert set(used) >= {*range(25, 41)}, "every round but those in which it was met again"


def test_only_the_slow_one_is_waited_for_longer() -> None:
    story = started(terms=MANY)
    *others, slow = story.sites
    slow.train_s = 40.0
    after_rounds(story, 5, *others)
    patience = others[0].core.runs[story.study].gathering.patience
    assert patience.due_s(slow.id, 0.0, 0.0) > 60.0
    assert patience.due_s(others[1].id, 0.0, 0.0) == SHORTEST_S


def test_a_restart_forgets_nothing_that_the_ledger_remembers() -> None:
    """The site that restarts knows how long a slow neighbour takes, and how long a quick one."""
    story = started(terms=MANY)
    *others, slow = story.sites
    slow.train_s = 30.0
    after_rounds(story, 6, *others)
    one = others[0]
    story.world.crash(one)
    story.world.restart(one, RESTART_S)
    assert story.runs_until(lambda: one.is_up and story.study in one.core.runs)
    patience = one.core.runs[story.study].gathering.patience
    assert 50.0 < patience.due_s(slow.id, 0.0, 0.0) < DEADLINE_S
    assert story.runs_until(story.is_complete, 4000.0)
    check(story)


def paces(*closed_s: float, heard: tuple[bytes, ...] = (SLOW,)) -> list[RoundPace]:
    """Rounds that were closed at these seconds."""
    return [RoundPace(Round(n), int(s * 1e6), heard) for n, s in enumerate(closed_s)]


def recalled(found: list[RoundPace]) -> float:
    patience = Patience(DEADLINE_S)
    patience.recall(found)
    return due_s(patience)


def test_what_is_recalled_is_how_long_the_rounds_took() -> None:
    assert recalled(paces(100, 130, 160, 190)) == 60.0
    assert recalled(paces(100, 130, 160)) == 1.0 + DEADLINE_S, "of two rounds nothing is learnt"
    assert recalled(paces(100, 130, 160, 190, heard=())) == 1.0 + DEADLINE_S


def test_a_stop_between_two_rounds_and_a_clock_that_was_set_are_outliers() -> None:
    assert recalled(paces(100, 130, 160, 40_000, 40_030, 40_060)) == 60.0
    assert recalled(paces(100, 130, 160, 190, 20, 50, 80)) == 60.0, "set back: no time at all"
    gap = [*paces(100, 130, 160), RoundPace(Round(9), 161_000_000, (SLOW,))]
    assert recalled(gap) == 1.0 + DEADLINE_S, "rounds that were passed over took no time here"


@pytest.mark.parametrize("by_s", [7200.0, -7200.0])
def test_a_clock_that_is_set_by_hours_in_a_wait_changes_neither_wait_nor_times(by_s: float) -> None:
    story = started(terms=MANY)
    *others, slow = story.sites
    slow.train_s = 20.0
    after_rounds(story, 3, *others)
    story.wait(5.0)
    run = others[0].core.runs[story.study]
    ((site, until_s),) = run.waits.waited_for(run.round)
    measured = run.watch.now.phases()
    others[0].core.handle(story.world.now_s + by_s, ev.ClockLept(by_s))
    assert run.waits.waited_for(run.round) == [(site, pytest.approx(until_s + by_s))]
    # What comes after it is by the new clock.
    now_s, round_ = story.world.now_s + by_s, run.round
    patience = run.gathering.patience
    before_s = patience.due_s(slow.id, 0.0, 0.0)
    for _ in range(9):
        patience.arrived(slow.id, round_, now_s)
    assert patience.due_s(slow.id, 0.0, 0.0) < before_s < 60.0
    run.watch.now.gathered_s = now_s
    assert run.watch.now.phases().gather < 20.0
    assert run.watch.now.phases().train == pytest.approx(measured.train)


def test_a_clock_that_is_set_back_does_not_make_a_round_wait_for_it() -> None:
    """Timers run by another clock than the one that is read."""
    story = started(terms=MANY)
    *others, hangs = story.sites
    after_rounds(story, 5, *others)
    cut_off(story, hangs)
    for other in others:
        set_back(other, 3600.0)
    assert after_rounds(story, 3, *others) < DEADLINE_S + 10.0


# -- what people see ---------------------------------------------------------------------------


def test_people_see_who_is_waited_for_and_how_long() -> None:
    story = started(terms=MANY)
    *others, slow = story.sites
    slow.train_s = 40.0
    after_rounds(story, 1, *others)
    story.wait(20.0)
    run = others[0].core.runs[story.study]
    ((site, until_s),) = run.waits.waited_for(run.round)
    assert site == slow.id
    assert 0.0 < until_s - story.world.now_s <= DEADLINE_S
    said = [n.sentence for n in others[0].notices if getattr(n, "code", "") == "round"]
    assert slow.name in said[0]
    assert "at most 115 s more" in said[0]


def test_a_round_with_too_few_neighbours_says_whom_it_misses() -> None:
    story = started(terms=replace(MANY, neighbours_min=3))
    *others, hangs = story.sites
    after_rounds(story, 5, *others)
    wires = cut_off(story, hangs)
    story.wait(300.0)
    before = rounds_of(story, others[0])
    said = [n.sentence for n in others[0].notices if getattr(n, "code", "") == "neighbours"]
    assert said
    assert hangs.name in said[-1]
    story.world.cut -= wires
    healed_s = story.world.now_s
    assert story.runs_until(lambda: rounds_of(story, others[0]) > before)
    assert story.world.now_s - healed_s < 10.0, "no deadline has to pass first"
    assert story.completes()
    check(story)
