"""Does training work on this machine? `python -m p2pfl.learning.self_test`, JSON on stdout.

Responsible for loading what a training process loads and for one gradient step with it, so that a
broken installation shows before a study does. Needs no data.

Out: {torch, opacus, numpy, load_s, step_ok}
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version


def main() -> int:
    """Load the libraries, take one step, and print versions. The caller reads the complaint."""
    started_s = time.perf_counter()
    try:
        import opacus  # noqa: F401 - only whether it loads
        import torch
    except (ImportError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    load_s = time.perf_counter() - started_s
    found: dict[str, object] = {name: version(name) for name in ("torch", "opacus", "numpy")}
    weight = torch.zeros(2, requires_grad=True)
    (weight * torch.tensor([1.0, 2.0])).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    gradient = weight.grad
    found["step_ok"] = gradient is not None and gradient.tolist() == [1.0, 2.0]
    found["load_s"] = load_s
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
