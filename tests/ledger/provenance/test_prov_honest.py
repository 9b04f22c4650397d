"""No false alarms between sites: whatever honest sites live through together, no audit of one
against all the others finds anything wrong."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prov_consortium import Consortium
from prov_stories import is_clean

SEEDS = st.integers(min_value=0, max_value=2**32)


def check(seed: int) -> None:
    world = Consortium(seed, sites=3 + seed % 2).live()
    for site in world.sites:
        report = world.audit(site)
        assert is_clean(report), (seed, site.name, report.findings)
    site, *others = world.sites
    report = world.audit(site, world.evidence(site, [world.mirror_of(x) for x in others]))
    assert is_clean(report), (seed, "mirrored", report.findings)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(SEEDS)
def test_honest_sites_raise_no_alarm_against_each_other(seed: int) -> None:
    check(seed)


@pytest.mark.long
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("part", range(10))
def test_a_thousand_honest_histories_raise_no_alarm(part: int) -> None:
    for seed in range(100 * part, 100 * part + 100):
        check(seed)
