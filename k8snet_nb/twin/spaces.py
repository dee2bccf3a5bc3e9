"""The system calls that make and enter namespaces, and the mounts inside them.

Sources: namespaces(7), user_namespaces(7), pid_namespaces(7), mount_namespaces(7), proc(5) for ns_last_pid.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from ..errors import TwinError

__all__ = [
    "LONGEST_HOST",
    "bind",
    "enter_mounts",
    "enter_network",
    "fork_at",
    "hide_machine",
    "mount_proc",
    "name_host",
    "new_network",
    "new_node",
    "new_root",
    "own_mounts",
    "sleeper",
    "write_sysctl",
]

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)

LONGEST_HOST = 64
"""Bytes of a host name (sethostname(2)); the API's names of nodes may have 253."""

CONTAINER = (
    "Run it as root, or allow user namespaces, or use the container (docs/twin.md): docker run --privileged k8snet-twin"
)
"""What to do where the kernel does not let us."""


_REASONS = {
    errno.ENOSPC: "their number is limited (sysctl user.max_user_namespaces, user.max_net_namespaces and the like)",
    errno.EPERM: "the kernel, or a filter on system calls such as a container's, forbids it",
}


def _called(status: int, what: str, reasons: Mapping[int, str] = MappingProxyType({})) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise TwinError(f"{what}: {reasons.get(number) or os.strerror(number)}. {CONTAINER}")


def new_root() -> None:
    """Leave the machine: new network, mount, PID, UTS and IPC namespaces, as root of a new user namespace if need be.

    The PID namespace begins with the next child. Raises TwinError where the kernel refuses.
    """
    uid, gid = os.getuid(), os.getgid()
    own = 0 if _may_administer() else _NEWUSER
    before = Path("/proc/self/ns/net").stat().st_ino
    what = "no user namespaces to be had here" if own else "no namespaces to be had here"
    _called(_libc.unshare(own | _NEWNS | _NEWPID | _NEWNET | _NEWUTS | _NEWIPC), what, _REASONS)
    if own:
        try:
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        except OSError as error:  # as with AppArmor, which lets one be made and then forbids all in it
            raise TwinError(f"a user namespace without rights: {error.strerror}. {CONTAINER}") from None
    if Path("/proc/self/ns/net").stat().st_ino == before:
        raise TwinError("the network namespace is still the machine's; nothing was changed")


def _may_administer() -> bool:
    """Whether this process has CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_SYS_CHROOT (capabilities(7): bits 21, 12, 18)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            held = int(line.split()[1], 16)
            return all(held >> bit & 1 for bit in (21, 12, 18))
    return False


def new_node() -> None:
    """A node's own network, mount, PID (from the next child on) and UTS namespaces."""
    _called(_libc.unshare(_NEWNS | _NEWPID | _NEWNET | _NEWUTS), "no namespaces for a node", _REASONS)


def new_network() -> None:
    """A pod's own network namespace."""
    _called(_libc.unshare(_NEWNET), "no network namespace for a pod", _REASONS)


def own_mounts() -> None:
    """Mounts made from here on are seen by this process and its children only."""
    _called(_libc.unshare(_NEWNS), "no mount namespace", _REASONS)
    _private()


def _private() -> None:
    _called(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "making mounts private")


def mount_proc() -> None:
    """/proc of the PID namespace that this process is in."""
    flags = _MS_NOSUID | _MS_NODEV
    _called(_libc.mount(b"proc", b"/proc", b"proc", flags, None), "mounting /proc of a PID namespace")


def hide_machine() -> None:
    """In a new mount namespace: nothing comes back to the machine's; an empty /run, and this PID namespace's /proc.

    /run must be our own: iptables keeps its lock there, ``ip netns`` its names.
    """
    _private()
    mount_proc()
    _called(_libc.mount(b"tmpfs", b"/run", b"tmpfs", _MS_NOSUID | _MS_NODEV, b"mode=0755"), "an own /run")


def bind(source: str, target: str) -> None:
    """Show ``source`` at ``target`` as well. Raises TwinError."""
    _called(_libc.mount(source.encode(), target.encode(), None, _MS_BIND, None), f"binding {source} to {target}")


def enter_network(pid: int) -> None:
    """Move this process into the network namespace of another."""
    _enter(pid, "net", _NEWNET)


def enter_mounts(pid: int) -> None:
    """Move this process into the mount namespace of another: it sees that one's files from now on."""
    _enter(pid, "mnt", _NEWNS)


def _enter(pid: int, kind: str, flag: int) -> None:
    fd = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _called(_libc.setns(fd, flag), f"entering the {kind} namespace of process {pid}")
    finally:
        os.close(fd)


def name_host(name: str) -> None:
    """The host name in this UTS namespace; of a name longer than :data:`LONGEST_HOST` its beginning."""
    data = name.encode()[:LONGEST_HOST]
    _called(_libc.sethostname(data, len(data)), "naming the host")


def fork_at(pid: int | None) -> int:
    """Fork; the child gets this pid where it is free and the kernel lets it be chosen, else the next one."""
    if pid is not None and pid > 1:
        with suppress(OSError):  # a kernel without CONFIG_CHECKPOINT_RESTORE: any pid will do
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
    return os.fork()


def write_sysctl(path: str, value: str) -> None:
    """Write one sysctl of this network namespace, by its path below /proc/sys. Raises OSError."""
    Path("/proc/sys", path).write_text(value)


def sleeper() -> list[str]:
    """The program that a sandbox process becomes: does nothing, for ever, under the name /pause."""
    found = shutil.which("sleep")
    if found is None:
        raise TwinError("no `sleep` on PATH; install coreutils")
    return [found, "/pause", "infinity"]
