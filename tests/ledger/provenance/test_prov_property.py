"""No false alarms: whatever an honest site lives through, its audit is clean."""

import json
import tempfile
from pathlib import Path

from histories import random_story
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prov_stories import audited, is_clean

from ledger.provenance.report import to_json, to_text


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.integers(min_value=0, max_value=2**32))
def test_an_honest_history_raises_no_alarm(seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = audited(Path(folder) / "home", random_story(seed))
    assert is_clean(report), (seed, report.findings)
    assert all(len(line) <= 80 for line in to_text(report).splitlines())
    assert json.loads(to_json(report))["exit_code"] == 0


def test_the_same_seed_tells_the_same_history() -> None:
    assert random_story(7) == random_story(7)
    assert random_story(7) != random_story(8)
