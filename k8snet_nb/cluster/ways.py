"""What findings of the ways between nodes, and of who listens at their end, are read from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import FactBroken, FactError, FactMissing
from ..explain.findings import Finding
from ..explain.findings.paths import NodeWays, listening_findings, reverse_findings, route_findings
from ..facts import Evidence, FactRef
from ..parse.conntrack_counters import parse_sysctl
from ..parse.pods import PodValue
from ..parse.routing import parse_neigh

if TYPE_CHECKING:
    from .cluster import Cluster
    from .node import Node

__all__ = ["between_nodes", "heard"]

_SETTING, _NAME = "net.ipv4.conf.", ".rp_filter"


def between_nodes(cluster: Cluster) -> Iterator[Finding]:
    """Each node's routes to the pods of the others, and the way back. Those that cannot be read are told alone."""
    names = [name for name in cluster.source.nodes() if name in cluster.api.nodes]
    ways = [found for found in (_ways(cluster, cluster.node(name)) for name in names) if found is not None]
    for here in ways:
        others = [other for other in ways if other is not here]
        yield from route_findings(here, others)
        yield from reverse_findings(here, others)


def heard(cluster: Cluster, pod: PodValue) -> Iterator[Finding]:
    """Endpoints that are this pod and where nobody listens. Raises FactMissing where its sockets were not collected."""
    ref = FactRef("sockets.txt", pod.node, pod.key)
    services = cluster.api.services_of_pods.get(pod.key, ())
    if not services or pod.host_network:
        return iter(())
    text = cluster.source.read(ref).decode("utf-8", "replace")
    mine = [(s, e) for s in services for e in cluster.api.endpoints.get(s, ()) if e.pod == pod.key]
    proof = Evidence(ref, cluster.source.command(ref), (), "no such socket listens")
    try:
        return iter(tuple(listening_findings(pod.key, pod.node, mine, text, proof)))
    except ValueError as error:
        raise FactBroken("sockets.txt", ref.where, str(error), "Record it again, or look at the file.") from error


def _ways(cluster: Cluster, node: Node) -> NodeWays | None:
    source, name = cluster.source, node.name
    pods = (p for p in cluster.api.pods.values() if p.node == name and not p.host_network and not p.finished)
    try:
        links, routes = node.links(), node.routes()
    except FactError:
        return None  # told with that node
    neighbours = FactRef("neigh.json", name)
    commands = {fact: source.command(FactRef(fact, name)) for fact in ("route.json", "neigh.json")}
    return NodeWays(
        name,
        node.ips,
        tuple(ip for pod in pods for ip in pod.ips),
        links,
        routes,
        parse_neigh(source.read(neighbours), neighbours) if source.has(neighbours) else (),
        _rp_filter(cluster, name),
        {**commands, "sysctl.txt": "sysctl --all --pattern rp_filter"},
    )


def _rp_filter(cluster: Cluster, node: str) -> dict[str, int]:
    """By interface; empty where it was not collected."""
    try:
        said = parse_sysctl(cluster.source.read(FactRef("sysctl.txt", node)))
    except FactMissing:
        return {}
    names = [key for key in said if key.startswith(_SETTING) and key.endswith(_NAME)]
    return {
        key[len(_SETTING) : -len(_NAME)].replace("/", "."): int(said[key]) for key in names if said[key].isdecimal()
    }
