"""Who holds an address, by the API: pods with a network namespace of their own, cluster IPs, nodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..parse.nodes import NodeValue
from ..parse.pods import PodValue
from ..parse.services import ServiceValue

__all__ = ["Holder", "holders"]


@dataclass(frozen=True, slots=True)
class Holder:
    """``kind``: ``pod``, ``Service`` or ``node``; ``name`` is ``namespace/name``, or the node's."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def holders(
    pods: Iterable[PodValue], services: Iterable[ServiceValue] = (), nodes: Iterable[NodeValue] = ()
) -> dict[str, list[Holder]]:
    """Every address with its owners. Finished pods left theirs, those on the host network have their node's.

    External and load balancer addresses are left out: several Services may share one, by different ports.
    """
    found: dict[str, dict[Holder, None]] = {}
    for pod in pods:
        for ip in () if pod.finished or pod.host_network else pod.ips:
            found.setdefault(ip, {})[Holder("pod", pod.key)] = None
    for service in services:
        for ip in service.cluster_ips:
            found.setdefault(ip, {})[Holder("Service", service.key)] = None
    for node in nodes:
        for ip in node.ips():
            found.setdefault(ip, {})[Holder("node", node.name)] = None
    return {ip: list(owners) for ip, owners in found.items()}
