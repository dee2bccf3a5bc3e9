"""``k8snet check-cluster``: the findings as text or JSON, and an exit status to go by."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import Any

import pandas as pd

from ..explain.findings import SEVERITIES
from ..facts import Evidence
from ..record.commands import add_live_options, source_of
from ..render import printable
from .cluster import Cluster
from .finding import COLUMNS, finding_of

__all__ = ["add_check_cluster", "check_cluster"]

_STATUS = """exit status: 0 nothing at or above --fail-on, 1 something is, 2 it could not be checked"""


def add_check_cluster(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser's."""
    about = "Judge a cluster: drift, flows, connection tables, endpoints, DNS, pods' namespaces, addresses, modes."
    check = commands.add_parser("check-cluster", help="judge a cluster", description=about, epilog=_STATUS)
    check.add_argument(
        "source", metavar="SOURCE", nargs="?", help="live, node, a recording's path; by default what kn.open() opens"
    )
    check.add_argument("--json", action="store_true", help="one JSON object instead of text")
    check.add_argument("--node", metavar="NAME", help="only what is judged of this node")
    check.add_argument(
        "--fail-on", choices=("error", "warning"), default="error", help="from which severity on the status is 1"
    )
    check.add_argument(
        "--settle", type=_seconds, default=0.0, metavar="SECONDS", help="live: read again after so long, to confirm"
    )
    add_live_options(check)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 600:  # NaN is in no order
        raise argparse.ArgumentTypeError("give seconds from 0 to 600")
    return seconds


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
