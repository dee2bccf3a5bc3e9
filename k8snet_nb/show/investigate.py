"""From a row of any table to the things that it names: its Service translated, its pod's wiring, its flows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..cluster.finding import COLUMNS, finding_of
from ..errors import K8snetError
from ..render import Report, printable
from .choice import Item
from .panel import Panel
from .select import ItemSelector

if TYPE_CHECKING:
    from ..cluster import Cluster

__all__ = ["Things", "investigate", "things_of"]

_ROWS = 10
_TOLD = "protocol client service backend orig_src orig_dst orig_dport reply_src state nat verdict".split()
_TELLING = "code namespace name node client service backend pod address port protocol verdict".split()
_CELLS = 5
"""So many cells tell a row from others in the list, these columns first."""


@dataclass(frozen=True, slots=True)
class Things:
    """What a row names: keys as ``namespace/name``, a port by name or number; None where it names none."""

    service: str | None = None
    port: str | None = None
    pod: str | None = None
    node: str | None = None


def investigate(cluster: Cluster, table: pd.DataFrame | None = None, value: str | None = None) -> Panel:
    """Choose a finding (or a row of any of the kit's tables) and see what it is about.

    Below the list: what was found with its evidence, the Service translated on the node, the pod's wiring, the flows.
    ``table``: by default ``cluster.findings()``. ``value``: which one to begin with, by its code or part of its line.
    """
    rows = _Rows(cluster, table)
    first = next((item.key for item in rows.items if value is not None and value in item.label), value)
    kind, group = ("finding", "severity") if rows.are_findings else ("row", "group")
    selector = ItemSelector(rows.read, rows.open, kind, first, namespaced=rows.are_findings, group=group)
    return Panel(selector, lambda row: list(_parts(cluster, row)))


class _Rows:
    """The rows of a table as items of a selector, in the table's order."""

    def __init__(self, cluster: Cluster, table: pd.DataFrame | None) -> None:
        self._cluster, self._given = cluster, table
        self._again = False
        self.items = self._list(cluster.findings() if table is None else table)

    @property
    def are_findings(self) -> bool:
        """Whether the table is one of ``cluster.findings()``."""
        return set(COLUMNS) <= set(self._frame.columns)

    def read(self) -> Iterable[Item]:
        """The items; findings are looked for again from the second time on."""
        if self._again and self._given is None:
            self._list(self._cluster.refresh().findings())
        self._again = True
        return self.items

    def open(self, key: str) -> pd.Series[Any]:
        """The row of a key."""
        return self._frame.iloc[self._at[key]]

    def _list(self, frame: pd.DataFrame) -> list[Item]:
        self._frame = frame
        wide = len(str(len(frame)))
        labels = [_label(row) for row in frame.head(_MOST).to_dict("records")]
        keys = [f"{at + 1:0{wide}d} {label}" for at, label in enumerate(labels)]
        self._at = {key: at for at, key in enumerate(keys)}
        groups = frame["severity"].tolist() if self.are_findings else [None] * len(keys)
        self.items = [Item(key, group) for key, group in zip(keys, groups, strict=False)]
        return self.items


_MOST = 20_000
"""So many rows of a table are listed."""


def _label(row: dict[Any, Any]) -> str:
    if "subject" in row and "code" in row:
        return printable(f"{row['code']} {row['subject']}")
    named = {str(name): cell for name, cell in row.items() if isinstance(cell, (str, int)) and str(cell)}
    first = [str(named.pop(name)) for name in _TELLING if name in named]
    return printable("  ".join([*first, *map(str, named.values())][:_CELLS]))


def things_of(row: pd.Series[Any]) -> Things:
    """What a row of one of the kit's tables names, by its columns."""

    def text(column: str) -> str | None:
        cell = row.get(column)
        return cell if isinstance(cell, str) and cell else None

    own = f"{text('namespace')}/{text('name')}" if text("namespace") and text("name") else None
    service, _, port = (text("service") or "").partition(":")
    if not service and own and "cluster_ip" in row:
        service = own
    pod = text("pod") or (own if "phase" in row or "netns" in row else None)
    for party in ("backend", "client"):
        name = text(party)
        pod = pod or (name if name and "/" in name else None)
    node = text("node") or (text("name") if "internal_ip" in row else None)
    return Things(service or None, text("port") or port or _number(row.get("port")), pod, node)


def _known(cell: Any) -> bool:
    return len(cell) > 0 if isinstance(cell, (tuple, list)) else not isinstance(cell, dict) and not pd.isna(cell)


def _number(cell: object) -> str | None:
    return str(cell) if isinstance(cell, int) and not isinstance(cell, bool) else None


def _parts(cluster: Cluster, row: pd.Series[Any]) -> Iterator[object]:
    if set(COLUMNS) <= set(row.index):
        yield finding_of(row)
    else:
        yield Report("", ("COLUMN", "VALUE"), tuple((str(name), cell) for name, cell in row.items() if _known(cell)))
    things = things_of(row)
    if things.service:
        yield from _told(f"Service {things.service} translated", lambda: _translated(cluster, things))
    pod = things.pod or _behind(cluster, things)
    if pod:
        which = f"Pod {pod}" if pod == things.pod else f"Pod {pod}, the first behind the Service"
        yield from _told(f"{which}: its wiring", lambda: _wiring(cluster, pod))
    if things.service or pod or things.node:
        node = _node(cluster, things, pod)
        yield from _told(f"Flows on {node or 'no node'}", lambda: _flows(cluster, things, pod, node))


def _told(title: str, make: Callable[[], object]) -> Iterator[object]:
    """A heading and what belongs below it; an error says why there is nothing."""
    yield Report(title)
    try:
        yield make()
    except K8snetError as error:
        yield Report("", notes=(str(error),))


def _node(cluster: Cluster, things: Things, pod: str | None) -> str | None:
    """The node whose kernel is asked: the row's, the pod's, or the first that can be read."""
    there = cluster.source.nodes()
    if things.node:
        return things.node
    held = cluster.api.pods.raw.get(pod or "")
    own = (held or {}).get("spec", {}).get("nodeName")
    return own if own in there else next(iter(there), None)


def _behind(cluster: Cluster, things: Things) -> str | None:
    """The first pod behind the row's Service: on its node, if there is one."""
    try:
        endpoints = cluster.service(things.service).endpoint_values if things.service else ()
    except K8snetError:
        return None
    pods = [(e.node != things.node, e.pod) for e in endpoints if e.pod and cluster.api.is_pod(e)]
    return min(pods)[1] if pods else None


def _translated(cluster: Cluster, things: Things) -> object:
    from .translation import draw_translation

    service = cluster.service(str(things.service))
    ports = [f"{port.port}/{port.protocol}" for port in service.ports]
    node = things.node if things.node in cluster.source.nodes() else None
    answer = cluster.translate(service.key, things.port or next(iter(ports), None), node)
    return [draw_translation(answer), answer]


def _wiring(cluster: Cluster, pod: str) -> object:
    from .wiring import draw_wiring

    return draw_wiring(cluster.pod(pod))


def _flows(cluster: Cluster, things: Things, pod: str | None, node: str | None) -> object:
    """The flows of the Service, else of the pod; of a node alone, its table and who fills it."""
    if node is None:
        return Report("", notes=("No node's kernel can be read from this source.",))
    if not things.service and not pod:
        one = cluster.node(node)
        return [one.conntrack_usage(), one.top_talkers("service")]
    flows = cluster.node(node).flows()
    if things.service:
        mine = flows.service.astype(object).map(lambda name: str(name).partition(":")[0] == things.service)
    else:
        mine = (flows.client == pod) | (flows.backend == pod)
    chosen = flows[mine.fillna(False).astype(bool)].sort_values("verdict", key=lambda v: v == "ok", kind="stable")
    counts = ", ".join(f"{count} {verdict}" for verdict, count in chosen.verdict.value_counts().items() if count)
    what = things.service or pod
    note = f"{len(chosen)} of {len(flows)} tracked flows are of {what}" + (f": {counts}" if counts else "")
    return [Report("", notes=(note,)), *([chosen[_TOLD].head(_ROWS).reset_index(drop=True)] if len(chosen) else [])]
