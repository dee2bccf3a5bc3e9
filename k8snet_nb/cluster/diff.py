"""Two readings of a cluster side by side: what changed in its nodes, pods, Services, programmed rules and usage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import FactError
from ..facts import FactRef
from .translating import programmed_on

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["diff_frame"]

Row = tuple[str, str, str, "str | None", "str | None", object, object]
Objects = Mapping[str, Mapping[str, object]]
"""Fields by the key of what has them."""

_COLUMNS = "what change name node field before after".split()
_POD = ("node", "ips", "phase", "status", "ready", "restarts", "uid")
_NODE = ("status", "version", "kernel", "pod_cidrs")
_SERVICE = ("type", "cluster_ips", "external_ip", "selector")


def diff_frame(before: Cluster, after: Cluster) -> pd.DataFrame:
    """One row a change; what could not be compared is a row ``unknown`` that says why."""
    rows: list[Row] = []
    for what, table, fields in (("node", "nodes", _NODE), ("pod", "pods", _POD), ("service", "services", _SERVICE)):
        rows += _guarded(what, None, partial(_table, what, table, fields, before, after))
    rows += _guarded("service", None, partial(_sides, "service", _ports, before, after, known=True))
    rows += _guarded("endpoints", None, partial(_sides, "endpoints", _endpoints, before, after))
    for node in _nodes(before, after):
        rows += _guarded("rules", node, partial(_rules, before, after, node))
        rows += _guarded("usage", node, partial(_usage, before, after, node))
    columns = {name: pd.Series([row[i] for row in rows], dtype=object) for i, name in enumerate(_COLUMNS)}
    frame = pd.DataFrame(columns)
    frame.attrs["before"], frame.attrs["after"] = before.now, after.now
    return frame


def _guarded(what: str, node: str | None, rows: Callable[[], Iterator[Row]]) -> list[Row]:
    try:
        return list(rows())
    except FactError as error:
        return [(what, "unknown", node or what, node, None, None, str(error))]


def _table(what: str, table: str, fields: tuple[str, ...], before: Cluster, after: Cluster) -> Iterator[Row]:
    old, new = (_fields(getattr(cluster.api, table), fields) for cluster in (before, after))
    return _objects(what, old, new)


def _sides(
    what: str, of: Callable[[Cluster], Objects], before: Cluster, after: Cluster, known: bool = False
) -> Iterator[Row]:
    return _objects(what, of(before), of(after), known=known)


def _fields(objects: Mapping[str, Any], fields: tuple[str, ...]) -> Objects:
    return {key: {name: getattr(value, name, None) for name in fields} for key, value in objects.items()}


def _ports(cluster: Cluster) -> Objects:
    return {key: {"ports": ",".join(map(str, value.ports))} for key, value in cluster.api.services.items()}


def _endpoints(cluster: Cluster) -> Objects:
    """The endpoints of every Service, with their state."""
    return {
        service: {"endpoints": tuple(sorted(f"{e.address}:{e.port} {e.state}" for e in several))}
        for service, several in cluster.api.endpoints.items()
        if service is not None
    }


def _objects(
    what: str,
    before: Objects,
    after: Objects,
    node: str | None = None,
    known: bool = False,
) -> Iterator[Row]:
    """Changes between two sets of objects; with ``known`` only in those that both have."""
    for key in sorted({*before, *after}):
        old, new = before.get(key), after.get(key)
        if old is None or new is None:
            if not known:
                yield what, "added" if old is None else "removed", key, node, None, None, None
            continue
        for name in old:
            if old[name] != new.get(name):
                yield what, "changed", key, node, name, old[name], new.get(name)


def _nodes(before: Cluster, after: Cluster) -> list[str]:
    return sorted({*before.source.nodes(), *after.source.nodes()})


def _rules(before: Cluster, after: Cluster, node: str) -> Iterator[Row]:
    """What is programmed for Services on one node."""
    for cluster in (before, after):
        if node not in cluster.source.nodes():
            cluster.source.read(FactRef("node.json", node))  # raises with the reason
    old_mode, old, old_unseen = programmed_on(before, before.node(node))
    new_mode, new, new_unseen = programmed_on(after, after.node(node))
    if old_mode != new_mode:
        yield "rules", "changed", node, node, "mode", old_mode, new_mode
    for family in sorted({*old_unseen, *new_unseen}):
        yield "rules", "unknown", f"IPv{family}", node, None, old_unseen.get(family), new_unseen.get(family)
    seen = {4, 6} - {*old_unseen, *new_unseen}
    first, second = ({text: value for (one, text), value in side.items() if one in seen} for side in (old, new))
    yield from _objects("rules", first, second, node)


def _usage(before: Cluster, after: Cluster, node: str) -> Iterator[Row]:
    """The fill of a node's connection table."""

    def numbers(cluster: Cluster) -> dict[str, object]:
        text = cluster.source.read(FactRef("sysctl.txt", node)).decode("utf-8", "replace")
        said = dict(line.split(" = ", 1) for line in text.splitlines() if " = " in line)
        return {name: said.get(f"net.netfilter.nf_conntrack_{name}") for name in ("count", "max", "buckets")}

    yield from _objects("usage", {node: numbers(before)}, {node: numbers(after)}, node)
