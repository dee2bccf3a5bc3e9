"""Who can call what in a cluster: the choices of a panel that sends, as plain values."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from ..errors import NotFound
from ..explain.entry import ENTRIES, find_port
from ..parse.services import ServiceValue
from ..render import printable
from .choice import CAP
from .sending import Wish

if TYPE_CHECKING:
    from ..cluster import Cluster

__all__ = ["Called", "Caller", "Options", "called", "clients"]

T = TypeVar("T", bound=Hashable)
Called = tuple[str, str, str]
"""Service, port, entry."""
Caller = tuple[str, str | None]
"""What :meth:`k8snet_nb.Cluster.send` takes as ``client`` and ``node``."""


@dataclass(frozen=True, slots=True)
class Options(Generic[T]):
    """Labels with values, the chosen one always among them; without one ``missing`` says why."""

    options: Sequence[tuple[str, T]]
    chosen: T | None
    missing: str = ""


def _options(found: Sequence[tuple[str, T]], chosen: T | None, missing: str) -> Options[T]:
    shown = list(found[:CAP])
    if all(value != chosen for _, value in shown):
        shown = [*(one for one in found if one[1] == chosen), *shown][:CAP]
    known = any(value == chosen for _, value in shown)
    return Options(shown, chosen if known else None, "" if known else printable(missing))


def called(cluster: Cluster, wish: Wish) -> Options[Called]:
    """Every port of every Service by each way in, and the wish's among them. Raises Refused for an unclear port."""
    services = sorted(cluster.api.services.items())
    found = [one for key, service in services for one in _ways_in(key, service)]
    missing = f"{wish.service} is not in this cluster, or not to be called so: choose another Service."
    try:
        service = cluster.service(wish.service)
    except NotFound:
        return _options(found, None, missing)
    return _options(found, (service.key, str(find_port(service.value, wish.port)), wish.entry), missing)


def _ways_in(key: str, service: ServiceValue) -> list[tuple[str, Called]]:
    has = {
        "cluster_ip": bool(service.cluster_ips),
        "external_ip": bool(service.external_ips),
        "load_balancer": bool(service.load_balancer),
    }
    return [
        (f"{printable(key)} {port.port}/{port.protocol}, {_words(entry)}", (key, str(port), entry))
        for port in service.ports
        for entry in ENTRIES
        if has.get(entry, bool(port.node_port))
    ]


def _words(entry: str) -> str:
    return {"cluster_ip": "cluster IP", "node_port": "NodePort", "external_ip": "external IP"}.get(
        entry, "load balancer"
    )


def clients(cluster: Cluster, wish: Wish) -> Options[Caller]:
    """Pods, nodes, and the client outside by way of each node; the wish's among them."""
    nodes = [name for name in cluster.source.nodes() if name in cluster.api.nodes]
    pods = {
        pod.key: pod.node for pod in cluster.api.pods.values() if pod.node in nodes and pod.ips and not pod.host_network
    }
    found: list[tuple[str, Caller]] = [(printable(f"{pod} on {pods[pod]}"), (pod, None)) for pod in sorted(pods)]
    others: list[tuple[str, Caller]] = [(printable(f"the node {node}"), ("node", node)) for node in nodes]
    others += [(printable(f"a client outside, through {node}"), ("outside", node)) for node in nodes]
    client = wish.client or "pod"
    if client == "pod":
        wanted: Caller | None = next(((pod, None) for pod in pods if wish.node in (None, pods[pod])), None)
    else:
        wanted = (client, (wish.node or next(iter(nodes), None)) if client in ("node", "outside") else None)
    room = max(CAP - len(others), 1)
    chosen = [one for one in found[room:] if one[1] == wanted]
    shown = [*chosen, *found[: room - len(chosen)], *others]
    return _options(shown, wanted, f"{client} is not in this cluster: choose another client.")
