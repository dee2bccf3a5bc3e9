"""Exercises of lesson 01: a pod's cluster IP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..answers import Answer, command, names, text
from ..question import Question, some
from .rows import PodRow, pod_rows

if TYPE_CHECKING:
    from ...cluster import Cluster

__all__ = ["EXERCISES"]


def _without_ip(cluster: Cluster) -> list[PodRow]:
    return some([pod for pod in pod_rows(cluster) if not pod.ip], "every pod has an IP")


def _why_without_ip(cluster: Cluster) -> str:
    pod = _without_ip(cluster)[0]
    place = f"`{pod.node}` has not made its sandbox" if pod.node else "no node has taken it, its NODE is `<none>`"
    return (
        f"`{pod.key}` is {pod.status}: {place}. An address belongs to a sandbox, which the node's runtime makes and "
        "the CNI plug-in connects. kubectl prints `<none>`, and a Service leaves such a pod out."
    )


def _restarted(cluster: Cluster) -> str:
    most = max(pod_rows(cluster), key=lambda pod: pod.restarts, default=None)
    here = "No container has been restarted on this cluster yet."
    if most is not None and most.restarts:
        here = f"Here `{most.key}` has {most.restarts} and still its old name."
    return (
        "The kubelet restarts a failed container inside the same pod: name, uid, node, sandbox and IP stay, RESTARTS "
        f"goes up. {here} A new pod, with a new name and IP, comes only when the pod itself is deleted or evicted."
    )


def _command(_cluster: Cluster) -> Answer:
    return command(
        "kubectl get pods --all-namespaces -o wide",
        [{"kubectl"}, {"get"}, {"pods", "pod", "po"}],
        [{"-A", "--all-namespaces", "--all-namespaces=true"}, {"-o=wide", "--output=wide"}],
    )


EXERCISES = (
    Question(
        number="01-1",
        ask=(
            "Spot the error. The tutorial's commands do not run when they are copied: its `–o wide` and "
            "`—all-namespaces` begin with a dash that is no hyphen. Type the command, as it works, that "
            "lists the pods of every namespace with their IPs and nodes."
        ),
        answer=_command,
        why=(
            "Short options take one hyphen, long ones two. A typesetter's en dash (U+2013) or em dash (U+2014) is an "
            "ordinary letter to kubectl: it looks for a pod of that name. `-A` is short for `--all-namespaces`."
        ),
        hints=("One hyphen before a single letter, two before a word.", "It starts with `kubectl get pods`."),
    ),
    Question(
        number="01-2",
        ask="Which pods have no IP? Name them all, then look at their STATUS and NODE for the reason.",
        answer=lambda cluster: names([pod.key for pod in _without_ip(cluster)], "names of pods"),
        why=_why_without_ip,
        hints=("`cluster.pods()` holds None in the column `ip` where kubectl prints `<none>`.",),
    ),
    Question(
        number="01-3",
        ask=(
            "Spot the error. The tutorial says that when one container of a pod fails, Kubernetes shuts the pod down "
            "and puts a new one in its place. Which column of `kubectl get pods` would be pointless if that were so?"
        ),
        answer=lambda _cluster: text("RESTARTS", "restart", "the restarts column", "restarts column"),
        why=_restarted,
        hints=("It counts something that happens inside a pod that goes on living.",),
        slips=lambda _cluster: (
            (text("AGE"), "A pod has an age either way. What is counted while it lives on?"),
            (text("STATUS"), "A pod has a status either way. What is counted while it lives on?"),
            (text("READY"), "READY says how many containers are ready now, not what became of failed ones."),
        ),
    ),
)
