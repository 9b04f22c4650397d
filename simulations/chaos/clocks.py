"""Wall clocks that can be set per node, with libfaketime; the monotonic clock is left alone.

A node is started with the library before all others and reads how wrong its clock is from a file,
once a second. Nothing in the node knows of it."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

PLACES: Final = ("/usr/lib", "/usr/lib64", "/usr/local/lib")
LIBRARY: Final = "libfaketimeMT.so.1"
SLEEPING: Final = Path(__file__).resolve().with_name("sleeping")
"""What a node loads first: the library breaks how Python sleeps."""
PACKAGE: Final = Path(__file__).resolve().parent.parent.parent / "scripts" / "system_package.sh"


def library() -> Path | None:
    """Where libfaketime lies, installed as Debian's root may; None where it cannot be had."""
    found = _found()
    if found is None and PACKAGE.is_file() and shutil.which("bash"):
        command = ["bash", str(PACKAGE), "faketime", "faketime"]
        # Our own script, with words of our own.
        subprocess.run(command, capture_output=True, timeout=300, check=False)  # noqa: S603
        found = _found()
    return found


def _found() -> Path | None:
    tried = (path for top in PLACES for path in sorted(Path(top).glob(f"**/{LIBRARY}")))
    return next(tried, None)


class Clock:
    """One node's clock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set(0.0)

    def set(self, by_s: float) -> None:
        """Let it be so many seconds ahead of the real one; effective within a second."""
        new = self._path.with_suffix(".new")
        new.write_text(f"{by_s:+.0f}\n")
        new.replace(self._path)

    def environment(self, preloaded: Path) -> dict[str, str]:
        """What a process needs to live by this clock."""
        return {
            "LD_PRELOAD": str(preloaded),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(SLEEPING), os.getenv("PYTHONPATH")))),
        }
