"""What a journey's stops rest on: which steps concern one server, which address a node sends by, who is next door."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence

from ...facts import FACTS, Evidence, FactRef
from ...parse.links import Link, Route, route_to
from ...parse.records import quote
from ..addon import TUNNELS
from ..outcome import Step
from ..sandbox import evidence
from ..translation import steps_as_evidence
from .values import Ground, Stop, Trip

__all__ = [
    "Way", "address_in", "address_of", "after_routing", "link_with", "neighbours", "of_end", "own_source", "route_fact",
    "rules_read", "told", "tunnel",
]  # fmt: skip

_MARKING = re.compile(r"MARK-MASQ|MASQUERADE|masquerade|--set-xmark|(?<!! )--mark ")
_UNMARKED = re.compile(r"! --mark ")


class Way:
    """The stops so far and what is on the packet now. ``ended``: the verdict, once the packet goes no further."""

    def __init__(self, direction: str, source: str, destination: str) -> None:
        self.direction, self.source, self.destination = direction, source, destination
        self.stops: list[Stop] = []
        self.unknown: list[str] = []
        self.ended = ""

    def turn(self, direction: str) -> None:
        """The other way: who was asked answers to who asked."""
        self.direction, self.source, self.destination = direction, self.destination, self.source

    def over(self) -> bool:
        """Whether the packet goes no further."""
        return bool(self.ended)

    def stop(
        self,
        node: str | None,
        place: str,
        name: str,
        says: str,
        proof: tuple[Evidence, ...] = (),
        *,
        seen: bool = True,
        source: str | None = None,
        destination: str | None = None,
    ) -> None:
        """One more stop; ``source`` and ``destination`` are given where this place rewrites them."""
        before = (self.source, self.destination)
        self.source, self.destination = source or self.source, destination or self.destination
        now = (self.source, self.destination)
        words = ("source", "destination")
        changed = " and ".join(word for word, old, new in zip(words, before, now, strict=True) if old != new)
        self.stops.append(Stop(self.direction, node, place, name, *now, says, proof, seen, changed))


def of_end(trip: Trip) -> tuple[Step, ...]:
    """The translation's steps that concern the end chosen: those of other endpoints alone are left out.

    A client that is itself an endpoint is masqueraded only towards itself: then only the steps of that case, or of the
    other, are kept.
    """
    mine, others = _spelled(trip.end.address), [_spelled(address) for address in trip.others]

    def foreign(step: Step) -> bool:
        return not mine.search(step.text) and any(other.search(step.text) for other in others)

    left = {step.place.split()[-1] for step in trip.steps if "tables-save" in step.fact and foreign(step)}
    left -= {step.place.split()[-1] for step in trip.steps if not foreign(step) and mine.search(step.text)}
    left -= {chain for step in trip.steps if mine.search(step.text) for chain in step.text.split()}
    kept = [s for s in trip.steps if not foreign(s) and not left & set(s.text.split()[3:])]
    marked, unmarked = any(map(_marks, kept)), any(_UNMARKED.search(step.text) for step in kept)
    if marked and unmarked:
        drop = _UNMARKED.search if trip.end.masquerade is True else _MARKING.search
        kept = [step for step in kept if not drop(step.text)]
    return tuple(kept)


def _marks(step: Step) -> bool:
    return _MARKING.search(step.text) is not None


def _spelled(address: str) -> re.Pattern[str]:
    """An endpoint's address wherever rules spell it, also with dots for colons as in the names of nftables' chains."""
    behind = r"(?![\w.:])" if ":" in address else r"(?![\w.])"
    spellings = "|".join(re.escape(one) for one in dict.fromkeys((address, address.replace(":", "."))))
    return re.compile(rf"(?<![0-9A-Za-z.:])(?:{spellings}){behind}")


def after_routing(step: Step) -> bool:
    """Whether a step is of the hook at which packets leave, where sources are rewritten."""
    chain = step.place.split()[-1].lower()
    return "postrouting" in chain or chain == "masquerading"


def told(steps: Sequence[Step], node: str) -> tuple[Evidence, ...]:
    """Steps as evidence, with the commands of the catalogue."""
    return steps_as_evidence(tuple(steps), node, lambda ref: FACTS[ref.fact].command)


def route_fact(route: Route) -> str:
    """In which fact a route stands."""
    return "route6.json" if route.network.version == 6 else "route.json"


def own_source(target: str, routes: Sequence[Route], links: Sequence[Link]) -> tuple[str | None, Route | None]:
    """The source address by which a host itself sends to an address, and the route that chooses it.

    Table local comes before main; without a preferred source it is an address of the interface (ip-route(8)).
    """
    route = route_to(target, routes, "local") or route_to(target, routes)
    return (address_of(route, links) if route is not None else None), route


def address_of(route: Route, links: Sequence[Link]) -> str | None:
    """The address that a host has on a route's interface, as masquerading and source selection take it."""
    if route.source:
        return route.source
    link = next((link for link in links if link.name == route.dev), None)
    family = route.network.version
    found = [a for a in link.addresses if a.family == family and a.scope != "link"] if link else []
    return found[0].address if found else None


def address_in(socket: str) -> str | None:
    """The address of ``10.0.0.1:80``, ``[fd00::1]:80`` or an address alone; None where the text is none of these."""
    bare = socket[1:].partition("]")[0] if socket.startswith("[") else socket
    bare = bare.partition(":")[0] if bare.count(":") == 1 else bare
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return None


def link_with(address: str | None, links: Sequence[Link]) -> Link | None:
    """The interface that has this very address."""
    return next((link for link in links if address in {a.address for a in link.addresses}), None)


def tunnel(link: Link | None, route: Route) -> str:
    """How packets are wrapped on this way; empty when they are not."""
    if link is not None and link.kind in TUNNELS:
        return f"{link.name} is a {link.kind} interface"
    return f"the route says encap {route.raw['encap']}" if route.raw.get("encap") else ""


def neighbours(near: Ground, far: Ground, route: Route) -> tuple[Link | None, tuple[Evidence, ...]]:
    """The far node's interface whose hardware address the near node holds for the gateway: both are on one link."""
    wanted = route.via or next(iter(far.ips), None)
    near_facts, far_facts = near.facts, far.facts
    for entry in (near_facts.neighbours or ()) if near_facts else ():
        if entry.dst != wanted or entry.dev != route.dev or not entry.mac:
            continue
        for link in (far_facts.links or ()) if far_facts else ():
            if link.mac == entry.mac and link.link_type != "loopback":
                says = f"{near.name} has found {entry.dst} at {entry.mac}"
                own = f"and that is {link.name} of {far.name}"
                line = quote(link.raw, "ifindex", "ifname", "address")
                return link, (
                    evidence("neigh.json", near.name, [entry.evidence_line()], says),
                    evidence("addr.json", far.name, [line], own),
                )
    return None, ()


def rules_read(ground: Ground, says: str) -> Evidence:
    """The fact in which a node's rules were looked up, when none of them said anything."""
    fact = ground.rules_fact or "iptables-save.txt"
    return Evidence(FactRef(fact, ground.name), FACTS[fact].command, (), says)
