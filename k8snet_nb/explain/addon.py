"""How a node connects its pods, and reaches those of other nodes: read from routes and interfaces, not from names.

A network add-on is known by what it leaves in the kernel. Where the route to a pod of this node leads to a bridge,
pods hang on that bridge; where each pod has a host route (/32, /128) of its own to an interface, they are connected
point to point. What carries packets to other nodes shows in the route to their pods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..facts import Evidence, FactRef
from ..parse.links import Link, Route, route_to
from ..render import Report, Shown

__all__ = ["TUNNELS", "NodeNetwork", "node_network"]

TUNNELS = {"vxlan", "geneve", "ipip", "sit", "ip6tnl", "gre", "gretap", "ip6gre", "erspan", "wireguard", "tun"}
"""Kinds of interface that wrap a packet into another one."""


@dataclass(frozen=True, slots=True)
class NodeNetwork(Shown):
    """How one node's pods are connected.

    ``attachment``: ``bridge``, ``point-to-point``, ``other``, ``mixed``, ``no pods`` or ``unknown``; ``bridge``: the
    bridge's name. ``between_nodes``: ``routed``, ``encapsulated``, ``underlay``, ``on-link``, ``other``, ``mixed``,
    ``no other pods`` or ``unknown``. ``says`` puts both into words.
    """

    node: str
    attachment: str
    bridge: str | None
    between_nodes: str
    says: tuple[str, ...]
    evidence: tuple[Evidence, ...] = ()

    def report(self) -> Report:
        """One row, and in words what it rests on."""
        row = (self.node, self.attachment, self.bridge, self.between_nodes)
        return Report("", ("NODE", "PODS ATTACHED BY", "BRIDGE", "TO OTHER NODES"), (row,), self.says, self.evidence)


def node_network(
    node: str,
    links: Sequence[Link],
    routes: Sequence[Route],
    local_pods: Mapping[str, str],
    remote_pods: Mapping[str, str],
    node_ips: Mapping[str, str],
    commands: Mapping[str, str],
) -> NodeNetwork:
    """How ``node`` connects its pods. ``local_pods``, ``remote_pods``, ``node_ips``: address -> pod's or node's name;
    ``commands``: fact -> the command that shows it.
    """
    by_name = {link.name: link for link in links}
    # by definition an uplink is where packets go that nothing else is known of
    uplinks = frozenset(dev for r in routes if r.network.prefixlen == 0 for _, dev in r.hops if dev)
    near = [_attachment(ip, routes, by_name, uplinks) for ip in sorted(local_pods)]
    far = [_path(ip, routes, by_name, node_ips, uplinks) for ip in sorted(remote_pods)]
    attachment, bridges = _agree((kind for kind, _, _ in near), "no pods"), sorted({b for _, b, _ in near if b})
    if _shared(near, [local_pods[ip] for ip in sorted(local_pods)]):
        attachment = "other"
    between = _agree((kind for kind, _ in far), "no other pods")
    says = (*_near_words(attachment, bridges, len(near)), *_far_words(between, len(far)))
    ref = FactRef("route.json", node)
    through = [
        by_name[r.dev].line() for r in (*(r for _, _, r in near), *(r for _, r in far)) if r and r.dev in by_name
    ]
    evidence = (
        *_quoted(ref, commands["route.json"], [r.line() for _, _, r in near if r], says[0]),
        *_quoted(ref, commands["route.json"], [r.line() for _, r in far if r], says[1]),
        *_quoted(FactRef("addr.json", node), commands["addr.json"], through, "the interfaces that these routes name"),
    )
    return NodeNetwork(node, attachment, bridges[0] if len(bridges) == 1 else None, between, says, evidence)


def _attachment(
    ip: str, routes: Sequence[Route], links: Mapping[str, Link], uplinks: frozenset[str]
) -> tuple[str, str | None, Route | None]:
    route = route_to(ip, routes)
    if route is None or route.dev is None or route.dev not in links:
        return "unknown", None, route
    link = links[route.dev]
    if link.kind == "bridge":
        return "bridge", link.name, route
    alone = route.network.prefixlen == route.network.max_prefixlen and route.via is None
    return ("point-to-point" if alone and link.name not in uplinks else "other"), None, route


def _shared(near: Sequence[tuple[str, str | None, Route | None]], pods: Sequence[str]) -> bool:
    """Whether two pods have their host routes to the same interface: then it is no pod's own."""
    holders: dict[str, set[str]] = {}
    for (kind, _, route), pod in zip(near, pods, strict=True):
        if kind == "point-to-point" and route is not None and route.dev:
            holders.setdefault(route.dev, set()).add(pod)
    return any(len(several) > 1 for several in holders.values())


def _path(
    ip: str, routes: Sequence[Route], links: Mapping[str, Link], nodes: Mapping[str, str], uplinks: frozenset[str]
) -> tuple[str, Route | None]:
    route = route_to(ip, routes)
    if route is None or route.dev is None or route.dev not in links:
        return "unknown", route
    if links[route.dev].kind in TUNNELS or route.raw.get("encap"):
        return "encapsulated", route
    if route.via in nodes:
        return "routed", route
    if route.dev in uplinks:
        return ("underlay" if route.via else "on-link"), route
    return "other", route


def _agree(kinds: Iterable[str], nothing: str) -> str:
    found = sorted(set(kinds))
    return nothing if not found else (found[0] if len(found) == 1 else "mixed")


def _near_words(attachment: str, bridges: list[str], count: int) -> tuple[str]:
    of = f"the routes to {count} pod address{'es' if count != 1 else ''} of this node"
    words = {
        "bridge": f"{of} lead to the bridge {', '.join(bridges)}: pods hang on it",
        "point-to-point": f"{of} each lead to an interface of that pod's own: point to point, no bridge",
        "other": f"{of} lead neither to a bridge nor, one by one, to an interface each",
        "mixed": f"{of} do not all lead to the same kind of interface",
        "no pods": "no pod of this node has an address of its own: nothing to see here",
        "unknown": f"{of}: the node has no route to them, or to an interface that it does not list",
    }
    return (words[attachment],)


def _far_words(between: str, count: int) -> tuple[str]:
    of = f"the routes to {count} pod address{'es' if count != 1 else ''} of other nodes"
    words = {
        "routed": f"{of} have the pods' nodes as gateways: plain routing, packets are not wrapped",
        "encapsulated": f"{of} lead into a tunnel interface: packets are wrapped on their way",
        "underlay": f"{of} name a gateway that is no node: a router knows the way, which is not seen from here",
        "on-link": f"{of} lead out of the uplink without a gateway: pods answer on the nodes' own link",
        "other": f"{of} lead to an interface of which these facts do not tell where it goes on",
        "mixed": f"{of} are of several kinds",
        "no other pods": "no pod elsewhere has an address: nothing to see here",
        "unknown": f"{of}: the node has no route to them",
    }
    return (words[between],)


def _quoted(ref: FactRef, command: str, lines: Iterable[str], says: str) -> tuple[Evidence, ...]:
    unique = tuple(dict.fromkeys(lines))
    more = (f"... and {len(unique) - 8} more",) if len(unique) > 8 else ()
    return (Evidence(ref, command, unique[:8] + more, says),) if unique else ()
