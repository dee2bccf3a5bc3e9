"""Flows from the façade: a node's table explained with what the API calls its addresses."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import FactMissing
from ..explain.flows import TIMEOUTS, FlowDirectory, explain_flows
from ..facts import Evidence, FactRef
from ..parse.api import ip_family
from ..parse.conntrack_counters import parse_sysctl
from ..parse.conntrack_table import ConntrackTable
from ..parse.services import ServicePort, ServiceValue
from .tracking import conntrack_table

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["flow_directory", "node_flows"]


def node_flows(cluster: Cluster, node: str, earlier: ConntrackTable | None = None, **filters: Any) -> pd.DataFrame:
    """The node's table with each flow explained; evidence and notes in ``attrs``. Raises FactMissing or FactBroken."""
    table = conntrack_table(cluster, node, **filters)
    directory = flow_directory(cluster, node)
    timeouts, evidence, notes = _timeouts(cluster, node)
    frame = explain_flows(table, directory, timeouts=timeouts, earlier=earlier)
    api = tuple(
        Evidence(FactRef(resource), cluster.source.command(FactRef(resource)), (), says)
        for resource, says in (
            ("pods", f"{len(directory.pods)} addresses of pods"),
            ("services", f"{len(directory.services)} addresses and ports of Services"),
            ("endpointslices", "which endpoints are ready, and which are ending"),
        )
    )
    frame.attrs["evidence"] = (*table.evidence, *api, *evidence)
    frame.attrs["notes"] = (*map(str, table.problems), *notes)
    return frame


def _timeouts(cluster: Cluster, node: str) -> tuple[dict[str, int], tuple[Evidence, ...], tuple[str, ...]]:
    """The node's own settings of how long an entry lives; the kernel's defaults where they are not known."""
    ref = FactRef("sysctl.txt", node)
    try:
        said = parse_sysctl(cluster.source.read(ref))
    except FactMissing as error:
        return {}, (), (f"The kernel's default timeouts are taken: {error}",)
    keys = {f"net.netfilter.{name}": name for name in TIMEOUTS}
    found = {name: int(said[key]) for key, name in keys.items() if said.get(key, "").isdigit()}
    lines = tuple(f"{key} = {said[key]}" for key, name in keys.items() if name in found)
    return found, (Evidence(ref, cluster.source.command(ref), lines, "how long an entry lives after a packet"),), ()


def flow_directory(cluster: Cluster, node: str) -> FlowDirectory:
    """What the cluster calls addresses, as seen from a node. Raises FactMissing when the API did not tell it."""
    services: dict[tuple[str, int, str], str] = {}
    node_ports: dict[tuple[int, str], str] = {}
    ready: dict[str, list[tuple[str, int]]] = {}
    ending: dict[str, list[tuple[str, int]]] = {}
    for service in cluster.api.services.values():
        addresses = (*service.cluster_ips, *service.external_ips, *filter(ip_family, service.load_balancer))
        for port in service.ports:
            name = f"{service.key}:{port.name or port.port}"
            protocol = port.protocol.lower()
            services.update({(address, port.port, protocol): name for address in addresses})
            if port.node_port:
                node_ports[port.node_port, protocol] = name
            ready[name], ending[name] = _endpoints(cluster, service, port)
    pods = {ip: several[0].key for ip, several in cluster.api.pods_by_ip.items() if not several[0].host_network}
    taken = {address for address, _, _ in services}
    return FlowDirectory(
        pods=pods,
        nodes=_node_addresses(cluster, node, taken),
        services=services,
        endpoints=ready,
        terminating=ending,
        node_ports=node_ports,
        networks=_pod_networks(cluster, list(pods)),
        service_networks=_service_networks(cluster),
        node=node,
    )


def _endpoints(
    cluster: Cluster, service: ServiceValue, port: ServicePort
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Endpoints of a Service port that get new connections, and the rest of those that are ending.

    Where none is ready, those that are ending and still serve get them (KEP-1669).
    """
    mine = [
        endpoint
        for endpoint in cluster.api.endpoints.get(service.key, ())
        if endpoint.port and (endpoint.port_name, endpoint.protocol) == (port.name, port.protocol)
    ]
    chosen = [e for e in mine if e.ready or service.publish_not_ready]
    chosen = chosen or [e for e in mine if e.serving and e.terminating]
    ending = [e for e in mine if e.terminating and e not in chosen]
    return ([(e.address, e.port or 0) for e in chosen], [(e.address, e.port or 0) for e in ending])


def _node_addresses(cluster: Cluster, node: str, taken: set[str]) -> dict[str, str]:
    """Addresses of nodes: those that the API lists, and those on their interfaces, such as a CNI's gateway.

    What several nodes have (loopback, and with IPVS the Services' addresses, ``taken``) is that of the node whose table
    is read: there a connection from such an address was begun by the node itself.
    """
    found: dict[str, str] = {}
    others = [name for name in cluster.source.nodes() if name != node]
    for name in (*others, node):
        try:
            links = cluster.node(name).links() if name in cluster.api.nodes else ()
        except FactMissing:
            continue
        found.update({ip: name for link in links for ip in link.ips() if name == node or ip not in taken})
    found.update({ip: value.name for value in cluster.api.nodes.values() for ip in value.ips()})
    return found


def _pod_networks(cluster: Cluster, pods: list[str]) -> tuple[str, ...]:
    """Networks of pods: as allotted by the API, and as routed on nodes (routes that hold pods, and no node)."""
    networks = {cidr for node in cluster.api.nodes.values() for cidr in node.pod_cidrs}
    addresses = [ipaddress.ip_address(ip) for ip in pods]
    nodes = [ipaddress.ip_address(ip) for node in cluster.api.nodes.values() for ip in node.ips()]
    for name in cluster.source.nodes():
        try:
            routes = cluster.node(name).routes() if name in cluster.api.nodes else ()
        except FactMissing:
            continue
        for network in {route.network for route in routes if route.network.prefixlen}:
            if any(ip in network for ip in addresses) and not any(ip in network for ip in nodes):
                networks.add(str(network))
    return tuple(sorted(networks))


def _service_networks(cluster: Cluster) -> tuple[str, ...]:
    try:
        return cluster.api.service_ranges
    except FactMissing:
        return ()  # an API server older than ServiceCIDRs: what was a Service and is none any more is not recognised
