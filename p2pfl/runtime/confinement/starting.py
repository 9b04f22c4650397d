"""The command line of a confined process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from p2pfl.runtime.confinement import bubblewrap
from p2pfl.runtime.confinement.terms import LAUNCHER, Terms

FIRST_IN_ITS_NAMESPACE: Final = 1
"""Number of bubblewrap's process that waits for what it started, as that one sees it."""


def confined_command(
    terms: Terms, program: Sequence[str], environment: Mapping[str, str], *options: str
) -> tuple[str, ...]:
    """What starts `program`, confined: "-m MODULE …" or "SCRIPT …", with our interpreter.

    options: of the interpreter. environment: all the variables the program gets."""
    started = (sys.executable, *options, "-m", LAUNCHER, terms.to_text(), *program)
    if terms.bubblewrap is None:
        return started
    return bubblewrap.command(
        terms.bubblewrap, terms.user, terms.read, terms.write, started, environment
    )


def parent_seen(terms: Terms | None) -> int:
    """The number of its parent, as a process that is started now by this one will see it."""
    is_apart = terms is not None and terms.bubblewrap is not None
    return FIRST_IN_ITS_NAMESPACE if is_apart else os.getpid()
