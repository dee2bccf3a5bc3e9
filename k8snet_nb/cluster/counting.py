"""Numbers of a twin's kernel that move while connections are made: read before, while they are open, and after."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import NotFound, Refused, TwinError
from ..explain.entry import find_target
from ..explain.pod_network import VethPair
from ..text import socket_text
from .sending import place_of, twin_source

if TYPE_CHECKING:
    from .cluster import Cluster
    from .node import Node

__all__ = ["COUNTERS", "Place", "counters", "place_for"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where to look: the node whose rules are met first, the client's pod (None: none), what is called."""

    node: Node
    pod: str | None
    service: str
    port: str
    address: str


def place_for(
    cluster: Cluster, service: str, port: str | int | None, client: str | None, node: str | None, entry: str
) -> Place:
    """The place of what :meth:`.cluster.Cluster.send` would send. Raises what that raises."""
    where, pod, _ = place_of(cluster, client, node, entry)
    value = cluster.service(service)
    target = find_target(value.value, port, entry, None, where.ips)
    return Place(where, pod, value.key, str(target.service_port), target.address)


def counters(cluster: Cluster, what: str, place: Place) -> dict[str, int]:
    """What is counted there now, by name; empty where that place has no such thing. Raises NotFound for ``what``.

    The cluster reads everything afresh after this: what was kept is older than the connections.
    """
    if what not in COUNTERS:
        raise NotFound(f"no counters {what!r}: there are {', '.join(COUNTERS)}")
    return COUNTERS[what](cluster.refresh(), place)


def _conntrack(cluster: Cluster, place: Place) -> dict[str, int]:
    frame = place.node.conntrack(destination=place.address).frame
    states = Counter(str(state) for state in frame["state"].dropna())
    total = place.node.conntrack_usage().count
    found = {f"entries on {place.node.name}": total, f"of them to {place.address}": len(frame)}
    return found | {f"of those {state}": states[state] for state in ("ESTABLISHED", "TIME_WAIT")}


def _sockets(cluster: Cluster, place: Place) -> dict[str, int]:
    if place.pod is None:
        return {}
    told = cluster.pod(place.pod).run(["ss", "-H", "-t", "-a", "-n", "dst", place.address])
    states = Counter(line.split()[0] for line in told.stdout.splitlines() if line.strip())
    return {f"sockets to {place.address} {state}": states[state] for state in ("ESTAB", "TIME-WAIT")}


def _veth(cluster: Cluster, place: Place) -> dict[str, int]:
    if place.pod is None:
        return {}
    pair = cluster.pod(place.pod).veth()
    if not isinstance(pair, VethPair):
        return {}
    inside, outside = pair.pod_interface.name, pair.node_interface.name
    pod = _packets(cluster, place.node.name, place.pod, inside)
    node = _packets(cluster, place.node.name, None, outside)
    return {
        f"{inside} in the pod: sent": pod["tx"],
        f"{outside} on {place.node.name}: received": node["rx"],
        f"{outside} on {place.node.name}: sent": node["tx"],
        f"{inside} in the pod: received": pod["rx"],
    }


def _packets(cluster: Cluster, node: str, pod: str | None, name: str) -> dict[str, int]:
    argv = ["ip", "-s", "-j", "link", "show", "dev", name]
    told = twin_source(cluster).ask(node, {"op": "tool", "pod": pod, "argv": argv})
    try:
        stats: Mapping[str, Any] = json.loads(told["said"])[0]["stats64"]
        return {way: int(stats[way]["packets"]) for way in ("rx", "tx")}
    except (ValueError, LookupError, TypeError):
        raise TwinError(f"`{' '.join(argv)}` on {node} said {str(told.get('said'))[:200]!r}") from None


def _rules(cluster: Cluster, place: Place) -> dict[str, int]:
    if place.node.proxy_mode != "iptables":  # other modes have no ladder
        return {}
    try:
        ladder = place.node.ladder(place.service, place.port, 6 if ":" in place.address else 4)
    except Refused:  # no endpoints: nothing is chosen
        return {}
    return {f"rule to {rung.endpoint}": rung.packets for rung in ladder.rungs if rung.packets is not None}


def _ipvs(cluster: Cluster, place: Place) -> dict[str, int]:
    if place.node.proxy_mode != "ipvs":
        return {}
    stats = place.node.ipvs_stats()
    mine = stats[(stats["service"] == place.service) & (stats["address"] == place.address)]
    return {
        f"real server {socket_text(row['server'], row['server_port'])}": int(row["connections"])
        for row in mine.to_dict("records")
    }


COUNTERS: dict[str, Callable[[Cluster, Place], dict[str, int]]] = {
    "conntrack": _conntrack, "sockets": _sockets, "veth": _veth, "rules": _rules, "ipvs": _ipvs,
}  # fmt: skip
"""What can be watched: entries of the node's conntrack table, the client pod's sockets, packets through its veth pair,
packets that each rung of an iptables ladder took, connections of each real server of IPVS."""
