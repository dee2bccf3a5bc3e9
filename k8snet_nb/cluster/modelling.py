"""The Kubernetes network model checked on a cluster: what of each node is known, and what is translated on purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from ..errors import FactError
from ..explain.model import NodeFacts, Rule, ServiceAddresses, check_model
from ..facts import FactRef
from .tracking import conntrack_table

if TYPE_CHECKING:
    from .cluster import Cluster
    from .node import Node

__all__ = ["network_model"]

T = TypeVar("T")


def network_model(cluster: Cluster) -> tuple[Rule, ...]:
    """See :meth:`.cluster.Cluster.network_model`."""
    node_ips = {ip: node.name for node in cluster.api.nodes.values() for ip in node.ips()}
    nodes = [_node_facts(cluster, cluster.node(name)) for name in cluster.api.nodes]
    return check_model(cluster.api.pods.values(), nodes, node_ips, _service_addresses(cluster))


def _service_addresses(cluster: Cluster) -> ServiceAddresses:
    services = list(cluster.api.services.values())
    addresses = (ip for s in services for ip in (*s.cluster_ips, *s.external_ips, *s.load_balancer))
    ports = (port.node_port for s in services for port in s.ports if port.node_port)
    return ServiceAddresses(frozenset(addresses), frozenset(ports))


def _node_facts(cluster: Cluster, node: Node) -> NodeFacts:
    source, name = cluster.source, node.name
    missing: list[str] = []
    if not node.has_facts:
        why = source.trouble(FactRef("node.json", name)) or f"no facts of node {name}"
        return NodeFacts(name, None, None, None, {}, {}, (why,))

    def known(read: Callable[[], T]) -> T | None:
        try:
            return read()
        except FactError as error:
            missing.append(str(error))
            return None

    inside = [p for p in cluster.api.pods.values() if p.node == name and not p.host_network]
    pod_links = {p.key: cluster.pod_links(p.key, name) for p in inside if source.has(FactRef("addr.json", name, p.key))}
    commands = {fact: source.command(FactRef(fact, name)) for fact in ("addr.json", "route.json", "conntrack.txt")}
    commands["pod addr.json"] = source.command(FactRef("addr.json", name, "any/pod"))
    links, routes, flows = known(node.links), known(node.routes), known(lambda: _flows(cluster, name))
    missing += flows.attrs.get("problems", ()) if flows is not None else ()
    families = node.route_families() if routes is not None else frozenset[int]()
    return NodeFacts(name, links, routes, flows, pod_links, commands, tuple(missing), families, node.policy_tables())


def _flows(cluster: Cluster, node: str) -> pd.DataFrame:
    """The node's conntrack columns, both families."""
    table = conntrack_table(cluster, node)
    ref = table.evidence[0].ref
    frame = table.frame
    frame.attrs["problems"] = tuple(f"{ref.fact} of {ref.where}: {problem}" for problem in table.problems[:3])
    return frame
