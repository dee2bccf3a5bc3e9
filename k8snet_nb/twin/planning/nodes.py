"""One node of a plan: its namespace as recorded, its uplinks, its pods; or a stand-in that only holds addresses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface

from ...explain.sandbox import NodeView
from ...parse.pods import PodValue
from .. import words
from ..model import Link, NodePlan, PodPlan, Route, Space, own_links
from .facts import Notes, Reader, SpaceFacts
from .links import Roles, plan_links
from .pods import FoundPod, find_pods, has_ipv6, made_up, plan_pod, unique
from .routes import plan_fdb, plan_neighbours, plan_routes, plan_rules, withdrawn
from .sysctls import node_sysctls, space_sysctls
from .wire import Interface, Network, NodeOnWire, Ways

__all__ = ["PODS_LINK", "UPLINK", "BuiltNode", "node_plan", "proxied", "stand_in", "uplinks"]

UPLINK, PODS_LINK = "eth0", "pods0"
"""Names of a stand-in's two interfaces: its wire, and the one that holds the addresses of its pods."""

_UPLINK_KINDS = (None, "veth", "netkit", "macvlan", "ipvlan", "vlan", "bond", "team", "openvswitch")
_HARDWARE_KINDS = (None, "bond", "team")


@dataclass(frozen=True, slots=True)
class BuiltNode:
    """A node's plan, and what the wire must know of it."""

    plan: NodePlan
    on_wire: NodeOnWire


def uplinks(facts: SpaceFacts, node_ips: Iterable[str], paired: Iterable[str]) -> frozenset[str]:
    """Interfaces that lead out of the node: they hold an address of it or the default route, and are no bridge, dummy
    or tunnel; hardware with any address, too; and hardware that is a port of a bridge which holds such an address.
    """
    links, inner, ips = facts.links or (), set(paired), set(node_ips)
    default = {dev for r in facts.routes if r.network.prefixlen == 0 and r.table == "main" for _, dev in r.hops}
    holding = {k.name for k in links if k.name in default or ips & {a.address for a in k.addresses}}
    found = set()
    for link in links:
        if "LOOPBACK" in link.flags or link.name in inner or link.kind not in _UPLINK_KINDS:
            continue
        addressed = link.kind in _HARDWARE_KINDS and bool(link.ips())
        port = link.kind in _HARDWARE_KINDS and link.master in holding
        if link.name in holding or addressed or port:
            found.add(link.name)
    return frozenset(found)


def node_plan(
    reader: Reader, facts: SpaceFacts, view: NodeView, pods: Sequence[PodValue], node_ips: Sequence[str]
) -> BuiltNode:
    """A node whose kernel was read, without listeners and steps."""
    node, notes = view.node, reader.notes
    found = find_pods(reader, view, pods)
    pairs = {there: (one.pod.key, here) for one in found for here, there in one.pairs.items()}
    wires = uplinks(facts, node_ips, pairs)
    for link in facts.links or ():
        if link.name in wires and link.kind not in (None, "veth"):
            notes.add(node, "addr.json", link.line(), f"a {link.kind} that leads out of the node: made as a plain wire")
    # the recorded ends of pods that were not read are made with these pods, or noted there
    missing = [one for one in found if one.view.links is None and not one.box.host_network]
    held = _held_back(missing, view, pairs, wires)
    recorded = [link for link in facts.links or () if link.name not in held]
    links = plan_links(recorded, Roles(wires=wires, pairs=pairs), notes, node)
    plans, links = _pods(reader, found, view, links)
    links = (*links, *_from_here(plans, links, notes, node))
    space = _space(reader, facts, view, links, has_ipv6(links))
    plan = NodePlan(node, space, unique(plans))
    return BuiltNode(plan, _on_wire(plan, facts, wires, node_ips, plans, found))


def _held_back(
    missing: Sequence[FoundPod], view: NodeView, pairs: Mapping[str, object], wires: frozenset[str]
) -> frozenset[str]:
    """Veth interfaces of the node whose other ends are in namespaces that were not read."""
    if not missing:
        return frozenset()
    veths = (link for link in view.links or () if link.kind in ("veth", "netkit"))
    return frozenset(link.name for link in veths if link.name not in pairs and link.name not in wires)


def _pods(
    reader: Reader, found: Sequence[FoundPod], view: NodeView, links: tuple[Link, ...]
) -> tuple[list[PodPlan], tuple[Link, ...]]:
    """The pods' plans; those that were not read add their own ends to the node's links."""
    plans: list[PodPlan] = []
    for one in found:
        plan = plan_pod(reader, one, view.node, view)
        if one.box.host_network:
            plans.append(plan)
        elif one.view.links is not None:
            plans.append(replace(plan, space=_only_made(plan.space, plan.key, links, reader.notes, view.node)))
        elif one.pod.phase == "Running":
            made = made_up(one, view, links, reader.notes)
            if made is not None and made[1].name not in {link.name for link in links}:
                plans.append(replace(plan, space=made[0]))
                links = (*links, made[1])
    return plans, links


def _only_made(space: Space | None, key: str, links: Sequence[Link], notes: Notes, node: str) -> Space | None:
    """A pod's namespace without the veth interfaces whose ends on the node are not made."""
    if space is None:
        return None
    ends = {(link.peer, link.peer_name) for link in links}
    lost = {link.name for link in space.links if link.kind == "veth" and (key, link.name) not in ends}
    for name in sorted(lost):
        notes.add(node, "addr.json", f"{key} {name}", "its other end on the node is not made")
    if not lost:
        return space
    kept = tuple(route for route in space.routes if not lost & set(route.words))
    near = tuple(entry for entry in space.neighbours if not lost & set(entry.words))
    return replace(space, links=tuple(k for k in space.links if k.name not in lost), routes=kept, neighbours=near)


def _from_here(plans: Sequence[PodPlan], links: Sequence[Link], notes: Notes, node: str) -> list[Link]:
    """The pods' macvlan and ipvlan interfaces, which the node's parents make."""
    names = {link.name for link in links}
    found = []
    for plan in plans:
        for link in plan.space.links if plan.space else ():
            if link.kind in ("macvlan", "ipvlan"):
                if link.parent in names:
                    found.append(replace(link, peer=plan.key, peer_name=link.name, addresses=(), nsid=None))
                else:
                    notes.add(node, "addr.json", f"{plan.key} {link.name}", f"its parent {link.parent} is not made")
    return found


def _space(reader: Reader, facts: SpaceFacts, view: NodeView, links: tuple[Link, ...], ipv6: bool) -> Space:
    node, notes, own = view.node, reader.notes, own_links(links)
    routes = plan_routes(facts.routes, own, notes, node)
    v6_routed = any(r.network.version == 6 and not r.network.is_link_local for r in facts.routes)
    if any(route.family == 6 and "table" in route.words for route in routes):
        notes.add(node, "rule.json", "rules of IPv6", "not part of a recording (ip -j rule lists IPv4's)")
    sysctls = space_sysctls(own, ipv6) | node_sysctls(reader, notes, node, own, v6_routed and ipv6)
    if not ipv6:
        sysctls.pop("net/ipv6/conf/all/forwarding", None)
    return Space(
        links,
        routes,
        plan_rules(facts.rules, notes, node),
        plan_neighbours(facts.neighbours, own, notes, node),
        plan_fdb(view.fdb or (), own, notes, node),
        withdrawn(facts.routes, own),
        sysctls,
    )


def _on_wire(
    plan: NodePlan,
    facts: SpaceFacts,
    wires: frozenset[str],
    node_ips: Sequence[str],
    plans: Sequence[PodPlan],
    found: Sequence[FoundPod],
) -> NodeOnWire:
    own = own_links(plan.space.links)
    masters = {link.master for link in own if link.kind == "wire" and link.master}
    leading = [link for link in own if link.kind == "wire" or link.name in masters]
    addresses = [i for link in leading for i in interfaces(link) if not i.is_link_local]
    addresses.sort(key=lambda a: (str(a.ip) not in node_ips, node_ips.index(str(a.ip)) if str(a.ip) in node_ips else 0))
    mtu = min((link.mtu for link in leading), default=1500)
    there = {one.key for one in plans if one.space is not None}
    pods = tuple(ip for one in found if one.pod.key in there for ip in one.pod.ips)
    names = frozenset(link.name for link in leading)
    return NodeOnWire(plan.name, tuple(addresses), mtu, facts.routes, facts.neighbours, names, pods)


def interfaces(link: Link) -> list[Interface]:
    """Addresses with their prefixes; of a peer address only the own one, alone."""
    parts = [text.split() for text in link.addresses]
    return [ip_interface(p[0]) for p in parts]


def proxied(node: BuiltNode, others: Sequence[tuple[NodeOnWire, Ways]]) -> tuple[Route, ...]:
    """Neighbour entries by which a node answers for its pods, where other nodes look for them on the link itself."""
    wire = next((link for link in node.plan.space.links if link.kind == "wire"), None)
    found: dict[Route, None] = {}
    for ip in node.on_wire.pods if wire is not None else ():
        ways = ((other, table.to(ip)) for other, table in others if other.name != node.plan.name)
        if wire and any(way and way.via is None and way.dev in other.uplinks for other, way in ways):
            found[Route(ip_address(ip).version, ("proxy", ip, "dev", wire.name))] = None
    return tuple(found)


def stand_in(
    name: str,
    ips: Sequence[str],
    pods: Sequence[PodValue],
    others: Sequence[NodeOnWire],
    gateways: Iterable[str],
) -> BuiltNode:
    """A node of which nothing was recorded: the addresses of it and of its pods, and ways back to everybody."""
    subnets = [address.network for other in others for address in other.addresses]
    own = [_in_subnet(ip, subnets) for ip in ips]
    pod_ips = tuple(dict.fromkeys(ip for pod in pods if not pod.host_network for ip in pod.ips))
    mtu = min((1500, *(other.mtu for other in others)))
    links = (
        Link("lo", "loopback", 1, None, 65536, True),
        Link(UPLINK, "wire", 2, None, mtu, True, tuple(map(str, own))),
        Link(PODS_LINK, "bridge", 3, None, mtu, True, tuple(map(words.host_prefix, pod_ips))),
    )
    sysctls = {
        **space_sysctls(links, True),
        "net/ipv4/ip_forward": "1",
        "net/ipv6/conf/all/forwarding": "1",
    }
    routes = (*_defaults(own, gateways), *_to_others(others))
    plan = NodePlan(name, Space(links, routes, sysctls=sysctls), (), stand_in=True)
    return BuiltNode(plan, NodeOnWire(name, tuple(own), mtu, uplinks=frozenset({UPLINK}), pods=pod_ips))


def _in_subnet(ip: str, subnets: Iterable[Network]) -> Interface:
    """With the prefix that other nodes' uplinks in the same subnet have, else /24 or /64."""
    address = ip_address(ip)
    for net in subnets:
        if net.version == address.version and address in net:
            return ip_interface(f"{ip}/{net.prefixlen}")
    return ip_interface(f"{ip}/{64 if address.version == 6 else 24}")


def _defaults(own: Iterable[Interface], gateways: Iterable[str]) -> tuple[Route, ...]:
    found: dict[int, Route] = {}
    for gateway in gateways:
        ip = ip_address(gateway)
        if any(a.version == ip.version and (ip in a.network or ip.is_link_local) for a in own):
            everything = "::/0" if ip.version == 6 else "0.0.0.0/0"
            found.setdefault(ip.version, Route(ip.version, (everything, "via", gateway, "dev", UPLINK)))
    return tuple(found.values())


def _to_others(others: Iterable[NodeOnWire]) -> tuple[Route, ...]:
    found: dict[Route, None] = {}
    for other in others:
        for ip in other.pods:
            family = ip_address(ip).version
            home = other.address(family)
            if home:
                found[Route(family, (words.host_prefix(ip), "via", home, "dev", UPLINK, "onlink"))] = None
    return tuple(found)
