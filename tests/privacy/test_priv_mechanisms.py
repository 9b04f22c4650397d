"""Vectors are clipped and noised, sizes are rounded, schedules are chosen, the process answers."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from p2pfl.privacy.accounting import epsilon, epsilon_u
from p2pfl.privacy.buckets import is_patients_bucket, patients_bucket
from p2pfl.privacy.errors import AccountingInputRefused, TooFewPatients, VectorRefused
from p2pfl.privacy.events import DpEvent
from p2pfl.privacy.noise import GaussianStream
from p2pfl.privacy.schedule import choose_schedule
from p2pfl.privacy.table import ExitCode, run
from p2pfl.privacy.vectors import clip_and_noise, clipped, noisy

KEY = bytes(range(32))
vectors = hnp.arrays(
    np.float32, st.integers(1, 50), elements=st.floats(-(2.0**100), 2.0**100, width=32)
)

# --- vectors --------------------------------------------------------------------------------------


@given(vectors, st.floats(1e-3, 1e3))
def test_clipped_vector_never_leaves_its_ball(vector: np.ndarray, clip_norm: float) -> None:
    short = clipped(vector, clip_norm)
    assert np.sqrt(np.sum(np.square(short))) <= clip_norm
    assert np.isfinite(short).all()


@given(vectors, st.floats(1e-3, 1e3))
def test_clipping_keeps_the_direction(vector: np.ndarray, clip_norm: float) -> None:
    short = clipped(vector, clip_norm)
    wide = vector.astype(np.float64)
    largest = np.abs(wide).max()
    if largest > 0:
        assert np.allclose(
            short / np.linalg.norm(short), wide / np.linalg.norm(wide), rtol=1e-9, atol=1e-12
        )


def test_clipping_survives_entries_whose_squares_overflow() -> None:
    for huge in (1e200, 4e307):
        short = clipped(np.array([3 * huge, -4 * huge]), clip_norm=5.0)
        assert np.allclose(short, [3.0, -4.0])


def test_clipping_leaves_zeros_and_nothing_alone() -> None:
    assert clipped(np.zeros(3), 1.0).tolist() == [0.0, 0.0, 0.0]
    assert clipped(np.zeros(0), 1.0).tolist() == []


def test_noise_has_the_asked_spread_and_the_sum_stays_its_mean() -> None:
    total = np.full(200_000, 3.0, dtype=np.float32)
    released = noisy(total, std=2.5, stream=GaussianStream(KEY))
    assert released.dtype == np.float32
    assert stats.kstest(released, "norm", args=(3.0, 2.5)).pvalue > 1e-3


def test_released_values_lie_on_one_grid_whatever_was_added() -> None:
    """No low bits of the addends survive: every release is a multiple of one power of two."""
    for value in (0.0, 1e-9, 0.1, 1 / 3):
        released = noisy(np.full(1000, value), std=1.0, stream=GaussianStream(KEY))
        scaled = released.astype(np.float64) * 2**20
        assert np.array_equal(scaled, np.rint(scaled))


def test_update_is_clipped_before_it_is_noised() -> None:
    update = np.full(100_000, 100.0, dtype=np.float32)
    released = clip_and_noise(update, clip_norm=2.0, std=3.0, stream=GaussianStream(KEY))
    assert released.mean() == pytest.approx(2.0 / np.sqrt(100_000), abs=5 * 3.0 / np.sqrt(100_000))
    assert released.std() == pytest.approx(3.0, rel=0.02)


def test_same_key_releases_the_same_bytes() -> None:
    update = np.arange(70_000, dtype=np.float32)
    first, second = (
        clip_and_noise(update, clip_norm=1.0, std=1.0, stream=GaussianStream(KEY)) for _ in range(2)
    )
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize(
    "vector",
    [
        np.array([1.0, np.nan]),
        np.array([np.inf]),
        np.ones((2, 2), dtype=np.float32),
        np.array([1, 2]),
    ],
)
def test_vector_that_cannot_be_protected_is_refused(vector: np.ndarray) -> None:
    with pytest.raises(VectorRefused):
        clipped(vector, 1.0)
    with pytest.raises(VectorRefused):
        noisy(vector, 1.0, GaussianStream(KEY))


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_clip_norm_or_spread_that_protects_nobody_is_refused(bad: float) -> None:
    with pytest.raises(VectorRefused, match="clip norm"):
        clipped(np.ones(2), bad)
    with pytest.raises(VectorRefused, match="standard deviation"):
        noisy(np.ones(2), bad, GaussianStream(KEY))


# --- sizes ----------------------------------------------------------------------------------------


@given(st.integers(10, 5_000_000))
def test_bucket_never_exceeds_the_site_and_is_at_most_a_quarter_below(patients: int) -> None:
    bucket = patients_bucket(patients)
    assert bucket <= patients < bucket * 1.35
    assert patients_bucket(bucket) == bucket
    assert is_patients_bucket(bucket)


@given(st.integers(10, 100_000))
def test_bucket_never_falls_when_a_patient_joins(patients: int) -> None:
    assert patients_bucket(patients + 1) >= patients_bucket(patients)


@pytest.mark.parametrize("patients", [-1, 0, 9])
def test_too_few_patients_are_refused(patients: int) -> None:
    with pytest.raises(TooFewPatients, match="at least 10"):
        patients_bucket(patients)


@pytest.mark.parametrize("value", [-5, 0, 9, 11, 299])
def test_number_outside_the_public_series_is_recognised(value: int) -> None:
    assert not is_patients_bucket(value)


# --- schedules ------------------------------------------------------------------------------------


def test_small_table_gets_full_batches_and_one_step_a_round() -> None:
    schedule = choose_schedule(bucket=200, epsilon=3.0, delta=1e-3, rounds=30)
    assert (schedule.sampling, schedule.rate, schedule.steps_per_round) == ("full", 1.0, 1)
    assert "all 200 patients" in schedule.sentence
    assert "few" in schedule.sentence


def test_large_table_gets_poisson_samples_and_more_steps() -> None:
    schedule = choose_schedule(bucket=5000, epsilon=3.0, delta=1e-5, rounds=30)
    assert schedule.sampling == "poisson"
    assert schedule.rate == pytest.approx(256 / 5000)
    assert schedule.steps_per_round == 20
    assert "Poisson" in schedule.sentence


def test_tight_epsilon_turns_a_middling_table_to_full_batches() -> None:
    schedule = choose_schedule(bucket=1000, epsilon=0.5, delta=1e-5, rounds=30)
    assert schedule.sampling == "full"
    assert "drown" in schedule.sentence


@settings(max_examples=5, deadline=None)
@given(st.sampled_from([10, 200, 630, 2000]), st.floats(0.5, 8.0), st.integers(1, 60))
def test_schedule_spends_no_more_than_the_target(bucket: int, target: float, rounds: int) -> None:
    schedule = choose_schedule(bucket, target, 1e-5, rounds)
    assert epsilon([schedule.per_round.repeated(rounds)], 1e-5) <= target
    assert f"{schedule.noise_multiplier:g}" in schedule.sentence


@pytest.mark.parametrize(("bucket", "rounds"), [(0, 30), (200, 0), (200, 1001)])
def test_schedule_of_impossible_numbers_is_refused(bucket: int, rounds: int) -> None:
    with pytest.raises(AccountingInputRefused):
        choose_schedule(bucket, 3.0, 1e-3, rounds)


# --- the process ----------------------------------------------------------------------------------

EVENT = {"mech": "gaussian", "sigma": "6", "q": "1", "steps": 1}


def ask(request: object) -> tuple[ExitCode, dict[str, object]]:
    sink = io.StringIO()
    code = run(io.StringIO(json.dumps(request)), sink)
    return code, json.loads(sink.getvalue())


def test_process_answers_a_table() -> None:
    request = {
        "request": "table",
        "history": [EVENT],
        "per_round": EVENT,
        "rounds": 3,
        "delta": "1e-3",
    }
    finished = subprocess.run(
        [sys.executable, "-m", "p2pfl.privacy.table"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    answer = json.loads(finished.stdout)
    assert len(answer["table_u"]) == 4
    assert answer["accountant"] == "dp-accounting/pld"
    assert answer["version"]


def test_process_answers_epsilon_calibration_and_schedule() -> None:
    code, answer = ask({"request": "epsilon", "events": [EVENT], "delta": "1e-3"})
    assert (code, answer["eps_u"]) == (
        ExitCode.ANSWERED,
        epsilon_u([DpEvent("gaussian", 6.0, 1.0, 1)], 1e-3),
    )
    code, answer = ask(
        {"request": "calibrate", "epsilon": "3", "q": "1", "steps_total": 30, "delta": "1e-3"}
    )
    assert (code, answer["sigma"]) == (ExitCode.ANSWERED, "5.682")
    code, answer = ask(
        {"request": "schedule", "bucket": 200, "epsilon": "3", "delta": "1e-3", "rounds": 30}
    )
    assert (code, answer["sampling"]) == (ExitCode.ANSWERED, "full")


@pytest.mark.parametrize(
    "request_",
    [
        [],
        {},
        {"request": "pardon"},
        {"request": "epsilon", "events": {}, "delta": "1e-3"},
        {"request": "epsilon", "events": [1], "delta": "1e-3"},
        {"request": "epsilon", "events": [EVENT] * 10_001, "delta": "1e-3"},
        {"request": "epsilon", "events": [EVENT], "delta": 1e-3},
        {"request": "epsilon", "events": [{**EVENT, "steps": "1"}], "delta": "1e-3"},
        {"request": "epsilon", "events": [{**EVENT, "steps": True}], "delta": "1e-3"},
        {"request": "table", "history": [], "per_round": EVENT, "delta": "1e-3"},
    ],
)
def test_malformed_request_is_answered_with_an_error(request_: object) -> None:
    code, answer = ask(request_)
    assert code == ExitCode.MALFORMED
    assert answer["error"]["code"] == "RequestMalformed"  # type: ignore[index]


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, " " * ((1 << 20) + 1), '{"a": NaN'])
def test_request_that_is_no_json_is_answered_with_an_error(text: str) -> None:
    sink = io.StringIO()
    assert run(io.StringIO(text), sink) == ExitCode.MALFORMED
    assert "error" in json.loads(sink.getvalue())


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (
            {"request": "epsilon", "events": [{**EVENT, "sigma": "0.1"}], "delta": "1e-3"},
            "EventRefused",
        ),
        ({"request": "epsilon", "events": [EVENT], "delta": "1"}, "AccountingInputRefused"),
        ({"request": "epsilon", "events": [EVENT], "delta": "x"}, "EventRefused"),
    ],
)
def test_refused_request_names_the_rule(request_: object, code: str) -> None:
    exit_code, answer = ask(request_)
    assert exit_code == ExitCode.REFUSED
    assert answer["error"]["code"] == code  # type: ignore[index]
