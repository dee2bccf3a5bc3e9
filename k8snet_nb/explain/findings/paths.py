"""The way below the Services judged: cables, who listens at their end, routes between nodes and the way back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...facts import Evidence, FactRef
from ...parse.links import Link, Route, route_to
from ...parse.routing import Neighbour
from ...parse.services import Endpoint
from ..pod_network import VethPair
from ..socket_text import listening
from .finding import Finding

__all__ = ["NodeWays", "listening_findings", "mtu_findings", "reverse_findings", "route_findings"]

_UNANSWERED = ("FAILED", "INCOMPLETE")
_TUNNELS = {"vxlan": "id", "geneve": "id", "gre": "ikey", "gretap": "ikey", "ipip": "", "sit": ""}
"""Kinds of tunnels, and what of them is the same at both ends."""

_STRICT = 1


@dataclass(frozen=True, slots=True)
class NodeWays:
    """What a node's ways to other nodes' pods are judged by. ``ips``: its addresses by the API; ``pods``: its pods'.

    ``rp_filter``: by interface, with ``all``; empty where it was not collected. ``commands``: by fact.
    """

    node: str
    ips: tuple[str, ...]
    pods: tuple[str, ...]
    links: tuple[Link, ...]
    routes: tuple[Route, ...]
    neighbours: tuple[Neighbour, ...]
    rp_filter: Mapping[str, int]
    commands: Mapping[str, str]

    def proof(self, fact: str, line: str, says: str = "") -> Evidence:
        """One line of a fact of this node."""
        return Evidence(FactRef(fact, self.node), self.commands.get(fact, ""), (line,), says)


def mtu_findings(pod: str, node: str | None, pair: VethPair) -> Iterator[Finding]:
    """Both ends of a veth pair must be of one size: an end drops what is longer than its MTU as it comes in."""
    here, there = pair.pod_interface, pair.node_interface
    if "veth" in (here.kind, there.kind) and here.mtu != there.mtu:
        what = f"{here.name} in the pod has an MTU of {here.mtu} bytes, {there.name} on the node one of {there.mtu}"
        yield Finding("MTU_MISMATCH", what, node, pod=pod, evidence=pair.evidence)


def listening_findings(
    pod: str, node: str | None, endpoints: Iterable[tuple[str, Endpoint]], sockets: str, proof: Evidence
) -> Iterator[Finding]:
    """Ready endpoints (each with its Service) of a pod where no socket of its listens. ``sockets``: ``ss -tunap``.

    Raises ValueError with the line that is no socket's.
    """
    behind: dict[tuple[str, int, str], dict[str, None]] = {}
    for service, one in endpoints:
        protocol = one.protocol.lower()
        if one.ready and one.port is not None and protocol in ("tcp", "udp"):
            behind.setdefault((one.address, one.port, protocol), {})[service] = None
    for (address, port, protocol), services in behind.items():
        if listening(sockets, protocol, address, port) is None:
            several = f" (behind {', '.join(services)})" if len(services) > 1 else ""
            what = f"no socket listens at {address} port {port}/{protocol}, and the API says ready{several}"
            only = next(iter(services)) if len(services) == 1 else None
            yield Finding("ENDPOINT_NOT_LISTENING", what, node, only, pod, (proof,), f"{port}/{protocol.upper()}")


def route_findings(here: NodeWays, others: Sequence[NodeWays]) -> Iterator[Finding]:
    """Routes to other nodes' pods whose gateway is another node than theirs, or nobody who answers."""
    owners = {ip: other.node for other in (here, *others) for ip in other.ips}
    for other in others:
        routes = {route.line(): route for route in (route_to(ip, here.routes) for ip in other.pods) if route}
        for line, route in routes.items():
            if route.via is None or not route.network.prefixlen or owners.get(route.via) == other.node:
                continue
            silent = next((n for n in here.neighbours if n.dst == route.via and {*n.state} & {*_UNANSWERED}), None)
            proofs = [here.proof("route.json", line, f"the way to the pods of {other.node}")]
            if route.via in owners:
                who = f"which is {owners[route.via]}"
            elif silent is not None:
                who = "which nobody answers for"
                proofs.append(here.proof("neigh.json", silent.evidence_line(), f"{route.via} does not answer"))
            else:
                continue  # a router that is no node: as good as any
            what = f"packets for pods on {other.node} ({route.network}) go to {route.via}, {who}"
            yield Finding("ROUTE_ASTRAY", what, here.node, evidence=tuple(proofs))


def reverse_findings(here: NodeWays, others: Sequence[NodeWays]) -> Iterator[Finding]:
    """Packets of other nodes' pods that come by another interface than they are answered by, where that is strict."""
    for other in others:
        out = next((r for r in (route_to(ip, other.routes) for ip in here.pods if ":" not in ip) if r), None)
        back = next((r for r in (route_to(ip, here.routes) for ip in other.pods if ":" not in ip) if r), None)
        if out is None or back is None or out.via not in here.ips:
            continue
        comes = _arrival(here, other, out)
        if comes is None or comes == back.dev:
            continue
        if max(here.rp_filter.get("all", 0), here.rp_filter.get(comes, 0)) == _STRICT:
            what = (
                f"packets of pods on {other.node} come in by {comes}, the way back to them leads out of {back.dev}, "
                "and rp_filter is strict: they are dropped"
            )
            name = "all" if here.rp_filter.get("all") == _STRICT else comes
            yield Finding(
                "RP_FILTER_DROPS", what, here.node,
                evidence=(
                    other.proof("route.json", out.line(), f"the way to the pods of {here.node}"),
                    here.proof("route.json", back.line(), f"the way back to the pods of {other.node}"),
                    here.proof("sysctl.txt", f"net.ipv4.conf.{name}.rp_filter = {_STRICT}", "strict (RFC 3704)"),
                ),
            )  # fmt: skip


def _arrival(here: NodeWays, other: NodeWays, out: Route) -> str | None:
    """The interface by which packets on that route of the other node come in here; None where it cannot be told."""
    leaving = next((link for link in other.links if link.name == out.dev), None)
    if leaving is None:
        return None
    if leaving.kind in _TUNNELS:
        return next((link.name for link in here.links if _tunnel(link) == _tunnel(leaving)), None)
    return next((link.name for link in here.links if out.via in link.ips()), None)


def _tunnel(link: Link) -> tuple[str | None, object]:
    data = (link.raw.get("linkinfo") or {}).get("info_data") or {}
    return link.kind, data.get(_TUNNELS.get(link.kind or "", ""))
