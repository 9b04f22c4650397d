"""What all tests share.

- Property tests draw the same cases in every run: a failure then is a failure for everybody, and a
  green run stays green. `HYPOTHESIS_PROFILE=search` looks for new cases instead.
- With `MEASURE_COVERAGE=1` (make coverage) each test process measures itself into its own file;
  `coverage combine` joins them. `coverage run` would see the process that only hands out tests, and
  measuring every process (coverage's own `patch`) would slow the nodes down that tests start.
"""

import os
import signal
from collections import Counter
from collections.abc import Generator

import pytest
from hypothesis import settings

# No deadlines: how long a case takes says something about the machine's load, and nothing else.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

# What a script starts in the background ignores Ctrl-C, and so would every process that tests start
# and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


CASES_MEASURED = 10
"""Of a test with many parameter sets, so many are measured: crashes at 160 places take the same
lines again and again, and being measured makes them three times as slow."""


def pytest_configure(config: pytest.Config) -> None:
    """Start to measure before any of our own code is imported."""
    hands_out_tests = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    if os.environ.get("MEASURE_COVERAGE") == "1" and not hands_out_tests:
        config.pluginmanager.register(Measuring(), "measuring")


class Measuring:
    """Coverage of this process, by the tests that count."""

    def __init__(self) -> None:
        import coverage

        self._coverage = coverage.Coverage(data_suffix=True)
        self._coverage.start()
        self._unmeasured: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """The first cases of each test are measured, whoever runs them."""
        cases: Counter[str] = Counter()
        for item in items:
            test = item.nodeid.partition("[")[0]
            cases[test] += 1
            if cases[test] > CASES_MEASURED:
                self._unmeasured.add(item.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None]:
        """Others run as they are."""
        is_unmeasured = item.nodeid in self._unmeasured
        if is_unmeasured:
            self._coverage.stop()
        try:
            return (yield)
        finally:
            if is_unmeasured:
                self._coverage.start()

    def pytest_unconfigure(self) -> None:
        """Keep what was seen for `coverage combine`."""
        self._coverage.stop()
        self._coverage.save()
