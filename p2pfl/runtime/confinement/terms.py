"""What a confined process may reach and use up, as the node hands it to the child."""

import base64
import json
import os
import sys
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Final

from p2pfl.runtime.confinement import bubblewrap, landlock, ordinary_user, seccomp
from p2pfl.runtime.confinement.errors import ConfinementError

MIB: Final = 1 << 20
LAUNCHER: Final = "p2pfl.runtime.confinement.launch"
"""The module that confines a process and becomes the program in it."""


class Level(Enum):
    """How well this machine confines training; the letters are those of docs/confinement.md."""

    B = "B"
    """As C, and in namespaces of its own, by bubblewrap."""
    C = "C"
    """Landlock, a filter of system calls and limits: what an ordinary container allows, too."""
    D = "D"
    """One of them is missing: code that a researcher wrote must not run here."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process may use up. None: as much as there is."""

    address_space_bytes: int | None = None
    """None where a GPU is used: its driver reserves more addresses than there is memory."""
    file_bytes: int = 8_192 * MIB
    """The largest file it may write."""
    open_files: int = 512
    threads: int = 8_192
    """Of all processes of its user together, as the kernel counts them."""
    private_bytes: int | None = None
    """Memory that is its own and can be written, touched or not; files it reads do not count."""
    processor_s: int | None = None
    """Of all its threads together; None where it may work for days."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What one confined process gets. read, write: existing files and folders."""

    read: tuple[Path, ...]
    write: tuple[Path, ...]
    limits: Limits
    filter: bytes
    """The program of `seccomp.program`."""
    user: int | None = None
    """Whom it becomes, user and group; None: its node is an ordinary user, and so is it."""
    bubblewrap: str | None = None
    """The program that gives it namespaces of its own; None at level C."""

    @property
    def level(self) -> Level:
        """What a process under these terms is confined to."""
        return Level.C if self.bubblewrap is None else Level.B

    def with_paths(self, read: tuple[Path, ...], write: tuple[Path, ...]) -> "Terms":
        """The same, and these paths as well."""
        more = [tuple(path.absolute() for path in paths) for paths in (read, write)]
        return replace(self, read=self.read + more[0], write=self.write + more[1])

    def holding(self, private_bytes: int | None) -> "Terms":
        """The same, and no more memory of its own than this; None changes nothing."""
        if private_bytes is None:
            return self
        return replace(self, limits=replace(self.limits, private_bytes=private_bytes))

    def to_text(self) -> str:
        """As one argument of a command line."""
        return json.dumps(
            {
                "read": [str(path) for path in self.read],
                "write": [str(path) for path in self.write],
                "limits": asdict(self.limits),
                "user": self.user,
                "bubblewrap": self.bubblewrap,
                "filter": base64.b64encode(self.filter).decode(),
            }
        )

    @classmethod
    def from_text(cls, text: str) -> "Terms":
        """What `to_text` wrote."""
        table = json.loads(text)
        return cls(
            tuple(Path(path) for path in table["read"]),
            tuple(Path(path) for path in table["write"]),
            Limits(**table["limits"]),
            base64.b64decode(table["filter"]),
            table["user"],
            table["bubblewrap"],
        )


def python_paths() -> tuple[Path, ...]:
    """What Python, its libraries and torch read on any machine: code and facts about hardware."""
    folders = [part for path in sys.path for part in _without_a_checkout(path)]
    code = [*folders, sys.prefix, sys.base_prefix, os.path.dirname(sys.executable)]
    # Other processes are not among them: of /proc, a process sees itself and the machine.
    system = [
        *("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/localtime"),
        *("/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/filesystems"),
        *("/proc/sys/vm/overcommit_memory", "/sys/devices/system"),
        *("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/memory.max"),
        *("/dev/urandom", "/dev/random", "/dev/zero"),
    ]
    return _existing(*code, *system)


PACKAGES: Final = ("gossip", "ledger", "p2pfl", "simulations")
"""What a checkout of our sources has that Python imports."""


def _without_a_checkout(path: str) -> tuple[str, ...]:
    """A folder of code; of a checkout its packages alone, since people keep homes below it, too."""
    if not os.path.isfile(os.path.join(path or ".", "pyproject.toml")):
        return (path,)
    return tuple(os.path.join(path or ".", name) for name in PACKAGES)


KEEPER_BYTES: Final = 8_192 * MIB
"""Addresses of the process that forks gradient cells, and of each cell."""


def keeper_terms(training: Terms) -> Terms:
    """What the process that forks gradient cells gets: libraries to read, nothing to write.

    training: the terms of the process whose cells they are, whose level and memory are theirs.
    Raises ConfinementError."""
    private_bytes = training.limits.private_bytes
    limits = Limits(KEEPER_BYTES, file_bytes=0, open_files=64, private_bytes=private_bytes)
    here = terms_here(limits, seccomp.Children.FORKED)
    return replace(here, bubblewrap=training.bubblewrap)


def terms_here(
    limits: Limits | None = None, children: seccomp.Children = seccomp.Children.NONE
) -> Terms:
    """What every confined Python process of this machine gets, the best that seems to work.

    Raises ConfinementError where a layer is missing: see `Level.D`."""
    version = landlock.abi()
    if version == 0:
        raise ConfinementError("this kernel has no Landlock, or it is switched off")
    if not seccomp.is_known_machine():
        raise ConfinementError(f"no filter of system calls for {os.uname().machine} processors")
    scoped = version >= landlock.SCOPES_SINCE
    program = seccomp.program(signals_are_scoped=scoped, children=children)
    user, read = ordinary_user.user_here(), python_paths()
    wrapping = bubblewrap.found_here(user, read).program
    return Terms(read, _existing("/dev/null"), limits or Limits(), program, user, wrapping)


def _existing(*paths: str) -> tuple[Path, ...]:
    """Those that are there, by their own names, each once; never everything."""
    found = {Path(os.path.abspath(path)) for path in paths if path and os.path.exists(path)}
    return tuple(sorted(path for path in found if path.resolve() != Path("/")))
