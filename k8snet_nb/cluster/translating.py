"""Translations from the façade: the node's rules asked for each kind of client, and the answer joined with the API."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from ..errors import Refused
from ..explain.entry import Target
from ..explain.outcome import Client, NodeView, Packet
from ..explain.translation import Translation, join_translation
from ..parse.services import ServiceValue
from ..render import printable

if TYPE_CHECKING:
    from .cluster import Cluster
    from .node import Node

__all__ = ["client_packet", "translate_on"]

KINDS: tuple[Client, ...] = ("pod", "node", "outside")


def client_packet(target: Target, client: str, view: NodeView) -> Packet:
    """The first packet of a connection from that kind of client, or from that address (whose kind the view tells)."""
    if client in KINDS:
        kind: Client = next(k for k in KINDS if k == client)
        return Packet(target.family, target.protocol, target.address, target.port, None, kind)
    try:
        source = str(ipaddress.ip_address(client))
    except ValueError:
        raise Refused(printable(f"{client!r} is no client: say pod, node, outside or an IP address")) from None
    if (":" in source) != (target.family == 6):
        raise Refused(f"{source} cannot call {target.address}: another address family")
    kind = "pod" if source in view.pod_addresses else ("node" if source in view.local else "outside")
    return Packet(target.family, target.protocol, target.address, target.port, source, kind)


def translate_on(cluster: Cluster, node: Node, service: ServiceValue, target: Target, client: str) -> Translation:
    """The translation of one target on one node: for ``client``, and beside it for every kind of client."""
    view = node.view()
    outcomes = {kind: node.rules.evaluate(client_packet(target, kind, view), view) for kind in KINDS}
    if client not in outcomes:
        outcomes[client] = node.rules.evaluate(client_packet(target, client, view), view)

    def holder(address: str) -> tuple[str, str | None] | None:
        pods = [pod for pod in cluster.api.pods_by_ip.get(address, ()) if not pod.host_network]
        return (pods[0].key, pods[0].node) if pods else None

    return join_translation(
        service,
        target,
        node.name,
        client,
        node.rules.mode.mode,
        node.rules.mode.why,
        outcomes,
        cluster.api.endpoints.get(service.key, ()),
        holder,
        cluster.source.command,
    )
