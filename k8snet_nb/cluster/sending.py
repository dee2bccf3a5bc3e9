"""Connections made in a twin, and what else only a twin lets one do: the façade's side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..errors import NotFound, Refused
from ..explain.entry import find_target
from ..explain.spread import Sent
from ..render import printable
from .translating import translate_on

if TYPE_CHECKING:
    from .cluster import Cluster
    from .node import Node

__all__ = ["WIRE", "Changeable", "place_of", "send", "speaks_dns", "twin_listeners", "twin_source"]

WIRE = "wire"


@runtime_checkable
class Changeable(Protocol):
    """A source whose nodes can be asked to do something: a twin. See :mod:`k8snet_nb.twin.requests`."""

    marks: dict[str, int]
    outside: dict[int, str]
    outside_networks: dict[int, str]

    def ask(self, node: str, request: dict[str, Any], seconds: float = 120.0) -> dict[str, Any]: ...


def twin_source(cluster: Cluster) -> Changeable:
    """The cluster's source as a twin. Raises Refused where it is none."""
    if not isinstance(cluster.source, Changeable):
        raise Refused(
            f"{cluster.source.describe()} is only read; connections are made in a twin: `k8snet twin up`, "
            'then kn.open("twin")'
        )
    return cluster.source


class _End(Protocol):
    @property
    def address(self) -> str: ...
    @property
    def port(self) -> int: ...


def twin_listeners(source: Changeable) -> dict[tuple[str, str, int], str]:
    """Every server of the twin: the kind of each protocol, address and port."""
    told = source.ask(WIRE, {"op": "listeners"})["listeners"]
    return {(protocol, address, port): kind for protocol, address, port, kind in told}


def speaks_dns(listeners: Mapping[tuple[str, str, int], str], protocol: str, ends: Iterable[_End]) -> str | None:
    """``dns`` where the servers that may answer are DNS servers; None: what the protocol's servers speak."""
    kinds = {listeners.get((protocol, end.address, end.port)) for end in ends}
    return "dns" if "dns" in kinds else None


def send(
    cluster: Cluster,
    service: str,
    port: str | int | None,
    client: str | None,
    node: str | None,
    entry: str,
    family: int | None,
    count: int,
    timeout: float,
    hold: float,
    size: int = 0,
) -> Sent:
    """See :meth:`.cluster.Cluster.send`."""
    source = twin_source(cluster)
    where, pod, kind = place_of(cluster, client, node, entry)
    value = cluster.service(service).value
    target = find_target(value, port, entry, family, where.ips)
    outside = source.outside.get(target.family) or "outside"
    address = outside if kind == "outside" else _own_ip(cluster, pod, target.family) if pod else "node"
    translation = translate_on(cluster, where, value, target, address)
    plan: dict[str, Any] = {
        "protocol": target.protocol, "address": target.address, "port": target.port, "count": count, "timeout": timeout,
        "keep": hold, "speaks": speaks_dns(twin_listeners(source), target.protocol, translation.backends),
    }  # fmt: skip
    if size:
        plan["size"] = size
    seconds = 30 + timeout * count + hold
    if kind == "outside":
        plan |= {"source": source.outside.get(target.family), "mark": source.marks[where.name]}
        said = f"outside, through {where.name}"
        told = source.ask(WIRE, {"op": "connect", "plan": plan}, seconds)
    else:
        said = pod or f"the node {where.name}"
        told = source.ask(where.name, {"op": "connect", "pod": pod, "plan": plan}, seconds)
    return Sent(printable(said), translation, told["answers"])


def place_of(cluster: Cluster, client: str | None, node: str | None, entry: str) -> tuple[Node, str | None, str]:
    """The node whose rules are met first, the pod that sends (None: no pod does), and the kind of client."""
    if client is None:
        client = "pod" if entry == "cluster_ip" else "outside"
    if client in ("node", "outside"):
        return (cluster.node(node) if node else cluster.first_readable()), None, client
    if client == "pod":
        places = (cluster.node(node).name,) if node else cluster.source.nodes()
        for pod in cluster.api.pods.values():
            if pod.node in places and pod.ips and not pod.host_network:
                return cluster.node(pod.node), pod.key, "pod"
        raise NotFound(
            f'no pod on {node or "any node of this twin"} that could send: choose another node, or client="node"'
        )
    found = cluster.pod(client)
    if found.node is None or found.node not in cluster.source.nodes():
        raise Refused(printable(f"{found.key} is on no node of this twin: cluster.pods() has those that are"))
    if node not in (None, found.node):
        raise Refused(
            printable(f"{found.key} is on {found.node}, not on {node}: a pod's packets meet its node's rules")
        )
    return cluster.node(found.node), (None if found.host_network else found.key), "pod"


def _own_ip(cluster: Cluster, pod: str, family: int) -> str:
    ips = [ip for ip in cluster.pod(pod).ips if (":" in ip) == (family == 6)]
    if not ips:
        raise Refused(printable(f"{pod} has no IPv{family} address"))
    return ips[0]
