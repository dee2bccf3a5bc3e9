"""Translations from the façade: the node's rules asked for each kind of client, and the answer joined with the API."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, get_args

from ..errors import FactError, FactMissing, Refused
from ..explain.comparison import Comparison, compared
from ..explain.drift import Drift, compare_node, wanted
from ..explain.entry import Target, default_client, find_port, find_target
from ..explain.expected import NodePlace, expected_entries
from ..explain.outcome import Client, NodeView, Outcome, Packet
from ..explain.programmed import Key, Programmed, from_iptables, from_ipvs, from_nft
from ..explain.proxy_mode import Mode, ProxyMode
from ..explain.translation import CLIENTS, Translation, join_translation
from ..parse.services import ServiceValue
from ..render import printable

if TYPE_CHECKING:
    from .cluster import Cluster
    from .node import Node

__all__ = ["client_packet", "compare_service", "drift_of", "programmed_on", "translate_on"]


def client_packet(target: Target, client: str, view: NodeView) -> Packet:
    """The first packet of a connection from that kind of client, or from that address (whose kind the view tells)."""
    if client in CLIENTS:
        kind: Client = next(k for k in CLIENTS if k == client)
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

    @cache
    def outcome_for(kind: str) -> Outcome:
        return node.rules.evaluate(client_packet(target, kind, view), view)

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
        outcome_for,
        cluster.api.endpoints.get(service.key, ()),
        holder,
        cluster.source.command,
    )


def drift_of(cluster: Cluster, node: Node) -> list[Drift]:
    """What differs on one node; a node whose rules cannot be had is one line that says so."""
    place = NodePlace(node.name, node.value.zone)
    expected = expected_entries(cluster.api.services.values(), cluster.api.endpoints, place)
    try:
        known = node.rules.mode
        mode = known.mode or _claimed(known)
        if mode is None:
            return [_other(node, "NOT_CHECKED", known.why)]
        families = {key[0] for key in expected}
        programmed, unseen = _programmed(node, mode, families, {key[1] for key in expected if key[1]})
    except FactError as error:
        return [_other(node, "NOT_CHECKED", str(error))]
    seen = {key: want for key, want in expected.items() if key[0] not in unseen}
    found = compare_node(node.name, mode, seen, programmed)
    left = [_other(node, "MODE_LEFTOVER", f"{other} rules beside {mode}: {known.why}") for other in known.leftovers]
    return found + left + [_other(node, "NOT_CHECKED", why, family) for family, why in sorted(unseen.items())]


def _claimed(known: ProxyMode) -> Mode | None:
    """No Service is programmed at all: then what kube-proxy says of itself, if the rules of that mode were seen."""
    facts = {"iptables": "iptables-save.txt", "nftables": "nft.json", "ipvs": "ipvs-save.txt"}
    says = next((mode for mode in get_args(Mode) if mode == known.own_word), None)
    return says if says and not known.found and facts[says] not in known.unseen else None


def programmed_on(
    cluster: Cluster, node: Node
) -> tuple[str | None, dict[tuple[int, str], dict[str, object]], dict[int, str]]:
    """The node's mode, what is programmed, and which families could not be read, and why.

    Keys are the family and ``address:port/protocol``, with ``*`` for any address of the node. Raises FactMissing or
    FactBroken for what cannot be read.
    """
    mode = node.rules.mode.mode
    if mode is None:
        return None, {}, {}
    vips = {ip for service in cluster.api.services.values() for ip in service.cluster_ips}
    found, unseen = _programmed(node, mode, {4, 6}, vips)
    told: dict[tuple[int, str], dict[str, object]] = {}
    for (family, address, port, protocol), value in found.items():
        groups = {"endpoints": value.cluster, "local endpoints": value.local}
        told[family, f"{address or '*'}:{port}/{protocol}"] = {
            name: None if group is None else tuple(sorted(f"{a}:{p}" for a, p in group))
            for name, group in groups.items()
        }
    return mode, told, unseen


def _programmed(
    node: Node, mode: str, families: set[int], vips: set[str]
) -> tuple[dict[Key, Programmed], dict[int, str]]:
    """What is programmed, and for which families that could not be read, and why."""
    if mode == "nftables":
        return from_nft(node.rules.nft), {}
    if mode == "ipvs":
        # a dummy interface (kube-ipvs0) holds VIPs, also of Services that are gone: they are not the node's own
        held = {a.address: link.kind for link in node.links() for a in link.addresses}
        own = {address for address, kind in held.items() if kind != "dummy"} - vips
        return from_ipvs(node.rules.servers, own, held), {}
    found: dict[Key, Programmed] = {}
    unseen: dict[int, str] = {}
    for family in (4, 6):
        try:
            rules = node.rules.iptables(family)
        except FactMissing as error:
            if family in families:
                unseen[family] = str(error)
            continue
        if rules.partial:
            unseen[family] = f"{rules.fact} is only partly readable: {rules.problems[0]}"
        else:
            found |= from_iptables(rules)
    return found, unseen


def _other(node: Node, code: str, why: str, family: int | None = None) -> Drift:
    return Drift(code, node.name, None, None, None, None, None, family, says=why)


def compare_service(
    cluster: Cluster, service: ServiceValue, port: str | int | None, entry: str
) -> Iterator[Comparison]:
    """The Service on every node that can be read, and a row without an answer for those that cannot."""
    ports = [find_port(service, port)] if port is not None else list(service.ports)
    for value in cluster.api.nodes.values():
        node = cluster.node(value.name)
        expected = expected_entries([service], cluster.api.endpoints, NodePlace(node.name, value.zone))
        for one in ports:
            for family in service.families or (4,):
                name = one.name or str(one.port)
                try:
                    target = find_target(service, one.name or one.port, entry, family, node.ips)
                    answer = translate_on(cluster, node, service, target, default_client(entry))
                except (FactError, Refused) as error:
                    yield Comparison(node.name, None, name, family, "unknown", 0, {}, None, None, None, str(error))
                    continue
                key = (family, None if entry == "node_port" else target.address, target.port, target.protocol)
                want = expected.get(key)
                yield compared(answer, None if want is None else wanted(want, answer.mode or ""))
