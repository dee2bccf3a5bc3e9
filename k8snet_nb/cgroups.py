"""Which pod and which container a process belongs to, read from its cgroup paths. Standard library only.

The kubelet names one cgroup a pod after the pod's uid, below ``kubepods``, and the container runtime one a container
below that. Two drivers spell the same tree differently:

- cgroupfs: ``/kubepods/besteffort/pod<uid>/<container id>``
- systemd: ``/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod<uid>.slice/cri-containerd-<id>.scope``,
  with ``_`` for each ``-`` of the uid

Before ``kubepods`` anything may stand (a node that is itself a container, ``/../`` as seen from another cgroup
namespace, ``/kubelet.slice/kubelet-kubepods.slice``). A static pod has no uid when the kubelet starts it: its cgroup
carries the 32 hex digits of the ``kubernetes.io/config.hash`` annotation instead.

Sources: kubernetes pkg/kubelet/cm (pod_container_manager, cgroup_manager); systemd.slice(5); containerd, CRI-O and
cri-dockerd name the scopes.
"""
# Also runs on a node's own Python 3.9, as part of the agent: there `X | Y` may stand in annotations only.

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["PodCgroup", "ProcessRecord", "choose_sandbox", "pod_cgroup", "pod_of", "same_pod"]

_UID = r"[0-9a-fA-F]{8}(?P<sep>[-_])[0-9a-fA-F]{4}(?P=sep)[0-9a-fA-F]{4}(?P=sep)[0-9a-fA-F]{4}(?P=sep)[0-9a-fA-F]{12}"
_POD = re.compile(r"(?:.+-)?pod(?P<uid>" + _UID + r"|[0-9a-fA-F]{32})(?:\.slice)?", re.ASCII)
_CONTAINER = re.compile(r"(?:(?P<prefix>[a-z][a-z0-9.-]*)-)?(?P<cid>[0-9a-f]{64})(?:\.scope)?", re.ASCII)
_KUBEPODS = re.compile(r"(?:.+-)?kubepods(?:-.+)?(?:\.slice)?", re.ASCII)
_SHIM = re.compile(r"(?:^|/)containerd-shim\S* .*?-id ([0-9a-f]{64})(?:\s|$)", re.ASCII)
_JOINED = re.compile(r"(.+\.slice):([a-z][a-z0-9.-]*):([0-9a-f]{64})", re.ASCII)
"""systemd's three-part spelling, taken literally by a runtime whose own driver is cgroupfs."""
_MONITORS = ("crio-conmon", "libpod-conmon")


class PodCgroup(NamedTuple):
    """Of whom a cgroup is: the pod's uid (with ``-``) or config hash, the container's id, and the runtime's prefix."""

    uid: str
    container_id: str | None = None
    runtime: str | None = None


class ProcessRecord(NamedTuple):
    """One process as far as finding pods needs it: pid, netns inode, its cgroup paths, its command line."""

    pid: int
    netns: int | None
    cgroups: tuple[str, ...]
    cmdline: str


def pod_cgroup(path: str) -> PodCgroup | None:
    """The pod and container that one cgroup path names; None when it names none.

    >>> pod_cgroup("/kubepods/besteffort/pod2174b7f8-0b0f-4e45-b59b-7a9431686311").uid
    '2174b7f8-0b0f-4e45-b59b-7a9431686311'
    """
    parts = _JOINED.sub(r"\1/\2-\3", path).split("/")
    for position, part in enumerate(parts):
        found = _POD.fullmatch(part)
        if found is None or not _below_kubepods(parts[:position], part):
            continue
        uid = found.group("uid").lower().replace("_", "-")
        for below in parts[position + 1 :]:
            container = _CONTAINER.fullmatch(below)
            if container is not None:
                return PodCgroup(uid, container.group("cid"), container.group("prefix"))
        return PodCgroup(uid)
    return None


def _below_kubepods(above: Sequence[str], part: str) -> bool:
    """Whether a pod's own directory hangs in the kubelet's tree: a look-alike elsewhere is not a pod's."""
    return "kubepods" in part or any(_KUBEPODS.fullmatch(name) for name in above)


def pod_of(cgroups: Iterable[str]) -> PodCgroup | None:
    """The pod that a process belongs to, from all its cgroup paths (one a hierarchy in cgroup v1).

    The path that also names the container wins. None when the paths name no pod, or several different ones.
    """
    found = [named for named in (pod_cgroup(path) for path in cgroups) if named is not None]
    if len({named.uid for named in found}) != 1:
        return None
    return max(found, key=lambda named: named.container_id is not None)


def same_pod(uid: str, identities: Iterable[str]) -> bool:
    """Whether a uid or hash from a cgroup is one of a pod's identities (API uid, config.hash, config.mirror)."""
    return uid.replace("-", "").lower() in {name.replace("-", "").replace("_", "").lower() for name in identities}


def choose_sandbox(
    members: Sequence[ProcessRecord], others: Iterable[ProcessRecord] = ()
) -> tuple[ProcessRecord | None, str]:
    """The pod's sandbox process among the processes of its cgroups, and why; None when there is none.

    Evidence in this order: containerd's shim is started with the sandbox's id, which is the container id of one
    cgroup only; the command is a pause program; the only process. A monitor (conmon) is never the sandbox.
    """
    inside = [member for member in members if not _is_monitor(member)]
    shims = {m.group(1) for m in (_SHIM.search(other.cmdline) for other in others) if m is not None}
    led = [member for member in inside if _container(member) in shims]
    if len({_container(member) for member in led}) == 1:
        return _first(led), "its container id is the one that the pod's containerd-shim was started with"
    paused = [member for member in inside if _command(member).rsplit("/", 1)[-1] == "pause"]
    if paused:
        return _first(paused), "its command is the pause program"
    return None, "no process of the pod is a pause program or leads a containerd-shim"


def _first(members: list[ProcessRecord]) -> ProcessRecord:
    return min(members, key=lambda member: member.pid)


def _command(member: ProcessRecord) -> str:
    return member.cmdline.split(" ", 1)[0]


def _container(member: ProcessRecord) -> str | None:
    named = pod_of(member.cgroups)
    return named.container_id if named else None


def _is_monitor(member: ProcessRecord) -> bool:
    named = pod_of(member.cgroups)
    return bool(named and named.runtime in _MONITORS)
