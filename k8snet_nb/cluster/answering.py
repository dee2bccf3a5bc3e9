"""Whether an answer comes back: it must pass each node that translated the connection, in reverse, to be undone there.

A translation lives in the connection table of the node that made it. Where the server's node has a shorter way to whom
it takes for the client, the answer comes from an address that the client never called, and the connection is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import FactError
from ..explain.outcome import Client
from ..parse.links import Route, route_to

if TYPE_CHECKING:
    from .cluster import Cluster
    from .node import Node

__all__ = ["Passed", "lost_answer"]


@dataclass(frozen=True)
class Passed:
    """A node whose rules a connection met, and what they did: changed its destination, put the node for its source."""

    node: Node
    translated: bool
    masquerade: bool | str | None


def lost_answer(
    cluster: Cluster, passed: Sequence[Passed], home: str, client: tuple[Client, str | None], family: int
) -> str:
    """Why the answer of a server on ``home`` does not come back; empty when it does, or when that cannot be told.

    ``client``: its kind, as the first of ``passed`` sees it, and its address if that is known.
    """
    at = home
    for number in range(len(passed) - 1, -1, -1):
        one = passed[number]
        if one.masquerade is True or one.masquerade is None:
            at = one.node.name  # it is addressed to that node
            continue
        if not one.translated:
            continue
        before = next((each for each in reversed(passed[:number]) if each.masquerade is True), None)
        kind, address = ("node", _own(before.node, family)) if before else client
        holder = before.node.name if before else passed[0].node.name
        near = at == one.node.name or (kind != "outside" and holder == one.node.name)
        if not near and not _leads(cluster, at, address, one.node, family):
            seen = address or f"the {kind} that called"
            return f"the answer goes from {at} to {seen} past {one.node.name}, which alone could undo its translation"
        at = one.node.name
    return ""


def _own(node: Node, family: int) -> str | None:
    return next((ip for ip in node.ips if (":" in ip) == (family == 6)), None)


def _leads(cluster: Cluster, start: str, address: str | None, through: Node, family: int) -> bool:
    """Whether a node's routes lead to an address (None: any outside) through another. If unknown: they do."""
    try:
        routes = cluster.node(start).routes() if start in cluster.api.nodes else None
    except FactError:
        routes = None
    if routes is None:
        return True
    route = route_to(address, routes) if address else _default(routes, family)
    return route is not None and route.via in through.view().local


def _default(routes: Sequence[Route], family: int) -> Route | None:
    fits = (r for r in routes if r.network.prefixlen == 0 and r.network.version == family and r.table == "main")
    return min(fits, key=lambda route: route.metric, default=None)
