"""From a pod's interface to its peer on the node, and back. Pure functions on parsed values.

``eth0@if7`` names an index in *another* namespace; many host sides say ``@if2``. A pair is therefore decided by both
directions of the index **and** the namespace id: the node's ``link-netnsid`` leads through its list of ids
(RTM_GETNSID, ``ip netns list-id``, ``lsns``) to an inode, and that must be the pod's. Where the ids cannot be had, both
indices and one more witness (a learned MAC address, a neighbour, a /32 route) decide; short of that it stays undecided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..facts import Evidence
from ..parse.links import Link, Route
from ..render import Report, Shown
from .sandbox import NodeView, PodView, Sandbox, evidence, find_sandbox, host_of

__all__ = ["HostInterface", "NoVethPair", "VethPair", "host_interfaces", "pair_of", "primary_link", "veth_of"]

PAIRED = ("veth", "netkit")
"""Kinds of interface that come in pairs across namespaces."""

_NO_PEER = {
    "ipvlan": "an ipvlan interface has no peer: it shares its parent's hardware address",
    "ipvtap": "an ipvtap interface has no peer: it shares its parent's hardware address",
    "macvlan": "a macvlan interface has no peer: it is a second hardware address of its parent",
    "macvtap": "a macvtap interface has no peer: it is a second hardware address of its parent",
}


@dataclass(frozen=True, slots=True)
class VethPair(Shown):
    """A pod's interface (``pod_interface``) and its peer on the node (``node_interface``), each with ifindex and name.

    ``master``: the bridge that the node's side is a port of, or None. ``route``: the host route to the pod through the
    node's side (point-to-point CNI), or None. ``decided_by``: ``namespace_id`` or ``indices_and_traffic``;
    ``evidence``: the lines of both interfaces.
    """

    pod_interface: Link
    node_interface: Link
    master: str | None
    route: Route | None
    decided_by: str
    evidence: tuple[Evidence, ...] = ()

    def report(self) -> Report:
        """Both ends in one row, and how each step is known."""
        here, there = self.pod_interface, self.node_interface
        way = f"bridge {self.master}" if self.master else f"route to {host_of(self.route)}" if self.route else None
        headings = ("IN THE POD", "INDEX", "ON THE NODE", "INDEX", "REACHED BY", "DECIDED BY")
        decided = self.decided_by.replace("_", " ")
        row = (here.name, here.ifindex, there.name, there.ifindex, way, decided)
        return Report("", headings, (row,), (), self.evidence)


@dataclass(frozen=True, slots=True)
class NoVethPair(Shown):
    """Why there is no pair: ``reason`` is a stable code, ``text`` says it in words. False where a pair is true.

    Codes: host_network, not_scheduled, no_node_data, not_running, no_process, ambiguous_namespace, denied,
    no_interface_data, only_loopback, ipvlan, macvlan (and their taps), no_peer, peer_inside, peer_elsewhere, undecided.
    """

    reason: str
    text: str
    pod_interface: Link | None = None
    parent: Link | None = None
    evidence: tuple[Evidence, ...] = ()

    def __bool__(self) -> bool:
        return False

    def report(self) -> Report:
        """Why there is none, and how that is known."""
        return Report(f"No veth pair: {self.text}", evidence=self.evidence)


@dataclass(frozen=True, slots=True)
class HostInterface:
    """One interface of a node and who is behind it: a pod (``namespace/name``), another namespace, or nobody."""

    link: Link
    pod: str | None = None
    netns: int | None = None
    says: str = ""
    evidence: tuple[Evidence, ...] = ()


def _loopback(link: Link) -> bool:
    return "LOOPBACK" in link.flags


def primary_link(pod: PodView) -> Link | None:
    """The interface that carries the pod's address, else the one of the default route, else the first but loopback."""
    links = [link for link in pod.links or () if not _loopback(link)]
    ips = set(pod.identity.ips)
    holding = [link for link in links if ips & {address.address for address in link.addresses}]
    default = {route.dev for route in pod.routes or () if route.network.prefixlen == 0 and route.table == "main"}
    leading = [link for link in links if link.name in default]
    return next(iter([*holding, *leading, *links]), None)


def veth_of(pod: PodView, node: NodeView | None, sandbox: Sandbox | None = None) -> VethPair | NoVethPair:
    """The pair of the pod's primary interface, or why there is none."""
    found = sandbox or find_sandbox(pod, node)
    if found.host_network:
        text = f"{pod.identity.name} uses the node's network (hostNetwork): its interfaces and addresses are the node's"
        return NoVethPair("host_network", text, evidence=found.evidence)
    if found.reason and not pod.links:
        return NoVethPair(found.reason, found.text, evidence=found.evidence)
    if pod.links is None:
        text = f"the interfaces in the network namespace of {pod.identity.name} were not read"
        return NoVethPair("no_interface_data", text, evidence=found.evidence)
    link = primary_link(pod)
    if link is None:
        text = f"{pod.identity.name} has no interface but loopback"
        return NoVethPair("only_loopback", text, evidence=found.evidence)
    return pair_of(link, pod, node, found)


def pair_of(link: Link, pod: PodView, node: NodeView | None, sandbox: Sandbox) -> VethPair | NoVethPair:
    """The peer on the node of one interface of a pod (a pod may have several, as with Multus)."""
    own = _own_line(link, pod, sandbox)
    if node is None or node.links is None:
        text = f"the interfaces of node {pod.identity.node} were not read"
        return NoVethPair("no_node_data", text, link, None, (*sandbox.evidence, own))
    if link.kind in _NO_PEER:
        return _on_parent(link, node, _NO_PEER[link.kind], link.kind, (*sandbox.evidence, own))
    if link.peer_ifindex is None:
        code, text = ("peer_inside", f"its peer {link.peer_name} is in the same namespace") if link.peer_name else (
            "no_peer", f"{link.name} ({link.kind or 'hardware, or of an unknown kind'}) names no peer")  # fmt: skip
        return NoVethPair(code, text, link, None, (*sandbox.evidence, own))
    if link.kind is not None and link.kind not in PAIRED:
        return _on_parent(link, node, f"a {link.kind} interface has no peer", "no_peer", (*sandbox.evidence, own))
    peer = next((other for other in node.links if other.ifindex == link.peer_ifindex), None)
    if peer is None or peer.peer_ifindex != link.ifindex or peer.kind not in (*PAIRED, None):
        return _elsewhere(link, peer, node, (*sandbox.evidence, own))
    return _confirm(link, peer, pod, node, sandbox, own)


def _confirm(
    link: Link, peer: Link, pod: PodView, node: NodeView, sandbox: Sandbox, own: Evidence
) -> VethPair | NoVethPair:
    """Both indices agree: who says that the namespaces do too?"""
    back = evidence(
        "addr.json", node.node, [peer.line()],
        f"and {peer.name} ({peer.ifindex}) points back to index {link.ifindex} in namespace id {peer.peer_nsid}",
    )  # fmt: skip
    proof = (*sandbox.evidence, own, back)
    inode, named = _namespace_of(peer.peer_nsid, node)
    if inode is not None and sandbox.netns is not None:
        if inode != sandbox.netns:
            text = f"{peer.name} has the right index, but leads to namespace {inode}, not to the pod's {sandbox.netns}"
            return NoVethPair("peer_elsewhere", text, link, None, (*proof, *named))
        return _pair(link, peer, pod, node, "namespace_id", (*proof, *named))
    witnesses = _witnesses(link, peer, node)
    if not witnesses:
        text = (
            f"the indices of {link.name} and {peer.name} fit, but the namespace id {peer.peer_nsid} cannot be "
            "resolved, and no learned MAC address, neighbour or host route confirms it"
        )
        return NoVethPair("undecided", text, link, None, proof)
    return _pair(link, peer, pod, node, "indices_and_traffic", (*proof, *witnesses))


def _pair(
    link: Link, peer: Link, pod: PodView, node: NodeView, decided_by: str, proof: tuple[Evidence, ...]
) -> VethPair:
    addresses = {address.address for address in link.addresses} | set(pod.identity.ips)
    routes = [r for r in node.routes or () if r.dev == peer.name and r.type == "unicast" and host_of(r) in addresses]
    route = next(iter(routes), None)
    master = next((other for other in node.links or () if peer.master and other.name == peer.master), None)
    bridge = peer.master if peer.master and (master is None or master.kind in ("bridge", None)) else None
    if master is not None:
        says = f"{peer.name} is a port of {master.name}, a {master.kind or 'link of unknown kind'}"
        proof = (*proof, evidence("addr.json", node.node, [master.line()], says))
    if route is not None:
        says = (
            f"no bridge: the node routes {host_of(route)} to {peer.name}"
            if not peer.master
            else f"routed to {peer.name}"
        )
        fact = "route6.json" if route.network.version == 6 else "route.json"
        proof = (*proof, evidence(fact, node.node, [route.line()], says))
    return VethPair(link, peer, bridge, route, decided_by, proof)


def _own_line(link: Link, pod: PodView, sandbox: Sandbox) -> Evidence:
    where = f"index {link.peer_ifindex} in namespace id {link.peer_nsid}" if link.peer_ifindex else "no other namespace"
    says = f"{link.name} ({link.ifindex}, {link.kind or 'no kind'}) points to {where}"
    return evidence("addr.json", pod.identity.node, [link.line()], says, pod.identity.name, sandbox.pid)


def _elsewhere(link: Link, peer: Link | None, node: NodeView, proof: tuple[Evidence, ...]) -> NoVethPair:
    if peer is None:
        text = f"{link.name} points to index {link.peer_ifindex}, and {node.node} has no such interface"
        return NoVethPair("peer_elsewhere", text, link, None, proof)
    says = f"{node.node}'s interface {peer.ifindex} is {peer.name}, which does not point back to index {link.ifindex}"
    line = evidence("addr.json", node.node, [peer.line()], says)
    return NoVethPair("peer_elsewhere", f"{link.name}'s peer is not on the node: {says}", link, None, (*proof, line))


def _on_parent(link: Link, node: NodeView, text: str, code: str, proof: tuple[Evidence, ...]) -> NoVethPair:
    parent = next((other for other in node.links or () if other.ifindex == link.peer_ifindex), None)
    if parent is None:
        return NoVethPair(code, text, link, None, proof)
    says = f"index {parent.ifindex} on {node.node} is {parent.name}: the parent if id {link.peer_nsid} is the node"
    line = evidence("addr.json", node.node, [parent.line()], says)
    return NoVethPair(
        code, f"{text}; index {parent.ifindex} on the node is {parent.name}", link, parent, (*proof, line)
    )


def _namespace_of(nsid: int | None, node: NodeView) -> tuple[int | None, tuple[Evidence, ...]]:
    """The inode that a namespace id of the node stands for; None when nothing says it, or two facts disagree."""
    if nsid is None:
        return None, ()
    direct = [space for space in node.namespaces or () if space.nsid == nsid]
    names = [entry for entry in node.nsids or () if entry.nsid == nsid and entry.name]
    by_name = [
        (entry, space)
        for entry in names
        for space in node.namespaces or ()
        if any(bound.rsplit("/", 1)[-1] == entry.name for bound in space.bound)
    ]
    inodes = {space.inode for space in direct} | {space.inode for _, space in by_name}
    if len(inodes) != 1:
        return None, ()
    inode = inodes.pop()
    proof = [
        evidence("nsid.json", node.node, [entry.evidence_line()], f"id {nsid} has the name {entry.name}")
        for entry, _ in by_name[:1]
    ]
    space = direct[0] if direct else by_name[0][1]
    proof.append(evidence("lsns.json", node.node, [space.evidence_line()], f"id {nsid} is the namespace {inode}"))
    return inode, tuple(proof)


def _witnesses(link: Link, peer: Link, node: NodeView) -> tuple[Evidence, ...]:
    """What else ties the pod's interface to this interface of the node: its MAC address or its own route."""
    addresses = {address.address for address in link.addresses}
    told = [
        ("fdb.json", entry.evidence_line(), entry.mac)
        for entry in node.fdb or ()
        if entry.learned and entry.name == peer.name and entry.mac == link.mac
    ]
    told += [
        ("neigh.json", near.evidence_line(), near.dst)
        for near in node.neighbours or ()
        if near.dev == peer.name and near.mac == link.mac
    ]
    told += [
        ("route.json", route.line(), str(route.network.network_address))
        for route in node.routes or ()
        if route.dev == peer.name and host_of(route) in addresses
    ]
    return tuple(evidence(fact, node.node, [line], f"{what} is behind {peer.name}") for fact, line, what in told)


def host_interfaces(node: NodeView, pods: Sequence[PodView]) -> tuple[HostInterface, ...]:
    """Every interface of a node, and which pod is behind it. Empty when the node's interfaces were not read."""
    here = [pod for pod in pods if pod.identity.node == node.node]
    boxes = [(pod, find_sandbox(pod, node)) for pod in here]
    behind: dict[int, tuple[PodView, VethPair]] = {}
    for pod, box in boxes:
        if box.host_network:
            continue
        for link in pod.links or ():
            pair = None if _loopback(link) else pair_of(link, pod, node, box)
            if isinstance(pair, VethPair):
                behind[pair.node_interface.ifindex] = (pod, pair)
    homes: dict[int | None, str] = {
        box.netns: pod.identity.name for pod, box in boxes if box.netns is not None and not box.host_network
    }
    return tuple(_host_interface(link, node, behind.get(link.ifindex), homes) for link in node.links or ())


def _host_interface(
    link: Link, node: NodeView, known: tuple[PodView, VethPair] | None, homes: dict[int | None, str]
) -> HostInterface:
    if known is not None:
        pod, pair = known
        says = f"peer of {pair.pod_interface.name} ({pair.pod_interface.ifindex}) of {pod.identity.name}"
        inode, _ = _namespace_of(link.peer_nsid, node)
        return HostInterface(link, pod.identity.name, inode, says, pair.evidence)
    if link.kind not in (*PAIRED, None) or link.peer_nsid is None:
        return HostInterface(link, says=link.kind or ("loopback" if _loopback(link) else "no kind"))
    own = evidence("addr.json", node.node, [link.line()], f"leads to namespace id {link.peer_nsid}")
    inode, named = _namespace_of(link.peer_nsid, node)
    if inode is None:
        return HostInterface(link, says=f"its peer is in a namespace that is not known here, id {link.peer_nsid}",
                             evidence=(own,))  # fmt: skip
    pod_name = homes.get(inode)
    whose = f"the namespace of {pod_name}" if pod_name else f"namespace {inode}, of no known pod"
    says = f"its peer is in {whose}"
    return HostInterface(link, pod_name, inode, says, (own, *named))
