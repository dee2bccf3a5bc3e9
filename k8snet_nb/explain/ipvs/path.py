"""IPVS: which real server a packet to a Service address gets, and whether it is masqueraded.

The way of the packet (kernel, net/netfilter/ipvs/ip_vs_core.c): from pods and from outside it comes in by PREROUTING
and, because every virtual address is one of the node's own (on the dummy interface kube-ipvs0), by INPUT, where IPVS
takes it after the filter rules. A process of the node meets IPVS at OUTPUT, after nat and before filter. Sent on to a
real server the packet passes OUTPUT and POSTROUTING, where the mark that kube-proxy's nat rules set decides over
masquerading. A real server on the node itself is reached without POSTROUTING, unless the client is on the node too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from ...parse.ipset import IpSet
from ...parse.iptables import Ruleset
from ...parse.ipvs import RealServer, VirtualServer
from ...text import socket_text
from ..iptables.state import State
from ..outcome import Action, Choice, NodeView, Outcome, Packet, Step
from .match import Around
from .rules import End, run_hook
from .schedule import Shares, share

__all__ = ["Programmed", "evaluate", "find", "services"]

_FACT = "ipvs-save.txt"
_SOURCE_SET = re.compile(r"--match-set \S+ \S*src")
Masquerade = bool | str | None


@dataclass(frozen=True, slots=True)
class Programmed:
    """One virtual server for the comparison with the API: where it listens, and its real servers with weights."""

    protocol: str
    address: str
    port: int
    endpoints: tuple[tuple[str, int, int], ...]
    scheduler: str
    affinity: int | None
    text: str
    line: int


def services(servers: Sequence[VirtualServer]) -> tuple[Programmed, ...]:
    """Every virtual server with an address; ``endpoints`` are (address, port, weight). One by mark is no Service."""
    return tuple(
        Programmed(
            str(one.protocol),
            one.address,
            one.port or 0,
            tuple((server.address, server.port, server.weight) for server in one.servers),
            one.scheduler,
            one.persistent,
            one.text,
            one.line,
        )
        for one in servers
        if one.address is not None
    )


def find(servers: Sequence[VirtualServer], packet: Packet) -> VirtualServer | None:
    """The virtual server for a packet's destination: its own port first, then one for every port."""
    wanted = [one for one in servers if one.address == packet.dst and one.protocol == packet.protocol]
    exact = next((one for one in wanted if one.port == packet.dport), None)
    return exact or next((one for one in wanted if one.port == 0), None)


@dataclass
class _Trace:
    """What is collected on the way."""

    steps: list[Step] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    partial: bool = False

    def step(self, place: str, text: str, says: str, fact: str = _FACT) -> None:
        self.steps.append(Step(place, text, says, fact))

    def doubt(self, *words: str) -> None:
        self.unknown += [word for word in words if word not in self.unknown]

    def outcome(self, action: Action, **rest: object) -> Outcome:
        made = Outcome(action, steps=tuple(self.steps), unknown=tuple(self.unknown), partial=self.partial)
        return replace(made, **rest)  # type: ignore[arg-type]


def evaluate(
    servers: Sequence[VirtualServer],
    packet: Packet,
    view: NodeView,
    iptables: Ruleset | None = None,
    ipsets: Mapping[str, IpSet] | None = None,
) -> Outcome:
    """What IPVS and the rules around it do with the first packet of a connection.

    ``servers`` from ``ipvsadm -Sn``; ``view.local`` must hold the addresses of kube-ipvs0. ``iptables`` of the packet's
    family; without them the answer has no filter rules and no masquerading (None, with the reason).
    """
    trace = _Trace(partial=iptables is not None and iptables.partial)
    marked = [one for one in servers if one.fwmark is not None and one.family == packet.family]
    if marked:
        trace.doubt(*(f"{one.name} takes packets with that mark whatever their address: {one.text}" for one in marked))
    around = Around.of(packet, view, iptables, ipsets) if iptables is not None else None
    if around is None:
        trace.doubt("the iptables rules of the node are not known: neither filter rules nor masquerading can be told")
    ends = [End("accept", State(packet.dst, packet.dport))]
    hook = "OUTPUT" if packet.client == "node" else "PREROUTING"
    stopped, ends = _before(iptables, around, hook, ("raw", "mangle", "nat"), ends, trace)
    if stopped is not None:
        return trace.outcome(stopped)
    if packet.client != "node":
        away = _not_local(packet, view, trace)
        if away is not None:
            return away
        stopped, ends = _before(iptables, around, "INPUT", ("mangle", "filter"), ends, trace)
        ranges = tuple(around.ranges) if around else ()
        if stopped is not None:
            return trace.outcome(stopped, source_ranges=ranges)
    virtual = find(servers, packet)
    if virtual is None:
        return _no_virtual(packet, view, iptables, around, ends, trace)
    outcome = _scheduled(
        virtual, packet, trace, lambda server: _masquerade(server, view, iptables, around, ends, trace)
    )
    return replace(outcome, source_ranges=tuple(around.ranges) if around else ())


def _before(
    rules: Ruleset | None, around: Around | None, hook: str, tables: tuple[str, ...], ends: list[End], trace: _Trace
) -> tuple[Action | None, list[End]]:
    """The rules of one hook before IPVS: what they end the packet with, None when it goes on, and the ways it does."""
    if rules is None or around is None:
        return None, ends
    found = [
        replace(end, doubts=before.doubts + end.doubts)
        for before in ends
        for end in run_hook(rules, tables, around.at(hook), before.state)
    ]
    # one way for each state; the last is the one on which no undecided rule was taken to match
    passed = list({end.state: end for end in found if end.verdict == "accept"}.values())
    chosen = passed[-1] if passed else found[-1]
    trace.steps += chosen.steps
    if len({end.verdict for end in found}) > 1:
        doubts = [doubt for end in found for doubt in end.doubts]
        if passed and hook == "INPUT" and around.ranges:
            # that a client's range decides is part of the answer, not a doubt
            doubts = [doubt for doubt in doubts if not _SOURCE_SET.search(doubt)]
            text = chosen.steps[-1].text if chosen.steps else ""
            trace.step("filter INPUT", text, f"only for clients in {', '.join(around.ranges)}", rules.fact)
        trace.doubt(*doubts)
    if passed:
        return None, passed
    trace.doubt(*chosen.doubts)
    stopped: dict[str, Action] = {"drop": "drop", "reject": "reject"}
    return stopped.get(chosen.verdict, "none"), found


def _not_local(packet: Packet, view: NodeView, trace: _Trace) -> Outcome | None:
    if packet.dst in view.local:
        return None
    if not view.local:
        trace.doubt(f"the node's addresses are not known, so neither whether {packet.dst} is one of them (kube-ipvs0)")
        return None
    says = f"{packet.dst} is no address of the node, so the packet never comes to IPVS: it is routed on"
    trace.step("routing", f"{packet.dst} is not local", says, "addr.json")
    return trace.outcome("none")


def _no_virtual(
    packet: Packet, view: NodeView, rules: Ruleset | None, around: Around | None, ends: list[End], trace: _Trace
) -> Outcome:
    """IPVS leaves it alone. What a process of the node sent still meets OUTPUT's filter and, if it stays, INPUT."""
    local = packet.dst in view.local
    where = "the node's own sockets" if local else "its way by the routes"
    wanted = f"{packet.protocol} {packet.dst} port {packet.dport}"
    trace.step("ipvs", "", f"there is no virtual server for {wanted}: the packet goes on to {where}")
    if packet.client == "node":
        stopped, ends = _before(rules, around, "OUTPUT", ("filter",), ends, trace)
        if stopped is None and local:
            stopped, ends = _before(rules, around, "INPUT", ("mangle", "filter"), ends, trace)
        if stopped is not None:
            return trace.outcome(stopped)
    return trace.outcome("none")


def _scheduled(
    virtual: VirtualServer, packet: Packet, trace: _Trace, masquerade: Callable[[RealServer], Masquerade]
) -> Outcome:
    """The scheduler's choice among the real servers of the virtual server that was found."""
    shares = share(virtual)
    trace.step("ipvs virtual server", virtual.text, f"the virtual server for {virtual.name}; {shares.says}")
    for server in shares.draining:
        trace.step("ipvs real server", server.text, "weight 0: it keeps its connections and gets no new ones")
    draining = tuple(Choice(one.address, _port(one, packet), Fraction(0), one.weight) for one in shares.draining)
    common = {"draining": draining, "affinity": virtual.persistent, "scheduler": virtual.scheduler}
    if not shares.usable:
        why = "all of its real servers are draining" if virtual.servers else "it has no real server"
        trace.step("ipvs", virtual.text, f"{why}: the client gets icmp port-unreachable")
        return trace.outcome("reject", **common)
    if shares.unknown:
        trace.doubt(shares.unknown)
    if virtual.persistent is not None:
        who = f"clients of one network ({virtual.netmask})" if virtual.netmask else "a client"
        says = f"{who} keeps its real server for {virtual.persistent} s; the shares are those of new clients"
        trace.step("ipvs persistence", virtual.text, says)
    choices = _choices(shares, packet, trace, masquerade)
    unchanged = [server for server, _ in shares.usable if server.forward in ("Route", "Tunnel")]
    if unchanged:
        trace.doubt(*(f"sent on with its destination unchanged ({one.forward}): {one.text}" for one in unchanged))
        if len(unchanged) == len(shares.usable):
            return trace.outcome("none", choices=choices, **common)
    return trace.outcome("dnat", choices=choices, **common)


def _choices(
    shares: Shares, packet: Packet, trace: _Trace, masquerade: Callable[[RealServer], Masquerade]
) -> tuple[Choice, ...]:
    made = []
    for server, part in shares.usable:
        how = masquerade(server)
        words = "in a share that the rules do not fix" if part is None else f"{part} of the new connections"
        to = socket_text(server.address, server.port)
        trace.step("ipvs real server", server.text, f"{words} to {to}; masqueraded: {_words(how)}")
        made.append(Choice(server.address, _port(server, packet), part, server.weight, how))
    return tuple(made)


def _words(masquerade: Masquerade) -> str:
    if masquerade == "hairpin":
        return "only when this endpoint calls itself"
    return {True: "yes", False: "no", None: "not decided"}[masquerade]  # type: ignore[index]


def _port(server: RealServer, packet: Packet) -> int:
    """Port 0 (a virtual server for every port) keeps the port that the client asked for."""
    return server.port or packet.dport


def _masquerade(
    server: RealServer, view: NodeView, rules: Ruleset | None, around: Around | None, ends: list[End], trace: _Trace
) -> Masquerade:
    """What becomes of the source of packets that go to this real server; None when the ways that it may come differ."""
    if rules is None or around is None:
        return None
    packet = around.context.packet
    if server.address in view.local and packet.client != "node":
        return False
    found: set[Masquerade] = set()
    for end in ends:
        sent = end.state._replace(dst=server.address, dport=_port(server, packet))
        plain: Masquerade = _sent_on(rules, around, sent, None, trace)
        if plain is False and packet.client == "pod" and packet.src is None and server.address in view.pod_addresses:
            plain = "hairpin" if _sent_on(rules, around, sent, server.address, trace) else False
        found.add(plain)
    if len(found) > 1:
        trace.doubt(*(doubt for end in ends for doubt in end.doubts))
        return None
    return found.pop()


def _sent_on(rules: Ruleset, around: Around, state: State, src: str | None, trace: _Trace) -> bool | None:
    """Through OUTPUT and POSTROUTING to the real server: masqueraded or not; None when that is not decided."""
    found: set[bool] = set()
    doubts: list[str] = []
    for output in run_hook(rules, ("raw", "mangle", "filter"), around.at("OUTPUT", src), state):
        if output.verdict != "accept":
            trace.doubt(
                f"to {state.dst} the OUTPUT rules say {output.verdict}: {output.steps[-1].text}", *output.doubts
            )
            continue
        for end in run_hook(rules, ("mangle", "nat"), around.at("POSTROUTING", src), output.state):
            found.add(end.verdict == "masquerade")
            doubts += [*output.doubts, *end.doubts]
            if end.verdict == "masquerade" and not any(step in trace.steps for step in end.steps[-1:]):
                trace.steps += end.steps
            elif end.verdict not in ("accept", "masquerade"):
                trace.doubt(*end.doubts, f"to {state.dst} the POSTROUTING rules say {end.verdict}")
    if len(found) == 1:
        return found.pop()
    trace.doubt(*doubts)
    return None
