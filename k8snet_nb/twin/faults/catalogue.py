"""The faults that there are, by their code, and how each is found with the kit."""

from __future__ import annotations

from dataclasses import dataclass

from .answers import dns_wrong, server_dead
from .network import mtu_smaller, rp_filter_strict, wrong_route
from .rules import rule_deleted, stale_endpoint
from .scene import Make

__all__ = ["FAULTS", "Kind"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault. ``place``: what to name as its place; ``hints``: how to find it, the broadest first.

    Hints may hold `code` between backticks.
    """

    code: str
    title: str
    place: str
    make: Make
    hints: tuple[str, ...]


_KINDS = (
    Kind(
        "SERVER_DEAD", "An endpoint's server is dead", "the pod", server_dead,
        ("Send connections and see how they end, and at which endpoint none arrives: `cluster.send(SERVICE)`",
         "Rules and API agree (`cluster.drift()` is empty), so look at the endpoint: who listens in that pod?",
         "`cluster.findings()` has ENDPOINT_NOT_LISTENING; `cluster.pod(POD).run(['ss', '-tln'])` shows it"),
    ),
    Kind(
        "RULE_DELETED", "A Service's rule is gone from a node", "the node", rule_deleted,
        ("Which node's clients suffer? Send from each: `cluster.send(SERVICE, client='node', node=NODE)`",
         "Compare what that node has programmed with what the API asks for",
         "`cluster.drift()` has SERVICE_NOT_PROGRAMMED; `cluster.translate(SERVICE, node=NODE)` says what is left"),
    ),
    Kind(
        "STALE_ENDPOINT", "A node sends to an endpoint that is no more", "the node", stale_endpoint,
        ("Which node's clients suffer? Send from each: `cluster.send(SERVICE, client='node', node=NODE)`",
         "Compare what that node has programmed with what the API asks for",
         "`cluster.drift()` has ENDPOINT_STALE and ENDPOINT_MISSING; `cluster.who(ADDRESS)` knows nobody there"),
    ),
    Kind(
        "WRONG_ROUTE", "A node's route to other pods leads nowhere", "the node", wrong_route,
        ("From which node do pods of which other node not answer? A Service is not needed to see it",
         "`cluster.walk(POD, OTHER_POD, 'tcp', PORT)` names the route that is taken; who has its gateway's address?",
         "`cluster.findings()` has ROUTE_ASTRAY; `cluster.who(GATEWAY)` knows nobody there"),
    ),
    Kind(
        "DNS_WRONG", "A DNS server gives a wrong address", "the CoreDNS pod (the Service when each of them lies)",
        dns_wrong,
        ("Ask for the name several times, and compare with the Service's own address: `cluster.pod(POD).resolve(NAME)`",
         "Ask each server by itself: `cluster.dns_replicas(NAME)`",
         "The row of `cluster.dns_replicas(NAME)` that differs from `cluster.service(SERVICE).value.cluster_ips`"),
    ),
    Kind(
        "MTU", "A pod's cable takes smaller packets than the pod sends", "the pod", mtu_smaller,
        ("Ask for small answers and for big ones: `cluster.send(SERVICE, size=4000)`; which endpoint stays silent?",
         "Follow the cable of that pod, and read the size of packets at both ends: `cluster.pod(POD).veth()`",
         "`cluster.findings()` has MTU_MISMATCH; `cluster.node(NODE).interfaces()` has the column mtu"),
    ),
    Kind(
        "RP_FILTER", "A node drops what comes by another way than it would answer", "the node that drops",
        rp_filter_strict,
        ("Which nodes' pods do not reach each other? Draw both ways: `cluster.node(NODE).routes()` on each",
         "The two ways differ. That alone does no harm; which setting makes a kernel drop what came the other way?",
         "`cluster.findings()` has RP_FILTER_DROPS; the counter is IPReversePathFilter of `nstat`"),
    ),
)  # fmt: skip

FAULTS: dict[str, Kind] = {kind.code: kind for kind in _KINDS}
"""Every fault by its code. A code never changes its meaning."""
