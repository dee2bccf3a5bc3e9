"""Exercises of lesson 04: a pod's veth pair."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ...explain.pod_network import VethPair
from ..answers import Answer, names, number, text
from ..question import NotHere, Question, some
from .rows import pod_rows

if TYPE_CHECKING:
    from ...cluster import Cluster, Node, Pod

__all__ = ["EXERCISES"]


def _pairs(cluster: Cluster) -> list[tuple[Pod, VethPair]]:
    """The pods whose peer on the node is known, by name."""
    found = []
    for row in pod_rows(cluster):
        pod = cluster.pod(row.key)
        pair = pod.veth()
        if isinstance(pair, VethPair):
            found.append((pod, pair))
    return some(found, "no pod's interface has a peer on its node that is known")


def _last_pair(cluster: Cluster) -> tuple[Pod, VethPair]:
    return _pairs(cluster)[-1]


def _ask_peer(cluster: Cluster) -> str:
    pod, pair = _last_pair(cluster)
    return f"What is the other end of `{pair.pod_interface.name}` of `{pod.key}` called on `{pod.node}`?"


def _why_peer(cluster: Cluster) -> str:
    pod, pair = _last_pair(cluster)
    here, there = pair.pod_interface, pair.node_interface
    return (
        f"Inside, `{here.name}` points to index {here.peer_ifindex}, which is `{there.name}` on `{pod.node}`. That one "
        f"points back to index {there.peer_ifindex} in namespace id {there.peer_nsid}, and this id is the pod's "
        f"namespace `{pod.netns}`."
    )


def _other_ends(cluster: Cluster) -> tuple[tuple[Answer, str], ...]:
    pod, pair = _last_pair(cluster)
    others = [
        link
        for link in cluster.node(str(pod.node)).links()
        if link.peer_ifindex == pair.pod_interface.ifindex and link.name != pair.node_interface.name
    ]
    said = "It points to the same index, but its namespace id is {}: another pod's."
    return tuple((text(link.name), said.format(link.peer_nsid)) for link in others)


def _nodes(cluster: Cluster) -> list[Node]:
    return [node for node in map(cluster.node, sorted(cluster.nodes()["name"])) if node.has_facts]


def _unlike_veth(cluster: Cluster) -> tuple[str, list[str]]:
    """A node with interfaces that are veth by their kind and not by their name."""
    for node in _nodes(cluster):
        found = [link.name for link in node.links() if link.kind == "veth" and not link.name.startswith("veth")]
        if found:
            return node.name, found
    raise NotHere("every interface of the kind veth has a name that begins with veth")


def _ask_unlike(cluster: Cluster) -> str:
    node, _ = _unlike_veth(cluster)
    return (
        "Spot the error. The tutorial knows the node's side by a name that `typically begins with veth`. Names are "
        f"given freely. Which interfaces of `{node}` are of the kind veth, though called otherwise? Name them all."
    )


def _why_unlike(cluster: Cluster) -> str:
    node, found = _unlike_veth(cluster)
    return (
        f"`ip -d link` on `{node}` says veth of {', '.join(f'`{name}`' for name in found)}, and nothing says that a "
        "pod is at the other end. Calico's begin with `cali`, Cilium's with `lxc`. Trust kind, indices and id."
    )


def _crowd(cluster: Cluster) -> tuple[str, int, list[str]]:
    """The node and the index on which the most of its interfaces agree, and those interfaces."""
    best: tuple[str, int, list[str]] | None = None
    for node in _nodes(cluster):
        links = [link for link in node.links() if link.peer_nsid is not None and link.peer_ifindex is not None]
        for index, count in Counter(link.peer_ifindex for link in links).most_common(1):
            if index is not None and count > 1 and (best is None or count > len(best[2])):
                best = (node.name, index, [link.name for link in links if link.peer_ifindex == index])
    if best is None:
        raise NotHere("no two interfaces of a node point to the same index")
    return best


def _ask_crowd(cluster: Cluster) -> str:
    node, index, _ = _crowd(cluster)
    return (
        "Spot the error. The tutorial reads `@if11` as the 11th interface. It is an index, not a place in a list, and "
        f"it counts in the other namespace. How many interfaces of `{node}` say `@if{index}`?"
    )


def _why_crowd(cluster: Cluster) -> str:
    node, index, found = _crowd(cluster)
    return (
        f"{', '.join(f'`{name}`' for name in found)}: each points to an interface with index {index}, each in another "
        f"namespace. Which one, only `link-netnsid` says: an id that `{node}` has for that namespace."
    )


def _ask_behind(cluster: Cluster) -> str:
    pod, pair = _pairs(cluster)[0]
    there = pair.node_interface
    return (
        f"On `{pod.node}`, `{there.name}` says `@if{there.peer_ifindex}` and `link-netnsid {there.peer_nsid}`. "
        "Which pod is behind it?"
    )


def _why_behind(cluster: Cluster) -> str:
    pod, pair = _pairs(cluster)[0]
    return (
        f"`lsns -t net -o NS,NETNSID,PID` on the node has the id {pair.node_interface.peer_nsid} beside the namespace "
        f"`{pod.netns}`, and the processes of `{pod.key}` are in it."
    )


EXERCISES = (
    Question(
        number="04-1",
        ask=_ask_peer,
        answer=lambda cluster: text(_last_pair(cluster)[1].node_interface.name),
        why=_why_peer,
        hints=(
            "Begin inside the pod: which index does its interface point to?",
            "Then make sure: the interface of that index on the node has to point back, into the pod's namespace.",
        ),
        slips=_other_ends,
    ),
    Question(
        number="04-2",
        ask=_ask_unlike,
        answer=lambda cluster: names(_unlike_veth(cluster)[1], "names of interfaces"),
        why=_why_unlike,
        hints=("`cluster.node(...).interfaces()` has the kernel's word in the column `kind`.",),
    ),
    Question(
        number="04-3",
        ask=_ask_crowd,
        answer=lambda cluster: number(len(_crowd(cluster)[2])),
        why=_why_crowd,
        hints=("Count in the column `peer_ifindex` of `cluster.node(...).interfaces()`.",),
    ),
    Question(
        number="04-4",
        ask=_ask_behind,
        answer=lambda cluster: names([_pairs(cluster)[0][0].key], "name of the pod"),
        why=_why_behind,
        hints=(
            "The id leads to an inode (`node.namespaces()`), the inode to a process, the process to a pod.",
            "`node.interfaces()` has gone that way already: column `pod`.",
        ),
    ),
)
