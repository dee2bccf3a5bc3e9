"""Which facts a recording of a node is made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import FactError
from ..facts import FACTS, FactRef
from ..sources.base import Source

__all__ = ["ips_of", "node_refs", "pod_refs", "pods_of"]

_ACTIVE = {"conntrack-events.txt", "conntrack-count.csv", "dns.jsonl"}
"""Not read but collected over a while, or by sending something: only when asked for."""
_OF_HOST = {"pod.json", "resolv.conf"}
"""What a pod in the node's own network has for itself."""
_LIVE_ONLY = (".netlink", ".bin")


def node_refs(source: Source, node: str) -> list[FactRef]:
    """The facts of a node, in the catalogue's order; of a recording all that it has."""
    present = _present(source)
    if present is not None:
        return [ref for ref in present if ref.node == node and ref.pod is None]
    known = [FactRef(fact.file, node) for fact in FACTS.values() if fact.node and _passive(fact.file)]
    return [ref for ref in known if source.has(ref) or source.trouble(ref)]


def pod_refs(source: Source, node: str) -> list[FactRef]:
    """The facts of the running pods of a node; of a recording all that it has."""
    present = _present(source)
    if present is not None:
        return [ref for ref in present if ref.node == node and ref.pod is not None]
    refs = []
    for pod, of_host in pods_of(source, node):
        for fact in FACTS.values():
            if fact.pod and _passive(fact.file) and (not of_host or fact.file in _OF_HOST):
                ref = FactRef(fact.file, node, pod)
                if source.has(ref) or source.trouble(ref):
                    refs.append(ref)
    return refs


def pods_of(source: Source, node: str) -> list[tuple[str, bool]]:
    """The pods that run on a node (``namespace/name``), and whether each is in the node's own network."""
    found = []
    for item in _pod_items(source):
        meta, spec, status = item.get("metadata") or {}, item.get("spec") or {}, item.get("status") or {}
        if spec.get("nodeName") == node and status.get("phase", "Running") == "Running":
            found.append((f"{meta.get('namespace')}/{meta.get('name')}", bool(spec.get("hostNetwork"))))
    return sorted(found)


def ips_of(source: Source, node: str) -> dict[str, tuple[str, ...]]:
    """The addresses of the pods of a node, by ``namespace/name``."""
    found = {}
    for item in _pod_items(source):
        meta, spec, status = item.get("metadata") or {}, item.get("spec") or {}, item.get("status") or {}
        if spec.get("nodeName") == node:
            listed = [entry.get("ip") for entry in status.get("podIPs") or ()] or [status.get("podIP")]
            found[f"{meta.get('namespace')}/{meta.get('name')}"] = tuple(str(ip) for ip in listed if ip)
    return found


def _pod_items(source: Source) -> list[Mapping[str, Any]]:
    try:
        return list(json.loads(source.read(FactRef("pods"))).get("items") or ())
    except (FactError, ValueError, AttributeError):
        return []


def _present(source: Source) -> list[FactRef] | None:
    listing = getattr(source, "refs", None)
    return None if listing is None else list(listing())


def _passive(fact: str) -> bool:
    return fact not in _ACTIVE and not fact.endswith(_LIVE_ONLY)
