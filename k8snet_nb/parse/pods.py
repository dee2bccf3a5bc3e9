"""Pods: an API object in, what ``kubectl get pods -o wide`` and the lessons say of it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..errors import FactBroken
from .api import canonical_ip, count, mapping, name, parse_time

__all__ = ["PodValue", "parse_pod"]

_FINISHED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class PodValue:
    """One pod. ``ips`` are canonical, of both families, the primary one first; empty until it has one.

    ``host_network`` is None where that is not known, which an API server always does: without it, it is false.
    ``status`` is kubectl's word (CrashLoopBackOff, Init:0/1, Terminating ...), ``phase`` the API's; they differ.
    """

    namespace: str
    name: str
    uid: str
    node: str | None
    phase: str
    status: str
    ready: str
    restarts: int
    created: datetime | None
    ips: tuple[str, ...]
    host_network: bool | None
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owner: str | None
    raw: Mapping[str, Any]

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    @property
    def finished(self) -> bool:
        """Whether all its containers ended for good: its address may belong to another pod by now."""
        return self.phase in _FINISHED


def parse_pod(item: Mapping[str, Any]) -> PodValue:
    """A Pod of the API. Raises FactBroken when it lacks what every pod of an API server has (spec, status)."""
    meta = item["metadata"]
    namespace, own_name = str(meta.get("namespace", "default")), str(meta["name"])
    spec, status = _part(item, "spec", namespace, own_name), _part(item, "status", namespace, own_name)
    containers, restarts, word = _containers(meta, spec, status)
    owners = meta.get("ownerReferences") or ()
    owner = next((f"{o.get('kind')}/{o.get('name')}" for o in owners if o.get("controller")), None)
    return PodValue(
        namespace=namespace,
        name=own_name,
        uid=str(meta.get("uid", "")),
        node=name(spec["nodeName"]) if spec.get("nodeName") else None,
        phase=str(status.get("phase") or "Unknown"),
        status=word,
        ready=containers,
        restarts=restarts,
        created=parse_time(meta.get("creationTimestamp")),
        ips=_ips(status),
        host_network=None if spec.get("hostNetwork", False) is None else spec.get("hostNetwork") is True,
        labels=mapping(meta.get("labels")),
        annotations=mapping(meta.get("annotations")),
        owner=owner,
        raw=item,
    )


def _part(item: Mapping[str, Any], part: str, namespace: str, own_name: str) -> dict[str, Any]:
    value = item.get(part)
    if not isinstance(value, dict):
        where = f"pod {namespace}/{own_name}"
        raise FactBroken("pods.json", where, f"has no {part}", "An API server always sends it: record it again.")
    return value


def _ips(status: Mapping[str, Any]) -> tuple[str, ...]:
    many = status.get("podIPs")
    if isinstance(many, list) and many:
        return tuple(canonical_ip(entry["ip"]) for entry in many if isinstance(entry, dict) and entry.get("ip"))
    return (canonical_ip(status["podIP"]),) if status.get("podIP") else ()


def _condition(status: Mapping[str, Any], kind: str) -> bool:
    return any(c.get("type") == kind and c.get("status") == "True" for c in status.get("conditions") or ())


def _containers(meta: Mapping[str, Any], spec: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[str, int, str]:
    """READY, RESTARTS and STATUS as kubectl's table printer derives them."""
    inits = {str(c.get("name")): c for c in spec.get("initContainers") or ()}
    sidecars = {name for name, c in inits.items() if c.get("restartPolicy") == "Always"}
    total = len(spec.get("containers") or ()) + len(sidecars)
    word = str(status.get("reason") or status.get("phase") or "Unknown")
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            word = "SchedulingGated"
    ready, restarts, sidecar_restarts, init_word = _init_word(status, inits, sidecars)
    word = init_word or word
    if init_word is None or _condition(status, "Initialized"):
        word, more_ready, more_restarts = _main_word(word, status)
        ready += more_ready
        restarts = sidecar_restarts + more_restarts
    if meta.get("deletionTimestamp"):
        if status.get("reason") == "NodeLost":
            word = "Unknown"
        elif status.get("phase") not in _FINISHED:
            word = "Terminating"
    return f"{ready}/{total}", restarts, word


def _init_word(
    status: Mapping[str, Any], inits: Mapping[str, Any], sidecars: set[str]
) -> tuple[int, int, int, str | None]:
    """Ready sidecars, restarts, those of sidecars, and the word for the first init container that is not done."""
    ready = restarts = of_sidecars = 0
    for number, container in enumerate(status.get("initContainerStatuses") or ()):
        state = mapping(container.get("state"))
        sidecar = container.get("name") in sidecars
        restarted = count(container.get("restartCount"))
        restarts, of_sidecars = restarts + restarted, of_sidecars + restarted * sidecar
        ended, waiting = mapping(state.get("terminated")), mapping(state.get("waiting"))
        if state.get("terminated") is not None and ended.get("exitCode") == 0:
            continue
        if sidecar and container.get("started"):
            ready += bool(container.get("ready"))
            continue
        word = f"Init:{number}/{len(inits)}"
        if state.get("terminated") is not None:
            word = "Init:" + _ended(ended)
        elif waiting.get("reason") and waiting["reason"] != "PodInitializing":
            word = f"Init:{waiting['reason']}"
        return ready, restarts, of_sidecars, word
    return ready, restarts, of_sidecars, None


def _main_word(word: str, status: Mapping[str, Any]) -> tuple[str, int, int]:
    ready = restarts = 0
    running = False
    for container in reversed(status.get("containerStatuses") or ()):
        state = mapping(container.get("state"))
        restarts += count(container.get("restartCount"))
        waiting, ended = mapping(state.get("waiting")), mapping(state.get("terminated"))
        if waiting.get("reason"):
            word = str(waiting["reason"])
        elif state.get("terminated") is not None:
            word = _ended(ended)
        elif container.get("ready") and state.get("running") is not None:
            running = True
            ready += 1
    if word == "Completed" and running:
        word = "Running" if _condition(status, "Ready") else "NotReady"
    return word, ready, restarts


def _ended(state: Mapping[str, Any]) -> str:
    if state.get("reason"):
        return str(state["reason"])
    return f"Signal:{state['signal']}" if state.get("signal") else f"ExitCode:{state.get('exitCode', '?')}"
