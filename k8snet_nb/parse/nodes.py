"""Nodes: an API object in, names, addresses, pod ranges and readiness out."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .api import canonical_host, mapping, parse_time

__all__ = ["NodeValue", "parse_node"]


@dataclass(frozen=True, slots=True)
class NodeValue:
    """One node as the API lists it. ``status`` is kubectl's word; ``addresses`` pairs of (type, address)."""

    name: str
    status: str
    roles: tuple[str, ...]
    created: datetime | None
    version: str
    addresses: tuple[tuple[str, str], ...]
    pod_cidrs: tuple[str, ...]
    kernel: str
    runtime: str
    zone: str | None
    labels: Mapping[str, str]
    raw: Mapping[str, Any]

    def ips(self, kind: str | None = None) -> tuple[str, ...]:
        """Its addresses that are IPs (not names), of one type or all."""
        return tuple(a for t, a in self.addresses if "IP" in t and kind in (None, t))


def parse_node(item: Mapping[str, Any]) -> NodeValue:
    """A Node of the API. What a node never said (no kubelet) is empty text, not an error."""
    meta, spec, status = item["metadata"], mapping(item.get("spec")), mapping(item.get("status"))
    info, labels = mapping(status.get("nodeInfo")), mapping(meta.get("labels"))
    cidrs = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
    roles = sorted(
        {k.removeprefix("node-role.kubernetes.io/") for k in labels if k.startswith("node-role.kubernetes.io/")}
        | {str(v) for k, v in labels.items() if k == "kubernetes.io/role" and v}
    )
    return NodeValue(
        name=str(meta["name"]),
        status=_status(spec, status),
        roles=tuple(roles),
        created=parse_time(meta.get("creationTimestamp")),
        version=str(info.get("kubeletVersion") or ""),
        addresses=tuple((str(a.get("type")), canonical_host(a.get("address"))) for a in status.get("addresses") or ()),
        pod_cidrs=tuple(str(ipaddress.ip_network(cidr, strict=False)) for cidr in cidrs),
        kernel=str(info.get("kernelVersion") or ""),
        runtime=str(info.get("containerRuntimeVersion") or ""),
        zone=labels.get("topology.kubernetes.io/zone"),
        labels=labels,
        raw=item,
    )


def _status(spec: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    ready = next((c for c in status.get("conditions") or () if c.get("type") == "Ready"), None)
    # kubectl prints NotReady for False and Unknown alike, and Unknown only without the condition
    word = "Unknown" if ready is None else ("Ready" if ready.get("status") == "True" else "NotReady")
    return f"{word},SchedulingDisabled" if spec.get("unschedulable") else word
