"""Write, check and average models of 240 MB, and print the most anonymous memory of each, in MB.

python node_bulk.py FOLDER
"""

import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from p2pfl.runtime.averaging_job import mix
from p2pfl.runtime.blobs import BlobStore
from p2pfl.runtime.encoding import BLOCK, Rounding
from p2pfl.runtime.model_jobs import Sound, _require_sound
from p2pfl.runtime.vector_files import Layout, VectorFile

PARAMETERS = 60_000_000


def anonymous_mb() -> int:
    """Memory of this process that no file holds."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024 // 1_000_000
    raise SystemExit("this kernel does not say")


class Peak:
    """The most between `start` and `print`."""

    def __init__(self) -> None:
        self._end, self._before, self._most = threading.Event(), anonymous_mb(), 0
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._end.wait(0.002):
            self._most = max(self._most, anonymous_mb())

    def print(self, what: str) -> None:
        self._end.set()
        self._thread.join()
        print(what, max(0, self._most - self._before), flush=True)


def blocks(value: float) -> Iterator[NDArray[np.float32]]:
    block = np.full(BLOCK, value, dtype=np.float32)
    for first in range(0, PARAMETERS, BLOCK):
        yield block[: PARAMETERS - first]


def main(folder: Path) -> None:
    store, layout = BlobStore(folder), Layout("float32", PARAMETERS)
    rounding, peak = Rounding(os.urandom), Peak()
    digests = [
        store.write_blocks(lambda value=value: blocks(value), layout, rounding)[0]  # type: ignore[misc]
        for value in (1.0, 2.0, 3.0)
    ]
    for digest in digests:
        with store.path(digest).open("rb", buffering=0) as file:
            _require_sound(VectorFile(file), Sound(layout))
    peak.print("checked")
    peak = Peak()
    mixed = mix(store, "mean", {}, digests[0], [(d, 250_000) for d in digests[1:]], PARAMETERS)
    assert 1.0 < mixed.value[0] == mixed.value[-1] < 3.0
    store.write_vector(mixed.value)
    peak.print("averaged")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
