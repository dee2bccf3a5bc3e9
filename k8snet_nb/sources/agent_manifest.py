"""What an agent is to the cluster: its Job, the namespace, and the list of both to read before anything is made.

Privileges, each with its reason. Together they are root on the node in effect, which is why the namespace must be
one that Pod Security lets run privileged pods, and why nobody else should be allowed to exec into it.

- ``hostNetwork``: links, routes, rules and connections of the node's own network namespace;
- ``hostPID``: /proc of the node's processes: their namespaces, cgroups and command lines;
- SYS_PTRACE: opening /proc/PID/ns/* and /proc/PID/root of other processes;
- SYS_ADMIN: entering network namespaces of pods and the node's mount namespace (setns(2)), namespace ids;
- SYS_CHROOT: setns(2) asks for it when a mount namespace is entered;
- NET_ADMIN: listing netfilter rules, sets, virtual servers and tracked connections;
- NET_RAW: iptables-legacy-save lists through a raw socket;
- DAC_READ_SEARCH: /proc/PID/fd of processes of other users, to say whose a socket is;
- SYSLOG: lines about conntrack in the kernel's log.

No host path is mounted, nothing is privileged as a whole, the service account's token is not mounted.
"""

from __future__ import annotations

import getpass
import hashlib
import socket
from dataclasses import dataclass
from typing import Any

from .agent_program import waiter_command

__all__ = ["CAPABILITIES", "COMPONENT", "IMAGE", "LABELS", "AgentSettings", "Planned", "job_manifest", "job_name",
           "namespace_manifest", "skipped"]  # fmt: skip

IMAGE = "python:3.13-alpine"
CAPABILITIES = ("SYS_PTRACE", "SYS_ADMIN", "SYS_CHROOT", "NET_ADMIN", "NET_RAW", "DAC_READ_SEARCH", "SYSLOG")
COMPONENT = "k8snet-agent"
LABELS = {"app.kubernetes.io/name": COMPONENT, "app.kubernetes.io/managed-by": "k8snet"}
_INSTANCE = "app.kubernetes.io/instance"
_APPARMOR = {"container.apparmor.security.beta.kubernetes.io/agent": "unconfined"}
"""For servers before 1.30, which do not know the field; newer ones ask that both say the same."""


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """How agents are run. Seconds: a Job's longest life, its time after the end, without an agent, to a heartbeat."""

    namespace: str = "k8snet"
    image: str = IMAGE
    lifetime: int = 4 * 3600
    time_to_live: int = 60
    idle: int = 90
    heartbeat: int = 30
    patience: float = 120.0
    at_once: int = 8
    lock: str = "/"
    node_pid: int = 1
    image_pull_secret: str | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """One thing that would be made, or a node that is left out and why."""

    action: str
    kind: str
    name: str
    namespace: str | None
    node: str | None
    says: str


def owner() -> str:
    """Who runs the agents of this process: user and machine."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return f"unknown@{socket.gethostname()}"


def job_name(node: str) -> str:
    """The name of a node's Job, the same for the same user on the same machine, so that it is found again."""
    return f"{COMPONENT}-{hashlib.sha256(f'{owner()} {node}'.encode()).hexdigest()[:12]}"


def namespace_manifest(name: str) -> dict[str, Any]:
    """The agents' namespace: privileged pods are allowed in it (Pod Security), and only meant to be agents."""
    security = {f"pod-security.kubernetes.io/{mode}": "privileged" for mode in ("enforce", "audit", "warn")}
    labels = {"app.kubernetes.io/managed-by": "k8snet", **security}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def job_manifest(node: str, settings: AgentSettings) -> dict[str, Any]:
    """The Job that keeps a pod for agents on a node."""
    name = job_name(node)
    labels = {**LABELS, _INSTANCE: name}
    notes = {"k8snet-nb/node": node, "k8snet-nb/started-by": owner()}
    pod = {"metadata": {"labels": labels, "annotations": {**notes, **_APPARMOR}}, "spec": _pod_spec(node, settings)}
    spec = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": settings.lifetime,
        "ttlSecondsAfterFinished": settings.time_to_live,
        "template": pod,
    }
    metadata = {"name": name, "namespace": settings.namespace, "labels": labels, "annotations": notes}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _pod_spec(node: str, settings: AgentSettings) -> dict[str, Any]:
    security = {
        "runAsUser": 0,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": list(CAPABILITIES)},
        "seccompProfile": {"type": "RuntimeDefault"},
        # both confinements would keep the agent from looking at processes outside of its container
        "appArmorProfile": {"type": "Unconfined"},
        "seLinuxOptions": {"type": "spc_t"},
    }
    container = {
        "name": "agent",
        "image": settings.image,
        "imagePullPolicy": "IfNotPresent",
        "command": waiter_command(settings.lock, settings.idle),
        "resources": {
            "requests": {"cpu": "10m", "memory": "64Mi"},
            "limits": {"cpu": "1", "memory": "1Gi"},
        },
        "securityContext": security,
    }
    spec: dict[str, Any] = {
        "nodeName": node,
        "hostNetwork": True,
        "hostPID": True,
        "dnsPolicy": "Default",
        "restartPolicy": "Never",
        "tolerations": [{"operator": "Exists"}],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 2,
        "containers": [container],
    }
    if settings.image_pull_secret:
        spec["imagePullSecrets"] = [{"name": settings.image_pull_secret}]
    return spec


def skipped(node: dict[str, Any]) -> str | None:
    """Why a node of the API gets no agent; None when it can have one."""
    status = node.get("status") or {}
    labels = (node.get("metadata") or {}).get("labels") or {}
    system = (status.get("nodeInfo") or {}).get("operatingSystem") or labels.get("kubernetes.io/os") or "linux"
    if system != "linux":
        return f"its system is {system}; agents read Linux nodes"
    if labels.get("type") == "virtual-kubelet":
        return "it is a virtual kubelet: there is no kernel to read"
    ready = next((c for c in status.get("conditions") or () if c.get("type") == "Ready"), None)
    if ready is None or ready.get("status") != "True":
        word = "says nothing of" if ready is None else f"is {ready.get('status')}:"
        return (
            f"it is not ready (Ready {word} {(ready or {}).get('message') or 'its kubelet'}); no pod would start on it"
        )
    return None
