"""A study's life in the deterministic world: from approvals to released models, and all the ways
in which sites come late, leave, or cannot be reached."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from core_worlds import (
    FOUR,
    PRIVATE,
    approval,
    begin,
    check,
    check_ledger,
    started,
)

from p2pfl.core import effects as fx
from simulations.scenario import ScenarioTerms
from simulations.site import Payloads
from simulations.world import NetworkTerms

ROOT = Path(__file__).resolve().parents[2]


def digest_of_a_run(seed: int) -> str:
    story = started(seed, FOUR)
    assert story.completes()
    return story.world.digest()


# -- the ordinary course -----------------------------------------------------------------------


def test_four_sites_train_together_and_release_nearly_the_same_model() -> None:
    story = started(terms=replace(FOUR, sites_min=4))
    assert story.completes()
    check(story)
    for site in story.sites:
        past = story.past(site)
        assert sorted(past.trained) == [0, 1, 2, 3]
        assert sorted(past.published) == sorted(past.averaged) == [0, 1, 2, 3, 4]
        assert not past.skipped
    finals = [site.model(site.released[story.study]) for site in story.sites]
    assert all(np.linalg.norm(final) > 0.5 for final in finals)
    assert max(float(np.abs(final - finals[0]).max()) for final in finals) < 0.05


def test_people_are_told_of_every_round_and_of_the_end() -> None:
    story = started()
    assert story.completes()
    story.wait(1.0)
    rounds = [n for n in story.sites[0].notices if isinstance(n, fx.RoundDone)]
    assert [(r.round, r.rounds, r.phase) for r in rounds] == [
        (0, 3, "training"),
        (1, 3, "training"),
        (2, 3, "consensus"),
    ]
    assert all(r.heard == r.expected == 2 and r.phases_s.total > 0 for r in rounds)
    assert [r.eps_total_u for r in rounds] == [500_000, 1_000_000, 1_000_000]
    assert "study_complete" in story.happened(story.sites[0])


def test_no_site_trains_before_enough_approvals() -> None:
    story = begin(terms=replace(FOUR, sites_min=3))
    story.approve(*story.sites[:2])
    story.boot(*story.sites)
    story.wait(60.0)
    assert all(not story.past(site).trained for site in story.sites)
    assert "approvals" in story.waiting(story.sites[0])
    third = story.sites[2]
    story.world.command(third, approval(third, story.manifest, story.seed, PRIVATE))
    assert story.completes(*story.sites[:3])
    check(story)
    assert not story.past(story.sites[3]).trained


def test_a_proposal_goes_over_the_wire_and_is_approved_by_people() -> None:
    story = begin(terms=replace(FOUR, sites_min=4))
    proposer, *others = story.sites
    story.approve(proposer)
    story.boot(*story.sites)
    assert story.runs_until(lambda: all(story.study in s.disk.manifests for s in others))
    assert all(story.past(site).proposer == proposer.id for site in others)
    for site in others:
        assert "study_proposed" in story.happened(site)
        story.world.command(site, approval(site, story.manifest, story.seed, PRIVATE))
    assert story.completes()
    check(story)


def test_models_too_large_for_a_message_are_fetched() -> None:
    story = begin(terms=replace(FOUR, payloads=Payloads(inline_bytes_max=0)))
    initial = story.sites[0].disk.blobs
    story.approve(*story.sites)
    story.boot(*story.sites)
    assert len(initial) == 1
    assert story.completes()
    check(story)


@pytest.mark.parametrize(
    "terms",
    [
        ScenarioTerms(sites=8, rounds=3, neighbours_min=1, topology="ring", deadline_s=2.0),
        ScenarioTerms(
            sites=12,
            rounds=3,
            neighbours_min=3,
            topology="random-regular",
            degree=4,
            deadline_s=2.0,
            rule="cs_redescending",
        ),
        ScenarioTerms(
            sites=8,
            rounds=6,
            topology="random-regular",
            degree=3,
            redraw_rounds=2,
            deadline_s=2.0,
        ),
        ScenarioTerms(sites=5, rounds=3, weighting="patients", rule="trimmed_mean", deadline_s=2.0),
    ],
)
def test_other_graphs_weights_and_rules_work_too(terms: ScenarioTerms) -> None:
    story = started(terms=terms)
    assert story.completes()
    check(story)


# -- the same again ----------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_trace_and_another_seed_another() -> None:
    assert digest_of_a_run(7) == digest_of_a_run(7)
    assert digest_of_a_run(7) != digest_of_a_run(8)


def test_the_trace_does_not_depend_on_the_hash_seed() -> None:
    code = "import test_core_study; print(test_core_study.digest_of_a_run(7))"
    digests = set()
    for hash_seed in ("1", "2"):
        env = {
            **os.environ,
            "PYTHONHASHSEED": hash_seed,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
        }
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, check=True, capture_output=True, timeout=240
        )
        digests.add(done.stdout.decode().strip())
    assert digests == {digest_of_a_run(7)}


# -- bad lines ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [0.2, 0.3])
@pytest.mark.parametrize("seed", range(6))
def test_a_third_of_all_messages_may_be_lost(seed: int, loss: float) -> None:
    story = started(seed, replace(FOUR, network=NetworkTerms(loss=loss)))
    assert story.completes()
    check(story)


def test_nobody_waits_twice_for_a_site_that_went_down() -> None:
    story = started(terms=replace(FOUR, rounds=10))
    *others, gone = story.sites
    assert story.runs_until(lambda: bool(story.past(others[0]).published))
    story.world.crash(gone)
    began_s = story.world.now_s
    assert story.completes(*others)
    # One deadline of two seconds, then rounds at full speed.
    assert story.world.now_s - began_s < 2 * story.terms.deadline_s
    for site in others:
        check_ledger(story, site)


def test_two_sites_that_cannot_reach_each_other_still_finish() -> None:
    story = started(terms=FOUR)
    story.world.cut.add(frozenset((story.sites[0].id, story.sites[1].id)))
    assert story.completes()
    check(story)


def test_a_study_goes_on_by_itself_when_the_line_comes_back() -> None:
    story = started(terms=replace(FOUR, sites_min=4, neighbours_min=3))
    lonely = story.sites[3]
    wires = {frozenset((lonely.id, site.id)) for site in story.sites[:3]}
    assert story.runs_until(lambda: bool(story.past(lonely).averaged))
    story.world.cut |= wires
    story.wait(60.0)
    assert not story.is_complete(story.sites[0])
    assert "neighbours" in story.waiting(story.sites[0])
    story.world.cut.clear()
    assert story.completes()
    check(story)
