"""Two readings of a cluster side by side: what changed in its nodes, pods, Services, programmed rules and usage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from ..errors import FactError
from ..facts import FactRef
from ..parse.conntrack_counters import parse_stats, parse_sysctl
from .translating import programmed_on

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["diff_frame"]


class Row(NamedTuple):
    """One change; the columns of the frame."""

    what: str
    change: str
    name: str
    node: str | None = None
    field: str | None = None
    before: object = None
    after: object = None
    service: str | None = None


Objects = Mapping[str, Mapping[str, object]]
"""Fields by the key of what has them."""

_POD = ("node", "ips", "phase", "status", "ready", "restarts", "uid")
_NODE = ("status", "version", "kernel", "pod_cidrs")
_SERVICE = (
    "type", "cluster_ips", "external_ip", "ports", "selector", "internal_policy", "external_policy", "affinity_seconds",
    "source_ranges", "publish_not_ready", "traffic_distribution", "health_check_node_port",
)  # fmt: skip
_TOLD = {"pod": ("ips", "node"), "service": ("type", "cluster_ips", "ports"), "node": ("status", "version")}
"""What is told of an object that only one reading has: enough to know it by."""
_COUNTERS = ("drop", "early_drop", "insert_failed")


def diff_frame(before: Cluster, after: Cluster) -> pd.DataFrame:
    """One row a change; what could not be compared is a row ``unknown`` that says why."""
    rows: list[Row] = []
    for what, table, fields in (("node", "nodes", _NODE), ("pod", "pods", _POD), ("service", "services", _SERVICE)):
        rows += _guarded(what, None, partial(_table, what, table, fields, before, after))
    rows += _guarded("endpoints", None, partial(_endpoint_rows, before, after))
    for node in sorted({*before.source.nodes(), *after.source.nodes()}):
        rows += _guarded("rules", node, partial(_rules, before, after, node))
        rows += _guarded("usage", node, partial(_usage, before, after, node))
        rows += _guarded("usage", node, partial(_losses, before, after, node))
    rows = [row if row.what != "service" else row._replace(service=row.name) for row in rows]
    columns = {name: pd.Series([getattr(row, name) for row in rows], dtype=object) for name in Row._fields}
    frame = pd.DataFrame(columns)
    frame.attrs["before"], frame.attrs["after"] = before.now, after.now
    return frame


def _guarded(what: str, node: str | None, rows: Callable[[], Iterator[Row]]) -> list[Row]:
    try:
        return list(rows())
    except FactError as error:
        return [Row(what, "unknown", node or what, node, None, None, str(error))]


def _table(what: str, table: str, fields: tuple[str, ...], before: Cluster, after: Cluster) -> Iterator[Row]:
    old, new = (_fields(getattr(cluster.api, table), fields) for cluster in (before, after))
    return _objects(what, old, new)


def _fields(objects: Mapping[str, Any], fields: tuple[str, ...]) -> Objects:
    return {key: {name: _plain(getattr(value, name, None)) for name in fields} for key, value in objects.items()}


def _plain(value: object) -> object:
    """What compares by what it says: ports by kubectl's words, a selector by its pairs."""
    if isinstance(value, Mapping):
        return tuple(sorted(f"{key}={one}" for key, one in value.items()))
    return tuple(map(str, value)) if isinstance(value, tuple) else value


def _endpoint_rows(before: Cluster, after: Cluster) -> Iterator[Row]:
    """The endpoints of every Service that both have, with their state."""
    both = before.api.services.keys() & after.api.services.keys()
    old, new = (
        {key: {"endpoints": tuple(f"{e.address}:{e.port} {e.state}" for e in cluster.api.endpoints.get(key, ()))}
         for key in both}
        for cluster in (before, after)
    )  # fmt: skip
    return (row._replace(service=row.name) for row in _objects("endpoints", old, new))


def _objects(what: str, before: Objects, after: Objects, node: str | None = None) -> Iterator[Row]:
    """Changes between two sets of objects. Of fields that hold several things only those that are not in both."""
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if old is None or new is None:
            change = "added" if old is None else "removed"
            yield Row(what, change, key, node, None, _about(what, old), _about(what, new))
            continue
        for name in old:
            first, second = old[name], new.get(name)
            if isinstance(first, tuple) and isinstance(second, tuple):
                if {*first} != {*second}:
                    gone, come = (tuple(sorted({*a} - {*b})) for a, b in ((first, second), (second, first)))
                    yield Row(what, "changed", key, node, name, gone, come)
            elif first != second:
                yield Row(what, "changed", key, node, name, first, second)


def _about(what: str, fields: Mapping[str, object] | None) -> str | None:
    """An object in a few words."""
    if fields is None:
        return None
    told = (fields[name] for name in _TOLD.get(what, tuple(fields)))
    return " ".join(",".join(map(str, one)) if isinstance(one, tuple) else str(one) for one in told if one) or None


def _rules(before: Cluster, after: Cluster, node: str) -> Iterator[Row]:
    """What is programmed for Services on one node."""
    for cluster in (before, after):
        if node not in cluster.source.nodes():
            cluster.source.read(FactRef("node.json", node))  # raises with the reason
    old_mode, old, old_unseen = programmed_on(before, before.node(node))
    new_mode, new, new_unseen = programmed_on(after, after.node(node))
    if old_mode != new_mode:
        yield Row("rules", "changed", node, node, "mode", old_mode, new_mode)
    for family in sorted({*old_unseen, *new_unseen}):
        yield Row("rules", "unknown", f"IPv{family}", node, None, old_unseen.get(family), new_unseen.get(family))
    seen = {4, 6} - {*old_unseen, *new_unseen}
    first, second = ({text: value for (one, text), value in side.items() if one in seen} for side in (old, new))
    owners = {**_owners(before), **_owners(after)}
    for row in _objects("rules", first, second, node):
        yield row._replace(service=owners.get(row.name))


def _owners(cluster: Cluster) -> dict[str, str]:
    """The Service of every ``address:port/protocol``, ``*`` for the node's own addresses."""
    found: dict[str, str] = {}
    for key, service in cluster.api.services.items():
        for port in service.ports:
            end = f"/{port.protocol.lower()}"
            for address in (*service.cluster_ips, *service.external_ips, *service.load_balancer):
                found[f"{address}:{port.port}{end}"] = key
            if port.node_port:
                found[f"*:{port.node_port}{end}"] = key
    return found


def _usage(before: Cluster, after: Cluster, node: str) -> Iterator[Row]:
    """The fill of a node's connection table, and its size."""

    def numbers(cluster: Cluster) -> dict[str, object]:
        said = parse_sysctl(cluster.source.read(FactRef("sysctl.txt", node)))
        told = {name: said.get(f"net.netfilter.nf_conntrack_{name}") for name in ("count", "max", "buckets")}
        return {name: int(text) if text and text.isdecimal() else text for name, text in told.items()}

    return _objects("usage", {node: numbers(before)}, {node: numbers(after)}, node)


def _losses(before: Cluster, after: Cluster, node: str) -> Iterator[Row]:
    """How often the table could not take an entry, since the node's start: all CPUs together."""
    ref = FactRef("conntrack-stats.txt", node)
    if not (before.source.has(ref) and after.source.has(ref)):
        return iter(())

    def numbers(cluster: Cluster) -> dict[str, object]:
        stats = parse_stats(cluster.source.read(ref), where=ref.where)
        return {name: sum(cpu.get(name, 0) for cpu in stats.per_cpu) for name in _COUNTERS}

    return _objects("usage", {node: numbers(before)}, {node: numbers(after)}, node)
