"""The few system calls that Python 3.9 lacks, and the question whether asking could load a kernel module."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
from functools import lru_cache

__all__ = ["Missing", "adopt_orphans", "die_with_parent", "enter", "loadable_by_asking", "open_inside", "open_netns"]

CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10
_libc = ctypes.CDLL(None, use_errno=True)


class Missing(Exception):
    """A fact cannot be had here; ``code`` is ``absent``, ``denied``, ``gone`` or ``failed``, the text says why."""

    def __init__(self, why: str, code: str = "absent") -> None:
        super().__init__(why)
        self.code = code


def die_with_parent(signal_number: int, parent: int | None = None) -> None:
    """Have the kernel end this process when its parent dies (prctl(2)); at once if ``parent`` is gone already."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(0)


def adopt_orphans() -> None:
    """Have the kernel give orphans among this process's descendants to it, not to process 1 (prctl(2))."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def open_netns(path: str, inode: int | None = None) -> int:
    """A descriptor of the network namespace at a path, checked to be one, and the expected one.

    Raises Missing: ``gone`` when it is no longer there or is another one now, ``denied`` without the right to look.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError:
        raise Missing("looking at %s needs root (CAP_SYS_PTRACE)" % path, "denied") from None
    except OSError as error:
        raise Missing("%s is gone: %s" % (path, os.strerror(error.errno or 0)), "gone") from None
    try:
        if fcntl.ioctl(fd, _NS_GET_NSTYPE) != CLONE_NEWNET:
            raise OSError(errno.EINVAL, "")
    except OSError:
        os.close(fd)
        raise Missing("%s is not a network namespace" % path, "gone") from None
    found = os.fstat(fd).st_ino
    if inode is not None and found != inode:
        os.close(fd)
        raise Missing("%s is namespace %d now, not %d" % (path, found, inode), "gone")
    return fd


def enter(fd: int) -> None:
    """Move this thread into a network namespace (setns(2)). Raises Missing where that is not allowed."""
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        if number == errno.EPERM:
            raise Missing("entering a network namespace needs root (CAP_SYS_ADMIN)", "denied")
        raise Missing("entering the network namespace failed: %s" % os.strerror(number), "failed")


def open_inside(root: str, path: str) -> int:
    """Open a regular file for reading as if ``root`` were /: no link leads out of it (openat2(2), Linux 5.6).

    On an older kernel every link on the way is refused. Raises OSError; nothing but a regular file is ever opened.
    """
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        handle = _openat2(base, path)
        if handle is None:
            handle = _walk(base, path)
    finally:
        os.close(base)
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return os.open("/proc/self/fd/%d" % handle, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    finally:
        os.close(handle)


def _openat2(base: int, path: str) -> int | None:
    how = (ctypes.c_uint64 * 3)(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    fd = int(_libc.syscall(_SYS_OPENAT2, base, path.encode(), how, ctypes.sizeof(how)))
    if fd >= 0:
        return fd
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EPERM):  # EPERM: seccomp profiles older than the call
        return None
    raise OSError(number, os.strerror(number), path)


def _walk(base: int, path: str) -> int:
    here = os.dup(base)
    for part in path.strip("/").split("/"):
        try:
            step = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
        finally:
            os.close(here)
        here = step
        if part == ".." or stat.S_ISLNK(os.fstat(step).st_mode):
            os.close(step)
            raise OSError(errno.ELOOP, "a link, which is not followed here", path)
    return here


_SYMBOLS = {
    "nf_tables": "nft_register_expr",
    "ip_set": "ip_set_type_register",
    "ip_vs": "register_ip_vs_scheduler",
    "nf_conntrack": "nf_conntrack_init_start",
    "nf_conntrack_netlink": "ctnetlink_init",
    "tcp_diag": "tcp_diag_dump",
    "udp_diag": "udp_diag_dump",
}


@lru_cache(maxsize=None)
def loadable_by_asking(module: str) -> bool:
    """Whether asking the kernel for what a module serves could load it: it is not there, and modules can be loaded."""
    try:
        with open("/proc/modules") as file:
            loaded = {line.split(" ", 1)[0] for line in file}
    except OSError:
        return False  # a kernel without modules loads none
    if module in loaded or os.path.isdir("/sys/module/" + module):
        return False
    return not _built_in(module)


def _built_in(module: str) -> bool:
    try:
        with open("/lib/modules/%s/modules.builtin" % os.uname().release) as file:
            return any(line.rstrip().endswith("/%s.ko" % module) for line in file)
    except OSError:
        pass  # seen from a container: the kernel's own list of symbols knows
    symbol = " %s\n" % _SYMBOLS.get(module, "?")
    try:
        with open("/proc/kallsyms") as file:
            return any(line.endswith(symbol) for line in file)
    except OSError:
        return False
