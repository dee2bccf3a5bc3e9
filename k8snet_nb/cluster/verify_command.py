"""``k8snet twin verify``: the table of a twin's fidelity, and an exit status to go by."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import pandas as pd

from ..render import printable
from ..sources.twin import TwinSource
from .cluster import Cluster
from .fidelity import fidelity_frame

__all__ = ["verify_twin"]

_HEADINGS = ("NODE", "MODE", "SERVICE", "BY", "CLIENT", "RULES", "SEEN", "MASQUERADE", "AFFINITY", "VERDICT")


def verify_twin(options: argparse.Namespace) -> int:
    """Print the table; 0 where all is the same or explained, 1 where something differs, 2 where nothing was tried.

    Raises K8snetError.
    """
    with Cluster(TwinSource(options.name)) as cluster:
        frame = fidelity_frame(cluster, options.service, options.node, options.count, _progress)
    if options.json:
        print(json.dumps([_plain(row) for row in frame.to_dict("records")], indent=1))
    else:
        for line in (*_table(frame, options.all), *_reasons(frame), _sum(frame)):
            print(printable(line))
    if not frame["count"].sum():
        why = "choose a Service with an address, and nodes whose rules can be read"
        print(f"k8snet: no connection was made: {why}", file=sys.stderr)
        return 2
    return int(bool((frame.verdict == "differs").any()))


def _progress(word: str) -> None:
    print(printable(f"k8snet: {word} ..."), file=sys.stderr)


def _table(frame: pd.DataFrame, everything: bool) -> Iterator[str]:
    """One line a case; without ``everything``, of those that are the same one line for a node, entry and client."""
    rows: list[tuple[str, ...]] = [_HEADINGS]
    shown = frame if everything else frame[frame.verdict != "same"]
    rows += [_line(row) for _, row in shown.iterrows()]
    if not everything:
        same = frame[frame.verdict == "same"]
        for key, group in same.groupby(["node", "mode", "entry", "family", "protocol", "kind", "action"], sort=False):
            rows.append(_summed(group, *(str(part) for part in key)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def _line(row: pd.Series[Any]) -> tuple[str, ...]:
    shares = ", ".join(f"{name} {share if share is not None else '?'}" for name, share in row.expected.items())
    seen = ", ".join(f"{name} {count}" for name, count in row.seen.items())
    by = f"{row.entry} {row.address} {row.protocol}"
    return (
        row.node, str(row["mode"]), f"{row.service}:{row.port}", by, row.client, f"{row.action}: {shares}", seen,
        f"{row.masquerade} / {row.masquerade_seen}", row.affinity_seen if row.affinity else "", row.verdict,
    )  # fmt: skip


def _summed(group: pd.DataFrame, *key: str) -> tuple[str, ...]:
    node, mode, entry, family, protocol, kind, action = key
    sticky = int(group.affinity.notna().sum())
    return (
        node, mode, f"{len(group)} cases", f"{entry} IPv{family} {protocol}", kind, action,
        f"{group['count'].sum()} connections", ", ".join(sorted({m for m in group.masquerade if m})),
        f"{sticky} with" if sticky else "", "same",
    )  # fmt: skip


def _reasons(frame: pd.DataFrame) -> Iterator[str]:
    for _, row in frame[frame.verdict != "same"].iterrows():
        by = f"{row.service}:{row.port} by {row.entry} {row.address} on {row.node} from {row.client}"
        yield f"{row.verdict}: {by}: {row.why}"


def _sum(frame: pd.DataFrame) -> str:
    counts = Counter(frame.verdict)
    told = ", ".join(f"{counts[word]} {word}" for word in ("same", "explained", "differs"))
    return f"{len(frame)} cases, {frame['count'].sum()} connections: {told}"


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, Fraction):
            return str(value)
        if isinstance(value, dict):
            return {name: plain(each) for name, each in value.items()}
        return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)

    return {str(name): plain(value) for name, value in row.items()}
