"""``nsid.json`` and ``lsns.json``: the namespaces of the node and the ids they have for each other.

Source: linux/net_namespace.h (RTM_GETNSID), ip-netns(8), lsns(8), proc(5) for nsfs mounts.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from ..cgroups import ProcessRecord
from .kernel import Missing, open_netns
from .netlink import Netlink, attributes, s32

__all__ = ["Bound", "bound_names", "lsns", "nsids", "own_inode"]

_GETNSID = 90
_NSID, _FD = 1, 3
_GENERIC = b"\0\0\0\0"
NAMES = "/run/netns"


def own_inode() -> int:
    """The inode of the network namespace that this thread is in."""
    return os.stat("/proc/thread-self/ns/net").st_ino


class Bound:
    """The names below /run/netns, held open once for many questions. Use with ``with``."""

    def __init__(self) -> None:
        self.open: list[tuple[str, int, int]] = []

    def __enter__(self) -> Bound:
        for name in bound_names():
            try:
                fd = open_netns("%s/%s" % (NAMES, name))
            except Missing:
                continue
            self.open.append((name, fd, os.fstat(fd).st_ino))
        return self

    def __exit__(self, *_: object) -> None:
        for _name, fd, _inode in self.open:
            os.close(fd)


def bound_names() -> list[str]:
    """What ``ip netns list`` lists."""
    try:
        return sorted(os.listdir(NAMES))
    except OSError:
        return []


def _ask(netlink: Netlink, kind: int, value: int) -> int | None:
    answer = netlink.ask(_GETNSID, _GENERIC + struct.pack("=HHI", 8, kind, value))
    if answer is None:
        return None
    found = attributes(answer, 4).get(_NSID)
    number = -1 if found is None else s32(found)
    return number if number >= 0 else None


def nsids(netlink: Netlink, bound: Bound) -> list[dict[str, Any]]:
    """The ids that this namespace has for others, with the names bound to them."""
    listed = [attributes(payload, 4).get(_NSID) for _, payload in netlink.dump(_GETNSID, _GENERIC)]
    numbers = sorted(s32(value) for value in listed if value is not None)
    if not numbers:
        return []
    # Only as many names are asked about as there are ids: a pod knows one namespace, the node's, a node hundreds.
    names: dict[int, str] = {}
    for name, fd, _ in bound.open:
        number = _ask(netlink, _FD, fd)
        if number is not None:
            names.setdefault(number, name)
        if len(names) == len(numbers):
            break
    return [{"nsid": n, "name": names[n]} if n in names else {"nsid": n} for n in numbers]


def _mounts() -> dict[int, list[str]]:
    """Inode -> where network namespaces are mounted, as this mount namespace sees it."""
    found: dict[int, list[str]] = {}
    try:
        with open("/proc/self/mountinfo", errors="replace") as file:
            for line in file:
                fields = line.split(" ")
                if len(fields) > 4 and fields[3].startswith("net:["):
                    place = fields[4].encode("latin-1", "replace").decode("unicode_escape", "replace")
                    found.setdefault(int(fields[3][5:-1]), []).append(place)
    except (OSError, ValueError):
        pass
    return found


def lsns(netlink: Netlink, processes: Sequence[ProcessRecord], bound: Bound) -> dict[str, Any]:
    """Every network namespace that a process is in or that is bound to a name, as ``lsns -t net -J`` lists them."""
    members: dict[int, list[ProcessRecord]] = {}
    for process in processes:
        if process.netns is not None:
            members.setdefault(process.netns, []).append(process)
    mounts = _mounts()
    handles = {inode: fd for _, fd, inode in bound.open}
    own = own_inode()
    entries = []
    for inode in sorted({*members, *mounts, *handles}):
        inside = members.get(inode, [])
        number = None if inode == own else _number(netlink, inode, handles.get(inode), inside, mounts.get(inode, ()))
        places = mounts.get(inode) or [NAMES + "/" + name for name, _, seen in bound.open if seen == inode]
        entries.append(_entry(inode, number, inside, places))
    return {"namespaces": entries}


def _number(
    netlink: Netlink, inode: int, handle: int | None, inside: Iterable[ProcessRecord], places: Iterable[str]
) -> int | None:
    """The id of a namespace: by its name, a process in it (any of them may just have ended), or where it is mounted."""
    if handle is not None:
        return _ask(netlink, _FD, handle)
    for path in (*("/proc/%d/ns/net" % process.pid for process in inside), *places):
        try:
            fd = open_netns(path, inode)
        except Missing:
            continue
        try:
            return _ask(netlink, _FD, fd)
        finally:
            os.close(fd)
    return None


def _entry(inode: int, number: int | None, inside: list[ProcessRecord], places: list[str]) -> dict[str, Any]:
    first = inside[0] if inside else None
    distinct = list(dict.fromkeys(place.replace("/var/run/", "/run/", 1) for place in places))
    return {
        "ns": inode,
        "netnsid": "unassigned" if number is None else str(number),
        "nprocs": len(inside),
        "pid": first.pid if first else None,
        "nsfs": "\n".join(distinct) or None,
        "command": first.cmdline if first else None,
    }
