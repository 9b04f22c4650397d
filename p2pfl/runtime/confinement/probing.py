"""How well this machine confines, found out by trying to escape.

A layer that is configured may still not work: what counts is what a confined process could do. So
a node starts one, lets it try a part of the escape suite, and only then says its level."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from p2pfl.runtime.confinement import bubblewrap
from p2pfl.runtime.confinement.errors import ConfinementError
from p2pfl.runtime.confinement.starting import confined_command
from p2pfl.runtime.confinement.terms import Level, Terms, terms_here

ATTEMPTS: Final = "p2pfl.runtime.confinement.attempts"
PROBE_S: Final = 30.0
APART: Final = ("ipc", "mnt", "net", "pid", "uts")
"""Namespaces that a process of level B shares with nobody."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What training processes are confined to here. reason: why it is not better; "" at B."""

    level: Level
    terms: Terms | None
    """None at level D."""
    reason: str = ""

    @property
    def is_below_what_is_installed(self) -> bool:
        """Whether bubblewrap is there, and is of no use."""
        return self.level is Level.C and self.reason != bubblewrap.ABSENT


def probed(outside: Path) -> Standing:
    """The level of this machine, as a confined process found it.

    outside: an existing file that no confined process may read, like the node's policy."""
    try:
        terms = terms_here()
        if terms.bubblewrap is None:
            return _probed_bare(
                terms, outside, bubblewrap.found_here(terms.user, terms.read).reason
            )
    except ConfinementError as error:
        return Standing(Level.D, None, str(error))
    try:
        through = _tried(terms, outside)
    except ConfinementError as error:
        reason = str(error)
    else:
        if not through:
            return Standing(Level.B, terms)
        reason = _got_through(through)
    return _probed_bare(replace(terms, bubblewrap=None), outside, f"with bubblewrap, {reason}")


def standing_here() -> Standing:
    """The level of this machine where no home's file is at hand to be read."""
    # Any file of ours that is not a library will do: no confined process may read it.
    with tempfile.NamedTemporaryFile() as outside:
        return probed(Path(outside.name))


def _probed_bare(terms: Terms, outside: Path, reason: str) -> Standing:
    """Without bubblewrap. reason: why without."""
    try:
        through = _tried(terms, outside)
    except ConfinementError as error:
        return Standing(Level.D, None, str(error))
    if through:
        return Standing(Level.D, None, _got_through(through))
    return Standing(Level.C, terms, reason)


def _got_through(through: list[str]) -> str:
    return f"a confined process {', '.join(through)}"


def _tried(terms: Terms, outside: Path) -> list[str]:
    """What got through. Raises ConfinementError if that could not be found out."""
    environment = {"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)}
    shared = () if terms.bubblewrap is None else _namespaces_here()
    program = ("-m", ATTEMPTS, str(outside), *shared)
    try:
        code, out, err = _ended(confined_command(terms, program, environment, "-S"), environment)
        through = json.loads(out) if code == 0 else None
    except (OSError, ValueError) as error:
        raise ConfinementError(f"a confined process could not be tried: {error}") from error
    if not isinstance(through, list):
        said = err.decode("utf-8", "replace").strip().splitlines()
        raise ConfinementError(f"a confined process did not start: {said[-1] if said else ''}")
    return [str(one) for one in through]


def _ended(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, bytes, bytes]:
    """Exit status and what was said, after PROBE_S at the latest. Raises OSError.

    A timer of ours, not that of subprocess, which sleeps half a millisecond at a time:
    libraries that set clocks for tests refuse that, and the machine would look as if it did not
    confine.
    """
    # Our own interpreter and modules; nothing of it comes from a peer.
    with subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd="/",
    ) as process:
        timer = threading.Timer(PROBE_S, process.kill)
        timer.start()
        try:
            out, err = process.communicate()
        finally:
            timer.cancel()
        return process.returncode, out, err


def _namespaces_here() -> tuple[str, ...]:
    """This process's own, which one at level B must not be in."""
    return tuple(os.readlink(f"/proc/self/ns/{name}") for name in APART)
