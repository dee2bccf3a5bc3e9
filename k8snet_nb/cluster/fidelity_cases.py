"""Which connections show whether a twin does what its rules say: by Service, entry, address, node, family, client."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..explain.entry import ENTRIES, Entry, Target
from ..parse.api import ip_family
from ..parse.pods import PodValue
from ..parse.services import ServicePort, ServiceValue
from .sending import Changeable

if TYPE_CHECKING:
    from .cluster import Cluster
    from .node import Node

__all__ = ["Case", "Client", "cases"]


@dataclass(frozen=True, slots=True)
class Client:
    """Who calls. ``kind``: pod, node or outside; ``address`` None: of the node's own, which the kernel chooses.

    ``crowd``: further addresses outside, clients of their own, and ``like``: one more, which never calls.
    """

    kind: str
    name: str
    address: str | None
    crowd: tuple[str, ...] = ()
    like: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One way to call a Service port: ``node`` is whose rules are met first."""

    service: ServiceValue
    target: Target
    node: str
    client: Client


def cases(
    cluster: Cluster, source: Changeable, services: Sequence[str] | None, nodes: Sequence[str] | None, crowd: int
) -> Iterator[Case]:
    """All of them, by node. Services without an address of their own (headless, ExternalName) have none.

    Of a node's pods one calls that is an endpoint of the Service, and one that is none.
    """
    chosen = [s for s in cluster.api.services.values() if services is None or s.key in services]
    for name in cluster.source.nodes():
        if name not in cluster.api.nodes or (nodes is not None and name not in nodes):
            continue
        node = cluster.node(name)
        for service in chosen:
            if service.headless or service.type == "ExternalName":
                continue
            for target in _targets(cluster, service, node):
                for client in _clients(cluster, source, service, target, node, crowd):
                    yield Case(service, target, name, client)


def _targets(cluster: Cluster, service: ServiceValue, node: Node) -> Iterator[Target]:
    """Every address of every entry; of NodePorts those of this node, and one of another."""
    for port in service.ports:
        for entry in ENTRIES:
            for address in _addresses(cluster, service, port, entry, node):
                number = (port.node_port if entry == "node_port" else None) or port.port
                yield Target(entry, 6 if ":" in address else 4, address, number, port.protocol.lower(), port)


def _addresses(cluster: Cluster, service: ServiceValue, port: ServicePort, entry: Entry, node: Node) -> tuple[str, ...]:
    if entry == "node_port":
        if not port.node_port:
            return ()
        mine = [ip for ip in node.ips if ip_family(ip)]
        others = [name for name in cluster.source.nodes() if name in cluster.api.nodes and name != node.name]
        beyond = [name for name in others if name > node.name] or others
        far = [ip for ip in cluster.node(min(beyond)).ips if ip_family(ip)] if beyond else []
        families = {family: next((ip for ip in far if ip_family(ip) == family), None) for family in (4, 6)}
        found = [*mine, *(ip for ip in families.values() if ip)]
        return tuple(ip for ip in found if ip_family(ip) in (service.families or (4,)))
    listed = {
        "cluster_ip": service.cluster_ips, "external_ip": service.external_ips, "load_balancer": service.load_balancer
    }  # fmt: skip
    return tuple(ip for ip in listed[entry] if ip_family(ip))


def _clients(
    cluster: Cluster, source: Changeable, service: ServiceValue, target: Target, node: Node, crowd: int
) -> Iterator[Client]:
    family = target.family
    ends = {e.pod for e in cluster.api.endpoints.get(service.key, ())}
    pods = [pod for pod in cluster.api.pods.values() if _can_send(pod, node.name, family)]
    for several in ([p for p in pods if p.key in ends], [p for p in pods if p.key not in ends]):
        if several:
            yield Client("pod", several[0].key, next(ip for ip in several[0].ips if ip_family(ip) == family))
    if not any(ip_family(ip) == family for ip in node.ips):
        return
    yield Client("node", f"node {node.name}", None)
    first = source.outside.get(family)
    far = target.entry == "node_port" and target.address not in node.ips  # it would not be called through this node
    if first is None or node.name not in source.marks or far:
        return
    network = ipaddress.ip_network(source.outside_networks[family])
    many = tuple(str(network[20 + number]) for number in range(crowd))
    yield Client("outside", "outside", first, many if not service.source_ranges else (), str(network[-2]))
    if target.entry == "load_balancer":
        for text in service.source_ranges:
            inside = _inside(text, network)
            if inside not in (None, first):
                yield Client("outside", f"outside, of {text}", inside)


def _inside(text: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str | None:
    """An address of a source range, if the clients outside can have it."""
    try:
        wanted = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return None
    fits = wanted.version == network.version and wanted[0] in network and wanted[-1] in network
    return str(wanted[1 if wanted.num_addresses > 2 else 0]) if fits else None


def _can_send(pod: PodValue, node: str, family: int) -> bool:
    held = any(ip_family(ip) == family for ip in pod.ips)
    return pod.node == node and held and not pod.host_network and not pod.finished
