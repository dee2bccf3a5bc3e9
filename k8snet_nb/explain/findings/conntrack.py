"""Connection tracking judged: how full the table is, what was dropped, and which flows go astray."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from ...facts import Evidence, FactRef
from ..flows import flow_line
from ..usage import COUNTERS, ConntrackUsage, duration
from .finding import Finding

__all__ = ["flow_findings", "usage_findings"]

PRESSURE, SOON = 0.8, 3600.0
"""The part of the table, and the seconds until it is full, from which on they are told."""

_LINES = 5
_COUNTED = {
    "drop": "CONNTRACK_DROPS",
    "early_drop": "CONNTRACK_EARLY_DROP",
    "insert_failed": "CONNTRACK_INSERT_FAILED",
    "chaintoolong": "CONNTRACK_CHAIN_TOO_LONG",
}
_VERDICTS = {
    "stale": "STALE_FLOW",
    "expiring": "EXPIRING_FLOW",
    "draining": "DRAINING_FLOW",
    "untranslated": "UNTRANSLATED_FLOW",
    "unreplied": "UNREPLIED_FLOW",
}


def usage_findings(node: str, usage: ConntrackUsage) -> Iterator[Finding]:
    """What a node's table suffers from, by its level, its counters and the kernel's log."""
    level = _of(usage, "sysctl.txt", "conntrack-count.csv")
    if usage.fraction is not None and usage.fraction >= PRESSURE:
        code = "CONNTRACK_FULL" if usage.fraction >= 1 else "CONNTRACK_PRESSURE"
        yield Finding(code, f"{usage.count:,} of {usage.maximum:,} entries: {usage.fraction:.0%}", node, evidence=level)
    if _soon_full(usage) and usage.growth and usage.time_to_full is not None:
        what = f"{usage.growth.per_second:+.1f} entries a second over {usage.growth.seconds:.0f} s: full in "
        what += duration(usage.time_to_full)
        yield Finding("CONNTRACK_GROWING", what, node, evidence=_of(usage, "conntrack-count.csv"))
    for counter, code in _COUNTED.items():
        total = usage.stats.total(counter) if usage.stats else None
        if total:
            what = f"{counter} {total:,}: {COUNTERS[counter]}"
            yield Finding(code, what, node, evidence=_of(usage, "conntrack-stats.txt"))
    if usage.full:
        first, last = usage.full[0].when or "?", usage.full[-1].when or "?"
        count = "1 line" if len(usage.full) == 1 else f"{len(usage.full)} lines"
        what = f"{count} of a full table, from {first} to {last}"
        if any(line.netns is None for line in usage.full):
            what += "; the log does not say whose table: it is the whole machine's"
        yield Finding("CONNTRACK_FULL_LOGGED", what, node, evidence=_of(usage, "kernel-log.txt"))


def _soon_full(usage: ConntrackUsage) -> bool:
    """Whether the growth that was seen fills the table soon; no longer, where it holds less than at its end."""
    since = usage.series is not None and len(usage.series) > 0 and usage.count < int(usage.series.counts[-1])
    return not since and usage.time_to_full is not None and usage.time_to_full < SOON


def _of(usage: ConntrackUsage, *facts: str) -> tuple[Evidence, ...]:
    return tuple(item for item in usage.evidence if item.ref.fact in facts)


def flow_findings(node: str, flows: pd.DataFrame, ref: FactRef, command: str) -> Iterator[Finding]:
    """Flows that go astray: one finding for all of one verdict, Service and backend. ``ref``: where they were read."""
    wanted = flows[flows.verdict.isin(_VERDICTS)]
    # what nobody answers is of interest where an answer was to be expected: from a Service or a pod
    expected = wanted.service.notna() | wanted.backend.astype(object).map(lambda name: "/" in str(name)).astype(bool)
    wanted = wanted[(wanted.verdict != "unreplied") | expected]
    if not len(wanted):
        return
    keys = [wanted[name].astype(object).where(wanted[name].notna(), "") for name in ("verdict", "service", "reply_src")]
    for (verdict, service, address), group in wanted.groupby(keys, sort=True):
        first = group.iloc[0]
        clients = sorted({str(client) for client in group.client})
        several = f"{len(clients)} clients ({', '.join(clients[:3])} ...)" if len(clients) > 3 else ", ".join(clients)
        target = service or f"{first.orig_dst}, which is no Service's address now"
        what = f"{len(group)} {verdict} {first.protocol}: {several} to {target}, at {address} ({first.backend})"
        lines = tuple(flow_line(flow) for flow in group.head(_LINES).itertuples())
        proof = Evidence(ref, command, lines, f"{len(group)} entries" if len(group) > 1 else "1 entry")
        key, _, port = str(service).partition(":")
        backend = str(first.backend)
        pod = next((name for name in (backend, *clients) if "/" in name), None)
        yield Finding(_VERDICTS[str(verdict)], what, node, key or None, pod, (proof,), port or None)
