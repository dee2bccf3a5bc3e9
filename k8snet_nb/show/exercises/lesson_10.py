"""Exercises of lesson 10: reading findings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..answers import Answer, names, number, text
from ..question import Question, some

if TYPE_CHECKING:
    import pandas as pd

    from ...cluster import Cluster

__all__ = ["EXERCISES"]


def _found(cluster: Cluster, code: str) -> pd.DataFrame:
    found = cluster.findings()
    return found[found.code == code]


def _drops(cluster: Cluster) -> dict[str, int]:
    nodes = some(list(_found(cluster, "CONNTRACK_DROPS").node), "no node dropped packets for want of an entry")
    return {node: cluster.node(node).conntrack_usage().drops or 0 for node in nodes}


def _most(cluster: Cluster) -> Answer:
    drops = _drops(cluster)
    return names({max(drops, key=lambda node: drops[node])}, "name of a node")


def _why_most(cluster: Cluster) -> str:
    told = ", ".join(f"`{node}` {count:,}" for node, count in _drops(cluster).items())
    return (
        f"{told}: the sum over all CPUs. The counter does not say when; the kernel's log does, where it was collected."
    )


def _empty(cluster: Cluster) -> Answer:
    services = some(set(_found(cluster, "SERVICE_NO_ENDPOINTS").service), "every Service has endpoints")
    return names(services, "names of Services")


def _headless(cluster: Cluster) -> tuple[tuple[Answer, str], ...]:
    without = {key for key, one in cluster.api.services.items() if not one.cluster_ips}
    return ((names(without), "Those have no cluster IP. Having an address and having endpoints are two things."),)


def _unknown(cluster: Cluster) -> int:
    return int((cluster.findings().severity == "unknown").sum())


def _slip_unknown(cluster: Cluster) -> tuple[tuple[Answer, str], ...]:
    severity = cluster.findings().severity
    info = int((severity == "info").sum())
    return (
        (number(info), "Those are `info`: judged, and no trouble."),
        (number(info + _unknown(cluster)), "`info` is not among them: that was judged, and is no trouble."),
    )


EXERCISES = (
    Question(
        number="10-1",
        ask="Which node dropped the most packets because its connection table was full?",
        answer=_most,
        why=_why_most,
        hints=("The column `what` has the counter.", '`found[found.code == "CONNTRACK_DROPS"]`'),
    ),
    Question(
        number="10-2",
        ask="Which Services have no endpoint at all?",
        answer=_empty,
        why="No pod that the selector matches has an address, so no slice has an endpoint: connections are refused.",
        hints=("It is a code of its own.", '`found[found.code == "SERVICE_NO_ENDPOINTS"].service`'),
        slips=_headless,
    ),
    Question(
        number="10-3",
        ask="How many findings say that something could not be judged?",
        answer=lambda cluster: number(_unknown(cluster)),
        why="They are of severity `unknown`. Whoever reads only errors and warnings takes them for good news.",
        hints=("Count a severity, not a code.",),
        slips=_slip_unknown,
    ),
    Question(
        number="10-4",
        ask="Pods are behind a Service, but not one of them is ready. Which code says so?",
        answer=lambda _cluster: text("SERVICE_NONE_READY"),
        why=(
            "There are endpoints, so the selector is right; none gets traffic, so look at the pods' readiness. With no "
            "endpoint at all (`SERVICE_NO_ENDPOINTS`) the first look would be at the selector."
        ),
        hints=("Read the column `means` of the catalogue.", "It begins with `SERVICE_`."),
        slips=lambda _cluster: (
            (text("SERVICE_NO_ENDPOINTS"), "That is a Service with no endpoint at all; here there are some."),
            (text("SERVICE_PORT_NO_ENDPOINTS"), "That is about one port of several."),
        ),
    ),
)
