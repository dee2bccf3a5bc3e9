"""What the network model is judged by: one node's interfaces, routes, flows, and the inside of its pods."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from ..errors import FactError
from ..explain.model import NodeFacts
from ..facts import FactRef
from .tracking import conntrack_table

if TYPE_CHECKING:
    from .cluster import Cluster
    from .node import Node

__all__ = ["model_facts"]

T = TypeVar("T")


def model_facts(cluster: Cluster, node: Node) -> NodeFacts:
    """The facts of one node; what could not be had is named in them."""
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
