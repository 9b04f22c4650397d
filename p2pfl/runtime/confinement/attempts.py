"""What a node tries at start-up from inside a confined process: each attempt has to be refused.

`python -m p2pfl.runtime.confinement.attempts FILE [NAMESPACE …]`, confined, where FILE exists and
may not be read, and the namespaces are those this process has to be out of. Prints a JSON list of
what got through. It reads, writes and harms nothing."""

import ctypes
import fcntl
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWUSER = 0x10000000


def attempts(outside: Path) -> Mapping[str, Callable[[], object]]:
    """By what would have happened."""
    return {
        "read a file outside": outside.read_bytes,
        "listed a folder outside": lambda: os.listdir(outside.parent),
        "wrote outside": lambda: os.open(outside, os.O_WRONLY),
        "read another process's environment": Path(f"/proc/{os.getppid()}/environ").read_bytes,
        "opened a socket": lambda: socket.socket(socket.AF_INET).close(),
        "opened a local socket": lambda: socket.socket(socket.AF_UNIX).close(),
        "started a process": lambda: os.fork() or os._exit(0),
        "signalled its node": lambda: os.kill(os.getppid(), 0),
        "slowed its node down": lambda: os.setpriority(os.PRIO_PROCESS, os.getpid(), 0),
        "left its session": os.setsid,
        "held on to its node": lambda: os.pidfd_open(os.getppid()),
        "traced its node": lambda: _call(_LIBC.ptrace, 16, os.getppid(), 0, 0),
        "made a namespace": lambda: _call(_LIBC.unshare, _CLONE_NEWUSER),
        "could outlive its node": lambda: _call(_LIBC.prctl, 1, 0, 0, 0, 0),
        "could be dumped to the disk": lambda: _call(_LIBC.prctl, 4, 1, 0, 0, 0),
        "listed the machine's connections": Path("/proc/self/net/tcp").read_bytes,
        "locked what others read": lambda: fcntl.flock(0, fcntl.LOCK_EX | fcntl.LOCK_NB),
        "made a link": lambda: os.symlink("x", "p2pfl-probe-link"),
    }


def _call(function: Callable[..., int], *arguments: int) -> None:
    if function(*arguments) == -1:
        raise OSError(ctypes.get_errno(), "refused")


def main(arguments: Sequence[str]) -> int:
    """Try everything, say what got through."""
    signal.alarm(20)
    through = ["ran as root"] if 0 in (*os.getresuid(), *os.getresgid(), *os.getgroups()) else []
    for one in arguments[1:]:  # like "net:[4026531840]"
        kind = one.partition(":")[0]
        if os.readlink(f"/proc/self/ns/{kind}") == one:
            through.append(f"shared its node's {kind}")
    for what, attempt in attempts(Path(arguments[0])).items():
        try:
            attempt()
        except OSError:
            continue
        through.append(what)
    sys.stdout.write(json.dumps(through))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
