"""Whom a model is fetched from that several sites hold: nobody keeps us from the others."""

from gossip.identifiers import SiteId
from p2pfl.runtime.holders import LOOK_S, LOOK_S_MAX, SOON_S, Holders

LIAR, FIRST, SECOND = (SiteId(bytes([n]) * 32) for n in range(3))
LARGE = 10**12


def keeps(holders: Holders, site: SiteId, have_bytes: float) -> bool:
    return holders.keeps(site, have_bytes=int(have_bytes), left_bytes=LARGE)


def test_everybody_is_tried_and_the_quickest_goes_on() -> None:
    holders = Holders((LIAR, FIRST, SECOND))
    for site, rate in ((LIAR, 7e4), (FIRST, 2e6), (SECOND, 1e6)):
        assert holders.next() == site
        keeps(holders, site, rate * LOOK_S)
    assert holders.next() == FIRST


def test_a_transfer_that_ends_soon_is_left_alone() -> None:
    holders = Holders((FIRST, SECOND))
    left_bytes = int(1e6 * SOON_S)
    assert holders.keeps(FIRST, have_bytes=int(1e6 * LOOK_S), left_bytes=left_bytes)


def test_whoever_was_quick_only_at_first_loses_its_turn() -> None:
    holders = Holders((LIAR, FIRST))
    assert not keeps(holders, LIAR, 5e6 * LOOK_S)
    assert not keeps(holders, FIRST, 1e6 * LOOK_S)
    assert holders.next() == LIAR
    assert keeps(holders, LIAR, 10e6 * LOOK_S)
    assert not keeps(holders, LIAR, 10e6 * LOOK_S + 10)
    for look in range(2, 50):
        assert holders.next() == FIRST
        assert keeps(holders, FIRST, 1e6 * LOOK_S * look)


def test_what_was_fetched_earlier_is_nobodys_speed() -> None:
    holders = Holders((FIRST, LIAR))
    assert not keeps(holders, FIRST, 9e8)
    assert not keeps(holders, LIAR, 1e5)
    assert not keeps(holders, FIRST, 9e8), "not a byte came since"


def test_on_a_slow_line_everybody_has_longer_the_next_time() -> None:
    holders = Holders((FIRST, SECOND))
    for times in (1, 2, 4, 8):
        assert holders.look_s == LOOK_S * times
        for site in (FIRST, SECOND):
            assert holders.next() == site
            assert not keeps(holders, site, 0)
        assert holders.next() is None
        holders.try_again()
    for _ in range(20):
        holders.try_again()
    assert holders.look_s == LOOK_S_MAX


def test_who_failed_is_asked_again_after_the_others() -> None:
    holders = Holders((LIAR, FIRST))
    holders.failed(LIAR)
    assert holders.next() == FIRST
    assert keeps(holders, FIRST, 100.0), "nobody else gave anything"
    holders.failed(FIRST)
    assert holders.next() is None
    holders.try_again()
    assert holders.next() == LIAR


def test_where_nobody_holds_it_nobody_is_asked() -> None:
    assert Holders(()).next() is None
