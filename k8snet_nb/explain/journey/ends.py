"""Both ends of a journey: how a packet leaves a client, and how it comes from a node to a server."""

from __future__ import annotations

from ...facts import Evidence
from ...parse.links import Route, route_to
from ...parse.records import quote
from ..pod_network import VethPair, primary_link
from ..sandbox import evidence
from .parts import Way, link_with, own_source, route_fact
from .values import Ground, Party, Trip

__all__ = ["arrive", "inside_name", "inside_route", "leave", "pair_lines"]


def leave(trip: Trip, way: Way) -> None:
    """From the client to its node's network namespace."""
    client, near = trip.client, trip.near
    if client.view is None:
        _host_sends(trip, way)
        return
    route, proof = inside_route(client, trip.target.address, near.name)
    name = inside_name(client)
    if client.view.routes is None:
        way.stop(near.name, "pod", name, "the routes inside the pod were not read", seen=False)
    elif route is None:
        way.stop(near.name, "pod", name, f"the pod has no route to {trip.target.address}: it does not leave")
        way.ended = "no route"
        return
    else:
        towards = f"to its gateway {route.via}" if route.via else "on the link itself"
        way.stop(near.name, "pod", name, f"by its own routes the packet goes {towards}, dev {route.dev}", proof)
    _out_of_the_pod(client, near, route, way)


def _host_sends(trip: Trip, way: Way) -> None:
    near = trip.near
    facts = near.facts
    source, route = own_source(trip.target.address, facts.routes or (), facts.links or ()) if facts else (None, None)
    if route is None or source is None:
        says = f"a process of {near.name}; which source address it takes was not read"
        way.stop(near.name, "process", near.name, says, seen=False)
        return
    says = f"a process of {near.name} itself, no pod: the route to {trip.target.address} chooses {source} as its source"
    proof = evidence(route_fact(route), near.name, [route.line()], "asked before anything is translated")
    way.stop(near.name, "process", near.name, says, (proof,))


def inside_route(party: Party, address: str, node: str) -> tuple[Route | None, tuple[Evidence, ...]]:
    """The route by which a pod sends to an address, quoted from inside."""
    if party.view is None or party.view.routes is None:
        return None, ()
    route = route_to(address, party.view.routes)
    if route is None:
        return None, ()
    says = "the route that fits, inside the pod"
    line = evidence(route_fact(route), node, [route.line()], says, party.view.identity.name)
    return route, (line,)


def inside_name(party: Party) -> str:
    """A pod's interface and its pod, as its stops are called."""
    if party.view is None:
        return ""
    link = primary_link(party.view)
    return f"{link.name} of {party.view.identity.name}" if link else party.view.identity.name


def pair_lines(pair: VethPair) -> tuple[Evidence, ...]:
    """Of a pair's evidence the lines of both ends and of what joins them to the node; the rest is in ``pod.veth()``."""
    return tuple(item for item in pair.evidence if item.ref.fact in ("addr.json", "route.json", "route6.json"))


def _out_of_the_pod(client: Party, near: Ground, route: Route | None, way: Way) -> None:
    """Through the pair, and up to where the gateway's address is: there the node takes the packet."""
    pair = client.pair
    if not isinstance(pair, VethPair):
        why = pair.text if pair is not None else "its interfaces were not read"
        way.stop(near.name, "veth", "no pair", f"how it comes out of the pod is not known: {why}", seen=False)
        return
    gateway, links = route.via if route else None, (near.facts.links if near.facts else None) or ()
    mine = next((link for link in links if link.name in (pair.node_interface.name, pair.master)
                 and gateway in {a.address for a in link.addresses}), None)  # fmt: skip
    end, decided = pair.node_interface.name, pair.decided_by.replace("_", " ")
    says = f"comes out of {end}, the pair's end on the node (decided by {decided})"
    if mine is not None and mine.name == end:
        says += f", which has the gateway's address {gateway} itself: here the node takes it"
        line = evidence("addr.json", near.name, [mine.line()], f"{gateway} is on {end}")
        way.stop(near.name, "veth", end, says, (*_but(pair_lines(pair), line), line))
        return
    bridge = evidence("addr.json", near.name, [mine.line()], f"{gateway} is on {mine.name}") if mine else None
    way.stop(near.name, "veth", end, says, _but(pair_lines(pair), bridge))
    if pair.master:
        what = f"a port of the bridge {pair.master}"
        taken = f"{what}, which has the gateway's address {gateway}: here the node takes it" if mine else what
        way.stop(near.name, "bridge", pair.master, taken, (bridge,) if bridge else (), seen=mine is not None)
    elif gateway and mine is None:
        other = link_with(gateway, links)
        where = f"it is on {other.name}" if other else "no interface of the node has it"
        says = f"the gateway's address {gateway} is not on this end, {where}; that proxy ARP answers is not in evidence"
        way.stop(near.name, "gateway", gateway, says, seen=False)


def _but(lines: tuple[Evidence, ...], one: Evidence | None) -> tuple[Evidence, ...]:
    return tuple(item for item in lines if one is None or item.lines != one.lines)


def arrive(trip: Trip, node: Ground, way: Way) -> None:
    """From a node's rules to the server on it: route, bridge or host route, pair, and who listens."""
    server = trip.server
    if server.view is None:
        _served(server, node, "process", node.name, way)
        return
    routes = node.facts.routes if node.facts else None
    route = route_to(server.address, routes) if routes is not None else None
    if routes is not None and route is None:
        way.stop(node.name, "forwarding", "no route", f"{node.name} has no route to {server.address}")
        way.ended = "no route"
        return
    if not trip.same_node:
        _forward_to_pod(server, node, route, way)
        if way.over():
            return
    _into_the_pod(trip, node, way)
    _served(server, node, "server", inside_name(server), way)


def _forward_to_pod(server: Party, node: Ground, route: Route | None, way: Way) -> None:
    if route is None:
        way.stop(node.name, "forwarding", "routes", f"the routes of {node.name} were not read", seen=False)
        return
    proof = [evidence(route_fact(route), node.name, [route.line()], f"the way to {server.address}")]
    if node.forwarding is not None and route.network.version == 4:
        proof.append(evidence("sysctl.txt", node.name, [node.forwarding], "whether the node forwards for others"))
        if node.forwarding.endswith("= 0"):
            way.ended = f"dropped: {node.forwarding} on {node.name}"
    says = "not forwarded" if way.over() else f"forwarded to its pod: {route.line()}"
    way.stop(node.name, "forwarding", route.dev or "", says, tuple(proof))


def _into_the_pod(trip: Trip, node: Ground, way: Way) -> None:
    server = trip.server
    pair = server.pair
    if not isinstance(pair, VethPair):
        why = pair.text if pair is not None else "its interfaces were not read"
        way.stop(node.name, "veth", "no pair", f"how it comes into the pod is not known: {why}", seen=False)
        return
    end, facts = pair.node_interface.name, node.facts
    if pair.master:
        mac = pair.pod_interface.mac
        near = [n for n in (facts.neighbours or ()) if n.dst == server.address and n.mac == mac] if facts else []
        port = [e for e in (facts.fdb or ()) if e.learned and e.mac == mac and e.name == end] if facts else []
        proof = [evidence("neigh.json", node.name, [n.evidence_line()], f"{server.address} is at {mac}") for n in near]
        proof += [evidence("fdb.json", node.name, [e.evidence_line()], f"{mac} is behind {end}") for e in port[:1]]
        says = f"the bridge {pair.master} hands it to the port {end}"
        if isinstance(trip.client.pair, VethPair) and trip.client.pair.node_interface == pair.node_interface:
            more, mode = _hairpin(pair, node, way)
            says, proof = says + more, [*proof, *mode]
        way.stop(node.name, "bridge", pair.master, says, tuple(proof), seen=bool(proof))
    says = f"into {end}, the node's end of the server's pair (decided by {pair.decided_by.replace('_', ' ')})"
    way.stop(node.name, "veth", end, says, pair_lines(pair))


def _hairpin(pair: VethPair, node: Ground, way: Way) -> tuple[str, list[Evidence]]:
    """Whether a bridge sends a frame back by the port that it came in by (ip-link(8), hairpin)."""
    port = (pair.node_interface.raw.get("linkinfo") or {}).get("info_slave_data") or {}
    end, came = pair.node_interface.name, ", by which it came in"
    if "hairpin" not in port:
        way.unknown.append(f"whether the bridge port {end} sends frames back where they came from (hairpin mode)")
        return f"{came}; whether it may go back there was not read", []
    proof = [evidence("addr.json", node.name, [quote(port, "hairpin")], f"of the bridge port {end}")]
    if port["hairpin"] is True:
        return f"{came}: the port is in hairpin mode, so it may go back there", proof
    way.unknown.append(
        f"the bridge port {end} is not in hairpin mode: only a promiscuous bridge would send it back there"
    )
    return f"{came}: the port is not in hairpin mode", proof


def _served(server: Party, node: Ground, place: str, name: str, way: Way) -> None:
    if server.listening is not None:
        says = f"arrives at {server.words}, where a process listens on port {server.port}"
        way.stop(node.name, place, name, says, (server.listening,))
        return
    if server.sockets:
        inside = server.view.identity.name if server.view else None
        proof = evidence("sockets.txt", node.name, [], "no such socket listens", inside)
        says = f"arrives at {server.words}, where nothing listens on port {server.port}"
        way.stop(node.name, place, name, says, (proof,))
        way.unknown.append(f"no listening socket on port {server.port} was seen at {server.words}")
        return
    says = f"arrives at {server.words}; who listens there was not read"
    way.stop(node.name, place, name, says, seen=False)
