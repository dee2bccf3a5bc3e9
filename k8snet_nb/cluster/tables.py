"""Tables of the façade: parsed API values in, DataFrames out. Columns hold kubectl's words; a missing value is None."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import pandas as pd

from ..explain.comparison import Comparison
from ..explain.drift import Drift
from ..parse.api import collector_paused, human_duration
from ..parse.nodes import NodeValue
from ..parse.pods import PodValue
from ..parse.services import Endpoint, ServiceValue
from ..text import printable

__all__ = ["compare_frame", "drift_frame", "endpoints_frame", "nodes_frame", "pods_frame", "services_frame"]


def _frame(columns: dict[str, list[object]]) -> pd.DataFrame:
    # object columns throughout: None stays None, and an empty table has the same dtypes as a full one
    return pd.DataFrame({name: pd.Series(_shown(values), dtype=object) for name, values in columns.items()})


def _shown(values: list[object]) -> list[object]:
    """No name of the API holds a control character; a recording made to deceive may, and tables are printed."""
    text = "".join(v for v in values if isinstance(v, str))
    if text.isascii() and text.isprintable():
        return values
    return [printable(v) if isinstance(v, str) else v for v in values]


def _age(created: datetime | None, now: datetime | None) -> str:
    return human_duration(now - created) if created and now else "<unknown>"


def pods_frame(pods: Iterable[PodValue], now: datetime | None) -> pd.DataFrame:
    """One row a pod: namespace name ready status phase restarts age ip ips node host_network."""
    with collector_paused():
        rows = list(pods)
    frame = _frame(
        {
            "namespace": [p.namespace for p in rows],
            "name": [p.name for p in rows],
            "ready": [p.ready for p in rows],
            "status": [p.status for p in rows],
            "phase": [p.phase for p in rows],
            "restarts": [p.restarts for p in rows],
            "age": [_age(p.created, now) for p in rows],
            "ip": [p.ips[0] if p.ips else None for p in rows],
            "ips": [p.ips for p in rows],
            "node": [p.node for p in rows],
            "host_network": [p.host_network for p in rows],
        }
    )
    return frame.astype({"restarts": "int64", "host_network": "bool"})


def services_frame(services: Iterable[ServiceValue], now: datetime | None) -> pd.DataFrame:
    """One row a Service: namespace name type cluster_ip external_ip ports age selector cluster_ips headless."""
    with collector_paused():
        rows = list(services)
    frame = _frame(
        {
            "namespace": [s.namespace for s in rows],
            "name": [s.name for s in rows],
            "type": [s.type for s in rows],
            "cluster_ip": [s.cluster_ip for s in rows],
            "external_ip": [s.external_ip for s in rows],
            "ports": [",".join(map(str, s.ports)) or None for s in rows],
            "age": [_age(s.created, now) for s in rows],
            "selector": [",".join(f"{k}={v}" for k, v in sorted(s.selector.items())) or None for s in rows],
            "cluster_ips": [s.cluster_ips for s in rows],
            "headless": [s.headless for s in rows],
        }
    )
    return frame.astype({"headless": "bool"})


def endpoints_frame(endpoints: Iterable[tuple[str | None, Endpoint]]) -> pd.DataFrame:
    """One row an address and port of a slice: service port_name protocol address port state pod node zone slice."""
    rows = list(endpoints)
    return _frame(
        {
            "service": [s for s, _ in rows],
            "port_name": [e.port_name for _, e in rows],
            "protocol": [e.protocol for _, e in rows],
            "address": [e.address for _, e in rows],
            "port": [e.port for _, e in rows],
            "state": [e.state for _, e in rows],
            "pod": [e.pod for _, e in rows],
            "node": [e.node for _, e in rows],
            "zone": [e.zone for _, e in rows],
            "slice": [e.slice for _, e in rows],
        }
    )


def nodes_frame(nodes: Iterable[NodeValue], now: datetime | None, with_facts: Iterable[str] = ()) -> pd.DataFrame:
    """One row a node: name status roles age version internal_ip ips pod_cidrs kernel runtime facts."""
    rows, readable = list(nodes), set(with_facts)
    frame = _frame(
        {
            "name": [n.name for n in rows],
            "status": [n.status for n in rows],
            "roles": [",".join(n.roles) or None for n in rows],
            "age": [_age(n.created, now) for n in rows],
            "version": [n.version or None for n in rows],
            "internal_ip": [next(iter(n.ips("InternalIP")), None) for n in rows],
            "ips": [n.ips() for n in rows],
            "pod_cidrs": [n.pod_cidrs for n in rows],
            "kernel": [n.kernel or None for n in rows],
            "runtime": [n.runtime or None for n in rows],
            "facts": [n.name in readable for n in rows],
        }
    )
    return frame.astype({"facts": "bool"})


_DRIFT = "code severity node service entry address port protocol family missing extra says".split()


def drift_frame(rows: Iterable[Drift]) -> pd.DataFrame:
    """One row a difference; ``missing`` and ``extra`` are lists of ``address:port``."""
    found = list(rows)
    columns: dict[str, list[object]] = {name: [getattr(row, name) for row in found] for name in _DRIFT}
    for name in ("missing", "extra"):
        columns[name] = [list(getattr(row, name)) for row in found]
    return _frame(columns)


_COMPARED = "node mode port family action endpoints shares masquerade affinity same says".split()


def compare_frame(rows: Iterable[Comparison]) -> pd.DataFrame:
    """One row a node, port and family; ``shares`` is a dict of ``address:port`` to Fraction (or None)."""
    found = list(rows)
    return _frame({name: [getattr(row, name) for row in found] for name in _COMPARED})
