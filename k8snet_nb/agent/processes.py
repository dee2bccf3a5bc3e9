"""``processes.json`` and ``pod.json``: what /proc says of every process. Source: proc(5), cgroups(7).

The directory may be given, for tests. A process may end at any moment: then it is left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from ..cgroups import ProcessRecord, choose_sandbox, pod_of, same_pod
from .kernel import Missing

__all__ = ["PodPlace", "children", "find_pod", "pids", "scan", "socket_owners"]

PROC = "/proc"
_COMMAND_LIMIT = 4096


def pids() -> list[int]:
    """The processes of this pid namespace, in order."""
    return sorted(int(name) for name in os.listdir(PROC) if name.isdigit())


def children() -> list[int]:
    """The children of this process, ended ones that wait for it included."""
    me = os.getpid()
    try:
        return [int(word) for word in _read("%s/%d/task/%d/children" % (PROC, me, me), 1 << 20).split()]
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        return [pid for pid in pids() if _parent(pid) == me]


def _parent(pid: int) -> int | None:
    try:
        return int(_read("%s/%d/stat" % (PROC, pid), 4096).rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _read(path: str, limit: int) -> str:
    with open(path, "rb") as file:
        return file.read(limit).decode("utf-8", "replace")


def netns_of(pid: int) -> int | None:
    """The inode of a process's network namespace; None where it may not be read, or for a dead process."""
    try:
        return int(os.readlink("%s/%d/ns/net" % (PROC, pid))[5:-1])
    except (OSError, ValueError):
        return None


def scan() -> list[ProcessRecord]:
    """Every process but the kernel's own threads (they have no program and no arguments)."""
    found = []
    for pid in pids():
        try:
            cgroups = [line.split(":", 2)[2] for line in _read("%s/%d/cgroup" % (PROC, pid), 65536).splitlines()]
            command = _read("%s/%d/cmdline" % (PROC, pid), _COMMAND_LIMIT).replace("\0", " ").strip()
            if not command and not os.path.exists("%s/%d/exe" % (PROC, pid)):
                continue
        except (OSError, IndexError):
            continue
        found.append(ProcessRecord(pid, netns_of(pid), tuple(cgroups), command))
    return found


def as_fact(processes: Iterable[ProcessRecord]) -> list[dict[str, Any]]:
    """The entries of ``processes.json``."""
    return [
        {"pid": p.pid, "netns": p.netns, "cgroups": list(p.cgroups), "cmdline": p.cmdline} for p in processes
    ]  # fmt: skip


class PodPlace:
    """Where a pod was found: its sandbox process if any, a process to enter by, the namespace's inode, all pids."""

    def __init__(self, sandbox: int | None, entry: int | None, netns: int | None, members: list[int]) -> None:
        self.sandbox, self.entry, self.netns, self.pids = sandbox, entry, netns, members

    def as_fact(self, own: int | None) -> dict[str, Any]:
        """``pod.json``."""
        host = None if self.netns is None else self.netns == own
        return {"sandbox_pid": self.sandbox, "netns": self.netns, "host_network": host, "pids": self.pids}


def find_pod(identities: Sequence[str], processes: Sequence[ProcessRecord], own: int | None) -> PodPlace:
    """The pod whose uid or config hash is among ``identities``. Raises Missing (``gone``) where no process is its.

    Without a sandbox process any of its processes shows the namespace, provided that they agree; a monitor (conmon)
    that sits in the node's own namespace does not count.
    """
    members = []
    for process in processes:
        named = pod_of(process.cgroups)
        if named is not None and same_pod(named.uid, identities):
            members.append(process)
    if not members:
        raise Missing("no process carries the pod's uid %s in its cgroup paths" % ", ".join(identities), "gone")
    ids = [member.pid for member in members]
    sandbox, _ = choose_sandbox(members, processes)
    if sandbox is not None:
        return PodPlace(sandbox.pid, sandbox.pid, sandbox.netns, ids)
    inodes = {member.netns for member in members if member.netns is not None}
    if len(inodes) > 1:
        inodes.discard(own)
    if len(inodes) != 1:
        return PodPlace(None, None, None, ids)
    inode = inodes.pop()
    return PodPlace(None, next(member.pid for member in members if member.netns == inode), inode, ids)


def socket_owners(only: Iterable[int] | None = None) -> dict[int, list[tuple[str, int, int]]]:
    """Socket inode -> (program, pid, descriptor) of all that hold it open, among ``only`` these pids or all."""
    found: dict[int, list[tuple[str, int, int]]] = {}
    for pid in pids() if only is None else only:
        sockets = _held_sockets("%s/%d/fd" % (PROC, pid))
        if not sockets:
            continue
        try:
            name = _read("%s/%d/comm" % (PROC, pid), 64).rstrip("\n")
        except OSError:
            continue
        for fd, inode in sockets:
            found.setdefault(inode, []).append((name, pid, fd))
    return found


def _held_sockets(folder: str) -> list[tuple[int, int]]:
    """(descriptor, inode) of a process's open sockets; one that closes meanwhile is left out."""
    found = []
    try:
        entries = os.listdir(folder)
    except OSError:
        return []
    for entry in entries:
        try:
            target = os.readlink("%s/%s" % (folder, entry))
        except OSError:
            continue
        if target.startswith("socket:["):
            found.append((int(entry), int(target[8:-1])))
    return found
