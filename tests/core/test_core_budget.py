"""The privacy budget: refused when it would be exceeded, kept through restarts, never lowered."""

from dataclasses import replace

import pytest
from core_worlds import (
    RESTART_S,
    Story,
    approval,
    begin,
    check,
    check_ledger,
    started,
)

from ledger.provenance import kinds
from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.history import History, Standing
from p2pfl.core.names import DatasetId, ModelHash, Round
from p2pfl.core.phases import Phase
from simulations.scenario import PrivateTerms, ScenarioTerms, dataset_of, registered
from simulations.site import SimulatedSite

NARROW = PrivateTerms(eps_per_round_u=500_000, cap_u=1_700_000)
"""Three rounds and a bit."""
TERMS = ScenarioTerms(
    sites=4, rounds=6, consensus_rounds=1, sites_min=3, deadline_s=2.0, privacy=NARROW
)
WIDE = PrivateTerms(eps_per_round_u=500_000, cap_u=100_000_000)


def with_one_narrow_site() -> tuple[Story, SimulatedSite]:
    """Four sites, of which the last has little budget left."""
    story = begin(terms=replace(TERMS, privacy=WIDE))
    narrow = story.sites[-1]
    narrow.record(registered(story.seed, narrow, 80, NARROW.cap_u), now_s=story.world.now_s - 8)
    story.approve(*story.sites)
    story.boot(*story.sites)
    return story, narrow


def dataset(story: Story, site: SimulatedSite) -> DatasetId:
    return DatasetId(dataset_of(story.seed, site))


def test_the_round_that_would_exceed_the_cap_is_refused_and_what_is_left_is_said() -> None:
    story, narrow = with_one_narrow_site()
    others = story.sites[:-1]
    assert story.completes(*others)
    past = story.past(narrow)
    assert sorted(past.trained) == [0, 1, 2]
    assert (past.standing, past.closed_reason) == (Standing.CLOSED, "budget-exhausted")
    said = [n for n in narrow.notices if isinstance(n, fx.Happened) and n.name == "study_left"]
    assert "ε 0.200 is left of 1.700" in said[0].sentence
    assert "round 3" in said[0].sentence
    for site in others:
        told = site.core.decisions.of(story.study)[narrow.id]
        assert told.decision.name == "CLOSED"
        assert sorted(story.past(site).trained) == list(range(6))
        check_ledger(story, site)


def test_a_restart_keeps_the_refusal() -> None:
    story, narrow = with_one_narrow_site()
    assert story.runs_until(lambda: story.past(narrow).standing is Standing.CLOSED)
    size = len(narrow.ledger.entries)
    story.world.crash(narrow)
    story.world.restart(narrow, RESTART_S)
    assert story.completes(*story.sites[:-1])
    story.wait(5.0)
    assert len(narrow.ledger.entries) == size
    assert story.study not in narrow.core.runs


def test_what_an_exhausted_study_had_reserved_is_free_again() -> None:
    story, narrow = with_one_narrow_site()
    before = History(narrow.ledger.entries)
    assert before.reserved_u(dataset(story, narrow)) == 3_000_000
    assert story.completes(*story.sites[:-1])
    after = History(narrow.ledger.entries)
    assert after.reserved_u(dataset(story, narrow)) == 1_500_000


def test_a_new_approval_counts_from_what_was_spent() -> None:
    story = started(terms=replace(TERMS, privacy=WIDE))
    site = story.sites[-1]
    assert story.runs_until(lambda: 2 in story.past(site).averaged)
    story.world.command(site, kinds.StudyRevoked(story.study, "pause").draft("data-owner"))
    story.wait(0.5)
    spent_u = History(site.ledger.entries).datasets[dataset(story, site)].spent_u
    assert spent_u >= 1_500_000
    story.world.command(site, approval(site, story.manifest, story.seed, WIDE))
    assert story.completes()
    check(story)
    trainings = story.records(site, kinds.TrainDone)
    assert trainings[-1].eps_total_u == 500_000 * len(trainings)
    assert len({record.round for record in trainings}) == len(trainings)


def test_an_approval_for_fewer_rounds_than_the_study_has_ends_there() -> None:
    story = begin(terms=replace(TERMS, privacy=WIDE))
    *others, short = story.sites
    story.approve(*others)
    draft = approval(short, story.manifest, story.seed, WIDE)
    table = list(draft.body["eps_table_u"])[:3]  # type: ignore[call-overload]
    short.disk.manifests[story.study] = story.manifest
    short.record(replace(draft, body={**draft.body, "eps_table_u": table}), now_s=story.world.now_s)
    story.boot(*story.sites)
    assert story.completes(*others)
    past = story.past(short)
    assert sorted(past.trained) == [0, 1]
    assert past.closed_reason == "budget-exhausted"
    check_ledger(story, short)


def test_without_privacy_a_short_table_ends_nothing() -> None:
    story = begin(terms=replace(TERMS, privacy=None))
    *others, short = story.sites
    story.approve(*others)
    draft = approval(short, story.manifest, story.seed)
    short.disk.manifests[story.study] = story.manifest
    short.record(replace(draft, body={**draft.body, "eps_table_u": [0]}), now_s=story.world.now_s)
    story.boot(*story.sites)
    assert story.completes()


def test_a_dataset_registered_again_keeps_what_was_spent_on_it() -> None:
    story = started(terms=replace(TERMS, privacy=WIDE))
    site = story.sites[0]
    assert story.completes()
    site.record(registered(story.seed, site, 50, 9_000_000), now_s=story.world.now_s)
    kept = History(site.ledger.entries).datasets[dataset(story, site)]
    assert (kept.spent_u, kept.terms.cap_u) == (3_000_000, 9_000_000)


def test_a_statistic_that_was_paid_for_counts() -> None:
    story = begin(terms=TERMS)
    site = story.sites[0]
    dp = kinds.DpTerms("gaussian", "20", "1", 1, "1", "1e-3", "pld", "1")
    spent = kinds.PrivacySpent(story.study, dataset_of(story.seed, site), "mean", dp, 123_456)
    site.record(spent.draft("data-owner"), now_s=story.world.now_s)
    stranger = kinds.PrivacySpent(story.study, bytes(32), "mean", dp, 123_456)
    site.record(stranger.draft("data-owner"), now_s=story.world.now_s)
    assert History(site.ledger.entries).datasets[dataset(story, site)].spent_u == 123_456


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mech", "none"),
        ("sigma", "3.9"),
        ("sigma", "not a number"),
        ("sigma", "nan"),
        ("q", "0.5"),
        ("steps", 2),
        ("clip", "2.1"),
    ],
)
def test_training_that_did_not_keep_to_the_terms_releases_nothing(
    field: str, value: object
) -> None:
    story = begin(terms=replace(TERMS, privacy=WIDE))
    cheat = story.sites[-1]
    cheat.spending = replace(cheat.spending, **{field: value})  # type: ignore[arg-type]
    story.approve(*story.sites)
    story.boot(*story.sites)
    assert story.completes(*story.sites[:-1])
    past = story.past(cheat)
    assert (past.closed_reason, len(past.trained), len(past.published)) == ("terms-violated", 0, 0)
    check(story)


def test_decimals_are_compared_as_numbers() -> None:
    story = begin(terms=replace(TERMS, privacy=WIDE))
    for site in story.sites:
        site.spending = replace(site.spending, sigma="4.000", q="1e0", clip="2")
    story.approve(*story.sites)
    story.boot(*story.sites)
    assert story.completes()


def test_a_revocation_that_is_committed_first_leaves_nothing_released() -> None:
    """Between the end of a training and its commit, a person's revocation may be written."""
    story = started(terms=replace(TERMS, privacy=WIDE))
    site, study = story.sites[0], story.study
    run = site.core.runs
    assert story.runs_until(lambda: study in run and run[study].phase is Phase.TRAINING)
    trained = ev.Trained(
        study, Round(run[study].round), ModelHash(b"m" * 32), 96, site.spending, 0.0, 0.1
    )
    effects = site.core.handle(story.world.now_s, trained)
    appends = [effect for effect in effects if isinstance(effect, fx.Append)]
    approved = fx.Mandate(study, story.past(site).approved_seq)
    assert [fx.Mandate(study, effect.approved_seq) for effect in appends] == [approved]
    assert [effect.under for effect in appends] == [study]
    revoked = kinds.StudyRevoked(study, "owner-withdrew").draft("data-owner")
    story.world.command(site, revoked)
    size = len(site.ledger.entries)
    assert not [out for effect in appends for out in site.perform(effect, story.world.now_s)]
    assert len(site.ledger.entries) == size
    story.wait(1.0)
    assert study not in site.core.runs
    check(story)
