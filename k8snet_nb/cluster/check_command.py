"""``k8snet check-cluster``: the findings as text or JSON, and an exit status to go by."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import Any

import pandas as pd

from ..explain.findings import SEVERITIES
from ..facts import Evidence
from ..record.commands import source_of
from ..render import printable
from .cluster import Cluster
from .finding import COLUMNS, finding_of

__all__ = ["check_cluster"]


def check_cluster(options: argparse.Namespace) -> int:
    """Print the findings; the exit status. Raises K8snetError where the source cannot be opened."""
    nodes = [options.node] if options.node else None
    with Cluster(source_of(options.source, options, nodes, "only the API is judged; --agents has nodes judged")) as one:
        frame = one.findings(options.node, options.settle)
        status = _status(frame, options.fail_on)
        print(_as_json(one, frame, status) if options.json else _as_text(one, frame, status))
    return status


def _status(frame: pd.DataFrame, fail_on: str) -> int:
    if not frame.attrs["checks"]:
        return 2
    failing = SEVERITIES[: SEVERITIES.index(fail_on) + 1]
    return int(any(severity in failing for severity in frame.severity))


def _verdict(frame: pd.DataFrame, status: int) -> str:
    counts = Counter(frame.severity)
    told = ", ".join(f"{counts[severity]} {severity}" for severity in SEVERITIES if counts[severity]) or "nothing found"
    could = "nothing could be checked" if status == 2 else f"{frame.attrs['checks']} checks done"
    return f"{told}; {could}"


def _as_text(cluster: Cluster, frame: pd.DataFrame, status: int) -> str:
    parts = [printable(cluster.source.describe())]
    for _, row in frame.iterrows():
        state = f" ({row['state']})" if "state" in row else ""
        title, _, rest = str(finding_of(row)).partition("\n")
        parts.append(f"{title}{state}\n{rest}")
    return "\n\n".join([*parts, _verdict(frame, status)])


def _as_json(cluster: Cluster, frame: pd.DataFrame, status: int) -> str:
    rows = [
        {name: _value(row[name]) for name in (*COLUMNS, "state") if name in row} for row in frame.to_dict("records")
    ]
    counts = Counter(frame.severity)
    about = {"source": cluster.source.describe(), "kind": cluster.source.kind, "status": status}
    about |= {"checks": frame.attrs["checks"], "counts": {severity: counts[severity] for severity in SEVERITIES}}
    return json.dumps({**about, "findings": rows}, indent=1)


def _value(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_evidence(item) for item in value]
    return None if value is None or value is pd.NA or value != value else str(value)


def _evidence(item: Evidence) -> dict[str, Any]:
    ref = item.ref
    where = {"fact": ref.fact, "node": ref.node, "pod": ref.pod, "place": ref.place}
    return {**where, "command": item.command, "lines": list(item.lines), "says": item.says}
