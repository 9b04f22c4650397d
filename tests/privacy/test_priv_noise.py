"""The noise is Gaussian, unpredictable without its key, and never repeats."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from p2pfl.privacy.errors import NoiseInputRefused
from p2pfl.privacy.noise import KEY_BYTES, GaussianStream

KEY = bytes(range(32))
PINNED_ZERO_KEY = [0.2114380989457334, 0.9893843566053645, -0.2710533630172219]
DRAWS = 1_000_000


@pytest.fixture(scope="module")
def draws() -> np.ndarray:
    return GaussianStream(KEY).normal(DRAWS, std=1.0)


def test_moments_are_those_of_a_standard_normal(draws: np.ndarray) -> None:
    root = np.sqrt(DRAWS)
    assert abs(draws.mean()) < 4 / root
    assert abs(draws.var() - 1) < 4 * np.sqrt(2) / root
    assert abs(stats.skew(draws)) < 4 * np.sqrt(6) / root
    assert abs(stats.kurtosis(draws)) < 4 * np.sqrt(24) / root


def test_distribution_is_normal_also_in_the_tails(draws: np.ndarray) -> None:
    assert stats.kstest(draws, "norm").pvalue > 1e-3
    for threshold in (2.0, 3.0, 4.0):
        share = 2 * stats.norm.sf(threshold)
        seen = int((np.abs(draws) > threshold).sum())
        assert stats.binomtest(seen, DRAWS, share).pvalue > 1e-3


def test_draws_are_uncorrelated_at_every_lag_the_blocks_could_couple(draws: np.ndarray) -> None:
    for lag in (1, 2, 3, 4, 8192, 16384):
        correlation = float(np.mean(draws[:-lag] * draws[lag:]))
        assert abs(correlation) < 4.5 / np.sqrt(DRAWS - lag)
        squares = float(np.mean((draws[:-lag] ** 2 - 1) * (draws[lag:] ** 2 - 1)))
        assert abs(squares) < 4.5 * 2 / np.sqrt(DRAWS - lag)


def test_many_single_draws_are_normal_too() -> None:
    stream = GaussianStream(KEY)
    singles = np.array([stream.normal(1, std=1.0)[0] for _ in range(20_000)])
    assert stats.kstest(singles, "norm").pvalue > 1e-3


def test_standard_deviation_scales_the_noise() -> None:
    one = GaussianStream(KEY).normal(1000, std=1.0)
    many = GaussianStream(KEY).normal(1000, std=7.5)
    assert np.array_equal(many, one * 7.5)


def test_same_key_gives_the_same_noise_bit_for_bit() -> None:
    first, second = GaussianStream(KEY), GaussianStream(KEY)
    for shape in (1, 17, (3, 5), (2, 3, 4)):
        assert first.normal(shape, 2.0).tobytes() == second.normal(shape, 2.0).tobytes()


def test_first_draws_of_the_zero_key_are_pinned() -> None:
    """A vector: another order of draws is another mechanism and must be noticed."""
    drawn = GaussianStream(bytes(32)).normal(3, std=1.0)
    assert np.allclose(drawn, PINNED_ZERO_KEY, rtol=0, atol=1e-12)


@pytest.mark.parametrize("bit", [0, 7, 100, 255])
def test_keys_that_differ_in_one_bit_give_unrelated_noise(bit: int) -> None:
    other = bytearray(KEY)
    other[bit // 8] ^= 1 << (bit % 8)
    mine = GaussianStream(KEY).normal(100_000, 1.0)
    theirs = GaussianStream(bytes(other)).normal(100_000, 1.0)
    assert abs(float(np.mean(mine * theirs))) < 4.5 / np.sqrt(100_000)
    assert not np.isin(mine, theirs).any()


def test_one_stream_never_repeats_itself() -> None:
    stream = GaussianStream(KEY)
    requests = np.concatenate([stream.normal(100, 1.0) for _ in range(200)])
    assert np.unique(requests).size == requests.size


def test_key_is_erased_with_every_request() -> None:
    """What a memory image holds after a request does not reproduce that request."""
    stream = GaussianStream(KEY)
    before = stream.normal(64, 1.0)
    stolen = GaussianStream(stream._key)
    assert stream._key != KEY
    assert not np.isin(stolen.normal(64, 1.0), before).any()


def test_words_are_the_chacha20_key_stream_of_rfc_8439() -> None:
    """RFC 8439, appendix A.1, test vector 2: zero key, zero nonce, block counter 1."""
    stream = GaussianStream(bytes(32))
    words = stream._words(4)
    assert stream._key + words.tobytes() == bytes.fromhex(
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
    )


def test_key_does_not_show_in_the_representation() -> None:
    assert KEY.hex() not in repr(GaussianStream(KEY))
    assert repr(KEY) not in repr(GaussianStream(KEY))


def test_no_summand_comes_from_the_same_pair_twice() -> None:
    """The sum of a pair's cosine and sine is one draw: each output needs four pairs."""
    stream = GaussianStream(KEY)
    stream.normal(2, 1.0)
    counted = GaussianStream(KEY)
    counted._words(2 * 4)  # one pair of outputs = four pairs of uniforms
    assert stream._key == counted._key


def test_coins_fall_at_the_asked_rate() -> None:
    chosen = GaussianStream(KEY).chosen(DRAWS, rate=0.05)
    assert stats.binomtest(int(chosen.sum()), DRAWS, 0.05).pvalue > 1e-3


def test_rate_zero_chooses_nobody_and_rate_one_everybody() -> None:
    assert not GaussianStream(KEY).chosen(10_000, rate=0.0).any()
    assert GaussianStream(KEY).chosen(10_000, rate=1.0).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 500))
def test_permutation_holds_every_index_once(count: int) -> None:
    shuffled = GaussianStream(KEY).permutation(count)
    assert sorted(shuffled.tolist()) == list(range(count))


@pytest.mark.parametrize("length", [0, 16, KEY_BYTES - 1, KEY_BYTES + 1])
def test_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(NoiseInputRefused, match="32 bytes"):
        GaussianStream(bytes(length))


@pytest.mark.parametrize("std", [-1.0, float("nan"), float("inf")])
def test_impossible_spread_is_refused(std: float) -> None:
    with pytest.raises(NoiseInputRefused, match="std"):
        GaussianStream(KEY).normal(3, std)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")])
def test_impossible_rate_is_refused(rate: float) -> None:
    with pytest.raises(NoiseInputRefused, match="rate"):
        GaussianStream(KEY).chosen(3, rate)


def test_zero_spread_gives_zeros_and_moves_the_stream() -> None:
    quiet, moved = GaussianStream(KEY), GaussianStream(KEY)
    assert not quiet.normal(5, 0.0).any()
    moved.normal(5, 1.0)
    assert np.array_equal(quiet.normal(5, 1.0), moved.normal(5, 1.0))
