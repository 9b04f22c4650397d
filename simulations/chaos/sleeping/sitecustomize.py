"""Loaded first by a node whose wall clock is not the machine's: it sleeps by another call.

Where the monotonic clock stays real, libfaketime 0.9.10 ends each `time.sleep` with EINVAL; so did
each wait for a child that had not quite ended, such as the one that computes ε for an approval.
"""

import select
import time


def _sleep(seconds: float) -> None:
    select.select([], [], [], seconds)


time.sleep = _sleep  # type: ignore[assignment]  # also takes what is like a whole number
