"""Exercises of lesson 08: IPVS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import Refused
from ...text import socket_text
from ..answers import Answer, number, text
from ..question import NotHere, Question, some
from .planes import node_in, tool_command

if TYPE_CHECKING:
    from ...cluster import Cluster

__all__ = ["EXERCISES"]


def _empty(cluster: Cluster) -> list[str]:
    return [one.name for one in node_in(cluster, "ipvs").ipvs().servers if not one.servers]


def _nobody(cluster: Cluster) -> int:
    """Virtual servers of Services that have no ready endpoint on any node."""
    ready = {e.service for e in cluster.endpoints().itertuples() if e.state == "ready"}
    services = [s for s in cluster.api.services.values() if s.cluster_ips and s.key not in ready]
    return sum(len(service.ports) for service in services)


def _why_empty(cluster: Cluster) -> str:
    return (
        f"{', '.join(f'`{name}`' for name in _empty(cluster)) or 'None'}. A Service without ready endpoints has a "
        f"virtual "
        "server with nobody behind it. So has, on a node without an endpoint of its own, a cluster IP with "
        "internalTrafficPolicy Local. IPVS answers port-unreachable for both: the client is told at once."
    )


def _slips_empty(cluster: Cluster) -> tuple[tuple[Answer, str], ...]:
    nobody = _nobody(cluster)
    if nobody == len(_empty(cluster)):
        return ()
    return ((number(nobody), "Those have no endpoint anywhere. One more has endpoints, but may not use them here."),)


def _dns(cluster: Cluster) -> str:
    service = cluster.api.services.get("kube-system/kube-dns")
    udp = [p.port for p in service.ports if p.protocol == "UDP"] if service else []
    if service is None or not service.cluster_ips or not udp:
        raise NotHere("there is no Service kube-system/kube-dns with a UDP port")
    address = service.cluster_ips[0]
    return socket_text(address, udp[0])


def _dummy(cluster: Cluster) -> str:
    node = node_in(cluster, "ipvs")
    vips = {ip for service in cluster.api.services.values() for ip in service.cluster_ips}
    held = [link.name for link in node.links() if vips & {a.address for a in link.addresses}]
    return some(held, "no interface holds a cluster IP")[0]


def _local(cluster: Cluster) -> tuple[str, str, int]:
    """The IPVS node, a Service with external policy Local and a NodePort, and among how many an outsider is put."""
    node = node_in(cluster, "ipvs")
    for service in cluster.api.services.values():
        if service.external_policy == "Local" and any(port.node_port for port in service.ports):
            port = next(port for port in service.ports if port.node_port)
            try:
                answer = cluster.translate(service.key, port.name or port.port, node.name, entry="node_port")
            except Refused:
                continue
            return node.name, service.key, len(answer.backends)
    raise NotHere("no Service has a NodePort with externalTrafficPolicy Local")


def _ask_local(cluster: Cluster) -> str:
    node, service, _ = _local(cluster)
    return (
        f"`{service}` has externalTrafficPolicy Local. Among how many endpoints is a client from outside put that "
        f"comes "
        f"to its NodePort on `{node}`, in IPVS mode?"
    )


def _why_local(cluster: Cluster) -> str:
    node, _, count = _local(cluster)
    own = [e for e in cluster.endpoints().itertuples() if e.service == _local(cluster)[1] and e.node == node]
    if own:
        return f"{count}: the endpoints on the node itself, as the policy says."
    return (
        f"{count}: the node has no endpoint of its own, and IPVS then takes all of them (kubernetes issue 97081). In "
        "iptables and nftables mode the same client would be dropped without a word."
    )


EXERCISES = (
    Question(
        number="08-1",
        ask="How many virtual servers on the node in IPVS mode have no real server behind them?",
        answer=lambda cluster: number(len(_empty(cluster))),
        why=_why_empty,
        hints=("`node.ipvs().servers` is the list; each has its own `.servers`.",),
        slips=_slips_empty,
    ),
    Question(
        number="08-2",
        ask=(
            "Spot the error. The tutorial looks DNS up with `ipvsadm –Ln –t 100.64.0.10:53`. Type the command "
            "that lists "
            "the virtual server by which this cluster's DNS is asked over UDP."
        ),
        answer=lambda cluster: tool_command(
            "ipvsadm", {"L": "", "u": _dns(cluster)}, "n", f"ipvsadm -Ln -u {_dns(cluster)}"
        ),
        why=(
            "`-t` is for TCP, `-u` for UDP, and most DNS questions go over UDP. The address is that of this cluster's "
            "kube-dns: 100.64.0.10 comes from another cluster than the rest of the tutorial."
        ),
        hints=("One letter stands for the protocol.", "Whose address is kube-dns here?"),
    ),
    Question(
        number="08-3",
        ask="Which interface of the node in IPVS mode holds the cluster IPs?",
        answer=lambda cluster: text(_dummy(cluster)),
        why=(
            "A dummy interface: it carries no packet. It is there so that the addresses are local, and packets to them "
            "come up to where IPVS takes them."
        ),
        hints=("Look for a cluster IP in `node.links()`.",),
    ),
    Question(
        number="08-4",
        ask=_ask_local,
        answer=lambda cluster: number(_local(cluster)[2]),
        why=_why_local,
        hints=('cluster.translate(..., entry="node_port") for that node.',),
        slips=lambda cluster: (
            ((number(0), "By the policy's words, yes. IPVS does not leave such a client alone."),)
            if _local(cluster)[2]
            else ()
        ),
    ),
)
