"""A member that breaks very many rules is heard slowly, is forgiven, and is never banned."""

from hypothesis import given
from hypothesis import strategies as st

from gossip.standing import Standing, StandingLimits

LIMITS = StandingLimits()


def misbehaving(times: int, at_s: float = 0.0) -> Standing:
    standing = Standing(LIMITS)
    for _ in range(times):
        standing.blame(at_s)
    return standing


def heard(standing: Standing, from_s: float, seconds: float, per_s: int = 50) -> int:
    """How many of its messages are looked at in a while."""
    times = (from_s + index / per_s for index in range(int(seconds * per_s)))
    return sum(map(standing.hears, times))


def test_a_few_broken_rules_change_nothing() -> None:
    assert heard(misbehaving(500), 0.0, 10.0) == 500


def test_very_many_broken_rules_and_it_is_heard_slowly() -> None:
    standing = misbehaving(5000)
    most = LIMITS.slow_messages_burst + 60.0 * LIMITS.slow_messages_per_s
    assert 0 < heard(standing, 0.0, 60.0) <= most + 1


def test_it_is_forgiven_with_time() -> None:
    standing = misbehaving(5000)
    assert standing.is_slow(0.0)
    assert not standing.is_slow(4.0 * LIMITS.forgiving_half_s)


def test_being_heard_slowly_begins_once_until_it_was_forgiven() -> None:
    standing = Standing(LIMITS)
    assert sum(standing.blame(0.0) for _ in range(2000)) == 1
    later_s = 10.0 * LIMITS.forgiving_half_s
    assert sum(standing.blame(later_s) for _ in range(2000)) == 1


@given(st.lists(st.floats(0.0, 1e6), max_size=50), st.floats(0.0, 1e6))
def test_a_clock_that_jumps_back_forgives_nothing_and_blames_nobody_more(
    times_s: list[float], now_s: float
) -> None:
    standing = Standing(LIMITS)
    for at_s in times_s:
        standing.blame(at_s)
    assert 0.0 <= standing.points(now_s) <= len(times_s)
