"""Facts by name: of the node, and inside network namespaces. One reading serves many facts and many pods."""

from __future__ import annotations

import json
import os
import socket
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from ..cgroups import ProcessRecord
from . import conntrack, files, routes, tools
from . import processes as proc
from .kernel import Missing, enter, open_netns
from .links import links, name_table, raw_links
from .namespaces import Bound, lsns, nsids, own_inode
from .netlink import Netlink
from .sockets import print_sockets, sockets

__all__ = ["NODE_FACTS", "POD_FACTS", "Collector", "Target", "about_node", "as_missing", "lines_of_json"]

Value = tuple[bytes, str, "str | None"]
"""A fact: its bytes, whose tools told it, and what it lacks if it is partial."""

_KERNEL = "netlink"


def lines_of_json(entries: Iterable[Any]) -> bytes:
    """A JSON list, an entry a line."""
    return ("[" + ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in entries) + "]\n").encode(
        "utf-8", "replace"
    )


class Target:
    """Whose network namespace: a process's, a name's, or a pod's by uid and hash; ``inode``: the expected one.

    ``filter``: which entries of ``conntrack.netlink`` are wanted (see :class:`.conntrack.DumpFilter`).
    """

    def __init__(self, said: dict[str, Any]) -> None:
        self.key = said.get("key")
        self.pid, self.path, self.inode = said.get("pid"), said.get("path"), said.get("inode")
        self.pod = [str(name) for name in said.get("pod") or ()]
        self.facts = [str(name) for name in said.get("facts") or ()]
        self.filter = said.get("filter") or None

    @property
    def of_node(self) -> bool:
        """Whether the node itself is meant."""
        return self.pid is None and self.path is None and not self.pod


class Namespace:
    """The facts of the network namespace that this thread is in, each reading done once. Close it."""

    def __init__(self, bound: Bound, owners: Callable[[], dict[int, list[tuple[str, int, int]]]]) -> None:
        self._netlink = Netlink()
        self._bound, self._owners = bound, owners
        self._names: dict[int, str] | None = None
        self._six: list[dict[str, Any]] | None = None

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    @property
    def netlink(self) -> Netlink:
        """The rtnetlink socket in this namespace."""
        return self._netlink

    def names(self) -> dict[int, str]:
        """Index -> name."""
        if self._names is None:
            self._names = name_table(raw_links(self._netlink))
        return self._names

    def _routes6(self) -> list[dict[str, Any]]:
        if self._six is None:
            self._six = routes.routes(self._netlink, socket.AF_INET6, self.names())
        return self._six

    def read(self, fact: str) -> Value:
        """One fact that both a node and a pod have. Raises Missing."""
        if fact == "addr.json":
            entries, self._names = links(self._netlink)
        elif fact == "route.json":
            entries = routes.routes(self._netlink, socket.AF_INET, self.names()) + self._routes6()
        elif fact == "route6.json":
            entries = self._routes6()
        elif fact == "rule.json":
            entries = routes.rules(self._netlink)
        elif fact == "neigh.json":
            entries = routes.neighbours(self._netlink, self.names())
        elif fact == "nsid.json":
            entries = nsids(self._netlink, self._bound)
        elif fact == "fdb.json":
            entries = routes.fdb(self._netlink, self.names())
        elif fact == "sockets.txt":
            found, whose = sockets(self.names())
            return print_sockets(found, self._owners()).encode("utf-8", "replace"), whose, None
        else:
            return _told_by_tool(fact)
        return lines_of_json(entries), _KERNEL, None


_TOOLS: dict[str, Callable[[], tools.Told]] = {
    "iptables-save.txt": partial(tools.iptables, "", False),
    "ip6tables-save.txt": partial(tools.iptables, "6", False),
    "iptables-legacy-save.txt": partial(tools.iptables, "", True),
    "ip6tables-legacy-save.txt": partial(tools.iptables, "6", True),
    "nft.json": tools.nft,
    "ipset.txt": tools.ipset,
    "ipvs-save.txt": partial(tools.ipvs, "ipvs-save.txt", "-Sn"),
    "ipvs.txt": partial(tools.ipvs, "ipvs.txt", "-Ln"),
    "ipvs-stats.txt": partial(tools.ipvs, "ipvs-stats.txt", "-Ln", "--stats", "--exact"),
    "ipvs-connections.txt": partial(tools.ipvs, "ipvs-connections.txt", "-Lnc"),
    "conntrack.txt": partial(tools.conntrack, "-L", "-o", "extended,id"),
    "conntrack6.txt": partial(tools.conntrack, "-L", "-f", "ipv6", "-o", "extended,id"),
    "conntrack-stats.txt": partial(tools.conntrack, "-S"),
    "conntrack-count.csv": lambda: (conntrack.sample(), "/proc/sys"),
}
_SHARED = ("addr.json", "route.json", "route6.json", "rule.json", "neigh.json", "nsid.json", "sockets.txt")
_TABLE = "conntrack.netlink"
NODE_FACTS = (*_SHARED, "fdb.json", "lsns.json", "processes.json", "sysctl.txt", "kernel-log.txt", *_TOOLS, _TABLE)
POD_FACTS = (*_SHARED, "conntrack.txt", "conntrack6.txt", _TABLE, "pod.json", "resolv.conf")
"""What a pod can be asked for; all of it is passive: nothing is sent on a network."""


def _told_by_tool(fact: str) -> Value:
    if fact not in _TOOLS:
        raise Missing("this agent does not know the fact %s" % fact)
    data, whose = _TOOLS[fact]()
    return data, whose, None


class Collector:
    """Reads facts of the node and of any number of namespaces in one go. Moves its thread: for a child process."""

    def __init__(self) -> None:
        self.own = own_inode()
        self._home = open_netns("/proc/thread-self/ns/net")
        self._processes: list[ProcessRecord] | None = None
        self._owners: dict[int, list[tuple[str, int, int]]] | None = None

    def processes(self, fresh: bool = False) -> list[ProcessRecord]:
        """The node's processes, scanned once unless a fresh look is wanted."""
        if self._processes is None or fresh:
            self._processes = proc.scan()
        return self._processes

    def owners(self) -> dict[int, list[tuple[str, int, int]]]:
        """Which processes hold which sockets, looked up once."""
        if self._owners is None:
            self._owners = proc.socket_owners()
        return self._owners

    def collect(self, targets: Sequence[Target]) -> list[tuple[Any, str, Value | Missing]]:
        """(key, fact, value or why not) of every fact of every target; one that fails does not stop the others."""
        answers: list[tuple[Any, str, Value | Missing]] = []
        with Bound() as bound:
            for target in targets:
                answers.extend(self._one(target, bound))
        return answers

    def _one(self, target: Target, bound: Bound) -> list[tuple[Any, str, Value | Missing]]:
        space = None
        try:
            place = self.enter(target)
            space = Namespace(bound, self.owners)
            return [(target.key, fact, self._try(fact, target, place, space, bound)) for fact in target.facts]
        except Exception as error:  # noqa: BLE001 - of this target only: the others are still to be read
            return [(target.key, fact, as_missing(error)) for fact in target.facts]
        finally:
            if space is not None:
                space.close()
            if not target.of_node:
                enter(self._home)

    def _try(
        self, fact: str, target: Target, place: proc.PodPlace | None, space: Namespace, bound: Bound
    ) -> Value | Missing:
        try:
            return self._read(fact, target, place, space, bound)
        except Exception as error:  # noqa: BLE001 - of this fact only
            return as_missing(error)

    def enter(self, target: Target) -> proc.PodPlace | None:
        """Move into the target's namespace. A pod that died in between is looked up once more. Raises Missing."""
        if target.of_node:
            return None
        for fresh in (False, True):
            try:
                return self._enter(target, fresh)
            except Missing as missing:
                if fresh or missing.code != "gone" or not target.pod:
                    raise
        raise AssertionError

    def _enter(self, target: Target, fresh: bool) -> proc.PodPlace | None:
        place, path, inode = None, target.path, target.inode
        if target.pod:
            place = proc.find_pod(target.pod, self.processes(fresh), self.own)
            if place.entry is None or place.netns is None:
                raise Missing("the network namespace of the pod cannot be told from its processes", "denied")
            path, inode = "/proc/%d/ns/net" % place.entry, place.netns
        elif target.pid is not None:
            path = "/proc/%d/ns/net" % int(target.pid)
        fd = open_netns(str(path), inode)
        try:
            enter(fd)
        finally:
            os.close(fd)
        return place

    def _read(self, fact: str, target: Target, place: proc.PodPlace | None, space: Namespace, bound: Bound) -> Value:
        if fact == _TABLE:
            return conntrack.table(target.filter), _KERNEL, None
        if target.of_node:
            return self._node(fact, space, bound)
        if fact == "pod.json":
            if place is None:
                raise Missing("pod.json is a fact of a pod, not of a namespace")
            return (json.dumps(place.as_fact(self.own)) + "\n").encode(), "/proc", None
        if fact == "resolv.conf":
            return files.resolv_conf(_container(target, place)), "/proc", None
        if fact not in POD_FACTS:
            raise Missing("%s is not a fact of a pod" % fact)
        return space.read(fact)

    def _node(self, fact: str, space: Namespace, bound: Bound) -> Value:
        if fact == "processes.json":
            found = self.processes()
            hidden = sum(process.netns is None for process in found)
            note = "the namespaces of %d processes may not be read" % hidden if hidden else None
            return lines_of_json(proc.as_fact(found)), "/proc", note
        if fact == "lsns.json":
            value = lsns(space.netlink, self.processes(), bound)
            return b'{"namespaces": ' + lines_of_json(value["namespaces"]).rstrip() + b"}\n", _KERNEL, None
        if fact == "sysctl.txt":
            data, note = files.sysctls()
            return data, "/proc/sys", note
        if fact == "kernel-log.txt":
            return (*files.kernel_log(), None)
        if fact in ("pod.json", "resolv.conf"):
            raise Missing("%s is a fact of a pod" % fact)
        return space.read(fact)


def as_missing(error: Exception) -> Missing:
    """Why a fact is not there; of a fault of the agent also where that is."""
    if isinstance(error, Missing):
        return error
    place = traceback.extract_tb(error.__traceback__)[-1]
    name = os.path.basename(place.filename)
    return Missing("%s: %s (%s, line %s)" % (type(error).__name__, error, name, place.lineno), "failed")


def _container(target: Target, place: proc.PodPlace | None) -> int:
    """A process whose files are a container's: not the sandbox's, where there is another in the pod."""
    if place is None:
        if target.pid is None:
            raise Missing("resolv.conf is a fact of a process, not of a name")
        return int(target.pid)
    others = [pid for pid in place.pids if pid != place.sandbox and proc.netns_of(pid) == place.netns]
    chosen = next(iter(others), place.sandbox)
    if chosen is None:
        raise Missing("no process of the pod is left", "gone")
    return chosen


def _kube_proxy_mode() -> str | None:
    """What kube-proxy itself says on its metrics port; None when it does not answer."""
    try:
        with socket.create_connection(("127.0.0.1", 10249), 0.5) as talk:
            talk.sendall(b"GET /proxyMode HTTP/1.0\r\nHost: localhost\r\n\r\n")
            talk.settimeout(1.0)
            answer = talk.recv(4096).decode("latin-1")
            if "\r\n\r\n" in answer and answer.endswith("\r\n\r\n"):
                answer += talk.recv(4096).decode("latin-1")
    except OSError:
        return None
    head, _, body = answer.partition("\r\n\r\n")
    word = body.strip()
    return word if " 200 " in head.split("\r\n")[0] and word.isalnum() and len(word) < 20 else None


def about_node() -> dict[str, Any]:
    """What ``node.json`` says of a node: name, kernel, own namespace, system, versions of its tools."""
    system = None
    with suppress(OSError), open("/etc/os-release", errors="replace") as file:
        for line in file:
            if line.startswith("PRETTY_NAME="):
                system = line.split("=", 1)[1].strip().strip('"')[:200]
    wanted = ("iptables", "nft", "conntrack", "ip", "ipvsadm")
    return {
        "kube_proxy_mode": _kube_proxy_mode(),
        "node": socket.gethostname(),
        "kernel": os.uname().release,
        "netns": own_inode(),
        "os_release": system,
        "tools": {name: tools.version(name) for name in wanted},
    }
