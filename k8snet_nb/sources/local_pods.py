"""The pods of a node told from the node itself: its processes and the kubelet's log folders. No API needed.

What the node does not tell is not invented: such a pod has no labels, no readiness and no restarts here.
Source: kubernetes pkg/kubelet/kuberuntime (log folders are ``<namespace>_<name>_<uid>``, below them one a container).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cgroups import pod_of

__all__ = ["Sighting", "log_names", "pod_list", "seen_pods"]

_FOLDER = re.compile(
    r"(?P<namespace>[a-z0-9]([a-z0-9-]*[a-z0-9])?)_(?P<name>[a-z0-9]([a-z0-9.-]*[a-z0-9])?)_(?P<uid>[0-9a-f-]{32,36})"
)
TOLD_BY = "k8snet-nb/told-by"
"""The annotation of a pod that no API told of."""


@dataclass(slots=True)
class Sighting:
    """One pod seen on the node: uid or config hash, names as far as known, whether it is in the node's network.

    The last is None where the namespaces of its processes may not be read.
    """

    uid: str
    namespace: str
    name: str
    host_network: bool | None
    containers: tuple[str, ...] = ()
    ips: list[str] = field(default_factory=list)


def log_names(folder: str) -> dict[str, tuple[str, str, tuple[str, ...]]]:
    """By uid: namespace, name and container names, from the kubelet's log folders. Nothing where there are none."""
    found = {}
    for path in _entries(Path(folder)):
        named = _FOLDER.fullmatch(path.name)
        if named is not None:
            containers = tuple(sorted(entry.name for entry in _entries(path)))
            found[named["uid"]] = (named["namespace"], named["name"], containers)
    return found


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def seen_pods(processes: Iterable[Mapping[str, Any]], own: int, logs: str) -> list[Sighting]:
    """The pods that have processes now, in order of uid. ``processes`` are the entries of processes.json."""
    names = log_names(logs)
    inodes: dict[str, set[int | None]] = {}
    for process in processes:
        found = pod_of(process["cgroups"])
        if found is not None:
            inodes.setdefault(found.uid, set()).add(process["netns"])
    pods = []
    for uid, spaces in sorted(inodes.items()):
        namespace, name, containers = names.get(uid, ("unknown", f"pod-{uid}", ()))
        known = spaces - {None}
        pods.append(Sighting(uid, namespace, name, known == {own} if known else None, containers))
    return pods


def pod_list(pods: Iterable[Sighting], node: str) -> dict[str, Any]:
    """A List as the API would send it, with as much of each pod as the node tells."""
    return {"kind": "PodList", "apiVersion": "v1", "items": [_item(pod, node) for pod in pods]}


def _item(pod: Sighting, node: str) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": pod.namespace,
            "name": pod.name,
            "uid": pod.uid,
            "annotations": {TOLD_BY: "the node's processes"},
        },
        "spec": {
            "nodeName": node,
            "hostNetwork": pod.host_network,
            "containers": [{"name": name} for name in pod.containers],
        },
        "status": {
            "phase": "Running",
            **({"podIP": pod.ips[0], "podIPs": [{"ip": ip} for ip in pod.ips]} if pod.ips else {}),
        },
    }
