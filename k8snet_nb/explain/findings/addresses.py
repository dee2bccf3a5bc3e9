"""Addresses that have more than one owner: pods, cluster IPs and nodes of the whole cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...facts import Evidence, FactRef
from ...parse.nodes import NodeValue
from ...parse.pods import PodValue
from ...parse.services import ServiceValue
from ..holders import Holder, holders
from .finding import Finding

__all__ = ["address_findings"]

_COMMANDS = {
    "pod": ("pods", "kubectl get pods --all-namespaces -o wide"),
    "Service": ("services", "kubectl get services --all-namespaces"),
    "node": ("nodes", "kubectl get nodes -o wide"),
}


def address_findings(
    pods: Iterable[PodValue], services: Iterable[ServiceValue], nodes: Iterable[NodeValue]
) -> Iterator[Finding]:
    """One finding an address with several owners. Pods on the host network rightly have their node's."""
    for address, owners in sorted(holders(pods, services, nodes).items()):
        if len(owners) > 1:
            first: dict[str, str] = {}
            for owner in owners:
                first.setdefault(owner.kind, owner.name)
            what = f"{address} is held by {' and by '.join(map(str, owners))}"
            proof = tuple(_line(address, owner) for owner in owners)
            yield Finding("DUPLICATE_ADDRESS", what, first.get("node"), first.get("Service"), first.get("pod"), proof)


def _line(address: str, owner: Holder) -> Evidence:
    resource, command = _COMMANDS[owner.kind]
    return Evidence(FactRef(resource), command, (f"{owner.name}  {address}",), f"{owner} has {address}")
