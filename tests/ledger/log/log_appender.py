"""A process that appends to a log as fast as it can and tells every head it released.

    python log_appender.py HOME

Prints `size root` after each commit; whoever started it kills it. Not a test.
"""

import os
import sys
import threading
from itertools import count
from pathlib import Path

from log_samples import LOG_KEY, NOW_US, draft

from ledger.log import Log


def main(home: Path) -> None:
    """Append from two threads, in commits of one to forty entries, until killed."""
    log = Log.open(home, log=LOG_KEY)
    lock = threading.Lock()

    def append(step: int) -> None:
        for number in count(1, step):
            batch = [draft(i, padding=300) for i in range(number % 40 + 1)]
            head = log.append(batch, NOW_US).checkpoint
            log.put_secret(head.size - 1, "reason", bytes(32), bytes(100))
            with lock:
                # Unbuffered: what was printed was released before the process was killed.
                os.write(1, f"{head.size} {head.root.hex()}\n".encode())

    for step in (1, 3):
        threading.Thread(target=append, args=(step,)).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
