"""A process of its own that checks every n-th block of a log, so that verifying uses all cores.

Responsible for: reading the blocks by itself and writing one answer for each, in order.
Must not know: what becomes of the answers.

    python -m ledger.log.block_process HOME SIZE SIGS WATCHED FIRST STEP

SIZE entries; SIGS as in `SigCheck`; WATCHED kinds with commas between; blocks number FIRST,
FIRST + STEP, and so on. It ends after the last block, or when nobody reads the answers any more.
An answer (see `block_processes`) vouches for a block or asks the reader to look for itself; so
does a process that fails: whatever is wrong with the log is found by whoever started it.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from ledger.log.block_check import BlockCheck
from ledger.log.block_processes import blocks_of, packed_answer
from ledger.log.database import Database
from ledger.log.errors import LedgerError
from ledger.log.findings import SigCheck
from ledger.log.opening import read_history, read_identity


def main(arguments: Sequence[str], answers: BinaryIO) -> int:
    """Check the blocks that the arguments name; the exit status, 0 if all were answered."""
    home, size, sigs, watched, first, step = arguments
    try:
        database = Database.open_for_reading(Path(home))
        try:
            identity = read_history(database, read_identity(database), int(size)).identity
            check = BlockCheck(database, identity, SigCheck(sigs), watched.split(","))
            for start, stop in blocks_of(int(first), int(step), int(size)):
                answers.write(packed_answer(check.sound(start, stop)))
                answers.flush()
        finally:
            database.close()
    except (LedgerError, BrokenPipeError):
        return 1
    return 0


if __name__ == "__main__":  # pragma: no cover -- in a process of its own; tests call main()
    sys.exit(main(sys.argv[1:], sys.stdout.buffer))
