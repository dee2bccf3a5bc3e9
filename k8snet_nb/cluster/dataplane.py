"""A node's data plane looked at closely: ladders of iptables, tables of IPVS, what a look-up costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from ..errors import Refused
from ..explain.entry import find_port
from ..explain.expected import NodePlace, expected_entries
from ..explain.iptables import services as iptables_services
from ..explain.ipvs.table import with_connections
from ..explain.ipvs.view import IpvsTable, ipset_rows, stats_rows
from ..explain.ladder import Ladder, rungs
from ..explain.lookups import in_iptables, in_ipvs, in_nft
from ..facts import Evidence, FactRef
from ..parse.ipvs import VirtualServer
from ..parse.ipvs_listing import parse_connections, parse_stats, parse_table
from ..parse.services import ServicePort, ServiceValue
from ..render import printable
from .tables import rows_frame

if TYPE_CHECKING:
    from .cluster import Cluster
    from .node import Node

__all__ = ["ipset_frame", "ipvs_connections_frame", "ipvs_stats_frame", "ipvs_table", "ladder", "lookups_frame"]


def ladder(node: Node, service: ServiceValue, port: str | int | None, family: int) -> Ladder:
    """See :meth:`Node.ladder`."""
    rules, wanted = node.rules.iptables(family), find_port(service, port)
    name = f"{service.key}:{wanted.name}" if wanted.name else service.key
    entries = [e for e in iptables_services.services(rules) if e.service == name and e.kind == "cluster_ip"]
    chain = next((e.chain for e in entries if e.protocol == wanted.protocol.lower() and e.chain), None)
    found = rules.chain("nat", chain) if chain else None
    if chain is None or found is None:
        said = "it has no endpoints" if entries else "no rule is for its cluster IP"
        raise Refused(printable(f"{node.name} has no ladder for {service.key} {wanted} in iptables: {said}"))
    ref = FactRef(rules.fact, node.name)
    steps = tuple(rungs(rules, found))
    evidence = Evidence(ref, node.rules.source.command(ref), tuple(rung.line for rung in steps))
    return Ladder(f"{service.key} {wanted}", node.name, chain, steps, (evidence,))


def ipvs_table(cluster: Cluster, node: Node, service: str | None, port: str | int | None) -> IpvsTable:
    """See :meth:`Node.ipvs`."""
    servers, counted, evidence = _servers(node)
    value = cluster.service(service).value if service else None
    if value is not None:
        ports = [find_port(value, port)] if port is not None else list(value.ports)
        servers = tuple(one for one in servers if any(_is_of(one, value, p, node.ips) for p in ports))
    title = ""
    stats = FactRef("ipvs-stats.txt", node.name)
    if node.rules.source.has(stats):
        title = node.rules.source.read(stats).decode("utf-8", "replace").partition("\n")[0]
    name = value.key if value is not None else None
    return IpvsTable(node.name, name, servers, counted, title, evidence)


def _servers(node: Node) -> tuple[tuple[VirtualServer, ...], bool, tuple[Evidence, ...]]:
    """Virtual servers with connections: as listed, else counted from the connection table, else without."""
    source, name, where = node.rules.source, node.name, f"node {node.name}"
    listed, connections = FactRef("ipvs.txt", name), FactRef("ipvs-connections.txt", name)

    def proof(*facts: str) -> tuple[Evidence, ...]:
        refs = [FactRef(fact, name) for fact in facts]
        return tuple(Evidence(ref, source.command(ref)) for ref in refs)

    if source.has(listed):
        return parse_table(source.read(listed), where), True, proof("ipvs.txt")
    servers = node.rules.servers
    if source.has(connections):
        table = parse_connections(source.read(connections), where)
        return with_connections(servers, table), True, proof("ipvs-save.txt", "ipvs-connections.txt")
    return servers, False, proof("ipvs-save.txt")


def _is_of(one: VirtualServer, service: ServiceValue, port: ServicePort, node_ips: tuple[str, ...]) -> bool:
    if one.protocol != port.protocol.lower():
        return False
    vips = (*service.cluster_ips, *service.external_ips, *service.load_balancer)
    return (one.address in vips and one.port == port.port) or (one.address in node_ips and one.port == port.node_port)


def ipvs_stats_frame(cluster: Cluster, node: Node) -> pd.DataFrame:
    """See :meth:`Node.ipvs_stats`."""
    ref = FactRef("ipvs-stats.txt", node.name)
    counters = parse_stats(node.rules.source.read(ref), ref.where)
    columns = "protocol address port server server_port connections in_packets out_packets in_bytes out_bytes".split()
    frame = rows_frame(stats_rows(counters), columns)
    services = list(cluster.api.services.values())

    def owner(protocol: str, address: str, port: int) -> str | None:
        one = VirtualServer(6 if ":" in address else 4, protocol, address, port, "")
        return next((s.key for s in services for p in s.ports if _is_of(one, s, p, node.ips)), None)

    known = [owner(*key) for key in zip(frame.protocol, frame.address, frame.port, strict=True)]
    frame.insert(0, "service", pd.Series(known, dtype=object))
    return frame.astype(dict.fromkeys(columns[5:], "int64"))


def ipvs_connections_frame(node: Node) -> pd.DataFrame:
    """See :meth:`Node.ipvs_connections`."""
    ref = FactRef("ipvs-connections.txt", node.name)
    table = parse_connections(node.rules.source.read(ref), ref.where)
    columns = "protocol state expires client client_port virtual virtual_port server server_port".split()
    rows = zip(*(getattr(table, name) for name in columns), strict=True)
    return rows_frame(rows, columns)


def ipset_frame(node: Node) -> pd.DataFrame:
    """See :meth:`Node.ipsets`."""
    sets = node.rules.ipsets
    if sets is None:
        node.rules.source.read(FactRef("ipset.txt", node.name))  # raises with the reason
    return rows_frame(ipset_rows(sets or {}), "name type family size members".split()).astype({"size": "int64"})


def lookups_frame(cluster: Cluster, node: Node) -> pd.DataFrame:
    """See :meth:`Node.lookups`."""
    place = NodePlace(node.name, node.value.zone)
    expected = expected_entries(cluster.api.services.values(), cluster.api.endpoints, place)
    keys, mode = list(expected), node.rules.mode.mode
    if mode == "iptables":
        found = [
            one
            for family in sorted({key[0] for key in keys})
            for one in in_iptables(node.rules.iptables(family), family)
        ]
    elif mode == "nftables":
        found = list(in_nft(node.rules.nft, keys))
    elif mode == "ipvs":
        found = list(in_ipvs(node.rules.servers, node.rules.iptables(4), keys))
    else:
        raise Refused(printable(f"{node.name}: {node.rules.mode.why}"))
    rows = (
        (
            expected[one.key].service,
            expected[one.key].entry,
            one.key[2],
            one.key[3],
            one.rules,
            one.tables,
            one.found_by,
        )
        for one in found
        if one.key in expected
    )
    frame = rows_frame(rows, "service entry port protocol rules tables found_by".split())
    return frame.astype({"rules": "int64", "tables": "int64"})
