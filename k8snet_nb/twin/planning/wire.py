"""The wire between the nodes: gateways, ways to pods where the underlay must know them, clients outside the cluster.

What the underlay of the recorded cluster knew is not recorded; what the nodes' routes expect of it is:

- a gateway that a node's route names and that is no node becomes an address of the wire's bridge;
- a pod that some node reaches through such a gateway must be known to it: the wire has a route to that pod, through its
  node. Pods that nodes reach in another way (through each other, through a tunnel) are unknown to the wire, and a
  packet to one of them that comes here is answered with "unreachable", as a router would;
- an endpoint that is no pod answers pods: kube-proxy does not masquerade what a pod sends to it. By routing table 1000,
  which is asked for packets from such an address, it knows the way to each pod, through the pod's node;
- a client outside knows no pod and no Service. It reaches an entry of a Service through the node of its choice: the
  wire has a routing table for each node (1001 for the first), with that node as the only way, and a rule that takes it
  for packets with the same number as their mark. Without a mark there is no way but to what is on the link. Every
  address of its network is the wire's (a route of type ``local``): each can be a client of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_address, ip_interface, ip_network

from ...parse.links import Route as ParsedRoute
from ...parse.routing import Neighbour
from .. import words
from ..model import BRIDGE, Link, Route, Space
from .sysctls import NO_ICMP_LIMITS

__all__ = [
    "FIRST_MARK",
    "OUTSIDE",
    "NodeOnWire",
    "Ways",
    "Wire",
    "gateways_of",
    "node_mark",
    "outside_network",
    "plan_wire",
]

OUTSIDE, FIRST_MARK = "outside0", 1001
"""The wire's bridge, the interface with addresses that are on no link of the nodes, and the first node's mark."""

_LINK_LOCAL = "fe80::6b38:736e:6574/64"
"""Of the wire's bridge: from it the kernel asks for a node's MAC address on behalf of who is not on the link."""

_BACK = "1000"
"""The routing table, and the rule's priority, of packets from endpoints that are no pods."""

_CANDIDATES = {
    4: ("203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24", "198.18.0.0/24", "198.19.0.0/24"),
    6: ("2001:db8:ffff::/64", "2001:db8:fffe::/64", "3fff:fff::/64", "3fff:ffe::/64", "2001:2::/64"),
}
"""For documentation (RFC 5737, RFC 3849, RFC 9637) and benchmarks (RFC 2544, RFC 5180): no cluster should use them."""

Network = IPv4Network | IPv6Network
Interface = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True)
class NodeOnWire:
    """One node as the wire sees it. ``addresses``: of its uplinks; ``pods``: addresses of its pods."""

    name: str
    addresses: tuple[Interface, ...]
    mtu: int
    routes: tuple[ParsedRoute, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    uplinks: frozenset[str] = frozenset()
    pods: tuple[str, ...] = ()

    def address(self, family: int) -> str | None:
        """The first address of a family."""
        return next((str(a.ip) for a in self.addresses if a.version == family), None)


class Ways:
    """The main table of one node, for many look-ups: longest prefix, then smallest metric, as ``parse.route_to``."""

    def __init__(self, routes: Iterable[ParsedRoute]) -> None:
        self._by_length: dict[tuple[int, int], dict[int, ParsedRoute]] = {}
        for route in routes:
            net = route.network
            dead = "dead" in (route.raw.get("flags") or ())
            if route.table != "main" or dead or route.type in ("broadcast", "multicast", "anycast"):
                continue
            same = self._by_length.setdefault((net.version, net.prefixlen), {})
            first = int(net.network_address)
            if first not in same or route.metric < same[first].metric:
                same[first] = route
        self._lengths = sorted(self._by_length, key=lambda key: -key[1])

    def to(self, text: str) -> ParsedRoute | None:
        """The route to an address; None: there is none."""
        ip = ip_address(text)
        for version, length in self._lengths:
            unused = ip.max_prefixlen - length
            if version == ip.version:
                route = self._by_length[version, length].get(int(ip) >> unused << unused)
                if route is not None:
                    return route
        return None


@dataclass(frozen=True, slots=True)
class Wire:
    """The wire's namespace, and the addresses of clients outside, by family."""

    space: Space
    outside: Mapping[int, str]


def node_mark(position: int) -> int:
    """The mark, and the routing table, by which the wire sends a packet to the node of that position in the plan."""
    return FIRST_MARK + position


def outside_network(ip: str) -> Network:
    """The network of an outside client, of which every address can be one."""
    return ip_network(f"{ip}/{64 if ':' in ip else 24}", strict=False)


def gateways_of(nodes: Sequence[NodeOnWire]) -> dict[str, str | None]:
    """Gateways that nodes' routes out of their uplinks name and that are no node, with their recorded MAC address."""
    own = {str(address.ip) for node in nodes for address in node.addresses}
    found: dict[str, str | None] = {}
    for node in nodes:
        macs = {n.dst: n.mac for n in node.neighbours if n.dev in node.uplinks}
        hops = ((via, dev) for route in node.routes for via, dev in route.hops if via and dev in node.uplinks)
        for via, _ in hops:
            try:
                gateway = words.on_link(via)
            except ValueError:
                continue  # the route itself is left out, and says why
            if gateway not in own:
                found[gateway] = found.get(gateway) or _mac(macs.get(gateway))
    return found


def _mac(said: str | None) -> str | None:
    try:
        return words.mac(said)
    except ValueError:
        return None


def plan_wire(nodes: Sequence[NodeOnWire], endpoints: Sequence[str], recorded: Iterable[str]) -> Wire:
    """The wire for these nodes, in the order of the plan. ``endpoints``: addresses that are no pod's and no node's;
    ``recorded``: every prefix of the recording, so that the clients' addresses are none of them.
    """
    gateways = gateways_of(nodes)
    subnets = [address for node in nodes for address in node.addresses]
    mac = next((mac for mac in gateways.values() if mac), None)
    outside = _outside(nodes, recorded)
    inner = {_with_prefix(ip, subnets): None for ip in gateways}
    inner |= {words.host_prefix(ip): None for ip in endpoints if ip not in gateways and _on_link(ip, subnets)}
    inner |= {_LINK_LOCAL: None} if 6 in outside else {}
    outer = [words.host_prefix(ip) for ip in (*outside.values(), *endpoints) if not _on_link(ip, subnets)]
    mtu = min((1500, *(node.mtu for node in nodes)))
    links = (
        Link("lo", "loopback", 1, None, 65536, True),
        Link(BRIDGE, "bridge", None, mac, mtu, True, tuple(inner)),
        Link(OUTSIDE, "bridge", None, None, mtu, True, tuple(dict.fromkeys(outer))),
    )
    crowd = (Route(f, ("local", str(outside_network(ip)), "dev", "lo")) for f, ip in outside.items())
    back = _from_endpoints(nodes) if endpoints else ()
    routes = (*_to_nodes(nodes, inner), *_to_pods(nodes, gateways), *_by_node(nodes), *back, *crowd)
    rules = (*_marks(nodes), *_asked_back(endpoints))
    any_client = {"net/ipv6/ip_nonlocal_bind": "1"} if 6 in outside else {}  # bind(2) takes no local route for enough
    return Wire(Space(links, routes, rules, sysctls={**_SYSCTLS, **any_client}), outside)


_SYSCTLS = {
    **NO_ICMP_LIMITS,
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
    "net/bridge/bridge-nf-call-iptables": "0",
    "net/bridge/bridge-nf-call-ip6tables": "0",
}


def _with_prefix(ip: str, subnets: Iterable[Interface]) -> str:
    """An address as it is on the nodes' link: with the prefix of the uplink that holds it."""
    address = ip_address(ip)
    if address.is_link_local and address.version == 6:
        return f"{ip}/64"
    home = next((s.network for s in subnets if s.version == address.version and address in s.network), None)
    return words.host_prefix(ip) if home is None else f"{ip}/{home.prefixlen}"


def _on_link(ip: str, subnets: Iterable[Interface]) -> bool:
    address = ip_address(ip)
    return any(s.version == address.version and address in s.network for s in subnets)


def _to_nodes(nodes: Sequence[NodeOnWire], inner: Iterable[str]) -> tuple[Route, ...]:
    """Nodes that no prefix of the bridge's own addresses covers."""
    near = [ip_interface(text).network for text in inner]
    far = [a for node in nodes for a in node.addresses if not any(a.version == n.version and a.ip in n for n in near)]
    return tuple(dict.fromkeys(Route(a.version, (words.host_prefix(str(a.ip)), "dev", BRIDGE)) for a in far))


def _to_pods(nodes: Sequence[NodeOnWire], gateways: Mapping[str, str | None]) -> tuple[Route, ...]:
    """Pods that some other node reaches through one of the wire's gateways."""
    found: dict[Route, None] = {}
    tables = [(other, Ways(other.routes)) for other in nodes if other.routes]
    for node in nodes:
        for ip in node.pods:
            family = ip_address(ip).version
            home = node.address(family)
            ways = (table.to(ip) for other, table in tables if other is not node)
            if home and any(way is not None and way.via in gateways for way in ways):
                found[Route(family, (words.host_prefix(ip), "via", home, "dev", BRIDGE, "onlink"))] = None
    return tuple(found)


def _from_endpoints(nodes: Sequence[NodeOnWire]) -> tuple[Route, ...]:
    """The ways to all pods, for endpoints that are no pods."""
    found = []
    for node in nodes:
        for ip in node.pods:
            family = ip_address(ip).version
            home = node.address(family)
            if home:
                way = (words.host_prefix(ip), "via", home, "dev", BRIDGE, "onlink", "table", _BACK)
                found.append(Route(family, way))
    return tuple(found)


def _asked_back(endpoints: Iterable[str]) -> tuple[Route, ...]:
    told = dict.fromkeys(words.host_prefix(ip) for ip in endpoints)
    return tuple(Route(6 if ":" in ip else 4, ("priority", _BACK, "from", ip, "lookup", _BACK)) for ip in told)


def _by_node(nodes: Sequence[NodeOnWire]) -> tuple[Route, ...]:
    found = []
    for position, node in enumerate(nodes):
        for family, everything in ((4, "0.0.0.0/0"), (6, "::/0")):
            home = node.address(family)
            if home:
                way = (everything, "via", home, "dev", BRIDGE, "onlink", "table", str(node_mark(position)))
                found.append(Route(family, way))
    return tuple(found)


def _marks(nodes: Sequence[NodeOnWire]) -> tuple[Route, ...]:
    found = []
    for position, node in enumerate(nodes):
        mark = str(node_mark(position))
        families = [family for family in (4, 6) if node.address(family)]
        found += [Route(f, ("priority", mark, "fwmark", mark, "lookup", mark)) for f in families]
    return tuple(found)


def _outside(nodes: Sequence[NodeOnWire], recorded: Iterable[str]) -> dict[int, str]:
    """A client's address for each family that some node has, from a network that the recording does not know."""
    used = [ip_network(text, strict=False) for text in recorded]
    used = [net for net in used if net.prefixlen]
    found: dict[int, str] = {}
    for family in (4, 6):
        if any(node.address(family) for node in nodes):
            free = (net for net in map(ip_network, _CANDIDATES[family]) if not _overlaps(net, used))
            net = next(free, None)
            if net is not None:
                found[family] = str(net[10])
    return found


def _overlaps(net: Network, used: Iterable[Network]) -> bool:
    return any(
        net.version == other.version and int(net[0]) <= int(other[-1]) and int(other[0]) <= int(net[-1])
        for other in used
    )
