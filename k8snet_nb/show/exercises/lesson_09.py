"""Exercises of lesson 09: one Service, three data planes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..answers import Answer, names, number, text
from ..question import NotHere, Question, some
from .planes import modes, node_in

if TYPE_CHECKING:
    from ...cluster import Cluster

__all__ = ["EXERCISES"]


def _last(cluster: Cluster) -> tuple[str, str, int]:
    """The node in iptables mode, the Service whose cluster IP comes last in its chain, and the rules up to it."""
    node = node_in(cluster, "iptables")
    frame = node.lookups()
    rows = frame[frame.entry == "cluster_ip"]
    if not len(rows):
        raise NotHere("no Service is programmed there")
    last = max(zip(rows.rules, rows.service, strict=True))
    return node.name, str(last[1]), int(last[0])


def _ask_last(cluster: Cluster) -> str:
    node, service, _ = _last(cluster)
    return (
        f"On `{node}`, how many rules of table nat is a pod's first packet to `{service}` compared with until its own "
        "rule is found, that rule and the jump in PREROUTING included?"
    )


def _why_last(cluster: Cluster) -> str:
    node, service, count = _last(cluster)
    return (
        f"{count} on `{node}`: one in PREROUTING, {count - 1} in KUBE-SERVICES. `{service}` stands last there, so "
        f"every "
        "other entry is asked first. Only the first packet of a connection pays that; conntrack translates the rest."
    )


def _unmoved(cluster: Cluster) -> set[str]:
    found = {name for name, mode in modes(cluster).items() if mode != "iptables"}
    return some(found, "every node here is in iptables mode")


def _rejecting(cluster: Cluster) -> set[str]:
    service = _with_vip(cluster)
    return {name for name in modes(cluster) if _walk(cluster, service, name).startswith("rejected")}


def _with_vip(cluster: Cluster) -> str:
    ready = {e.service for e in cluster.endpoints().itertuples() if e.state == "ready"}
    free = [
        s.key
        for s in cluster.api.services.values()
        if s.cluster_ips and s.key in ready and all(p.port != 81 for p in s.ports)
    ]
    if "default/hello-world" in free:
        return "default/hello-world"
    return some(free, "no Service leaves port 81 free")[0]


def _walk(cluster: Cluster, service: str, node: str) -> str:
    address = cluster.api.services[service].cluster_ips[0]
    return cluster.walk("pod", address, "tcp", 81, node=node).verdict


def _why_rejecting(cluster: Cluster) -> str:
    service = _with_vip(cluster)
    told = ", ".join(f"`{name}` ({mode}) {_walk(cluster, service, name)}" for name, mode in modes(cluster).items())
    return (
        f"What becomes of the packet: {told}. In nftables mode kube-proxy looks after all ports of a cluster IP. "
        f"In IPVS "
        "mode the address is on the node itself, and a filter rule refuses what is no virtual server. In iptables mode "
        "no rule knows the packet: it follows the default route, and the client waits."
    )


EXERCISES = (
    Question(
        number="09-1",
        ask=_ask_last,
        answer=lambda cluster: number(_last(cluster)[2]),
        why=_why_last,
        hints=("`node.lookups()` counts them for each entry.",),
        slips=lambda cluster: ((number(_last(cluster)[2] - 1), "One rule comes before that chain: the jump to it."),),
    ),
    Question(
        number="09-2",
        ask=(
            "On which nodes would the number of rules until a Service is found stay the same with twice as many "
            "Services?"
        ),
        answer=lambda cluster: names(_unmoved(cluster), "names of nodes"),
        why=(
            "A map and a hash are asked once, however much they hold. A chain is read from its first rule on, so its "
            "cost grows with what stands before."
        ),
        hints=("Which modes look a Service up, and which one reads a list?",),
    ),
    Question(
        number="09-3",
        ask=lambda cluster: (
            f"A pod connects to port 81 of the cluster IP of `{_with_vip(cluster)}`, a port that the Service does not "
            "have. On which nodes is it told so at once (rejected)?"
        ),
        answer=lambda cluster: names(_rejecting(cluster), "names of nodes"),
        why=_why_rejecting,
        hints=('cluster.walk("pod", address, "tcp", 81, node=name).verdict, for each node.',),
    ),
    Question(
        number="09-4",
        ask="In which Kubernetes version was the IPVS mode deprecated?",
        answer=lambda _cluster: _version("1.35"),
        why=(
            "1.35 (KEP-5495); the plan is to have it off by default in 1.40 and gone in 1.43. nftables mode is "
            "generally "
            "available since 1.33, on kernels from 5.13 on."
        ),
        hints=("It is in the history above.",),
    ),
)


def _version(number_: str) -> Answer:
    return text(number_, f"v{number_}", f"kubernetes {number_}")
