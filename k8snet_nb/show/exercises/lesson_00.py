"""Exercises of lesson 00: the network model on this cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..answers import Answer, address, names
from ..question import NotHere, Question, some
from .rows import bridges, pod_rows

if TYPE_CHECKING:
    from ...cluster import Cluster

__all__ = ["EXERCISES"]


def _sharing(cluster: Cluster) -> list[str]:
    """Pods whose address is one of their node's."""
    ips = {row["name"]: row["ips"] for row in cluster.nodes().to_dict("records")}
    found = [pod.key for pod in pod_rows(cluster) if pod.ip and pod.ip in ips.get(pod.node or "", ())]
    return some(found, "no pod shares an address with its node")


def _waiting_host_pods(cluster: Cluster) -> tuple[tuple[Answer, str], ...]:
    """Naming all hostNetwork pods counts those that have no address yet."""
    waiting = [pod for pod in pod_rows(cluster) if pod.host_network and not pod.ip]
    every = [pod.key for pod in pod_rows(cluster) if pod.host_network]
    return tuple(
        (
            slip,
            f"`{pod.key}` asks for its node's network too, but look at its IP: it is {pod.status} and has none.",
        )
        for pod in waiting
        for slip in (names([pod.key]), names(every))
    )


def _why_sharing(cluster: Cluster) -> str:
    pods = _sharing(cluster)
    return (
        f"`{pods[0]}` runs with `hostNetwork: true`. It stays in the network namespace of its node, so it has no "
        "interface and no address of its own: it sees, and is seen as, the node. The rule that each pod has its own IP "
        "has this exception."
    )


def _bridged(cluster: Cluster) -> Answer:
    found = some(bridges(cluster), "no node's routes to its own pods could be read")
    return names([node for node, bridge in found.items() if bridge], "node, or nodes (or none)")


def _why_bridged(cluster: Cluster) -> str:
    said = [
        f"on `{node}` the route to its pods leads to `{bridge}`, which is a bridge"
        if bridge
        else f"on `{node}` no route to a pod leads to a bridge"
        for node, bridge in bridges(cluster).items()
    ]
    return f"The kernels say so: {'; '.join(said)}. The names of the interfaces would prove nothing."


def _far_pair(cluster: Cluster) -> tuple[str, str, str, str, str]:
    """Two running pods with addresses of their own on different nodes: key and node of each, and the first one's IP."""
    own = [p for p in pod_rows(cluster) if p.ip and p.node and not p.host_network and p.phase == "Running"]
    for one in own[:1]:
        for other in own:
            if other.node != one.node:
                return one.key, str(one.node), str(one.ip), other.key, str(other.node)
    raise NotHere("there are no two running pods with own addresses on different nodes")


def _ask_source(cluster: Cluster) -> str:
    one, node, _, other, other_node = _far_pair(cluster)
    return (
        f"`{one}` on `{node}` opens a connection straight to the IP of `{other}` on `{other_node}`. No Service is "
        f"involved. Which source address must `{other}` see if the network keeps its rules?"
    )


def _node_address(cluster: Cluster) -> tuple[tuple[Answer, str], ...]:
    _, node, _, other, _ = _far_pair(cluster)
    ip = next((row["internal_ip"] for row in cluster.nodes().to_dict("records") if row["name"] == node), None)
    said = f"That is the address of `{node}`. `{other}` would see it if the packets were masqueraded on their way out"
    return ((address(ip), f"{said}: between pods the model forbids that."),) if ip else ()


def _why_source(cluster: Cluster) -> str:
    one, _, ip, other, _ = _far_pair(cluster)
    return (
        f"Pods reach each other without NAT, so `{other}` sees `{ip}`, the address that `{one}` knows as its own. "
        "Traffic that is masqueraded, through a NodePort for instance, is another matter."
    )


EXERCISES = (
    Question(
        number="00-1",
        ask="Which pods have the very IP of the node that they run on? Name them all (`namespace/name`).",
        answer=lambda cluster: names(_sharing(cluster), "names of pods"),
        why=_why_sharing,
        hints=(
            "Put the IPs of `cluster.pods()` beside the `internal_ip` of `cluster.nodes()`.",
            "The pods' column `host_network` says who asked for it. It does not say who has an address already.",
        ),
        slips=_waiting_host_pods,
    ),
    Question(
        number="00-2",
        ask="On which nodes do the pods hang on a bridge? Name the node or nodes, or write none.",
        answer=_bridged,
        why=_why_bridged,
        hints=(
            "Follow the route from a node to one of its own pods (`ip route get`): what kind of interface is there?",
            "`cluster.node(...).network()` quotes the deciding routes; `ip -d link` shows an interface's kind.",
        ),
    ),
    Question(
        number="00-3",
        ask=_ask_source,
        answer=lambda cluster: address(_far_pair(cluster)[2]),
        why=_why_source,
        hints=("Which rule of the network model speaks of address translation?",),
        slips=_node_address,
    ),
)
