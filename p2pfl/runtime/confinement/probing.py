"""How well this machine confines, found out by trying to escape.

A layer that is configured may still not work: what counts is what a confined process could do. So
a node starts one, lets it try a part of the escape suite, and only then says its level."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pfl.runtime.confinement.errors import ConfinementError
from p2pfl.runtime.confinement.terms import Level, Terms, terms_here

LAUNCHER: Final = "p2pfl.runtime.confinement.launch"
ATTEMPTS: Final = "p2pfl.runtime.confinement.attempts"
PROBE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Standing:
    """What training processes are confined to here. reason: why it is not better; "" at C."""

    level: Level
    terms: Terms | None
    """None at level D."""
    reason: str = ""


def probed(outside: Path) -> Standing:
    """The level of this machine, as a confined process found it.

    outside: an existing file that no confined process may read, like the node's policy."""
    try:
        terms = terms_here()
        through = _tried(terms, outside)
    except ConfinementError as error:
        return Standing(Level.D, None, str(error))
    if through:
        return Standing(Level.D, None, f"a confined process {', '.join(through)}")
    return Standing(Level.C, terms)


def _tried(terms: Terms, outside: Path) -> list[str]:
    """What got through. Raises ConfinementError if that could not be found out."""
    environment = {"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)}
    try:
        # Our own interpreter and modules.
        done = subprocess.run(  # noqa: S603 - nothing of it comes from a peer
            [sys.executable, "-S", "-m", LAUNCHER, terms.to_text(), "-m", ATTEMPTS, str(outside)],
            capture_output=True,
            env=environment,
            cwd="/",
            timeout=PROBE_S,
            check=False,
        )
        through = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise ConfinementError(f"a confined process could not be tried: {error}") from error
    if not isinstance(through, list):
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ConfinementError(f"a confined process did not start: {said[-1] if said else ''}")
    return [str(one) for one in through]
