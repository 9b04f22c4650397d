"""Early stopping: each site by its own hold-out, and nobody waits for whoever stopped."""

from dataclasses import replace

import pytest
from core_worlds import FOUR, RESTART_S, Story, check, started
from ops_manifests import STUDY, rendered

from ledger.provenance import kinds
from p2pfl.core.errors import Inconsistent
from p2pfl.core.manifest import parse_manifest
from simulations.site import SimulatedSite

PATIENCE = 3
OPEN = replace(FOUR, rounds=14, consensus_rounds=2, deadline_s=60.0, privacy=None)
TERMS = replace(OPEN, patience=PATIENCE)
GAINS_UNTIL = 4


def one_stops(seed: int = 1) -> Story:
    """All but the last site gain in every round; the last one until round 4."""
    story = started(seed, TERMS)
    for site in story.sites:
        site.score_of = float
    story.sites[-1].score_of = lambda round_: float(min(round_, GAINS_UNTIL))
    return story


def trained(story: Story, site: SimulatedSite) -> list[int]:
    return [record.round for record in story.records(site, kinds.TrainDone)]


def test_a_site_without_a_gain_stops_training_and_goes_on_mixing() -> None:
    story = one_stops()
    *others, stops = story.sites
    assert story.completes()
    check(story)
    # The score of a round is known when the next one has begun.
    last = trained(story, stops)[-1]
    assert GAINS_UNTIL + PATIENCE <= last <= GAINS_UNTIL + PATIENCE + 1
    assert story.past(stops).published.keys() == set(range(16))
    assert all(len(trained(story, other)) == TERMS.rounds for other in others)
    assert story.happened(stops).count("training_stopped") == 1


def test_others_go_on_hearing_it_in_every_round() -> None:
    story = one_stops()
    assert story.completes()
    for average in story.records(story.sites[0], kinds.AggDone):
        assert story.sites[-1].id in {given.site for given in average.inputs}


def test_a_site_that_stopped_stays_so_after_a_restart() -> None:
    story = one_stops()
    stops = story.sites[-1]
    assert story.runs_until(lambda: 9 in story.past(stops).published)
    before = trained(story, stops)
    story.world.crash(stops)
    story.world.restart(stops, RESTART_S)
    stops.score_of = float  # from now on it would gain
    assert story.completes()
    check(story)
    assert trained(story, stops) == before


def test_a_restart_counts_rounds_without_a_gain_anew() -> None:
    story = one_stops()
    stops = story.sites[-1]
    assert story.runs_until(lambda: GAINS_UNTIL + 2 in story.past(stops).averaged)
    story.world.crash(stops)
    story.world.restart(stops, RESTART_S)
    assert story.completes()
    check(story)
    assert trained(story, stops)[-1] > GAINS_UNTIL + PATIENCE + 1


def test_when_all_stop_the_study_still_ends_in_its_last_round() -> None:
    story = started(terms=TERMS)
    assert story.completes()
    check(story)
    for site in story.sites:
        assert len(trained(story, site)) <= PATIENCE + 3
        assert story.past(site).averaged.keys() == set(range(16))


def test_without_patience_nobody_stops() -> None:
    story = started(terms=OPEN)
    assert story.completes()
    assert all(len(trained(story, site)) == OPEN.rounds for site in story.sites)


# -- the manifest ------------------------------------------------------------------------------


def test_a_private_study_cannot_have_it() -> None:
    with pytest.raises(Inconsistent, match="looks at patients"):
        parse_manifest(rendered(study=replace(STUDY, patience=3)))


def test_it_is_written_only_where_it_says_something() -> None:
    assert b"patience" not in started(terms=OPEN).manifest.raw
    raw = started(terms=TERMS).manifest.raw
    assert parse_manifest(raw).study.patience == PATIENCE
    with pytest.raises(Inconsistent, match="float32"):
        parse_manifest(raw.replace(b"[averaging]\n", b'[averaging]\nencoding = "bf16"\n'))
    with pytest.raises(Inconsistent, match="counts once"):
        parse_manifest(raw.replace(b'"tabular-logistic"', b'"statistics"'))
