"""The way out of a journey: stops made from what is known of both ends and both nodes. Pure: values in, stops out.

The order is the kernel's: a connection's destination is rewritten before it is routed (PREROUTING, or OUTPUT for a
process of the node), its source after that (POSTROUTING); see nft(8), hooks of the inet families.
"""

from __future__ import annotations

from ...facts import Evidence
from ...parse.links import Route, route_to
from ..outcome import Step
from ..sandbox import evidence
from ..translation import share_text
from ..walk import verdict_of
from .back import answer
from .ends import arrive, leave
from .parts import (
    Way,
    address_of,
    after_routing,
    link_with,
    neighbours,
    of_end,
    route_fact,
    rules_read,
    told,
    tunnel,
)
from .values import OUT, Ground, Journey, Trip, socket_of

__all__ = ["journey"]

_STOPPED = ("rejected", "dropped")
_FILTERING = (
    "filter-", "service-endpoints-check", "no-endpoint", "reject-chain", "drop-chain", "cluster-ips-check", "firewall",
)  # fmt: skip
"""How chains of nftables begin that let pass or stop, and translate nothing (kube-proxy's nftables/proxier.go)."""


def journey(trip: Trip) -> Journey:
    """The stops from the client to the server and back, as far as the packet comes."""
    target = socket_of(trip.target.address, trip.target.port)
    tracked = trip.near.tracked
    way = Way(OUT, socket_of(trip.client.address, tracked.client_port if tracked else None), target)
    _outward(trip, way)
    if not way.over():
        answer(trip, way)
    verdict = way.ended or verdict_of((trip.end,), trip.not_evaluated, trip.unknown)
    return Journey(
        service=trip.service,
        client=trip.client.words,
        server=trip.server.words,
        near=trip.near.name,
        far=trip.near.name if trip.same_node else trip.far.name if trip.far else None,
        mode=trip.near.mode,
        target=trip.target,
        chance=trip.end.chance,
        verdict=verdict,
        stops=tuple(way.stops),
        connection=tracked is not None,
        not_evaluated=trip.not_evaluated,
        unknown=(*trip.unknown, *way.unknown),
    )


def _outward(trip: Trip, way: Way) -> None:
    leave(trip, way)
    if way.over():
        return
    steps = of_end(trip)
    _translation(trip, way, [step for step in steps if not after_routing(step) and not _filter(step)])
    if trip.end.verdict in _STOPPED and trip.end.node == trip.near.name and not trip.others:
        stop = [step for step in steps if _filter(step)]
        if stop:
            way.stop(trip.near.name, "rules", stop[-1].place, stop[-1].says, told(stop, trip.near.name))
        way.ended = trip.end.verdict
        return
    route = _forwarding(trip, way, [step for step in steps if _filter(step)])
    if way.over():
        return
    _source(trip, way, [step for step in steps if after_routing(step)], route)
    if trip.same_node:
        arrive(trip, trip.near, way)
    elif route is not None:
        _between(trip, way, route)


def _filter(step: Step) -> bool:
    words = step.place.split()
    return words[0] == "filter" or words[-1].startswith(_FILTERING)


def _translation(trip: Trip, way: Way, steps: list[Step]) -> None:
    near, end = trip.near, trip.end
    proof = told(steps, near.name)
    if near.mode == "ipvs" and near.facts:
        local = route_to(trip.target.address, near.facts.routes or (), "local")
        if local is not None:
            says = f"{trip.target.address} is the node's own, so that packets for it come up to IPVS"
            proof = (evidence(route_fact(local), near.name, [local.line()], says), *proof)
    was, becomes = way.destination, socket_of(end.address, end.port)
    if trip.end.verdict in _STOPPED and not trip.others and end.address == trip.target.address:
        if steps:
            way.stop(near.name, "translation", _found_in(trip, steps), steps[-1].says, proof)
        return
    if was == becomes:
        says = "no rule translates the destination: the packet goes on as it is"
        way.stop(near.name, "translation", "none", says, (rules_read(near, f"nothing in it is for {was}"),))
        return
    chance = "all" if end.chance == 1 else share_text(end.chance)
    says = f"the destination {was} becomes {becomes}: {chance} of new connections"
    way.stop(near.name, "translation", _found_in(trip, steps), says, proof, destination=becomes)


def _found_in(trip: Trip, steps: list[Step]) -> str:
    """The place that decides, in the data plane's own words: the last chain, or the virtual server."""
    if trip.near.mode == "ipvs":
        return f"virtual server {socket_of(trip.target.address, trip.target.port)}"
    return steps[-1].place.split()[-1] if steps else "rules"


def _forwarding(trip: Trip, way: Way, filtering: list[Step]) -> Route | None:
    """Routed by the new destination; for what a pod sent, the node must forward."""
    near, address = trip.near, trip.end.address
    routes = near.facts.routes if near.facts else None
    if routes is None:
        way.stop(near.name, "forwarding", "routes", f"the routes of {near.name} were not read", seen=False)
        way.ended = "unknown"
        return None
    local = route_to(address, routes, "local")
    route = local or route_to(address, routes)
    if route is None or route.type in ("blackhole", "unreachable", "prohibit"):
        lines = (evidence(route_fact(route), near.name, [route.line()], "no way"),) if route else ()
        way.stop(near.name, "forwarding", "no route", f"{near.name} has no route to {address}", lines)
        way.ended = "no route"
        return None
    if local is not None:
        says = f"{address} is one of the node's own addresses: nothing to forward"
        way.stop(near.name, "forwarding", local.dev or "local", says, (_quoted(local, near),))
        return route
    own = trip.client.view is None
    says, proof = _forwards(near, route, "sent by the node itself" if own else "")
    way.stop(near.name, "forwarding", route.dev or "route", says, (*proof, *told(filtering, near.name)))
    if not own and _stops_forwarding(near, route):
        way.ended = f"dropped: {near.forwarding} on {near.name}"
    return route


def _forwards(ground: Ground, route: Route, own: str = "") -> tuple[str, list[Evidence]]:
    towards = f"via {route.via} dev {route.dev}" if route.via else f"dev {route.dev}"
    proof = [_quoted(route, ground)]
    if own:
        return f"{own}, and routed by its new destination: {towards}", proof
    if ground.forwarding is None or route.network.version == 6:
        return f"routed by its new destination: {towards}; whether the node forwards was not read", proof
    proof.append(evidence("sysctl.txt", ground.name, [ground.forwarding], "whether the node forwards for others"))
    word = "not forwarded" if _stops_forwarding(ground, route) else "forwarded"
    return f"{word}, by its new destination: {towards}", proof


def _stops_forwarding(ground: Ground, route: Route) -> bool:
    return route.network.version == 4 and (ground.forwarding or "").endswith("= 0")


def _quoted(route: Route, ground: Ground) -> Evidence:
    return evidence(route_fact(route), ground.name, [route.line()], "the longest prefix that fits")


def _source(trip: Trip, way: Way, steps: list[Step], route: Route | None) -> None:
    near, masked = trip.near, trip.end.masquerade
    proof = told(steps, near.name)
    was = way.source
    if masked == "hairpin":
        masked = trip.client.address == trip.end.address
    if masked is False:
        none = rules_read(near, f"no rule of it masquerades a packet from {was}")
        way.stop(near.name, "source", "kept", f"the source stays {was}", proof or (none,))
        return
    if masked is None:
        way.stop(
            near.name, "source", "not decided", f"whether the source stays {was} is not decided", proof, seen=False
        )
        return
    seen = near.tracked
    links = near.facts.links if near.facts else None
    address = seen.answered_to if seen else address_of(route, links or ()) if route else None
    if address is None:
        says = f"the source {was} becomes an address of {near.name}, which one is not known"
        way.stop(near.name, "source", "masqueraded", says, proof, seen=False, source=f"an address of {near.name}")
        return
    becomes = socket_of(address, seen.answered_port if seen else None)
    says = f"the source {was} becomes {becomes}, the node's address on the way out"
    if was == becomes:
        says = f"masqueraded: the source {was} is the node's own already, its port may change"
    way.stop(near.name, "source", "masqueraded", says, (*proof, *((seen.evidence,) if seen else ())), source=becomes)


def _between(trip: Trip, way: Way, route: Route) -> None:
    """Out of one node, over what lies between, into the other."""
    near, far = trip.near, trip.far
    links = (near.facts.links if near.facts else None) or ()
    link = next((link for link in links if link.name == route.dev), None)
    line = (evidence("addr.json", near.name, [link.line()], "the interface that the route names"),) if link else ()
    wrapped = tunnel(link, route)
    says = f"goes out by {route.dev}" + (f", wrapped into another packet: {wrapped}" if wrapped else "")
    way.stop(near.name, "leaving", route.dev or "", says, line, seen=link is not None)
    if far is None:
        way.stop(None, "wire", "beyond the node", f"to {trip.server.words}; nothing is known of the way", seen=False)
        way.ended = trip.end.verdict
        return
    into, proof = neighbours(near, far, route)
    nothing = "no fact shows what lies between the nodes"
    if wrapped:
        nothing += "; the outer packet, from node to node, is not followed"
    elif into is not None:
        nothing += f", but both are on one link: {near.name} has the hardware address of {into.name} of {far.name}"
    way.stop(None, "wire", "between the nodes", nothing, proof, seen=False)
    _arrival(trip, far, way, route)
    if not way.over():
        arrive(trip, far, way)


def _arrival(trip: Trip, far: Ground, way: Way, route: Route) -> None:
    links = (far.facts.links if far.facts else None) or ()
    into, proof = neighbours(trip.near, far, route)
    held = link_with(route.via, links)
    if held is not None:
        says = f"comes in by {held.name}, which has the address {route.via} that the route named"
        line = evidence("addr.json", far.name, [held.line()], f"{route.via} is here")
        way.stop(far.name, "arriving", held.name, says, (line,))
    elif into is not None:
        way.stop(far.name, "arriving", into.name, f"comes in by {into.name}", proof)
    else:
        says = f"no interface of {far.name} is known to be at the other end of {route.dev}"
        way.stop(far.name, "arriving", "not known", says, seen=False)
    if far.rules_trouble or far.outcome is None:
        way.stop(far.name, "rules", "not known", f"its rules are not known: {far.rules_trouble}", seen=False)
        return
    steps, socket = far.outcome.steps, way.destination
    if far.outcome.action in ("reject", "drop"):
        way.ended = trip.end.verdict
        way.stop(far.name, "rules", steps[-1].place if steps else "", "stopped here", told(steps, far.name))
    elif far.outcome.action == "dnat":
        way.ended = trip.end.verdict
        way.stop(far.name, "rules", "translated again", "translated a second time", told(steps, far.name), seen=False)
    else:
        says = f"{socket} is no Service's address: no rule of {far.name} ({far.mode or 'no mode'}) translates it again"
        read = rules_read(far, f"nothing in it is for {socket}")
        memory = (far.tracked.evidence,) if far.tracked else ()
        way.stop(
            far.name, "rules", f"{far.mode or 'no mode'}: let in", says, (*(told(steps, far.name) or (read,)), *memory)
        )
