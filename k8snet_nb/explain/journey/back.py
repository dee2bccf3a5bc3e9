"""The way back of a journey: no rule is asked again, conntrack's memory undoes what was translated."""

from __future__ import annotations

from ...facts import Evidence
from ...parse.links import Route, route_to
from ...parse.records import quote
from ..pod_network import VethPair
from ..sandbox import evidence
from .ends import inside_name, inside_route
from .parts import Way, address_in, route_fact
from .values import BACK, Ground, Trip, socket_of

__all__ = ["answer"]


def answer(trip: Trip, way: Way) -> None:
    """From the server back to the client, which must see the address that it called."""
    server, home = trip.server, trip.far or trip.near
    way.turn(BACK)
    asked = address_in(way.destination)
    if asked is None:
        way.stop(home.name, "server", "", "answers to whom it saw, which is not known", seen=False)
        return
    route = _server_answers(trip, home, asked, way)
    if server.view is not None and _switched(trip, route, asked):
        _over_the_bridge(trip, way)
    else:
        if not trip.same_node or server.view is None:
            _homeward(trip, home, asked, way)
        if way.over():
            return
        _remembered(trip, way)
    _delivered(trip, way)


def _server_answers(trip: Trip, home: Ground, asked: str, way: Way) -> Route | None:
    server = trip.server
    route, proof = inside_route(server, asked, home.name)
    says = f"answers to {way.destination}, whom it takes for the client"
    if server.view is None:
        way.stop(home.name, "process", home.name, says)
        return None
    towards = f"; by its own routes {'to ' + route.via if route.via else 'on the link itself'}" if route else ""
    way.stop(home.name, "server", inside_name(server), says + towards, proof, seen=bool(proof))
    return route


def _switched(trip: Trip, route: Route | None, asked: str) -> bool:
    """Whether the answer goes from port to port of one bridge, without being routed by the node."""
    mine, theirs = trip.client.pair, trip.server.pair
    same = isinstance(mine, VethPair) and isinstance(theirs, VethPair) and mine.master == theirs.master
    alone = route is not None and route.via is None and asked == trip.client.address
    return trip.same_node and same and alone and isinstance(mine, VethPair) and mine.master is not None


def _over_the_bridge(trip: Trip, way: Way) -> None:
    """Frames from port to port pass netfilter only where br_netfilter hands them over (bridge(8), nf_call_iptables)."""
    near, tracked = trip.near, trip.near.tracked
    name = trip.client.pair.master if isinstance(trip.client.pair, VethPair) else None
    links = (near.facts.links if near.facts else None) or ()
    bridge = next((link for link in links if link.name == name), None)
    settings = (bridge.raw.get("linkinfo") or {}).get("info_data") or {} if bridge else {}
    six = ":" in trip.target.address
    key = "nf_call_ip6tables" if six else "nf_call_iptables"
    says = "client and server are ports of one bridge, so the answer is switched, not routed"
    proof: tuple[Evidence, ...] = (tracked.evidence,) if tracked else ()
    seen = bool(tracked and tracked.replied)
    if settings.get(key) == 1:
        says += "; this bridge shows its packets to netfilter"
        proof = (evidence("addr.json", near.name, [quote(settings, key)], f"of the bridge {name}"), *proof)
        seen = True
    else:
        sysctl = "net.bridge.bridge-nf-call-ip6tables" if six else "net.bridge.bridge-nf-call-iptables"
        says += f": netfilter sees it only by br_netfilter ({sysctl} = 1), which no fact here tells"
        says += "; that the entry saw an answer shows that it does" if seen else ""
    called = socket_of(trip.target.address, trip.target.port)
    way.stop(near.name, "bridge", name or "", says, proof, seen=seen, source=called)


def _homeward(trip: Trip, home: Ground, asked: str, way: Way) -> None:
    """The server's node routes the answer to whom the server saw; it must come to the node that remembers."""
    near, far = trip.near, trip.far
    if far is None:
        return
    routes = home.facts.routes if home.facts else None
    route = route_to(asked, routes) if routes is not None else None
    if routes is None:
        way.stop(home.name, "forwarding", "routes", f"the routes of {home.name} were not read", seen=False)
    elif route is None or route.type in ("blackhole", "unreachable", "prohibit"):
        way.stop(home.name, "forwarding", "no route", f"{home.name} has no route back to {asked}")
        way.ended = f"no way back: {home.name} has no route to {asked}"
        return
    else:
        proof = [evidence(route_fact(route), home.name, [route.line()], f"the way back to {asked}")]
        if far.tracked:
            proof.append(far.tracked.evidence)
        stray = route.via is not None and route.via not in near.ips
        says = f"routed back: {route.line()}"
        if stray:
            says += f"; {route.via} is no address of {near.name}, where the translation is remembered"
            way.unknown.append(
                f"whether the answer comes back through {near.name}: {home.name} sends it {route.line()}"
            )
        way.stop(home.name, "forwarding", route.dev or "", says, tuple(proof), seen=not stray)
    way.stop(None, "wire", "between the nodes", "no fact shows what lies between the nodes", seen=False)


def _remembered(trip: Trip, way: Way) -> None:
    near, tracked = trip.near, trip.near.tracked
    called = socket_of(trip.target.address, trip.target.port)
    client = socket_of(trip.client.address, tracked.client_port if tracked else None)
    changes = [f"source {way.source} becomes {called}"] if way.source != called else []
    changes += [f"destination {way.destination} becomes {client}"] if way.destination != client else []
    what = ", ".join(changes) or "nothing was translated, nothing is undone"
    ipvs = (near.ipvs,) if near.ipvs else ()
    if tracked is None:
        says = f"no entry of such a connection was in the table; one would say: {what}"
        way.stop(near.name, "memory", "conntrack", says, ipvs, seen=False, source=called, destination=client)
        return
    says = f"the answer fits an entry's second half: {what}"
    if not tracked.replied:
        says += "; but the entry has seen no answer yet"
    proof = (tracked.evidence, *ipvs)
    way.stop(near.name, "memory", "conntrack", says, proof, seen=tracked.replied, source=called, destination=client)


def _delivered(trip: Trip, way: Way) -> None:
    client, near = trip.client, trip.near
    saw = f"the client sees an answer from {way.source}, the address that it called"
    if client.view is None:
        way.stop(near.name, "process", near.name, saw)
        return
    routes = (near.facts.routes if near.facts else None) or ()
    route = route_to(client.address, routes)
    pair = client.pair
    name = pair.node_interface.name if isinstance(pair, VethPair) else (route.dev or "") if route else ""
    if route is not None and way.stops[-1].place != "bridge":
        proof = evidence(route_fact(route), near.name, [route.line()], f"the way to {client.address}")
        over = f" over the bridge {pair.master}" if isinstance(pair, VethPair) and pair.master else ""
        way.stop(near.name, "delivery", name, f"routed to the client's pod{over}, into {name}", (proof,))
    way.stop(near.name, "pod", inside_name(client), saw)
