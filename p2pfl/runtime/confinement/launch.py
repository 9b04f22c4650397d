"""What runs in the child before anybody's code: confine this process, then become the program.

`python -m p2pfl.runtime.confinement.launch TERMS -m MODULE …` or `… TERMS SCRIPT …`, where TERMS
is the text of a `Terms`. Everything is settled before a library could start a thread, and nothing
of it can be undone. Standard streams stay as they are."""

import contextlib
import ctypes
import importlib
import os
import resource
import runpy
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from p2pfl.runtime.confinement import capabilities, landlock, ordinary_user, seccomp, standing
from p2pfl.runtime.confinement.errors import EXIT_NOT_CONFINED, ConfinementError
from p2pfl.runtime.confinement.terms import PACKAGES, Limits, Terms

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_FIRST_TO_DIE: Final = "1000"
_OWN_FACTS: Final = (
    *("auxv", "cgroup", "cmdline", "comm", "environ", "fd", "fdinfo", "io", "limits", "maps"),
    *("numa_maps", "smaps", "smaps_rollup", "stat", "statm", "status"),
)
"""What a process may read about itself. Not among them: the machine's connections and mounts."""


def confine(terms: Terms) -> None:
    """Give up everything but what the terms name. Raises ConfinementError: then run nothing."""
    seccomp.forbid_new_privileges()
    _limit(terms.limits)
    if terms.user is not None:
        ordinary_user.become(terms.user, terms.write)
    if os.geteuid() == 0:
        raise ConfinementError("nobody's code runs as root: run the node as an ordinary user")
    _keep_what_reading_needs((*terms.read, *terms.write))
    # After the change of user, which the kernel takes as a reason to forget both.
    _find_packages()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    # Opened before the door closes: /proc/self means this process, and only now.
    landlock.restrict((*terms.read, *_own_facts()), terms.write)
    seccomp.load(terms.filter)
    standing.note_confined()


def _own_facts() -> tuple[Path, ...]:
    """Of this process, whichever number it has; not all kernels have all of them."""
    there = (Path("/proc/self", name) for name in _OWN_FACTS)
    return tuple(path for path in there if path.exists())


def _find_packages() -> None:
    """Where our packages lie, while it can be seen: a checkout's own folder is closed."""
    for name in PACKAGES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _keep_what_reading_needs(paths: Sequence[Path]) -> None:
    """At most one power of root, and none where files can be read without. Raises
    ConfinementError."""
    if not capabilities.has_any():
        return  # an ordinary user's: what cannot be read is missed by the library that needs it
    closed = ordinary_user.unreadable(paths)
    if closed is None:
        capabilities.keep_none()
        return
    if not capabilities.may_read_all():
        raise ConfinementError(
            f"user {os.geteuid()} cannot read {closed}: give it the right to, or run the node as "
            "an ordinary user who has it"
        )
    capabilities.keep_reading()


def _limit(limits: Limits) -> None:
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_NPROC: limits.threads,
    }
    optional = {
        resource.RLIMIT_AS: limits.address_space_bytes,
        resource.RLIMIT_DATA: limits.private_bytes,
        resource.RLIMIT_CPU: limits.processor_s,
    }
    wanted |= {kind: most for kind, most in optional.items() if most is not None}
    for kind, most in wanted.items():
        _, hard = resource.getrlimit(kind)
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))
    try:
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_DIE, encoding="ascii")
    except OSError as error:  # a container may forbid it; memory is limited all the same
        sys.stderr.write(f"oom_score_adj: {error.strerror}\n")


def main(arguments: Sequence[str]) -> int:
    """Confine this process and run the program in it."""
    terms, program = Terms.from_text(arguments[0]), list(arguments[1:])
    try:
        confine(terms)
    except ConfinementError as error:
        sys.stderr.write(f"training was not started, it could not be confined: {error}\n")
        return EXIT_NOT_CONFINED
    is_module = program[0] == "-m"
    sys.argv = program[1:] if is_module else program
    if is_module:
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(program[0])
        runpy.run_path(program[0], run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
