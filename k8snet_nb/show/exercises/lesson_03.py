"""Exercises of lesson 03: a pod's network namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..answers import Answer, command, names, text
from ..question import NotHere, Question, some
from .rows import pod_rows

if TYPE_CHECKING:
    from ...cluster import Cluster, Pod

__all__ = ["EXERCISES"]


def _entered(cluster: Cluster) -> Pod:
    """A pod with a namespace of its own and the most processes in it (the first by name)."""
    found = [cluster.pod(row.key) for row in pod_rows(cluster) if row.node and not row.host_network]
    found = [pod for pod in found if pod.sandbox.pids and pod.netns is not None]
    known = some(found, "no pod with a network namespace of its own has a process that is known")
    return max(known, key=lambda pod: len(pod.sandbox.pids))


def _runtime(cluster: Cluster) -> str:
    words = cluster.node(str(_entered(cluster).node)).value.runtime or ""
    if not words or words.startswith("docker"):
        raise NotHere("its runtime is docker, or not known")
    return words


def _ask_runtime(cluster: Cluster) -> str:
    return (
        "Spot the error. The tutorial starts with `docker ps` on the node. Here the node's CONTAINER-RUNTIME is "
        f"`{_runtime(cluster)}`, and docker, if it is there at all, lists no pods. Type the command that lists the "
        "sandboxes of all pods of a node."
    )


def _sandboxes(cluster: Cluster) -> Answer:
    _runtime(cluster)
    return command("crictl pods", [{"crictl"}, {"pods", "pod"}], [])


def _ask_pids(cluster: Cluster) -> str:
    pod = _entered(cluster)
    return (
        "Spot the error. The tutorial looks up the process id 14552, and enters with 14346 further on: another "
        f"process, so possibly another pod. Which process ids lead `nsenter -t PID -n` into the network namespace of "
        f"`{pod.key}` on `{pod.node}`? Name them all."
    )


def _why_pids(cluster: Cluster) -> str:
    pod = _entered(cluster)
    sandbox = (
        f" The sandbox process `{pod.sandbox_pid}` is the one to take: the others may end." if pod.sandbox_pid else ""
    )
    return (
        f"`/proc/PID/ns/net` of each is `net:[{pod.netns}]`, so any of them will do.{sandbox} A process id from "
        "another page, another day or another pod leads elsewhere, and nsenter does not tell."
    )


def _entering(cluster: Cluster) -> Answer:
    pod = _entered(cluster)
    pids = {str(pid) for pid in pod.sandbox.pids}
    shown = str(pod.sandbox_pid or pod.sandbox.pids[0])
    words = [{"nsenter"}, pids, {"ip"}, {"addr", "a", "address"}]
    return command(f"nsenter -t {shown} -n ip addr", words, [{"-t", "--target"}, {"-n", "--net"}])


def _ask_entering(cluster: Cluster) -> str:
    pod = _entered(cluster)
    return (
        "Spot the error. `docker inspect –format …` and `nsenter –t your-container-pid –n ip addr` were typeset with "
        f"long dashes. Type the second one so that it works for `{pod.key}` on `{pod.node}`."
    )


EXERCISES = (
    Question(
        number="03-1",
        ask=_ask_runtime,
        answer=_sandboxes,
        why=(
            "`crictl` talks to any runtime through the interface that the kubelet uses (CRI), and `crictl inspectp ID` "
            "shows a sandbox with its process. Since 1.24 the kubelet does not start containers through docker, unless "
            "cri-dockerd stands between."
        ),
        hints=("The tool's name is made of CRI and ctl.", "`crictl ps` lists containers. Sandboxes are pods."),
        slips=lambda _cluster: (
            (text("crictl ps"), "That lists containers. The sandbox, which holds the namespace, is not among them."),
            (text("docker ps"), "That asks docker, and the kubelet does not use it here."),
        ),
    ),
    Question(
        number="03-2",
        ask=_ask_pids,
        answer=lambda cluster: names([str(pid) for pid in _entered(cluster).sandbox.pids], "process ids"),
        why=_why_pids,
        hints=(
            "`cluster.node(...).processes()` has a column `netns`. Which rows share the pod's?",
            "Every process of the pod, in whichever container, has the same network namespace.",
        ),
    ),
    Question(
        number="03-3",
        ask=_ask_entering,
        answer=_entering,
        why=(
            "Short options take one hyphen, long ones two, as in `--format`. To nsenter an en dash is the name of a "
            "program, and there is none. Only the network namespace is entered: the program `ip` is the node's."
        ),
        hints=("One hyphen before `t` and one before `n`.", "The process id is in the panel on sandboxes."),
    ),
    Question(
        number="03-4",
        ask=(
            "`nsenter -t PID -n cat /etc/resolv.conf` prints the node's file, not the pod's. Which other kind of "
            "namespace of the pod decides what stands under a path?"
        ),
        answer=lambda _cluster: text("mount", "mount namespace", "the mount namespace", "mnt", "-m", "--mount"),
        why=(
            "Files belong to the mount namespace (`nsenter -m`). Enter that too and programs come from the container's "
            "image, which often has none. `cat /proc/PID/root/etc/resolv.conf` reads the file without entering."
        ),
        hints=("`ls -l /proc/PID/ns` lists them all: cgroup, ipc, mnt, net, pid, user, uts.",),
        slips=lambda _cluster: (
            (text("pid", "pid namespace"), "That decides which processes there are. What decides which files?"),
            (text("net", "network", "network namespace", "-n"), "That one is entered already."),
        ),
    ),
)
