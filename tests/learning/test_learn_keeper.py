"""The keeper of gradient cells can write nowhere, and whatever it loads has to do without."""

import shutil
import subprocess
import sys

import pytest

PROBE = """
import ctypes.util, tempfile
from p2pfl.learning.gradient_cells.keeper import _warm_up
tempfile.tempdir = "/nowhere"
_warm_up()
print(ctypes.util.find_library("no-such-library"))
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no compiler would be asked")
def test_libraries_are_looked_for_without_a_folder_to_write_in() -> None:
    """Builds of torch for CUDA look for one when they are loaded."""
    # A process of its own: the program is the text above.
    found = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=60
    )
    assert (found.returncode, found.stdout.strip()) == (0, "None"), found.stderr
