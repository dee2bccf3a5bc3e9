"""What kube-proxy ought to program for Services on one node, from the API alone.

Follows kube-proxy's choice of endpoints (pkg/proxy/topology.go, KEP-1669, KEP-2433, KEP-4444): ready ones; when none
is ready, those that are terminating but still serving; narrowed by topology hints where every ready endpoint has one;
and, under a traffic policy of Local, those of the node itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..parse.api import ip_family
from ..parse.services import Endpoint, ServicePort, ServiceValue
from .programmed import Endpoints, Key

__all__ = ["Expected", "NodePlace", "expected_entries", "usable_endpoints"]

_OTHER_PROXY = "service.kubernetes.io/service-proxy-name"


@dataclass(frozen=True, slots=True)
class NodePlace:
    """Where a node is, for policies and hints."""

    name: str
    zone: str | None


@dataclass(frozen=True, slots=True)
class Expected:
    """One entry that ought to be programmed. ``local`` is None where no client is confined to this node's endpoints.

    ``entry``: cluster_ip, node_port, external_ip or load_balancer. ``exposed``: the Service port can be called from
    outside of the cluster too. ``retiring``: endpoints on their way out, which rules of a moment ago may still hold.
    """

    key: Key
    service: str
    port: ServicePort
    entry: str
    cluster: Endpoints
    local: Endpoints | None
    exposed: bool
    retiring: Endpoints


def expected_entries(
    services: Iterable[ServiceValue], endpoints: Mapping[str | None, Sequence[Endpoint]], node: NodePlace
) -> dict[Key, Expected]:
    """Every entry of every Service that kube-proxy cares for, by its key."""
    found: dict[Key, Expected] = {}
    for service in services:
        if service.headless or service.type == "ExternalName" or _OTHER_PROXY in service.labels:
            continue
        mine = endpoints.get(service.key, ())
        for port in service.ports:
            for family in dict.fromkeys(6 if ":" in ip else 4 for ip in service.cluster_ips):
                found.update(_of_port(service, port, family, mine, node))
    return found


def _of_port(
    service: ServiceValue, port: ServicePort, family: int, endpoints: Sequence[Endpoint], node: NodePlace
) -> Iterable[tuple[Key, Expected]]:
    here = [e for e in endpoints if _belongs(e, port, family)]
    cluster, local = usable_endpoints(here, node)
    retiring = _sockets(e for e in here if e.terminating)
    protocol = port.protocol.lower()
    entries = list(_addresses(service, port, family))
    exposed = any(entry != "cluster_ip" for entry, _, _ in entries)
    for entry, address, number in entries:
        policy = service.internal_policy if entry == "cluster_ip" else service.external_policy
        key = (family, address, number, protocol)
        confined = local if policy == "Local" else None
        yield key, Expected(key, service.key, port, entry, cluster, confined, exposed, retiring)


def _belongs(endpoint: Endpoint, port: ServicePort, family: int) -> bool:
    same = endpoint.port_name == port.name and endpoint.protocol == port.protocol and endpoint.port is not None
    return same and ip_family(endpoint.address) == family


def _addresses(service: ServiceValue, port: ServicePort, family: int) -> Iterable[tuple[str, str | None, int]]:
    def of_family(addresses: Iterable[str]) -> list[str]:
        return [ip for ip in addresses if ip_family(ip) == family]

    yield from (("cluster_ip", ip, port.port) for ip in of_family(service.cluster_ips)[:1])
    yield from (("external_ip", ip, port.port) for ip in of_family(service.external_ips))
    yield from (("load_balancer", ip, port.port) for ip in of_family(_balanced(service)))
    if port.node_port:
        yield "node_port", None, port.node_port


def _balanced(service: ServiceValue) -> Collection[str]:
    """Load balancer addresses that nodes translate: not those that the load balancer itself proxies (KEP-1860)."""
    status = service.raw.get("status") or {}
    ingress = (status.get("loadBalancer") or {}).get("ingress") or ()
    proxied = {i.get("ip") for i in ingress if i.get("ipMode") == "Proxy"}
    return [ip for ip in service.load_balancer if ip not in proxied]


def usable_endpoints(endpoints: Sequence[Endpoint], node: NodePlace) -> tuple[Endpoints, Endpoints]:
    """Sockets for clients served cluster-wide, and those on the node itself."""
    ready = _hinted([e for e in endpoints if e.ready], node)
    cluster = ready or [e for e in endpoints if e.serving and e.terminating]
    on_node = [e for e in endpoints if e.node == node.name]
    local = [e for e in on_node if e.ready] or [e for e in on_node if e.serving and e.terminating]
    return _sockets(cluster), _sockets(local)


def _hinted(ready: list[Endpoint], node: NodePlace) -> list[Endpoint]:
    """Narrowed to this node's or zone's endpoints, if every ready endpoint carries such a hint and some is for here."""
    if ready and all(e.node_hints for e in ready) and any(node.name in e.node_hints for e in ready):
        return [e for e in ready if node.name in e.node_hints]
    if ready and node.zone and all(e.hints for e in ready) and any(node.zone in e.hints for e in ready):
        return [e for e in ready if node.zone in e.hints]
    return ready


def _sockets(endpoints: Iterable[Endpoint]) -> Endpoints:
    return frozenset((e.address, e.port) for e in endpoints if e.port is not None)
