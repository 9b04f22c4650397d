"""One JSON request from stdin, answered on stdout with the seconds it took."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final

import torch

from p2pfl.core.errors import ManifestError
from p2pfl.learning.errors import LearningError

REQUEST_BYTES_MAX: Final = 1 << 20


def answer_timed_request(
    answered: Callable[[Mapping[str, object]], dict[str, object]], *, threads: int
) -> int:
    """Returns the exit code; a refusal is one line on stderr and 1.

    answered: raises LearningError, ManifestError or OSError for what is refused; threads: torch's.
    """
    started_s = time.perf_counter()
    torch.set_num_threads(threads)
    try:
        answer = answered(json.loads(sys.stdin.read(REQUEST_BYTES_MAX)))
    except (LearningError, ManifestError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"the request is not as described in the module: {error!r}\n")
        return 1
    answer["seconds"] = time.perf_counter() - started_s
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0
