"""Faults of the network below the Services: routes, the size of packets, reverse-path filtering."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from random import Random

from ...errors import Refused
from ...parse.links import Link, Route
from ...parse.pods import PodValue
from .scene import Change, Fault, Scene, choose, tool, unused

__all__ = ["mtu_smaller", "rp_filter_strict", "wrong_route"]

SMALL = 1280
"""Bytes. Below this the kernel takes IPv6 off an interface (RFC 8200 section 5), which would be another fault."""

_VXLAN_ROOM = 50
"""Bytes that VXLAN over IPv4 puts around an Ethernet frame's payload (RFC 7348 section 5)."""

TUNNEL, _VNI, _PORT = "vxlan7", "7", "8472"
_MACS = ("02:6b:38:73:00:01", "02:6b:38:73:00:02")


@dataclass(frozen=True, slots=True)
class _Way:
    """How a node reaches the pods of another: by a route whose gateway is that node."""

    node: str
    other: str
    route: Route
    pods: tuple[PodValue, ...]


def wrong_route(scene: Scene, rng: Random, node: str | None) -> Fault:
    """A node's route to the pods of another node leads to an address that nobody has."""
    way = choose(rng, [way for way in _ways(scene) if node in (None, way.node)], "no node with a route to another")
    dev, via = str(way.route.dev), str(way.route.via)
    nobody = unused(via, _prefix(scene.links(way.node), dev, via), scene.taken())
    back = tool("ip", "route", "replace", *_words(way.route))
    return Fault(
        f"Clients on {way.node} do not reach pods on {way.other}: what is sent there ends as unreachable after some "
        "seconds, or never. Pods of their own node they reach.",
        f"{way.node} sends packets for {way.route.network} to {nobody}, which nobody has, instead of to {via}",
        (way.node,),
        (
            # taken back last, when no packet asks for that address any more: what asking for it has left behind
            Change(way.node, tool("true"), tool("ip", "neigh", "flush", "to", nobody, "dev", dev)),
            Change(way.node, tool("ip", "route", "replace", *_words(way.route, via=nobody)), back),
        ),
    )


def mtu_smaller(scene: Scene, rng: Random, node: str | None) -> Fault:
    """The node's end of a pod's cable takes smaller packets than the pod sends: big answers vanish without a word.

    A veth end drops what is longer than its own MTU as it comes in, and tells nobody (``rx_dropped``). The pod's end
    is kept from handing over several segments as one, which would pass unmeasured (``is_skb_forwardable``).
    """
    here = [p for p in scene.pods() if node in (None, p.node)]
    served = {e.pod: t for t in scene.targets() for e in t.endpoints}
    pod = choose(rng, [p for p in here if p.key in served and _roomy(scene, p)], "no pod behind a Service with a veth")
    pair = scene.cable(pod.key)
    if pair is None or pod.node is None:
        raise Refused(f"{pod.key} has no cable")
    end, inside, target = pair.node_interface, pair.pod_interface, served[pod.key]
    bridge = next((link for link in scene.links(pod.node) if link.name == pair.master), None)
    segments = str(int(inside.raw.get("gso_max_segs") or 65535))

    def resize(link: Link, mtu: int) -> dict[str, object]:
        return {**tool("ip", "link", "set", "dev", link.name, "mtu", str(mtu))}

    def several(count: str) -> dict[str, object]:
        return {**tool("ip", "link", "set", "dev", inside.name, "gso_max_segs", count, pod=pod.key)}

    changes = [Change(pod.node, resize(end, SMALL), resize(end, end.mtu))]
    if bridge is not None:  # a bridge takes over the smallest MTU of its ports, which would make this a fault of all
        changes.append(Change(pod.node, resize(bridge, bridge.mtu), None))
    changes.append(Change(pod.node, several("1"), several(segments)))
    return Fault(
        f"Some answers of {target.text} never arrive. Short ones do; of answers of 4000 bytes about one in "
        f"{len(target.endpoints)} is waited for in vain.",
        f"the node's end {end.name} of {pod.key}'s cable has an MTU of {SMALL}, the pod's end {inside.mtu}",
        (pod.key, end.name, pod.name, *pod.ips),
        tuple(changes),
    )


def rp_filter_strict(scene: Scene, rng: Random, node: str | None) -> Fault:
    """Packets from another node's pods come by a tunnel, the way back goes directly, and the node is strict about it.

    The asymmetric path alone does no harm. With ``rp_filter`` 1 the kernel drops what comes in by another interface
    than the one that it would answer by (RFC 3704; ip-sysctl), and counts it as IPReversePathFilter.
    """
    ways = [way for way in _ways(scene) if way.route.network.version == 4]
    pairs = [(a, b) for a in ways for b in ways if (a.node, a.other) == (b.other, b.node) and node in (None, a.node)]
    here, there = choose(rng, pairs, "no two nodes whose pods reach each other by routes through the nodes")
    own, far = str(there.route.via), str(here.route.via)  # addresses of the strict node, and of the other
    mtu = min(_mtu(scene.links(one.node), str(one.route.dev)) for one in (here, there)) - _VXLAN_ROOM
    all_filter = "net/ipv4/conf/all/rp_filter"
    tunnelled = ["replace", str(there.route.network), "via", own, "dev", TUNNEL, "onlink", *_metric(there.route)]
    neighbour = ["replace", own, "lladdr", _MACS[0], "dev", TUNNEL, "nud", "permanent"]
    changes = (
        *_tunnel(here.node, own, far, _MACS[0], mtu),
        *_tunnel(there.node, far, own, _MACS[1], mtu),
        Change(there.node, tool("ip", "neigh", *neighbour), None),
        Change(there.node, tool("ip", "route", *tunnelled), tool("ip", "route", "replace", *_words(there.route))),
        Change(here.node, {"op": "sysctl", "pod": None, "path": all_filter, "value": "1"},
               {"op": "sysctl", "pod": None, "path": all_filter, "value": "0"}),
    )  # fmt: skip
    return Fault(
        f"Between pods on {there.node} and pods on {here.node} nothing works any more, in either direction: every "
        "connection times out, and nothing says why. Pods of one node reach each other.",
        f"{here.node} drops packets from pods on {there.node}: they come in by {TUNNEL}, its own route to them leads "
        f"out of {here.route.dev}, and rp_filter is strict",
        (here.node,),
        changes,
    )


def _ways(scene: Scene) -> list[_Way]:
    """Every route of a node that leads to pods of another through that node's own address."""
    found = []
    for node in scene.nodes():
        routes = [r for r in scene.routes(node) if r.table == "main" and r.network.prefixlen and len(r.hops) == 1]
        for other in scene.nodes():
            pods = [pod for pod in scene.pods() if pod.node == other]
            for route in routes:
                inside = tuple(p for p in pods if any(ipaddress.ip_address(ip) in route.network for ip in p.ips))
                if other != node and inside and route.via in scene.node_ips(other) and route.dev:
                    found.append(_Way(node, other, route, inside))
    return found


def _words(route: Route, via: str | None = None) -> list[str]:
    """The route as ``ip route replace`` takes it."""
    words = [str(route.network), "via", via or str(route.via), "dev", str(route.dev)]
    protocol = str(route.raw.get("protocol") or "boot")
    words += ["proto", protocol] if protocol.isalnum() else []
    words += ["src", route.source] if route.source else []
    words += ["onlink"] if "onlink" in (route.raw.get("flags") or ()) else []
    return [*words, *_metric(route)]


def _metric(route: Route) -> list[str]:
    return ["metric", str(route.metric)] if route.metric else []


def _tunnel(node: str, own: str, far: str, mac: str, mtu: int) -> tuple[Change, ...]:
    kind = ["type", "vxlan", "id", _VNI, "dstport", _PORT, "local", own, "remote", far, "nolearning"]
    return (
        Change(node, tool("ip", "link", "add", TUNNEL, "mtu", str(mtu), "address", mac, *kind),
               tool("ip", "link", "del", TUNNEL)),
        Change(node, tool("ip", "link", "set", TUNNEL, "up"), None),
    )  # fmt: skip


def _roomy(scene: Scene, pod: PodValue) -> bool:
    pair = scene.cable(pod.key)
    return pair is not None and pair.node_interface.kind == "veth" and pair.pod_interface.mtu > SMALL


def _mtu(links: tuple[Link, ...], name: str) -> int:
    return next((link.mtu for link in links if link.name == name), 1500)


def _prefix(links: tuple[Link, ...], name: str, address: str) -> int:
    ip = ipaddress.ip_address(address)
    for link in links:
        for one in link.addresses if link.name == name else ():
            if ip in ipaddress.ip_network(str(one), strict=False):
                return one.prefix
    return 24 if ip.version == 4 else 120
