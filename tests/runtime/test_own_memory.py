"""A node's threads take their memory from the same few places."""

import subprocess
import sys

from p2pfl.runtime.own_memory import ARENAS

THREADS = 8
PROBE = f"""
import sys, threading
if sys.argv[1] == "shared":
    from p2pfl.runtime.own_memory import share_own_memory
    share_own_memory()
met = threading.Barrier({THREADS + 1})
def work():
    taken = [bytes(1000) for _ in range(100)]
    met.wait()
    met.wait()
threads = [threading.Thread(target=work) for _ in range({THREADS})]
for thread in threads:
    thread.start()
met.wait()
# glibc begins each further arena at a multiple of 64 MiB.
rows = [line.split() for line in open("/proc/self/maps")]
print(sum(int(row[0].partition("-")[0], 16) % (64 << 20) == 0 and len(row) == 5 for row in rows))
met.wait()
"""


def apart(how: str) -> int:
    """How many places there are beside the first one. The option cannot be taken back."""
    # The program is the text above.
    answer = subprocess.run(
        [sys.executable, "-c", PROBE, how], capture_output=True, text=True, check=True, timeout=60
    )
    return int(answer.stdout)


def test_threads_share_the_places_they_take_memory_from() -> None:
    assert apart("shared") <= ARENAS - 1 < apart("as it comes")
