"""Servers of a twin: one for each address and port that an EndpointSlice names, and DNS where pods ask for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from ...parse.resolv_conf import parse_resolv_conf
from ...parse.services import Endpoint, ServiceValue
from ...text import socket_text
from .. import words
from ..model import Listener
from .facts import ApiFacts, Notes

__all__ = ["Places", "listeners", "nameservers", "node_dns"]

MOST_LISTENERS = 20_000
_KINDS = {"tcp": "http", "udp": "udp", "sctp": "sctp"}
_DNS_PORT = 53


@dataclass(slots=True)
class Places:
    """Who listens: ``pods`` by "namespace/name", ``nodes`` by name, ``wire`` for endpoints that are neither."""

    pods: dict[str, list[Listener]] = field(default_factory=dict)
    nodes: dict[str, list[Listener]] = field(default_factory=dict)
    wire: list[Listener] = field(default_factory=list)


def nameservers(resolv_confs: Iterable[str]) -> frozenset[str]:
    """The DNS servers that pods ask, from their resolv.conf."""
    found: set[str] = set()
    for text in resolv_confs:
        conf = parse_resolv_conf(text)
        found |= set() if conf.server_default else set(conf.nameservers)
    return frozenset(found)


def listeners(
    api: ApiFacts,
    asked: frozenset[str],
    node_of_ip: Mapping[str, str],
    pod_place: Mapping[str, tuple[str, str]],
    notes: Notes,
) -> Places:
    """A server for each endpoint, whatever its conditions: ready, serving or terminating.

    ``asked``: DNS servers that pods ask. ``node_of_ip``: addresses of nodes. ``pod_place``: pod -> ("pods", its key) or
    ("nodes", the node whose network it is on). An endpoint whose pod is not there gets none.
    """
    places, seen = Places(), set[tuple[str, str, int]]()
    dns = _dns_services(api, asked)
    for one in api.slices.values():
        ports = _dns_ports(api.services.get(one.service or ""), dns)
        for endpoint in one.endpoints:
            if one.type == "FQDN" or endpoint.port is None:
                continue
            try:
                listener = _listener(endpoint, endpoint.port_name in ports)
            except (TypeError, ValueError) as error:
                notes.add(None, "endpointslices.json", f"{one.namespace}/{one.name} {endpoint.address}", error)
                continue
            key = (listener.protocol, listener.address, listener.port)
            place = _place(places, endpoint, api, node_of_ip, pod_place)
            if place is None:
                notes.add(None, "endpointslices.json", f"{endpoint.pod} {endpoint.address}", "its pod is not there")
            elif key not in seen and len(seen) < MOST_LISTENERS:
                place.append(listener)
                seen.add(key)
    return places


def _listener(endpoint: Endpoint, dns: bool) -> Listener:
    protocol = endpoint.protocol.lower()
    if protocol not in _KINDS:
        raise ValueError(f"{endpoint.protocol!r:.30} is no protocol of a Service")
    address = words.on_link(endpoint.address)
    ip = ip_address(address)
    if ip.is_loopback or ip.is_link_local:
        raise ValueError(f"{address} is no address that an endpoint may have")
    port = words.number(endpoint.port, 1, 65535)
    says = endpoint.pod or socket_text(address, port)
    return Listener(protocol, address, port, "dns" if dns and protocol != "sctp" else _KINDS[protocol], says)


def _place(
    places: Places,
    endpoint: Endpoint,
    api: ApiFacts,
    node_of_ip: Mapping[str, str],
    pod_place: Mapping[str, tuple[str, str]],
) -> list[Listener] | None:
    if endpoint.pod is not None:
        pod = api.pods.get(endpoint.pod)
        gone = pod is None or endpoint.pod_uid not in (None, "", pod.uid) or endpoint.address not in pod.ips
        if gone or endpoint.pod not in pod_place:
            return None
        kind, key = pod_place[endpoint.pod]
        return (places.pods if kind == "pods" else places.nodes).setdefault(key, [])
    node = node_of_ip.get(endpoint.address)
    return places.wire if node is None else places.nodes.setdefault(node, [])


def _dns_services(api: ApiFacts, asked: frozenset[str]) -> frozenset[str]:
    """Services that pods ask for names; with no resolv.conf recorded, or a cache between, the one called kube-dns."""
    found = {key for key, service in api.services.items() if asked & set(service.cluster_ips)}
    return frozenset(found | ({"kube-system/kube-dns"} & set(api.services)))


def _dns_ports(service: ServiceValue | None, dns: frozenset[str]) -> frozenset[str]:
    """Names of the ports of a DNS Service on which it answers queries."""
    if service is None or service.key not in dns:
        return frozenset()
    return frozenset(port.name for port in service.ports if port.port == _DNS_PORT)


def node_dns(addresses: Sequence[str], asked: frozenset[str], says: str) -> list[Listener]:
    """A DNS cache on the node's own network: an address of the node that pods name as their server."""
    mine = [address for address in addresses if address in asked and not ip_address(address).is_loopback]
    return [Listener(protocol, address, _DNS_PORT, "dns", says) for address in mine for protocol in ("udp", "tcp")]
