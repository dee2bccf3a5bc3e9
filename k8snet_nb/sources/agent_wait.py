"""Waiting for a Job's pod to run: a list, then a watch from that version on, and a list again where the watch ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import AgentError
from .agent_manifest import AgentSettings
from .agent_trouble import job_trouble, pod_trouble, refused
from .kube_http import Connection

__all__ = ["running_pod"]

_FIRST, _LONGEST = 1.0, 10.0
"""Seconds of the first watch and of the longest: in between, events are looked at that no pod tells."""
_AT_LEAST = 0.25
"""Seconds between two lists where watches end at once, as for somebody who may not watch."""

Pods = dict[str, Mapping[str, Any]]


def running_pod(
    connection: Connection, node: str, job: str, settings: AgentSettings, stopped: Callable[[], bool] = lambda: False
) -> str:
    """The name of the Job's running pod. Raises AgentError with what keeps it from running, or when ``stopped``."""
    path = f"/api/v1/namespaces/{settings.namespace}/pods"
    query = {"labelSelector": f"app.kubernetes.io/instance={job}"}
    deadline, span = time.monotonic() + settings.patience, _FIRST
    while True:
        begun = time.monotonic()
        listed = connection.ask("GET", path, query)
        if not listed.ok:
            raise refused(listed, "list", "pods", settings.namespace, f"agent of {node}")
        body = listed.json()
        pods: Pods = {str(pod["metadata"]["name"]): pod for pod in body.get("items") or ()}
        found = _found(pods, node, settings)
        if found is None and not pods:
            _look_at_events(connection, node, job, settings)
        left = deadline - time.monotonic()
        if found is None and left > 0 and not stopped():
            version = str((body.get("metadata") or {}).get("resourceVersion") or "")
            found = _watched(
                connection, path, {**query, "resourceVersion": version}, min(span, left), pods, node, settings
            )
        if found is not None:
            return found
        if stopped():
            raise AgentError(f"agent of {node}: its start was stopped; ask again to start it")
        if time.monotonic() >= deadline:
            raise AgentError(f"agent of {node}: {_late(pods, settings)}")
        time.sleep(max(0.0, min(begun + _AT_LEAST, deadline) - time.monotonic()))
        span = min(span * 2, _LONGEST)


def _watched(
    connection: Connection,
    path: str,
    query: Mapping[str, str],
    seconds: float,
    pods: Pods,
    node: str,
    settings: AgentSettings,
) -> str | None:
    """Follow the pods for a while; the name of one that runs."""
    for event in connection.watch(path, query, seconds):
        pod = event.get("object") or {}
        name = str((pod.get("metadata") or {}).get("name"))
        if event.get("type") == "DELETED":
            pods.pop(name, None)
        elif event.get("type") in ("ADDED", "MODIFIED"):
            pods[name] = pod
        found = _found(pods, node, settings)
        if found is not None:
            return found
    return None


def _found(pods: Pods, node: str, settings: AgentSettings) -> str | None:
    """The name of a pod that runs. Raises AgentError where one will not."""
    trouble = None
    for name, pod in pods.items():
        if pod["metadata"].get("deletionTimestamp"):
            continue
        if _running(pod):
            return name
        trouble = pod_trouble(pod, settings) or trouble
    if trouble:
        raise AgentError(f"agent of {node}: {trouble}")
    return None


def _look_at_events(connection: Connection, node: str, job: str, settings: AgentSettings) -> None:
    query = {"fieldSelector": f"involvedObject.name={job}"}
    answer = connection.ask("GET", f"/api/v1/namespaces/{settings.namespace}/events", query)
    trouble = job_trouble(answer.json().get("items") or (), settings) if answer.ok else None
    if trouble:
        raise AgentError(f"agent of {node}: {trouble}")


def _late(pods: Pods, settings: AgentSettings) -> str:
    states = [str((pod.get("status") or {}).get("phase")) for pod in pods.values()]
    state = f"its pod is {states[0]}" if states else "no pod was made"
    return (
        f"not running after {settings.patience:g} seconds ({state}). "
        f"Look at: kubectl --namespace {settings.namespace} describe pods,jobs"
    )


def _running(pod: Mapping[str, Any]) -> bool:
    status = pod.get("status") or {}
    states = [container.get("state") or {} for container in status.get("containerStatuses") or ()]
    return status.get("phase") == "Running" and any("running" in state for state in states)
