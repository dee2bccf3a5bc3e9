"""Exercises of lesson 06: iptables rules."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from ...errors import Refused
from ..answers import Answer, names, number
from ..question import NotHere, Question
from .planes import modes, node_in, tool_command

if TYPE_CHECKING:
    from ...cluster import Cluster
    from ...explain.ladder import Ladder

__all__ = ["EXERCISES"]


def _ladder(cluster: Cluster) -> Ladder:
    """The longest ladder on the first node in iptables mode."""
    node, found = node_in(cluster, "iptables"), list["Ladder"]()
    for service in cluster.api.services.values():
        for port in service.ports:
            try:
                found.append(node.ladder(service.key, port.name or port.port))
            except Refused:
                continue
    longest = max(found, key=lambda one: len(one.rungs), default=None)
    if longest is None or len(longest.rungs) < 3:
        raise NotHere("no Service has three endpoints to choose from")
    return longest


def _ask_share(cluster: Cluster) -> str:
    ladder = _ladder(cluster)
    return (
        f"On `{ladder.node}`, {ladder.service.split(' ')[0]} has {len(ladder.rungs)} rungs. The second one prints the "
        f"probability `{ladder.rungs[1].printed}`. What share of all new connections ends at its endpoint?"
    )


def _why_share(cluster: Cluster) -> str:
    ladder = _ladder(cluster)
    first, second = ladder.rungs[:2]
    return (
        f"The first rung has taken {first.takes} of the packets already. Of the {second.comes} that come to the second "
        f"it takes {second.takes}: {second.comes} times {second.takes} is {second.share}, as for every other endpoint."
    )


def _slips_share(cluster: Cluster) -> tuple[tuple[Answer, str], ...]:
    second = _ladder(cluster).rungs[1]
    return ((number(second.takes), "That is the share of those packets that come to this rung; not all of them do."),)


def _rejected(cluster: Cluster) -> set[str]:
    chain = node_in(cluster, "iptables").rules.iptables(4).chain("filter", "KUBE-SERVICES")
    comments = [rule.comment for rule in chain.rules() if rule.target == "REJECT"] if chain else []
    return {comment.partition(":")[0] for comment in comments}


def _why_rejected(cluster: Cluster) -> str:
    found = ", ".join(f"`{name}`" for name in sorted(_rejected(cluster))) or "None"
    return (
        f"{found}: a Service without a ready endpoint has no ladder in table nat. So that its clients are told at "
        f"once, "
        "and do not wait for an answer that cannot come, table filter rejects them."
    )


def _why_modes(cluster: Cluster) -> str:
    told = ", ".join(f"`{name}` by {mode}" for name, mode in modes(cluster).items())
    return (
        f"Here: {told}. iptables is kube-proxy's default since 1.2, and version 1.11 did not change that: IPVS became "
        "generally available in it, as a choice. The tutorial's words would make iptables a thing of the past."
    )


EXERCISES = (
    Question(
        number="06-1",
        ask=_ask_share,
        answer=lambda cluster: number(Fraction(_ladder(cluster).rungs[1].share)),
        why=_why_share,
        hints=("Which share of the packets comes to the second rung?", "Multiply the two."),
        slips=_slips_share,
    ),
    Question(
        number="06-2",
        ask="Which Services does table `filter` reject on the node in iptables mode?",
        answer=lambda cluster: names(_rejected(cluster), "names of Services"),
        why=_why_rejected,
        hints=('node.chain("KUBE-SERVICES", table="filter") lists the rules; their comments hold the names.',),
    ),
    Question(
        number="06-3",
        ask=(
            "Spot the errors. The tutorial lists the Service rules with `iptables –t nat –L KUBE-SERVICE`. Type the "
            "command so that it works."
        ),
        answer=lambda _cluster: tool_command(
            "iptables", {"t": "nat", "L": "KUBE-SERVICES"}, "nv", "iptables -t nat -L KUBE-SERVICES"
        ),
        why=(
            "Two dashes are en dashes, which are no hyphens; and the chain is called KUBE-SERVICES. Without `-n` "
            "iptables "
            "asks DNS for the name of every address, so people type `-n`, and `-v` for the counters."
        ),
        hints=("Two dashes, and one letter of the chain's name.",),
    ),
    Question(
        number="06-4",
        ask=(
            "Spot the error. “Prior to version 1.11, Kubernetes used iptables NAT.” Which nodes of this cluster "
            "translate by iptables today?"
        ),
        answer=lambda cluster: names({n for n, mode in modes(cluster).items() if mode == "iptables"}, "names of nodes"),
        why=_why_modes,
        hints=("`cluster.node(name).proxy_mode`, for each node.",),
    ),
)
