"""An agent inside a pod: it moves to the node's own files, and ends when nobody has spoken to it for a while.

The program came from the pod's image; iptables, nft, ip and the rest must be the node's own, with the node's versions
and its libraries. Entering the mount namespace of the node's first process gives all of that, without a mount of the
host's files in the pod. Needs the pod's hostPID, CAP_SYS_PTRACE, CAP_SYS_ADMIN and CAP_SYS_CHROOT (setns(2)).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys

from .kernel import Missing

__all__ = ["hold", "to_node"]

_CLONE_NEWNS = 0x00020000


def hold(path: str) -> int:
    """Share the lock that the pod's own process watches; it is let go when this process and its children have ended."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def to_node(pid: int) -> None:
    """Move this process, which has one thread, to the mount namespace of a process of the node. Raises Missing."""
    path = "/proc/%d/ns/mnt" % pid
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        raise Missing(
            "%s may not be opened: the pod needs CAP_SYS_PTRACE, and no AppArmor or SELinux confinement" % path,
            "denied",
        ) from None
    except OSError as error:
        raise Missing("%s: %s (the pod needs hostPID)" % (path, error.strerror), "failed") from None
    try:
        here = os.stat("/proc/self/ns/mnt")
        there = os.fstat(fd)
        if here.st_ino == there.st_ino:
            return
        _keep_imports()
        if ctypes.CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNS) != 0:
            why = os.strerror(ctypes.get_errno())
            raise Missing("entering the node's mount namespace: %s (CAP_SYS_ADMIN, CAP_SYS_CHROOT)" % why, "denied")
    finally:
        os.close(fd)
    os.chdir("/")


def _keep_imports() -> None:
    """Let modules still be imported from the image's files: by a descriptor of its root, which stays reachable."""
    root = "/proc/self/fd/%d" % os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def moved(path: str) -> str:
        return path if not path.startswith("/") or path.startswith("/proc/self/fd/") else root + os.path.realpath(path)

    sys.path[:] = [moved(path) for path in sys.path if path]
    for module in list(sys.modules.values()):
        folders = getattr(module, "__path__", None)
        if isinstance(folders, list):
            folders[:] = [moved(str(folder)) for folder in folders]
    sys.path_importer_cache.clear()
