"""What people are told of a round's average in a private study."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ops_manifests import PLAN, PRIVACY, rendered

from p2pfl.core import effects as fx
from p2pfl.core import events as ev
from p2pfl.core.history import StudyHistory
from p2pfl.core.manifest import NO_PRIVACY, parse_manifest
from p2pfl.core.names import ModelHash, Round, StudyId
from p2pfl.core.watch import RoundWatch, Telling, noise_deviation

STUDY = StudyId(bytes(32))


def averaged(round_: int, median_distance: float) -> ev.Averaged:
    model = ModelHash(bytes(32))
    return ev.Averaged(STUDY, Round(round_), model, (), 0.0, bytes(32), "", median_distance)


def test_the_share_of_noise_is_told_once_with_its_meaning() -> None:
    watch, tell = RoundWatch(parse_manifest(rendered()), StudyHistory(), 50), Telling(STUDY)
    (shown,) = watch.averaged(1.0, tell, averaged(0, 1.1))
    assert isinstance(shown, fx.Show)
    assert isinstance(shown.notice, fx.Happened)
    # One step of .5 with noise 9.1 · 2.0 over 50 patients, 17 parameters: σ√(2d) = 1.061.
    assert shown.notice.fields == (("share", "0.96"),)
    assert shown.notice.sentence.startswith("R = 0.96: nearly all")
    assert watch.averaged(2.0, tell, averaged(1, 1.1)) == []
    assert watch.now.averaged_s == 2.0


@pytest.mark.parametrize("round_", [30, 32])
def test_rounds_without_training_carry_no_new_noise(round_: int) -> None:
    watch = RoundWatch(parse_manifest(rendered()), StudyHistory(), 50)
    assert watch.averaged(1.0, Telling(STUDY), averaged(round_, 1.1)) == []


def test_without_privacy_or_a_learning_rate_nothing_is_said_of_noise() -> None:
    open_study = parse_manifest(rendered(privacy=NO_PRIVACY))
    assert noise_deviation(open_study, 50) == 0.0
    assert (
        RoundWatch(open_study, StudyHistory(), 50).averaged(1.0, Telling(STUDY), averaged(0, 1.1))
        == []
    )
    quiet = replace(PLAN, arguments={"local_steps": 10}, ranges={})
    assert noise_deviation(parse_manifest(rendered(plan=quiet)), 50) == 0.0


def test_noise_grows_with_a_smaller_sample_and_with_fewer_patients() -> None:
    full = noise_deviation(parse_manifest(rendered()), 100)
    sampled = replace(PRIVACY, sampling="poisson", sampling_rate=0.5)
    assert noise_deviation(parse_manifest(rendered(privacy=sampled)), 100) == pytest.approx(
        2 * full
    )
    assert noise_deviation(parse_manifest(rendered()), 50) == pytest.approx(2 * full)
