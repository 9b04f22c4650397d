"""What a training process keeps of its memory between rounds."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

from p2pfl.learning.memory import PARAMETERS_MAX, is_kept
from tests.learning.learn_manifests import manifest, table

PROBE = """
import json, resource
from p2pfl.learning.memory import keep_memory
keep_memory()
def faults(bytes_):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(bytes_)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(json.dumps([faults(64 << 20), faults(64 << 20)]))
"""


def test_memory_is_kept_for_tables_and_models_that_are_not_huge() -> None:
    small = manifest(table(3))
    assert is_kept(small)
    huge = replace(small, study=replace(small.study, parameters=PARAMETERS_MAX + 1))
    assert not is_kept(huge)


def test_a_large_block_is_not_asked_of_the_kernel_a_second_time() -> None:
    # A process of its own: the option cannot be taken back. The program is the text above.
    answer = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, timeout=60
    )
    first, second = json.loads(answer.stdout)
    assert second < first / 4
