"""ε agrees with other people's accountants, never shrinks, and is only ever rounded up."""

import doctest
import importlib
import math
import subprocess
import sys

import mpmath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from p2pfl.privacy import accounting
from p2pfl.privacy.accounting import calibrate, epsilon, epsilon_table_u, epsilon_u
from p2pfl.privacy.errors import AccountingInputRefused, EpsilonUnreachable, EventRefused
from p2pfl.privacy.events import DpEvent, parse_event
from p2pfl.privacy.gaussian import gaussian_delta, gaussian_epsilon

FULL = DpEvent("gaussian", sigma=6.0, q=1.0, steps=1)
SAMPLED = DpEvent("poisson", sigma=1.1, q=0.05, steps=20)
OPEN = DpEvent("none", sigma=0.0, q=1.0, steps=5)

sigmas = st.floats(0.3, 100.0)
deltas = st.floats(1e-9, 1e-2)
full_events = st.builds(lambda s, n: DpEvent("gaussian", s, 1.0, n), sigmas, st.integers(1, 10_000))


@pytest.mark.parametrize(
    "name", ["gaussian", "accounting", "events", "buckets", "noise", "vectors"]
)
def test_examples_in_the_docstrings_run(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"p2pfl.privacy.{name}"))
    assert found.attempted > 0
    assert found.failed == 0


# --- numbers from elsewhere ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "pld", "prv", "rdp"),
    [
        (DpEvent("poisson", sigma=1.0, q=0.01, steps=1000), 1.828, 1.838, 2.101),
        (DpEvent("poisson", sigma=1.1, q=0.05, steps=200), 3.962, 3.97, 4.44),
    ],
)
def test_sampled_epsilon_matches_published_accountants(
    event: DpEvent, pld: float, prv: float, rdp: float
) -> None:
    ours = epsilon([event], delta=1e-5)
    assert ours == pytest.approx(pld, abs=1e-3)
    assert prv - 0.02 < ours < prv
    assert ours < rdp


@pytest.mark.parametrize(
    "event",
    [
        DpEvent("poisson", sigma=1.0, q=0.01, steps=500),
        DpEvent("poisson", sigma=2.0, q=0.2, steps=100),
        DpEvent("gaussian", sigma=6.0, q=1.0, steps=30),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")  # Opacus at q = 1
def test_epsilon_lies_just_below_opacus_accountants(event: DpEvent) -> None:
    from opacus.accountants import PRVAccountant, RDPAccountant

    theirs: dict[str, float] = {}
    for accountant in (PRVAccountant(), RDPAccountant()):
        accountant.history = [(event.sigma, event.q, event.steps)]
        theirs[accountant.mechanism()] = accountant.get_epsilon(delta=1e-5)
    ours = epsilon([event], delta=1e-5)
    assert theirs["prv"] - 0.03 < ours <= theirs["prv"]
    assert ours < theirs["rdp"]


def test_exact_gaussian_matches_high_precision_arithmetic() -> None:
    with mpmath.workdps(60):
        for mu, wanted in ((0.01, 1e-6), (0.5, 1e-5), (1.0, 1e-10), (5.5, 1e-3), (40.0, 1e-5)):
            ours = gaussian_epsilon(mu, wanted)
            m, e = mpmath.mpf(mu), mpmath.mpf(ours)
            exact = mpmath.ncdf(m / 2 - e / m) - mpmath.exp(e) * mpmath.ncdf(-m / 2 - e / m)
            assert exact <= wanted
            assert float(exact) == pytest.approx(wanted, rel=1e-5)


def test_logarithm_of_the_normal_tail_matches_scipy() -> None:
    from p2pfl.privacy.gaussian import _log_normal_cdf

    for x in (-300.0, -40.0, -30.1, -29.9, -5.0, 0.0, 3.0):
        assert _log_normal_cdf(x) == pytest.approx(float(special.log_ndtr(x)), rel=1e-9)


def test_exact_gaussian_and_loss_distributions_agree() -> None:
    from dp_accounting.pld import privacy_loss_distribution as pld

    theirs = pld.from_gaussian_mechanism(6.0 / math.sqrt(30)).get_epsilon_for_delta(1e-3)
    assert epsilon([FULL.repeated(30)], 1e-3) == pytest.approx(theirs, abs=2e-4)


def test_mixed_history_composes_as_the_reference_accountant_does() -> None:
    import dp_accounting
    from dp_accounting.pld import PLDAccountant

    reference = PLDAccountant()
    reference.compose(dp_accounting.GaussianDpEvent(6.0), 30)
    for sigma, q, steps in ((1.1, 0.05, 200), (2.0, 0.1, 50)):
        sampled = dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(sigma))
        reference.compose(sampled, steps)
    history = [
        DpEvent("poisson", 2.0, 0.1, 50),
        FULL.repeated(30),
        DpEvent("poisson", 1.1, 0.05, 200),
    ]
    assert epsilon(history, 1e-5) == pytest.approx(reference.get_epsilon(1e-5), abs=1e-6)


# --- laws ---------------------------------------------------------------------------------------


@given(full_events, full_events, deltas)
def test_more_releases_never_cost_less(first: DpEvent, second: DpEvent, delta: float) -> None:
    assert epsilon([first, second], delta) >= epsilon([first], delta)


@given(full_events, deltas, st.floats(1.01, 3.0))
def test_more_noise_and_more_delta_never_cost_more(
    event: DpEvent, delta: float, factor: float
) -> None:
    quieter = DpEvent("gaussian", event.sigma * factor, 1.0, event.steps)
    assert epsilon([quieter], delta) <= epsilon([event], delta)
    assert epsilon([event], min(delta * factor, 0.1)) <= epsilon([event], delta)


@given(st.lists(full_events, max_size=5), deltas, st.randoms())
def test_order_of_releases_does_not_matter(
    events: list[DpEvent], delta: float, chance: object
) -> None:
    shuffled = list(events)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert epsilon(shuffled, delta) == epsilon(events, delta)


@settings(max_examples=8, deadline=None)
@given(st.floats(1.0, 5.0), st.floats(0.005, 0.5), st.integers(1, 50))
def test_sampling_never_costs_more_than_no_sampling(sigma: float, q: float, steps: int) -> None:
    sampled = epsilon([DpEvent("poisson", sigma, q, steps)], 1e-5)
    assert 0 <= sampled <= epsilon([DpEvent("gaussian", sigma, 1.0, steps)], 1e-5)
    assert sampled <= epsilon([DpEvent("poisson", sigma, q, steps + 10)], 1e-5)


@given(st.floats(0.01, 30.0), st.floats(0.0, 50.0))
def test_delta_of_a_gaussian_is_a_probability(mu: float, eps: float) -> None:
    assert 0.0 <= gaussian_delta(mu, eps) <= 1.0


def test_nothing_released_costs_nothing() -> None:
    assert epsilon([], 1e-5) == 0.0


def test_rate_one_is_no_sampling() -> None:
    full = epsilon([FULL], 1e-5)
    assert epsilon([DpEvent("poisson", sigma=6.0, q=1.0, steps=1)], 1e-5) == full


def test_unprotected_releases_are_left_out_of_the_sum() -> None:
    assert epsilon([FULL, OPEN], 1e-5) == epsilon([FULL], 1e-5)


# --- tables -------------------------------------------------------------------------------------


def test_table_rows_are_totals_rounded_up_to_micro_units() -> None:
    history = [FULL.repeated(10)]
    table = epsilon_table_u(history, FULL, rounds=30, delta=1e-3)
    assert len(table) == 31
    for row, total_u in enumerate(table):
        exact = epsilon([FULL.repeated(10 + row)], 1e-3) * 1e6
        assert exact <= total_u < exact + 1
        assert isinstance(total_u, int)


def test_sampled_table_of_few_rounds_is_computed_row_by_row() -> None:
    table = epsilon_table_u([FULL], SAMPLED, rounds=5, delta=1e-5)
    assert table == tuple(epsilon_u([FULL, *[SAMPLED] * row], 1e-5) for row in range(6))


def test_long_sampled_table_never_understates_and_never_falls() -> None:
    light = DpEvent("poisson", sigma=20.0, q=0.1, steps=5)
    table = epsilon_table_u([], light, rounds=1000, delta=1e-5)
    assert len(table) == 1001
    assert list(table) == sorted(table)
    for row in (1, 2, 24, 25, 60, 333, 999, 1000):
        exact_u = epsilon_u([light.repeated(row)], 1e-5)
        assert exact_u <= table[row] <= exact_u * 1.06 + 1
    assert table[1000] == epsilon_u([light.repeated(1000)], 1e-5)


def test_table_of_an_unprotected_study_is_constant() -> None:
    table = epsilon_table_u([FULL], OPEN, rounds=3, delta=1e-3)
    assert table == (epsilon_u([FULL], 1e-3),) * 4


def test_table_of_no_rounds_is_the_history_alone() -> None:
    assert epsilon_table_u([FULL], FULL, 0, 1e-3) == (epsilon_u([FULL], 1e-3),)


def test_full_batch_table_needs_no_accountant_library() -> None:
    """The node may answer the exact case itself, without two seconds of imports."""
    program = (
        "import sys; from p2pfl.privacy.accounting import *; from p2pfl.privacy.events import *;"
        "epsilon_table_u([], DpEvent('gaussian', 6.0, 1.0, 1), 1000, 1e-3);"
        "sys.exit('dp_accounting' in sys.modules or 'scipy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# --- calibration --------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 20.0), st.integers(1, 2000), st.floats(1e-7, 1e-2))
def test_calibrated_full_batches_meet_their_target_closely(
    target: float, steps: int, delta: float
) -> None:
    sigma = calibrate(target, 1.0, steps, delta)
    assert epsilon([DpEvent("gaussian", sigma, 1.0, steps)], delta) <= target
    if sigma > 0.3:
        quieter = DpEvent("gaussian", max(0.3, sigma * 0.998), 1.0, steps)
        assert epsilon([quieter], delta) > target


@pytest.mark.parametrize(("target", "q", "steps"), [(3.0, 0.05, 600), (1.0, 0.01, 2000)])
def test_calibrated_sampling_meets_its_target_closely(target: float, q: float, steps: int) -> None:
    sigma = calibrate(target, q, steps, 1e-5)
    reached = epsilon([DpEvent("poisson", sigma, q, steps)], 1e-5)
    assert 0.99 * target < reached <= target
    assert float(str(sigma)) == sigma
    assert len(str(sigma).replace(".", "")) <= 4


def test_lax_target_keeps_the_least_noise_that_can_be_accounted_for() -> None:
    assert calibrate(90.0, 1.0, 1, 1e-2) == 0.3


def test_unreachable_target_is_refused() -> None:
    with pytest.raises(EpsilonUnreachable, match="fewer rounds"):
        calibrate(1e-9, 1.0, 10_000_000, 1e-10)


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [0.0, 1e-11, 0.2, float("nan")])
def test_delta_out_of_range_is_refused(delta: float) -> None:
    with pytest.raises(AccountingInputRefused, match="δ"):
        epsilon([FULL], delta)


@pytest.mark.parametrize("rounds", [-1, 1001])
def test_rounds_out_of_range_are_refused(rounds: int) -> None:
    with pytest.raises(AccountingInputRefused, match="rounds"):
        epsilon_table_u([], FULL, rounds, 1e-3)


@pytest.mark.parametrize(
    ("target", "q", "steps"),
    [(0.0, 1.0, 1), (101.0, 1.0, 1), (float("nan"), 1.0, 1), (1.0, 0.0, 1), (1.0, 1.0, 0)],
)
def test_impossible_targets_are_refused(target: float, q: float, steps: int) -> None:
    with pytest.raises(AccountingInputRefused):
        calibrate(target, q, steps, 1e-3)


@pytest.mark.parametrize(
    ("mech", "sigma", "q", "steps"),
    [
        ("laplace", 1.0, 1.0, 1),
        ("gaussian", 0.29, 1.0, 1),
        ("gaussian", float("nan"), 1.0, 1),
        ("gaussian", float("inf"), 1.0, 1),
        ("gaussian", 1.0, 0.5, 1),
        ("gaussian", 1.0, 1.0, 0),
        ("poisson", 1.0, 0.0, 1),
        ("poisson", 1.0, 1.01, 1),
        ("poisson", 1.0, 0.1, 10_000_001),
        ("none", 1.0, 1.0, 1),
        ("none", 0.0, 1.0, -1),
    ],
)
def test_event_out_of_range_is_refused(mech: str, sigma: float, q: float, steps: int) -> None:
    with pytest.raises(EventRefused):
        DpEvent(mech, sigma, q, steps)  # type: ignore[arg-type]


def test_hostile_events_cost_no_memory() -> None:
    """The widest loss a valid event can have falls back to the bound without sampling."""
    worst = DpEvent("poisson", sigma=0.3, q=0.5, steps=10_000_000)
    assert epsilon([worst], 1e-5) == epsilon([DpEvent("gaussian", 0.3, 1.0, 10_000_000)], 1e-5)
    wide = DpEvent("poisson", sigma=0.3, q=0.9, steps=100)
    assert 500 < epsilon([wide], 1e-5) < 1000


def test_event_travels_as_decimal_text() -> None:
    assert parse_event("poisson", "1.1", "0.05", 20) == SAMPLED
    assert parse_event("none", "0", "1", 5) == OPEN


@pytest.mark.parametrize("text", ["", "nan", "inf", "1_0", "１", "0x1", "1" * 33, "one"])
def test_text_that_is_no_decimal_is_refused(text: str) -> None:
    with pytest.raises(EventRefused):
        parse_event("gaussian", text, "1", 1)


def test_unknown_mechanism_in_text_is_refused() -> None:
    with pytest.raises(EventRefused, match="laplace"):
        parse_event("laplace", "1", "1", 1)


def test_noise_hides_one_patient_as_well_as_epsilon_promises() -> None:
    """The likelihood-ratio test at every threshold stays within (ε, δ): accounting in the flesh."""
    sigma, delta = 2.0, 1e-3
    eps = epsilon([DpEvent("gaussian", sigma, 1.0, 1)], delta)
    for threshold in (-2.0, 0.0, 2.0, 5.0, 8.0):
        with_patient = stats.norm.sf(threshold, loc=1.0, scale=sigma)
        without = stats.norm.sf(threshold, loc=0.0, scale=sigma)
        assert with_patient <= math.exp(eps) * without + delta


def test_version_of_the_accountant_is_known_without_importing_it() -> None:
    assert accounting.accountant_version().count(".") >= 1
