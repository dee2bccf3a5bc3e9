"""What several lessons' questions look up in a cluster."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from ...cluster import Cluster

__all__ = ["PodRow", "ServiceRow", "bridges", "pod_rows", "ready_pods", "service_rows"]


@dataclass(frozen=True, slots=True)
class PodRow:
    """The columns of ``cluster.pods()`` that questions ask about."""

    key: str
    status: str
    phase: str
    restarts: int
    ip: str | None
    node: str | None
    host_network: bool


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """The columns of ``cluster.services()`` that questions ask about."""

    key: str
    type: str
    cluster_ip: str | None
    headless: bool
    selector: str | None


R = TypeVar("R", PodRow, ServiceRow)


def pod_rows(cluster: Cluster) -> list[PodRow]:
    """One row a pod, sorted by key."""
    return sorted((_row(PodRow, row) for row in cluster.pods().to_dict("records")), key=lambda row: row.key)


def service_rows(cluster: Cluster) -> list[ServiceRow]:
    """One row a Service, sorted by key."""
    return sorted((_row(ServiceRow, row) for row in cluster.services().to_dict("records")), key=lambda row: row.key)


def _row(kind: type[R], row: Mapping[Hashable, Any]) -> R:
    values = {field.name: row[field.name] for field in fields(kind) if field.name != "key"}
    return kind(key=f"{row['namespace']}/{row['name']}", **values)


def ready_pods(cluster: Cluster, service: str) -> set[str]:
    """The pods that a Service's EndpointSlices name as ready."""
    frame = cluster.service(service).endpoints()
    return {pod for pod, state in zip(frame["pod"], frame["state"], strict=True) if pod and state == "ready"}


def bridges(cluster: Cluster) -> dict[str, str | None]:
    """For each node whose routes to its own pods are known: the bridge that they lead to, or None."""
    networks = {network.node: network for network in cluster.node_networks()}
    known = {name: n for name, n in networks.items() if n.attachment in ("bridge", "point-to-point", "other")}
    return {name: known[name].bridge for name in sorted(known)}
