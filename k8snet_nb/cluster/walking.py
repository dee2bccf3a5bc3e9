"""Walks from the façade: who sends, which node's rules are met, where each choice is routed, what is met there."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

from ..errors import FactError, FactMissing, Refused
from ..explain.hooks import data_planes
from ..explain.outcome import Choice, Client, NodeView, Outcome, Packet
from ..explain.policies import policies_for
from ..explain.translation import steps_as_evidence
from ..explain.walk import End, Hop, Walk, verdict_of
from ..facts import Evidence, FactRef
from ..parse.links import Route, route_to
from ..parse.pods import PodValue
from ..render import printable
from .answering import Passed, lost_answer

if TYPE_CHECKING:
    from .cluster import Cluster
    from .node import Node

__all__ = ["not_evaluated", "walk"]

_PROTOCOLS = ("tcp", "udp", "sctp")
_STOPS = {"reject": "rejected", "drop": "dropped"}
_MOST_NODES = 4


@dataclass(frozen=True)
class _Sender:
    words: str
    address: str | None
    kind: Client | None
    node: str | None
    pod: PodValue | None


def walk(cluster: Cluster, src: str, dst: str, protocol: str, port: int, node: str | None) -> Walk:
    """See :meth:`Cluster.walk`."""
    if protocol.lower() not in _PROTOCOLS:
        raise Refused(printable(f"{protocol!r} has no ports to walk by; say {', '.join(_PROTOCOLS)}"))
    if not 0 < port < 65536:
        raise Refused(f"{port} is no port: give a number from 1 to 65535")
    target = _destination(cluster, dst)
    six, loopback = ":" in target, _is_loopback(target)
    sender = _sender(cluster, src, target)
    where = _first_node(cluster, sender, target, node)
    view = where.view()
    kind = sender.kind or _kind(sender.address, view)
    if loopback and kind == "outside":
        raise Refused(f"{target} is a loopback address: every host has its own, nothing from outside comes to it")
    packet = Packet(6 if six else 4, protocol.lower(), target, port, target if loopback else sender.address, kind)
    if loopback and kind == "pod":
        return _inside_the_pod(sender, where.name, packet)
    outcome = where.rules.evaluate(packet, view)
    hops = [Hop(where.name, f"{step.place}", step.says, step.text) for step in outcome.steps]
    ends, evidence = _ends(cluster, where, packet, outcome, hops)
    skipped = tuple(dict.fromkeys(not_evaluated(cluster, sender.pod, ends, where)))
    unknown = outcome.unknown + (("the rules were only partly readable",) if outcome.partial else ())
    unknown += tuple(dict.fromkeys(end.doubt for end in ends if end.doubt))
    return Walk(
        source=sender.words,
        destination=_spelled(packet),
        node=where.name,
        mode=where.rules.mode.mode,
        verdict=verdict_of(ends, skipped, unknown),
        hops=tuple(hops),
        ends=ends,
        steps=outcome.steps,
        evidence=steps_as_evidence(outcome.steps, where.name, cluster.source.command) + evidence,
        not_evaluated=skipped,
        unknown=unknown,
    )


def _spelled(packet: Packet) -> str:
    host = f"[{packet.dst}]" if packet.family == 6 else packet.dst
    return f"{host}:{packet.dport}/{packet.protocol}"


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _inside_the_pod(sender: _Sender, node: str, packet: Packet) -> Walk:
    """A pod's network namespace has a loopback interface of its own: no rule of the node meets such a packet."""
    why = "to a process of the same pod, if one listens"
    end = End(packet.dst, packet.dport, sender.words, node, Fraction(1), False, "delivered", why)
    return Walk(sender.words, _spelled(packet), node, None, end.verdict, (), (end,), (), ())


def _source(addresses: Sequence[str], target: str, words: str) -> str:
    """The address by which a holder sends to a target: for loopback the same, else its own of that family."""
    return target if _is_loopback(target) else _of_family(addresses, ":" in target, words)


def _of_family(addresses: Sequence[str], six: bool, words: str) -> str:
    """The address by which a holder sends to that family. Raises Refused when it has none."""
    found = [address for address in addresses if (":" in address) == six]
    if not found:
        has = f"only {', '.join(addresses)}" if addresses else "no address yet"
        raise Refused(printable(f"{words} has {has}: it cannot send to an IPv{6 if six else 4} address"))
    return found[0]


def _sender(cluster: Cluster, src: str, target: str) -> _Sender:
    if src in ("pod", "node", "outside"):
        words = {"pod": "a pod of the node", "node": "the node itself", "outside": "a client outside"}[src]
        return _Sender(words, None, src, None, None)  # type: ignore[arg-type]
    if src in cluster.api.nodes:
        words = f"node {src}"
        return _Sender(words, _source(cluster.api.nodes[src].ips(), target, words), "node", src, None)
    try:
        address = str(ipaddress.ip_address(src))
    except ValueError:
        pod = cluster.pod(src).value
        words = f"pod {pod.key}" + (" (on the host network)" if pod.host_network else "")
        return _Sender(words, _source(pod.ips, target, words), "node" if pod.host_network else "pod", pod.node, pod)
    _source([address], target, f"the sender {address}")
    pods = [pod for pod in cluster.api.pods_by_ip.get(address, ()) if not pod.host_network]
    if pods:
        return _Sender(f"pod {pods[0].key}", address, "pod", pods[0].node, pods[0])
    owner = next((n.name for n in cluster.api.nodes.values() if address in n.ips()), None)
    return _Sender(f"node {owner}" if owner else address, address, "node" if owner else None, owner, None)


def _destination(cluster: Cluster, dst: str) -> str:
    try:
        return str(ipaddress.ip_address(dst))
    except ValueError:
        pass
    key = dst if "/" in dst else f"default/{dst}"
    if key in cluster.api.services:
        addresses = cluster.api.services[key].cluster_ips
        if addresses:
            return addresses[0]
        raise Refused(printable(f"Service {key} has no cluster IP: give the address that DNS would answer"))
    pod = cluster.pod(dst)
    if pod.ip is None:
        raise Refused(printable(f"pod {pod.key} has no address yet: choose another pod, or ask again when it runs"))
    return pod.ip


def _first_node(cluster: Cluster, sender: _Sender, target: str, node: str | None) -> Node:
    """Whose rules the packet meets first: the sender's node; else, from outside, the node that has the address."""
    if node and sender.node and node != sender.node and sender.kind in ("pod", "node"):
        raise Refused(
            printable(f"{sender.words} is on {sender.node}: its packets meet that node's rules first, not {node}'s")
        )
    owner = next((n.name for n in cluster.api.nodes.values() if target in n.ips()), None)
    chosen = node or sender.node or (owner if sender.kind != "pod" else None)
    return cluster.node(chosen) if chosen else cluster.first_readable()


def _kind(address: str | None, view: NodeView) -> Client:
    if address in view.pod_addresses:
        return "pod"
    return "node" if address in view.local else "outside"


def _ends(
    cluster: Cluster, node: Node, packet: Packet, outcome: Outcome, hops: list[Hop]
) -> tuple[tuple[End, ...], tuple[Evidence, ...]]:
    if outcome.action in _STOPS:
        who = cluster.who(packet.dst)
        end = End(packet.dst, packet.dport, who.name or who.says, node.name, Fraction(1), None, _STOPS[outcome.action])
        return (end,), ()
    choices = outcome.choices or (Choice(packet.dst, packet.dport, Fraction(1), masquerade=outcome.masquerade),)
    evidence: list[Evidence] = []
    if outcome.action == "none":
        hops.append(Hop(node.name, "rules", "no rule translates the destination"))
    way = _Way(cluster, hops, evidence, (packet.client, packet.src))
    ends = [end for choice in choices for end in _end(way.past(node, packet, choice), node, packet, choice)]
    return tuple(ends), tuple(evidence)


@dataclass(frozen=True)
class _Way:
    """What is collected on the way; ``passed``: the nodes whose rules were met, and what they did."""

    cluster: Cluster
    hops: list[Hop]
    evidence: list[Evidence]
    client: tuple[Client, str | None]
    passed: tuple[Passed, ...] = ()

    def past(self, node: Node, packet: Packet, choice: Choice) -> _Way:
        """The way after one more node, whose rules made that choice."""
        translated = (packet.dst, packet.dport) != (choice.address, choice.port)
        return replace(self, passed=(*self.passed, Passed(node, translated, choice.masquerade)))


def _end(way: _Way, node: Node, packet: Packet, choice: Choice) -> list[End]:
    """Where one choice is routed, and what the rules of the node at the other end do with it."""
    cluster = way.cluster
    who = cluster.who(choice.address)
    pods = [pod for pod in cluster.api.pods_by_ip.get(choice.address, ()) if not pod.host_network]
    home = pods[0].node if pods else (who.name if who.kind == "node" else None)
    kind = "Service" if who.kind == "service" else who.kind
    label = f"{kind} {who.name}" if who.name else who.says

    local = _is_loopback(choice.address) or choice.address in node.view().local
    home = node.name if local else home

    def end(verdict: str, why: str = "", doubt: str = "") -> list[End]:
        chance, masquerade = choice.probability, choice.masquerade
        delivered = verdict == "delivered"
        lost = lost_answer(cluster, way.passed, home or "", way.client, packet.family) if delivered else ""
        if lost:
            verdict, why = "unanswered", lost
        return [End(choice.address, choice.port, label, home, chance, masquerade, verdict, why, doubt)]

    if local or (home == node.name and who.kind == "node"):
        return end("delivered", "to a process of the node, if one listens")
    route = route_to(choice.address, node.routes())
    if route is None and packet.family not in node.route_families():
        return end("unknown", f"the IPv{packet.family} routes of {node.name} were not collected")
    if route is None or route.type in ("blackhole", "unreachable", "prohibit"):
        return end("no route", f"{node.name} has no route to it")
    ref = FactRef("route.json", node.name)
    if not any(route.line() in known.lines for known in way.evidence):
        way.evidence.append(Evidence(ref, cluster.source.command(ref), (route.line(),), f"the way to {choice.address}"))
    way.hops.append(Hop(node.name, "route", f"to {choice.address}: {route.line()}", route.line()))
    if home is None:
        nobody = _nobody_there(cluster, node, choice.address, route) if who.kind == "unknown" else ""
        return end("unknown", nobody) if nobody else end("leaves")
    if home == node.name:
        return end("delivered")
    found = _arrives(way, home, packet, choice, end)
    astray = _astray(cluster, home, route)
    return [replace(one, doubt=one.doubt or astray) for one in found] if astray else found


def _astray(cluster: Cluster, home: str, route: Route) -> str:
    """What speaks against a route's bringing a packet to that node; empty when it leads there, or to a router."""
    others = {ip: name for name, node in cluster.api.nodes.items() for ip in node.ips()}
    if route.via is None or not route.network.prefixlen or others.get(route.via) == home:
        return ""
    who, there = others.get(route.via), cluster.node(home)
    routes = there.routes() if there.has_facts else ()
    if who is None and not any(one.via in others for one in routes if one.network.prefixlen):
        return ""  # routers that are no nodes bring packets about here
    return f"the gateway {route.via} is {f'node {who}' if who else 'no node'}, not {home}"


def _arrives(way: _Way, home: str, packet: Packet, choice: Choice, end: Callable[..., list[End]]) -> list[End]:
    """The rules of the node that it comes to. They may translate it in their turn (a NodePort): then it goes on."""
    arriving = Packet(
        packet.family, packet.protocol, choice.address, choice.port, _seen_source(packet, choice), "outside"
    )
    try:
        there = way.cluster.node(home)
        met = there.rules.evaluate(arriving, there.view())
    except FactError as error:
        return end("delivered", doubt=f"the rules of {home} are not known ({error})")
    way.hops.append(Hop(home, "rules", f"arrives for {choice.address}:{choice.port}: {_arrival(met)}"))
    if met.action in _STOPS:
        return end(_STOPS[met.action], f"by the rules of {home}")
    if met.action == "dnat" and len(way.passed) < _MOST_NODES:
        doubt = f"on {home}: {met.unknown[0]}" if met.unknown else ""
        found = [
            one
            for further in met.choices
            for one in _end(way.past(there, arriving, further), there, arriving, _both(choice, further))
        ]
        return [replace(one, doubt=one.doubt or doubt) for one in found]
    if met.action == "dnat":
        return end("unknown", f"still translated by {home}, after the rules of {len(way.passed)} nodes")
    return end("delivered", doubt=f"on {home}: {met.unknown[0]}" if met.unknown else "")


def _both(first: Choice, then: Choice) -> Choice:
    """A choice after a choice: the chances multiplied, masqueraded if either does it."""
    chances = (first.probability, then.probability)
    chance = None if None in chances else (chances[0] or 0) * (chances[1] or Fraction(0))
    return replace(then, probability=chance, masquerade=True if first.masquerade is True else then.masquerade)


def _seen_source(packet: Packet, choice: Choice) -> str | None:
    # "hairpin" masquerades only what an endpoint sends to itself, which never leaves its node
    return packet.src if choice.masquerade in (False, "hairpin") else None


def _arrival(outcome: Outcome) -> str:
    return "let in" if outcome.action == "none" else outcome.action


def _nobody_there(cluster: Cluster, node: Node, address: str, route: Route) -> str:
    """Why an address is one of the cluster's although nobody holds it; empty when it is not."""
    if route.dev in node.view().pod_interfaces and route.network.prefixlen:
        return f"among the addresses of {node.name}'s pods, but no pod has it"
    towards = next((one.name for one in cluster.api.nodes.values() if route.via in one.ips()), None)
    if towards:
        return f"goes to {towards}, where no pod has it"
    try:
        ranges = list(cluster.api.service_ranges)
    except FactMissing:
        ranges = []
    ranges += [cidr for one in cluster.api.nodes.values() for cidr in one.pod_cidrs]
    wanted = ipaddress.ip_address(address)
    inside = next((cidr for cidr in ranges if wanted in ipaddress.ip_network(cidr, strict=False)), None)
    return f"in the cluster's range {inside}, but nobody has it" if inside else ""


def not_evaluated(cluster: Cluster, sender: PodValue | None, ends: tuple[End, ...], node: Node) -> Iterator[str]:
    """What could stop a packet between a sender and these ends and is not evaluated, in words."""
    try:
        policies = cluster.api.items("networkpolicies")
    except FactMissing as error:
        yield f"NetworkPolicies are not known ({error})"
        policies = []
    if sender is not None:
        for name in policies_for(policies, sender, "Egress"):
            yield f"NetworkPolicy {name} forbids it to leave {sender.key}"
    seen: set[str] = set()
    for end in ends:
        for pod in cluster.api.pods_by_ip.get(end.address, ()):
            for name in () if pod.host_network or pod.key in seen else policies_for(policies, pod, "Ingress"):
                yield f"NetworkPolicy {name} forbids it to enter {pod.key}"
            seen.add(pod.key)
    for name in dict.fromkeys([node.name, *(end.node for end in ends if end.node)]):
        yield from _hooks(cluster.node(name))


def _hooks(node: Node) -> Iterator[str]:
    """What else is on a packet's way on a node: programs on interfaces, other programs' tables, other data planes."""
    try:
        for link in node.links():
            if link.raw.get("xdp"):
                yield f"the XDP program on {link.name} of {node.name} stops it"
        for table in node.rules.other_hooks():
            yield f"{table} of {node.name} stops it"
        for words in data_planes(node.rules.commands or ()):
            yield f"{words}, on {node.name} does otherwise"
    except FactError:
        return  # what cannot be read there is told with the packet's own way
