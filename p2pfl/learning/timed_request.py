"""One JSON request that torch works on, answered with the seconds it took."""

from __future__ import annotations

import time

import torch

from p2pfl.learning.json_request import Answered, Request, answer_request


def answer_timed_request(answered: Answered, *, threads: int) -> int:
    """As `answer_request`; the answer also has `seconds`. threads: torch's."""
    torch.set_num_threads(threads)

    def timed(request: Request) -> dict[str, object]:
        started_s = time.perf_counter()
        answer = answered(request)
        return {**answer, "seconds": time.perf_counter() - started_s}

    return answer_request(timed)
