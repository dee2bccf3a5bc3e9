"""The pods of one node: their processes and namespaces as recorded, their pairs by the kit's own evidence."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface

from ...cgroups import pod_of, same_pod
from ...explain.pod_network import VethPair, pair_of
from ...explain.sandbox import NodeView, PodView, Sandbox, find_sandbox, host_of
from ...facts import FactRef
from ...parse import links as parsed
from ...parse.pods import PodValue
from .. import words
from ..model import Link, PodPlan, Route, Space
from .facts import Notes, Reader, SpaceFacts, read_pod
from .links import Roles, plan_links
from .routes import plan_neighbours, plan_routes, plan_rules, withdrawn
from .sysctls import space_sysctls

__all__ = ["FoundPod", "find_pods", "has_ipv6", "made_up", "plan_pod", "unique"]

MOST_PODS = 1000
_MOST_TEXT = 65536


@dataclass(frozen=True, slots=True)
class FoundPod:
    """One pod of a node: what was read of it, where it lives, and its interfaces' other ends on the node.

    ``pairs``: name in the pod -> name on the node. ``parents``: of its macvlan and ipvlan interfaces.
    """

    pod: PodValue
    facts: SpaceFacts
    view: PodView
    box: Sandbox
    pairs: Mapping[str, str]
    parents: Mapping[str, str]


def find_pods(reader: Reader, view: NodeView, pods: Sequence[PodValue]) -> tuple[FoundPod, ...]:
    """The pods that are on this node and have not ended, each with its pairs. No interface is given away twice."""
    node, taken = view.node, set[str]()
    found = []
    for pod in pods[:MOST_PODS]:
        facts, inside = read_pod(reader, pod, node)
        box = find_sandbox(inside, view)
        pairs, parents = ({}, {}) if box.host_network else _ends(inside, view, box, taken)
        taken |= set(pairs.values())
        found.append(FoundPod(pod, facts, inside, box, pairs, parents))
    for pod in pods[MOST_PODS:]:
        reader.notes.add(node, "pods.json", pod.key, f"a twin's node has {MOST_PODS:,} pods at most")
    return tuple(found)


def _ends(inside: PodView, view: NodeView, box: Sandbox, taken: set[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Other ends of a pod's interfaces, and parents of those that have none."""
    pairs: dict[str, str] = {}
    parents: dict[str, str] = {}
    for link in inside.links or ():
        if "LOOPBACK" in link.flags:
            continue
        said = pair_of(link, inside, view, box)
        if isinstance(said, VethPair):
            other: parsed.Link | None = said.node_interface
        elif said.reason == "undecided":  # both indices fit, and nobody else claims it
            other = next((n for n in view.links or () if n.ifindex == link.peer_ifindex), None)
        else:
            other = None
            if said.parent is not None and link.kind in ("macvlan", "ipvlan"):
                parents[link.name] = said.parent.name
        if other is not None and other.name not in taken and other.name not in pairs.values():
            pairs[link.name] = other.name
    return pairs, parents


def plan_pod(reader: Reader, found: FoundPod, node: str, processes: NodeView) -> PodPlan:
    """A pod as its own namespace's facts have it; without listeners."""
    pod, notes = found.pod, reader.notes
    space = None if found.box.host_network else _own_space(found, node, notes)
    return PodPlan(
        namespace=pod.namespace,
        name=pod.name,
        uid=_uid(pod, notes, node),
        cgroup=_cgroup(found, processes, notes),
        pids=_pids(found, notes, node),
        netns=None if found.box.host_network else _bound(found, notes, node),
        space=space,
        listeners=(),
        resolv_conf=_resolv_conf(reader, pod, node),
    )


def _own_space(found: FoundPod, node: str, notes: Notes) -> Space:
    """The pod's namespace from its own facts."""
    pairs = {name: ("", other) for name, other in found.pairs.items()}
    parents = {name: ("", parent) for name, parent in found.parents.items()}
    roles = Roles(pairs={**pairs, **parents}, parents=found.parents)
    facts = found.facts
    links = plan_links(facts.links or (), roles, notes, node, found.pod.key)
    return Space(
        links,
        routes=plan_routes(facts.routes, links, notes, node),
        rules=plan_rules(facts.rules, notes, node),
        neighbours=plan_neighbours(facts.neighbours, links, notes, node),
        withdrawn=withdrawn(facts.routes, links),
        sysctls=space_sysctls(links, has_ipv6(links)),
    )


def has_ipv6(links: Sequence[Link]) -> bool:
    """Whether the namespace has IPv6 at all: where it is switched off, not even loopback has an address."""
    return any(":" in address.split()[0] for link in links for address in link.addresses)


def made_up(found: FoundPod, view: NodeView, links: Sequence[Link], notes: Notes) -> tuple[Space, Link] | None:
    """A namespace for a pod of which only the API told, and its pair's end on the node; None where nothing leads there.

    The node's end is the recorded interface that its host route, or its namespace's id, names; on a bridge a new one.
    """
    pod, node = found.pod, view.node
    recorded = _recorded_end(found, view)
    bridge = None if recorded and not recorded.master else _bridge_to(pod, view, links)
    if not pod.ips or (recorded is None and bridge is None):
        notes.add(node, "pods.json", pod.key, "its namespace was not read, and no route of the node leads to it")
        return None
    name = recorded.name if recorded else f"veth{zlib.crc32(pod.uid.encode()):08x}"
    index = recorded.ifindex if recorded else None
    end = Link(
        name,
        "veth",
        index,
        words.mac(recorded.mac) if recorded else None,
        words.number(recorded.mtu, 68, 65535) if recorded else bridge.mtu if bridge else 1500,
        True,
        master=bridge.name if bridge else None,
        hairpin=bridge is not None,
        peer=pod.key,
        peer_name="eth0",
        nsid=words.number(recorded.peer_nsid, 0, 2**31 - 1) if recorded and recorded.peer_nsid is not None else None,
    )
    notes.add(node, "addr.json", pod.key, "its namespace was not read: made from its addresses in the API")
    return _simple_space(pod.ips, end, bridge, recorded), end


def _recorded_end(found: FoundPod, view: NodeView) -> parsed.Link | None:
    """The node's interface to the pod: by its namespace's id, else by a host route to one of its addresses."""
    ids = {s.nsid for s in view.namespaces or () if s.inode == found.box.netns and s.nsid is not None}
    devices = {r.dev for r in view.routes or () if host_of(r) in found.pod.ips and r.type == "unicast"}
    ends = [link for link in view.links or () if link.kind in ("veth", "netkit") and _usable(link)]
    by_id = [link for link in ends if link.peer_nsid in ids]
    return next(iter(by_id or [link for link in ends if link.name in devices]), None)


def _usable(link: parsed.Link) -> bool:
    """Whether an interface can be made as recorded: name, address, MTU, the id of the other end's namespace."""
    try:
        words.interface_name(link.name)
        words.mac(link.mac)
        words.number(link.mtu, 68, 65535)
        if link.peer_nsid is not None:
            words.number(link.peer_nsid, 0, 2**31 - 1)
    except ValueError:
        return False
    return True


def _bridge_to(pod: PodValue, view: NodeView, links: Sequence[Link]) -> Link | None:
    bridges = {link.name: link for link in links if link.kind == "bridge"}
    ways = (parsed.route_to(ip, view.routes or ()) for ip in pod.ips)
    return next((bridges[way.dev] for way in ways if way is not None and way.dev in bridges), None)


def _simple_space(ips: Sequence[str], end: Link, bridge: Link | None, recorded: parsed.Link | None) -> Space:
    """eth0 with the addresses; a bridge's own addresses are the gateways, else the node's end is, by a fixed entry."""
    addresses, routes, neighbours = [], [], []
    mac = recorded.mac if recorded else None
    for ip in ips:
        family = ip_address(ip).version
        any_network = "::/0" if family == 6 else "0.0.0.0/0"
        near = [ip_interface(a.split()[0]) for a in (bridge.addresses if bridge else ())]
        home = next((n for n in near if ip_address(ip) in n.network), None)
        addresses.append(f"{ip}/{home.network.prefixlen}" if home else words.host_prefix(ip))
        gateway = str(home.ip) if home else ("fe80::1" if family == 6 else "169.254.1.1")
        if home is None and family == 4:
            routes.append(Route(4, (f"{gateway}/32", "dev", "eth0", "scope", "link")))
        if home is None and mac:
            neighbours.append(Route(family, (gateway, "lladdr", words.mac(mac), "dev", "eth0", "nud", "permanent")))
        routes.append(Route(family, (any_network, "via", gateway, "dev", "eth0", *(("onlink",) if not home else ()))))
    lo = Link("lo", "loopback", 1, None, 65536, True)
    index = recorded.peer_ifindex if recorded and recorded.peer_ifindex else 2
    eth0 = Link("eth0", "veth", index, None, end.mtu, True, tuple(addresses), peer="", peer_name=end.name)
    links = (lo, eth0)
    return Space(links, tuple(routes), (), tuple(neighbours), sysctls=space_sysctls(links, True))


def _cgroup(found: FoundPod, view: NodeView, notes: Notes) -> str:
    """The recorded cgroup path of the sandbox (else of any process); without one, a path by the kubelet's scheme."""
    mine = [p for p in view.processes or () if p.pid in (found.box.pid, *found.box.pids)]
    mine.sort(key=lambda process: (process.pid != found.box.pid, process.pid))
    for process in mine:
        for path in process.cgroups:
            named = pod_of((path,))
            if named is not None and same_pod(named.uid, found.view.identity.identities):
                try:
                    return words.cgroup_path(path)
                except ValueError as error:
                    notes.add(view.node, "processes.json", path, error)
    try:
        return f"/kubepods/besteffort/pod{words.uid(found.pod.uid)}/{zlib.crc32(found.pod.uid.encode()):064x}"
    except ValueError:  # noted with the uid itself
        return "/"


def _pids(found: FoundPod, notes: Notes, node: str) -> tuple[int, ...]:
    """The sandbox's first. Pid 1 is the node's own."""
    good: dict[int, None] = {}
    for pid in (*([found.box.pid] if found.box.pid else []), *found.box.pids):
        try:
            good[words.number(pid, 2, 2**22)] = None
        except ValueError as error:
            notes.add(node, "pod.json", found.pod.key, error)
    return tuple(good)


def _uid(pod: PodValue, notes: Notes, node: str) -> str:
    try:
        return words.uid(pod.uid)
    except ValueError as error:
        notes.add(node, "pods.json", pod.key, error)
        return ""


def _bound(found: FoundPod, notes: Notes, node: str) -> str | None:
    for path in found.box.bound:
        try:
            return words.netns_name(path)
        except ValueError as error:
            notes.add(node, "lsns.json", path, error)
    return None


def _resolv_conf(reader: Reader, pod: PodValue, node: str) -> str:
    ref = FactRef("resolv.conf", node, pod.key)
    text = reader.fact(ref, lambda data, _: data.decode("utf-8", "replace")) or ""
    if len(text) > _MOST_TEXT or "\0" in text:
        reader.notes.add(node, "resolv.conf", pod.key, "too long, or no text")
        return ""
    return text


def unique(pods: Sequence[PodPlan]) -> tuple[PodPlan, ...]:
    """Each pid, and each name of a namespace, only once on a node: a second claim to one is dropped."""
    seen: set[int | str] = set()
    found = []
    for pod in pods:
        mine = tuple(pid for pid in pod.pids if pid not in seen)
        netns = None if pod.netns in seen else pod.netns
        seen |= {*mine, *([netns] if netns else [])}
        found.append(replace(pod, pids=mine, netns=netns))
    return tuple(found)
