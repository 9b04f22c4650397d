"""A node whose wall clock is set lives on as any other."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulations.chaos.clocks import Clock, _found

PROBE = """
import subprocess, sys, time
began = time.monotonic()
time.sleep(0.2)
print(time.monotonic() - began >= 0.19, time.time())
# It closes what it writes to before it ends: whoever waits for that has to sleep a little.
child = "import os, time; os.close(1); os.close(2); time.sleep(0.3)"
print(subprocess.run([sys.executable, "-c", child], capture_output=True, timeout=20).returncode)
"""


@pytest.mark.skipif(_found() is None, reason="libfaketime is not here")
def test_a_node_with_another_clock_sleeps_and_waits_for_children(tmp_path: Path) -> None:
    clock, preloaded = Clock(tmp_path / "clock"), _found()
    assert preloaded is not None
    clock.set(-500.0)
    # The program is the text above.
    told = subprocess.run(
        [sys.executable, "-c", PROBE],
        env=os.environ | clock.environment(preloaded),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    slept, now_s, code = told.stdout.split()
    assert (slept, code) == ("True", "0")
    assert abs(float(now_s) + 500.0 - time.time()) < 60.0  # noqa: TID251 - the machine's own clock
