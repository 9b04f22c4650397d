"""A filter for a process that computes and does nothing else: what it names is all there is.

The other filter forbids what is known to be dangerous. This one allows what arithmetic on memory
needs: a process under it has no file, clock, socket, signal, thread or child, and cannot tell
which process it is. Source: seccomp(2); futex(2) on private and shared futexes."""

import errno
from typing import Final

from p2pfl.runtime.confinement.errors import ConfinementError
from p2pfl.runtime.confinement.seccomp import exported, number_of

ALLOWED: Final = (
    *("read", "write", "readv", "writev", "close", "exit", "exit_group", "rt_sigreturn"),
    *("mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "getrandom"),
)
"""Of pipes that are open already, and memory of its own."""
_ALWAYS_ZERO: Final = ("getpid", "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid")
"""Asked for by libraries; numbers of processes would count what others did before."""
_FUTEX_PRIVATE: Final = 128
_MAP_ANONYMOUS: Final = 0x20


def cell_program() -> bytes:
    """The filter as the kernel wants it. Raises ConfinementError where libseccomp is missing."""
    try:
        import pyseccomp as seccomp
    except (ImportError, OSError, RuntimeError) as error:
        raise ConfinementError(f"libseccomp is missing ({error}): install libseccomp2") from error
    made = seccomp.SyscallFilter(seccomp.ERRNO(errno.EPERM))
    for name in ALLOWED:
        if name != "mmap" and number_of(seccomp, name) >= 0:
            made.add_rule(seccomp.ALLOW, name)
    anonymous = seccomp.Arg(3, seccomp.MASKED_EQ, _MAP_ANONYMOUS, _MAP_ANONYMOUS)
    made.add_rule(seccomp.ALLOW, "mmap", anonymous)
    # A shared futex, on a library's pages that all processes map, is a word between processes.
    private = seccomp.Arg(1, seccomp.MASKED_EQ, _FUTEX_PRIVATE, _FUTEX_PRIVATE)
    made.add_rule(seccomp.ALLOW, "futex", private)
    for name in _ALWAYS_ZERO:
        if number_of(seccomp, name) >= 0:
            made.add_rule(seccomp.ERRNO(0), name)
    return exported(made)
