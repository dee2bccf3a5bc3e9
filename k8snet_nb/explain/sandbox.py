"""From a pod to its sandbox process and its network namespace, with evidence. Pure functions on parsed values.

A pod's processes carry its uid in their cgroup paths; a static pod's carry the ``kubernetes.io/config.hash``
annotation instead. The sandbox ("pause") process lives as long as the pod; CRI-O usually has none, and then any process
of the pod, or the namespace bound below /run/netns, shows the namespace.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..cgroups import ProcessRecord, choose_sandbox, pod_of, same_pod
from ..facts import FACTS, Evidence, FactRef
from ..parse.links import Link, Route
from ..parse.namespaces import Namespace, NamespaceId, PodProcesses, process_line
from ..parse.pods import PodValue
from ..parse.routing import FdbEntry, Neighbour
from ..render import Report, Shown

__all__ = ["NodeView", "PodIdentity", "PodView", "Sandbox", "evidence", "find_sandbox", "host_of", "pod_identity"]

_HASHES = ("kubernetes.io/config.hash", "kubernetes.io/config.mirror")


@dataclass(frozen=True, slots=True)
class PodIdentity:
    """What the API says that matters here: ``namespace/name``, node, uid, addresses, hostNetwork, phase."""

    name: str
    uid: str
    node: str | None = None
    ips: tuple[str, ...] = ()
    host_network: bool = False
    hashes: tuple[str, ...] = ()
    phase: str | None = None

    @property
    def identities(self) -> tuple[str, ...]:
        """All that its cgroups may carry: the uid, and a static pod's config hash."""
        return (self.uid, *self.hashes)


def pod_identity(pod: PodValue) -> PodIdentity:
    """The identity of a pod of the API."""
    hashes = tuple(dict.fromkeys(str(pod.annotations[key]) for key in _HASHES if pod.annotations.get(key)))
    return PodIdentity(pod.key, pod.uid, pod.node, pod.ips, pod.host_network, hashes, pod.phase)


@dataclass(frozen=True, slots=True)
class NodeView:
    """What a node's kernel said. None in place of a tuple: that fact was not collected. ``netns``: its own inode."""

    node: str
    netns: int | None = None
    links: tuple[Link, ...] | None = None
    routes: tuple[Route, ...] | None = None
    neighbours: tuple[Neighbour, ...] | None = None
    fdb: tuple[FdbEntry, ...] | None = None
    nsids: tuple[NamespaceId, ...] | None = None
    namespaces: tuple[Namespace, ...] | None = None
    processes: tuple[ProcessRecord, ...] | None = None

    @property
    def own_netns(self) -> int | None:
        """The inode of the node's own namespace: as recorded, else that of its process 1."""
        if self.netns is not None:
            return self.netns
        return next((process.netns for process in self.processes or () if process.pid == 1), None)


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod and what was read in its network namespace. None: not collected."""

    identity: PodIdentity
    links: tuple[Link, ...] | None = None
    routes: tuple[Route, ...] | None = None
    processes: PodProcesses | None = None


@dataclass(frozen=True, slots=True)
class Sandbox(Shown):
    """Where a pod lives on its node.

    ``pid``: the sandbox process, None where there is none. ``netns``: the namespace's inode, None where unknown.
    ``reason`` is a stable code for what is missing ("" when nothing is), ``text`` says it in words.
    """

    pid: int | None = None
    netns: int | None = None
    host_network: bool = False
    pids: tuple[int, ...] = ()
    bound: tuple[str, ...] = ()
    reason: str = ""
    text: str = ""
    evidence: tuple[Evidence, ...] = ()

    def report(self) -> Report:
        """Process and namespace in one row, what is missing, and how it is known."""
        headings = ("SANDBOX PID", "NETWORK NAMESPACE", "HOST NETWORK", "ALL ITS PIDS")
        host = None if self.netns is None and not self.host_network else self.host_network
        row = (self.pid, self.netns, host, self.pids)
        return Report("", headings, (row,), (self.text,) if self.text else (), self.evidence)


def evidence(
    fact: str, node: str | None, lines: Iterable[str], says: str, pod: str | None = None, pid: int | None = None
) -> Evidence:
    """Evidence from a fact of a node, or of a pod's namespace entered through ``pid``."""
    command = FACTS[fact].command
    if pod and fact not in ("pod.json", "resolv.conf"):
        command = f"nsenter -t {pid if pid is not None else '{pid}'} -n {command}"
    return Evidence(FactRef(fact, node, pod), command, tuple(lines), says)


def host_of(route: Route) -> str | None:
    """The one address that a route leads to (a /32 or /128); None for a network."""
    alone = route.network.prefixlen == route.network.max_prefixlen
    return str(route.network.network_address) if alone else None


def find_sandbox(pod: PodView, node: NodeView | None) -> Sandbox:
    """The pod's sandbox process and network namespace on its node, or the reason why they are not known."""
    identity = pod.identity
    if identity.node is None:
        return Sandbox(reason="not_scheduled", text=f"{identity.name} is on no node yet (phase {identity.phase})")
    if node is None or (node.processes is None and pod.processes is None):
        text = f"node {identity.node}, where {identity.name} is, was not asked for its processes"
        return _host_network(pod, node, Sandbox()) or Sandbox(reason="no_node_data", text=text)
    found = _by_cgroup(identity, node) if node.processes is not None else _as_collected(pod)
    if found.netns is None and found.reason == "no_process":
        found = _by_address(identity, node, found)
    if found.netns is not None and node.namespaces is not None:
        found = _with_bound(found, node, identity)
    return _host_network(pod, node, found) or found


def _by_cgroup(identity: PodIdentity, node: NodeView) -> Sandbox:
    processes = node.processes or ()
    members = [p for p in processes if (named := pod_of(p.cgroups)) and same_pod(named.uid, identity.identities)]
    members.sort(key=lambda process: process.pid)
    if not members:
        what = f"no process of {node.node} carries the pod's uid {identity.uid} in its cgroup paths"
        if identity.phase in ("Succeeded", "Failed", "Pending"):
            return Sandbox(reason="not_running", text=f"{identity.name} is {identity.phase}: {what}")
        return Sandbox(reason="no_process", text=what)
    pids = tuple(process.pid for process in members)
    chosen, why = choose_sandbox(members, processes)
    key = "its config hash" if identity.hashes else "its uid"
    if chosen is not None:
        says = f"process {chosen.pid} is the sandbox of {identity.name}: its cgroup carries {key}, and {why}"
        proof = evidence("processes.json", node.node, [process_line(chosen)], says)
        return Sandbox(chosen.pid, chosen.netns, pids=pids, evidence=(proof,))
    return _without_pause(identity, node, members, why)


def _without_pause(identity: PodIdentity, node: NodeView, members: list[ProcessRecord], why: str) -> Sandbox:
    pids = tuple(process.pid for process in members)
    inodes = {process.netns for process in members if process.netns is not None}
    if not identity.host_network and len(inodes) > 1:
        inodes.discard(node.own_netns)  # a monitor such as conmon sits in the pod's cgroup, but not in its namespace
    lines = [process_line(process) for process in members if process.netns in inodes][:3]
    if len(inodes) != 1:
        says = f"{why}, and its processes are in {len(inodes)} network namespaces"
        proof = evidence("processes.json", node.node, [process_line(process) for process in members], says)
        return Sandbox(pids=pids, reason="ambiguous_namespace", text=says, evidence=(proof,))
    inode = inodes.pop()
    says = f"{why}; all its processes are in namespace {inode}"
    return Sandbox(None, inode, pids=pids, evidence=(evidence("processes.json", node.node, lines, says),))


def _as_collected(pod: PodView) -> Sandbox:
    said, identity = pod.processes or PodProcesses(None, None, None), pod.identity
    if said.netns is None:
        return Sandbox(pids=said.pids, reason="no_process", text=f"no process of {identity.name} was found on its node")
    line = f'"sandbox_pid": {said.sandbox_pid}, "netns": {said.netns}'
    says = f"collected on the node: the sandbox process of {identity.name} and its network namespace"
    return Sandbox(
        said.sandbox_pid,
        said.netns,
        bool(said.host_network),
        said.pids,
        evidence=(evidence("pod.json", identity.node, [line], says, identity.name),),
    )


def _by_address(identity: PodIdentity, node: NodeView, found: Sandbox) -> Sandbox:
    """No process left: the bound namespace behind the interface to which the node sends the pod's address."""
    for address in identity.ips:
        devices = {route.dev: route.line() for route in node.routes or () if host_of(route) == address}
        for link in node.links or ():
            if link.name not in devices or link.peer_nsid is None or link.kind not in ("veth", "netkit"):
                continue
            spaces = [space for space in node.namespaces or () if space.nsid == link.peer_nsid and space.bound]
            if len(spaces) == 1:
                route = evidence("route.json", node.node, [devices[link.name]], f"{address} is behind {link.name}")
                peer = evidence("addr.json", node.node, [link.line()], f"its peer has id {link.peer_nsid}")
                return replace(found, netns=spaces[0].inode, reason="", evidence=(route, peer))
    return found


def _with_bound(found: Sandbox, node: NodeView, identity: PodIdentity) -> Sandbox:
    space = next((space for space in node.namespaces or () if space.inode == found.netns), None)
    if space is None:
        return found
    where = f", bound at {', '.join(space.bound)}" if space.bound else ""
    proof = evidence(
        "lsns.json", node.node, [space.evidence_line()], f"{identity.name} is in network namespace {space.inode}{where}"
    )
    return replace(found, bound=space.bound, evidence=(*found.evidence, proof))


def _host_network(pod: PodView, node: NodeView | None, found: Sandbox) -> Sandbox | None:
    own = node.own_netns if node else None
    if found.netns is not None and own is not None:
        if found.netns != own:
            return None
        says = f"{pod.identity.name} is in the node's own network namespace {own}"
        return replace(found, host_network=True, text=says)
    if not (pod.identity.host_network or found.host_network):
        return None
    return replace(found, host_network=True, netns=found.netns if found.netns is not None else own)
