"""A filter of system calls: what training never needs, the kernel refuses.

The filter is built with libseccomp, exported as a program of the kernel's packet filter, and loaded
by a system call, so that the confined process itself needs no library for it. A name that
libseccomp does not know stops everything: a rule that silently does not exist is no rule."""

import ctypes
import errno
import os
import struct
from enum import Enum
from typing import Final

from p2pfl.runtime.confinement.errors import ConfinementError

DENIED: Final = (
    # leaving the process group that the node kills, other users, other programs
    *("setsid", "setpgid", "execve", "execveat", "fork", "vfork"),
    *("setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups"),
    *("setfsuid", "setfsgid", "capset"),
    # other processes
    *("ptrace", "process_vm_readv", "process_vm_writev", "kill", "tkill", "pidfd_open"),
    *("pidfd_getfd", "pidfd_send_signal", "kcmp", "process_madvise", "rt_sigqueueinfo"),
    *("rt_tgsigqueueinfo", "prlimit64", "setpriority", "sched_setaffinity", "sched_setattr"),
    *("sched_setparam", "sched_setscheduler", "ioprio_set", "migrate_pages", "move_pages"),
    # what happens in folders that may not be read
    *("inotify_init", "inotify_init1", "inotify_add_watch"),
    # what other processes notice: a lock on a library that all read, disks that have to be written
    *("flock", "sync", "syncfs"),
    # the network, and every other way to talk
    *("socket", "socketpair", "bind", "connect", "listen", "accept", "accept4"),
    *("io_uring_setup", "io_uring_enter", "io_uring_register"),
    *("mq_open", "msgget", "semget", "shmget", "shmat", "memfd_create", "memfd_secret"),
    # namespaces, mounts, the machine
    *("unshare", "setns", "mount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount"),
    *("fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "swapon", "swapoff", "reboot"),
    *("sethostname", "setdomainname", "settimeofday", "clock_settime", "adjtimex"),
    *("clock_adjtime", "acct", "quotactl", "init_module", "finit_module", "delete_module"),
    *("kexec_load", "kexec_file_load", "iopl", "ioperm", "syslog", "vhangup"),
    # kernel interfaces with a history
    *("bpf", "perf_event_open", "userfaultfd", "keyctl", "add_key", "request_key"),
    *("open_by_handle_at", "name_to_handle_at", "fanotify_init", "lookup_dcookie"),
    *("modify_ldt", "personality", "nfsservctl", "uselib", "ustat", "vmsplice"),
    # rights, owners and times of files, links, devices
    *("chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown", "fchownat"),
    *("setxattr", "lsetxattr", "fsetxattr", "removexattr", "lremovexattr", "fremovexattr"),
    *("utime", "utimes", "utimensat", "futimesat"),
    *("link", "linkat", "symlink", "symlinkat", "mknod", "mknodat"),
)
_CLONE_NEW: Final = {
    "time": 0x00000080,
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}
_CLONE_THREAD: Final = 0x00010000
_DESCRIPTOR_ORDERS: Final = (0, 1, 2, 3, 4, 1030, 1031, 1032)
"""fcntl: duplicates, flags, the size of pipes. Not among them: locks, leases, watching folders,
and owners and signals of a descriptor; each lets another process be signalled or held up."""
_DEVICE_ORDERS: Final = (0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""ioctl: whether it is a terminal and how wide, how much there is to read, waiting or not, closing
at a program's start. Not among them: typing into a terminal, marks and keys of file systems."""
_OWN_ORDERS: Final = (1, 2, 3, 15, 16, 21, 23, 29, 30, 38, 39, 41, 42)
"""prctl: a signal at its parent's end, names of threads, and what only asks or restricts more. Not
among them: letting its memory be dumped or traced, adopting orphans, scheduling groups."""
_PARENT_S_END: Final = 1
_KILLED: Final = 9
_NEWEST_KNOWN: Final = 450
"""set_mempolicy_home_node, Linux 5.17: what came later answers as if it did not exist."""

_LOAD_NUMBER: Final = (0x20, 0, 0, 0)
"""BPF_LD | BPF_W | BPF_ABS: the system call's number."""
_JUMP_IF_GREATER: Final = 0x25
_JUMP_IF_EQUAL: Final = 0x15
_LOAD: Final = 0x20
_ARGUMENTS: Final = 16
"""Where the first argument begins in what a filter sees; each has 8 bytes, the low half first."""
_RETURN: Final = 0x06
_ERRNO: Final = 0x00050000
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP: Final = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER: Final = 1
_ALL_THREADS: Final = 1


def is_known_machine() -> bool:
    """Whether the filter's numbers are right for this kind of processor."""
    return os.uname().machine in _SECCOMP


class Children(Enum):
    """Whether a confined process may have any."""

    NONE = "none"
    FORKED = "forked"
    """Under the same filter, for a process of ours that starts others; no other program."""


_FORKING: Final = ("fork", "vfork", "capset")
"""The last, so that what is forked can give up what the process itself needs for its libraries."""


def program(*, signals_are_scoped: bool, children: Children = Children.NONE) -> bytes:
    """The filter as the kernel wants it: 8 bytes for each instruction.

    signals_are_scoped: Landlock already keeps signals inside, so that a thread may still be
    signalled, as `abort` does.
    Raises ConfinementError where libseccomp is missing or does not know a name."""
    try:
        import pyseccomp as seccomp
    except (ImportError, OSError, RuntimeError) as error:
        raise ConfinementError(f"libseccomp is missing ({error}): install libseccomp2") from error
    made = seccomp.SyscallFilter(seccomp.ALLOW)
    refused, absent = seccomp.ERRNO(errno.EPERM), seccomp.ERRNO(errno.ENOSYS)
    welcome = () if children is Children.NONE else _FORKING
    denied = [name for name in DENIED if name not in welcome]
    known = [name for name in denied if number_of(seccomp, name) >= 0]
    for name in known:
        made.add_rule(refused, name)
    for name in ("clone3", "openat2"):  # their flags lie in memory, where no filter sees them
        made.add_rule(absent, name)
    # Older kernels' Landlock lets a file be emptied that may only be read.
    truncates = os.O_TRUNC | os.O_ACCMODE
    made.add_rule(refused, "truncate")
    made.add_rule(refused, "open", seccomp.Arg(1, seccomp.MASKED_EQ, truncates, os.O_TRUNC))
    made.add_rule(refused, "openat", seccomp.Arg(2, seccomp.MASKED_EQ, truncates, os.O_TRUNC))
    # Whoever clears this signal, or exchanges it, outlives its node.
    ends = seccomp.Arg(0, seccomp.MASKED_EQ, 0xFFFFFFFF, _PARENT_S_END)
    made.add_rule(refused, "prctl", ends, seccomp.Arg(1, seccomp.NE, _KILLED))
    for flag in _CLONE_NEW.values():
        made.add_rule(refused, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag))
    # A thread is welcome, another process is not: it would outlive limits that count per process.
    if children is Children.NONE:
        made.add_rule(refused, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, _CLONE_THREAD, 0))
    if not signals_are_scoped:
        made.add_rule(refused, "tgkill")
    orders = (
        _only(number_of(seccomp, "fcntl"), 1, _DESCRIPTOR_ORDERS),
        _only(number_of(seccomp, "ioctl"), 1, _DEVICE_ORDERS),
        _only(number_of(seccomp, "prctl"), 0, _OWN_ORDERS),
    )
    return b"".join((_refuse_unknown(), *orders, exported(made)))


def number_of(seccomp: object, name: str) -> int:
    """A system call's number here; −1 for one that this processor never had, like vfork on some."""
    found: int = seccomp.resolve_syscall(seccomp.Arch.NATIVE, name)  # type: ignore[attr-defined]
    if found == -1:
        raise ConfinementError(f'libseccomp does not know the system call "{name}"')
    return found


def exported(made: object) -> bytes:
    """A filter of libseccomp's as the kernel takes it. Raises ConfinementError."""
    reader, writer = os.pipe()
    try:
        with os.fdopen(writer, "wb") as file:
            made.export_bpf(file)  # type: ignore[attr-defined]
        with os.fdopen(reader, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfinementError(f"the filter could not be exported: {error}") from error


def _refuse_unknown() -> bytes:
    instructions = (
        _LOAD_NUMBER,
        (_JUMP_IF_GREATER, 0, 1, _NEWEST_KNOWN),
        (_RETURN, 0, 0, _ERRNO | errno.ENOSYS),
    )
    return b"".join(struct.pack("=HBBI", *one) for one in instructions)


def _only(number: int, place: int, orders: tuple[int, ...]) -> bytes:
    """Of a system call, the orders that are allowed; whatever else is asked of it is refused.

    place: of the argument that holds the order, of which the kernel looks at the low half alone."""
    count = len(orders)
    instructions = (
        _LOAD_NUMBER,
        (_JUMP_IF_EQUAL, 0, count + 2, number),
        (_LOAD, 0, 0, _ARGUMENTS + 8 * place),
        *((_JUMP_IF_EQUAL, count - at, 0, order) for at, order in enumerate(orders)),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
    )
    return b"".join(struct.pack("=HBBI", *one) for one in instructions)


def load(instructions: bytes) -> None:
    """Put the filter into force for every thread of this process, for good.

    Raises ConfinementError."""
    libc = ctypes.CDLL(None, use_errno=True)
    forbid_new_privileges()
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    count = len(instructions) // 8
    described = struct.pack("@HP", count, ctypes.addressof(buffer))
    number = _SECCOMP[os.uname().machine]
    if libc.syscall(number, _SET_MODE_FILTER, _ALL_THREADS, described) != 0:
        raise ConfinementError(f"seccomp: {os.strerror(ctypes.get_errno())}")


def forbid_new_privileges() -> None:
    """No program started from here gains rights, set-user-id or not. Raises ConfinementError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise ConfinementError(f"NO_NEW_PRIVS: {os.strerror(ctypes.get_errno())}")
