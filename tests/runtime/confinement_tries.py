"""What a confined process tries: each has to be refused. `outside` is a folder with the node's key.

It stands alone: the escape suite imports it, and the test of containers sends it into one."""

import os

ESCAPES = {
    "reads the node's key": "open(outside + '/identity.key').read()",
    "reads passwd": "open('/etc/passwd').read()",
    "lists the home": "os.listdir(outside)",
    "reads another process's environment": f"open('/proc/{os.getppid()}/environ').read()",
    "reads its parent's memory": "open(f'/proc/{os.getppid()}/mem', 'rb')",
    "writes outside its folders": "open(outside + '/left', 'w')",
    "writes into the data": "open(outside + '/data.csv', 'a')",
    "truncates the data": "os.truncate(outside + '/data.csv', 0)",
    "empties the data as it reads it": "os.open(outside + '/data.csv', os.O_RDONLY | os.O_TRUNC)",
    "replaces the data": "os.replace('plan.py', outside + '/data.csv')",
    "changes the data's rights": "os.chmod(outside + '/data.csv', 0o777)",
    "changes its own folder's rights": "os.chmod('.', 0o777)",
    "gives a file away": "os.chown('plan.py', 1, 1)",
    "follows a link it made": "os.symlink(outside + '/identity.key', 'x'); open('x').read()",
    "leaves a link for the node": "os.symlink(outside + '/identity.key', 'model.bin')",
    "leaves a hard link": "os.link(outside + '/data.csv', 'model.bin')",
    "makes a device": "os.mknod('device', 0o20666, os.makedev(1, 3))",
    "connects by TCP": "socket.create_connection(('127.0.0.1', int(open('port').read())), 2)",
    "opens a datagram socket": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "opens a unix socket": "socket.socket(socket.AF_UNIX)",
    "opens a socket pair": "socket.socketpair()",
    "starts a program": "os.execv('/bin/echo', ['echo', 'ESCAPED'])",
    "starts a child": "os.fork() or os._exit(0)",
    "starts a child through a library": "subprocess.run(['/bin/true'])",
    "leaves its process group": "os.setsid()",
    "signals its parent": "os.kill(os.getppid(), 0)",
    "signals everybody": "os.kill(-1, 0)",
    "signals a process by descriptor": "os.pidfd_open(os.getppid())",
    "becomes another user": "os.setresuid(1, 1, 1)",
    "becomes root": "os.setuid(0)",
    "becomes root again": "os.setresuid(-1, 0, -1)",
    "raises its own limits": "resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))",
    "traces its parent": "call(libc.ptrace, 16, os.getppid(), 0, 0)",
    "copies its parent's memory": "call(libc.process_vm_readv, os.getppid(), 0, 0, 0, 0, 0)",
    "makes a user namespace": "call(libc.unshare, 0x10000000)",
    "makes a namespace by clone": "call(libc.syscall, 56, 0x10000000 | 17, 0, 0, 0, 0)",
    "makes a process by clone3": "call(libc.syscall, 435, 0, 0)",
    "uses the ring of system calls": "call(libc.syscall, 425, 1, 0)",
    "traces the kernel": "call(libc.syscall, 298, 0, 0, -1, -1, 0)",
    "asks for a future system call": "call(libc.syscall, 462, 0, 0, 0)",
    "fills the disk": "[open('big', 'ab').write(b'x' * (1 << 20)) for _ in range(9)]",
    "opens many files": "kept = [open('plan.py') for _ in range(2000)]",
    "watches the folder above": "call(libc.inotify_add_watch, libc.inotify_init(), b'..', 0xfff)",
    "slows its parent down": "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    "pins its parent to a processor": "os.sched_setaffinity(os.getppid(), {0})",
    "has the kernel signal its parent": "fcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, os.getppid())",
    "takes a lease on the data": "fcntl.fcntl(open(outside + '/data.csv'), fcntl.F_SETLEASE, 0)",
    "reads through its own root": "open('/proc/self/root' + outside + '/identity.key').read()",
    "reads through a path's descriptor": (
        "open('identity.key', opener=lambda name, flags: os.open(name, flags,"
        " dir_fd=os.open(outside, os.O_PATH))).read()"
    ),
    "swaps the data for its own": (
        "call(libc.renameat2, -100, b'plan.py', -100, (outside + '/data.csv').encode(), 2)"
    ),
    "starts a program from memory": (
        "call(libc.syscall, 322, os.memfd_create('x'), b'', 0, 0, 0x1000)"
    ),
    "reads the kernel's log": "open('/dev/kmsg')",
    "types into the terminal": "fcntl.ioctl(os.open('/dev/null', os.O_RDONLY), 0x5412, b'x')",
    "leaves a word in the keyring": "call(libc.syscall, 248, b'user', b'x', b'y', 1, -3)",
    "takes all memory": "bytearray(3 << 30)",
    "keeps memory under no name": "os.memfd_create('x')",
    "keeps memory where the kernel hides it": "call(libc.syscall, 447, 0)",
    "fills the shared memory": "open('/dev/shm/left', 'w')",
    "survives its parent": "call(libc.prctl, 1, 0, 0, 0, 0)",
    "ends otherwise than its parent says": "call(libc.prctl, 1, signal.SIGCONT, 0, 0, 0)",
    "survives by a wider order": "call(libc.syscall, 157, ctypes.c_long(1 << 32 | 1), 0)",
    "lets the machine dump its memory": "call(libc.prctl, 4, 1, 0, 0, 0)",
    "lets others trace it": "call(libc.prctl, 0x59616D61, -1, 0, 0, 0)",
    "adopts orphans": "call(libc.prctl, 36, 1, 0, 0, 0)",
    "signals a thread of its parent": "call(libc.syscall, 234, os.getppid(), os.getppid(), 0)",
    "locks a library that others read": "fcntl.flock(open(os.__file__), fcntl.LOCK_EX)",
    "locks a part of the data": (
        "fcntl.fcntl(open(outside + '/data.csv'), fcntl.F_SETLK,"
        " struct.pack('hhqqi4x', fcntl.F_RDLCK, 0, 0, 0, 0))"
    ),
    "has the machine write its disks": "call(libc.syscall, 306, os.open('.', os.O_RDONLY))",
    "marks its folder for the file system": (
        "fcntl.ioctl(os.open('.', os.O_RDONLY), 0x40086602, struct.pack('i', 0x80))"
    ),
    "lists the machine's connections": "open('/proc/self/net/tcp').read()",
    "lists connections by a thread's name": "open('/proc/thread-self/net/unix').read()",
    "lists the machine's mounts": "open('/proc/self/mountinfo').read()",
    "lists the machine's services": "os.listdir('/sys/fs/cgroup')",
    "makes itself the last to be ended": "open('/proc/self/oom_score_adj', 'w').write('-1000')",
    "makes a nameless file outside": "os.open(outside, os.O_TMPFILE | os.O_RDWR)",
    "makes System V memory": "call(libc.shmget, 1, 4096, 0o1600)",
    "stops the kernel at its own faults": "call(libc.syscall, 323, 0)",
    "calls by another table of numbers": "call(libc.syscall, 0x40000000 | 41, 1, 1, 0)",
}

PRELUDE = """
import ctypes, errno, fcntl, os, resource, signal, socket, struct, subprocess, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
REFUSED = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EXDEV, errno.EROFS)
libc = ctypes.CDLL(None, use_errno=True)
def call(function, *arguments):
    done = function(*arguments)
    assert done != -1 or ctypes.get_errno() not in REFUSED, "refused"
outside = sys.argv[1]
"""


def trying_all(escapes: dict[str, str]) -> str:
    """A script that tries these in one process and names what got through."""
    return f"""{PRELUDE}
for what, code in {escapes!r}.items():
    try:
        exec(code)
    except BaseException:
        continue
    print("ESCAPED:", what)
print("tried")
"""
