"""What all tests share.

- Property tests draw the same cases in every run: a failure then is a failure for everybody, and a
  green run stays green. `HYPOTHESIS_PROFILE=search` looks for new cases instead.
- With `MEASURE_COVERAGE=1` (make test) each test process measures itself into a file of its own;
  `coverage combine` joins them. `coverage run` would see the process that only hands out tests, and
  measuring every process (coverage's own `patch`) would slow the nodes down that tests start.
"""

import os
import signal

import pytest
from hypothesis import settings

settings.register_profile("steady", derandomize=True)
settings.register_profile("search")
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

# What a script starts in the background ignores Ctrl-C, and so would every process that tests start
# and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Start to measure before any of our own code is imported."""
    hands_out_tests = config.getoption("numprocesses", None) and not hasattr(config, "workerinput")
    if os.environ.get("MEASURE_COVERAGE") != "1" or hands_out_tests:
        return
    import coverage

    measuring = coverage.Coverage(data_suffix=True)
    measuring.start()

    def save() -> None:
        measuring.stop()
        measuring.save()

    config.add_cleanup(save)
