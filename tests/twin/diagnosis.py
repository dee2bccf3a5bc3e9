"""How each fault is found, by the kit's own calls and the symptom alone: the solutions of the fault library.

Each finder gives the code and the place, or None where its evidence is not there, so that all of them together are
asked about every fault: one that names another's fault is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pandas as pd

import k8snet_nb as kn

__all__ = ["FINDERS", "diagnose", "on"]

Found = tuple[str, str]


def on(symptom: str) -> tuple[str, int] | None:
    """The Service and port that a symptom speaks of."""
    found = re.search(r"Service (\S+), port (\d+)", symptom)
    return (found[1], int(found[2])) if found else None


def diagnose(cluster: kn.Cluster) -> set[Found]:
    """What every finder says of the cluster as it is now."""
    cluster.refresh()
    symptom = cluster.twin.symptom or ""
    return {found for find in FINDERS.values() for found in find(cluster, symptom)}


def _rows(frame: pd.DataFrame, code: str) -> pd.DataFrame:
    return frame[frame.code == code]


def _server_dead(cluster: kn.Cluster, symptom: str) -> Iterator[Found]:
    where = on(symptom)
    if where is None or set(cluster.drift().severity) & {"error", "warning"}:
        return
    sent = cluster.send(*where, count=60)
    silent = set(sent.frame[sent.frame.answered == 0].pod)
    if "refused" in sent.ends:
        for row in _rows(cluster.findings(), "ENDPOINT_NOT_LISTENING").itertuples():
            if row.pod in silent:
                yield "SERVER_DEAD", row.pod


def _rule_deleted(cluster: kn.Cluster, symptom: str) -> Iterator[Found]:
    for row in _rows(cluster.drift(), "SERVICE_NOT_PROGRAMMED").itertuples():
        sent = cluster.send(row.service, row.port, client="node", node=row.node, count=10)
        if "ok" not in sent.ends and sent.translation.action != "dnat":
            yield "RULE_DELETED", row.node


def _stale_endpoint(cluster: kn.Cluster, symptom: str) -> Iterator[Found]:
    for row in _rows(cluster.drift(), "ENDPOINT_STALE").itertuples():
        address = row.extra[0].rpartition(":")[0]
        sent = cluster.send(row.service, row.port, client="node", node=row.node, count=60)
        if cluster.who(address).kind == "unknown" and {"ok"} < set(sent.ends):
            yield "STALE_ENDPOINT", row.node


def _wrong_route(cluster: kn.Cluster, symptom: str) -> Iterator[Found]:
    between = re.search(r"Clients on (\S+) do not reach pods on (\S+):", symptom)
    if not between:
        return
    client, other = (_pod_on(cluster, node) for node in between.groups())
    walk = cluster.walk(client, other, "tcp", 8080)
    assert "gateway" in walk.ends[0].doubt
    for row in _rows(cluster.findings(), "ROUTE_ASTRAY").itertuples():
        yield "WRONG_ROUTE", row.node


def _dns_wrong(cluster: kn.Cluster, symptom: str) -> Iterator[Found]:
    asked = re.search(r"connect to (\S+) by its name", symptom)
    if not asked:
        return
    name, namespace = asked[1].split(".")[:2]
    own = set(cluster.service(f"{namespace}/{name}").value.cluster_ips)
    rows = cluster.dns_replicas(asked[1]).rows
    liars = [
        row.who
        for row in rows
        if row.reply.message and not {answer.text for answer in row.reply.message.answers} <= own
    ]
    pods = sorted({who for who in liars if who in cluster.api.pods})
    everyone = {pod for pod in cluster.api.pods if "coredns" in pod}
    yield ("DNS_WRONG", "kube-system/kube-dns") if set(pods) == everyone else ("DNS_WRONG", pods[0])


def _mtu(cluster: kn.Cluster, symptom: str) -> Iterator[Found]:
    for row in _rows(cluster.findings(), "MTU_MISMATCH").itertuples():
        service, port = on(symptom) or ("", 0)
        small, big = cluster.send(service, port, count=60), cluster.send(service, port, count=60, size=4000)
        silent = set(big.frame[big.frame.answered == 0].pod)
        if set(small.ends) == {"ok"} and set(big.ends) == {"ok", "timeout"} and silent == {row.pod}:
            yield "MTU", row.pod


def _rp_filter(cluster: kn.Cluster, symptom: str) -> Iterator[Found]:
    for row in _rows(cluster.findings(), "RP_FILTER_DROPS").itertuples():
        watch = next(pod for pod, value in cluster.api.pods.items() if value.node == row.node and value.host_network)
        if int(_counter(cluster, watch)) > 0:
            yield "RP_FILTER", row.node


def _counter(cluster: kn.Cluster, pod: str) -> str:
    """Of a node, asked in a pod on its network."""
    text = str(cluster.pod(pod).run(["nstat", "-az", "TcpExtIPReversePathFilter"]))
    found = re.search(r"IPReversePathFilter\s+(\d+)", text)
    return found[1] if found else "0"


def _pod_on(cluster: kn.Cluster, node: str) -> str:
    return next(key for key, pod in cluster.api.pods.items() if pod.node == node and not pod.host_network)


FINDERS: dict[str, Callable[[kn.Cluster, str], Iterator[Found]]] = {
    "SERVER_DEAD": _server_dead,
    "RULE_DELETED": _rule_deleted,
    "STALE_ENDPOINT": _stale_endpoint,
    "WRONG_ROUTE": _wrong_route,
    "DNS_WRONG": _dns_wrong,
    "MTU": _mtu,
    "RP_FILTER": _rp_filter,
}
