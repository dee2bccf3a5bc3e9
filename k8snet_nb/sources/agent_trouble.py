"""What keeps an agent from starting, in words: what is in the way, and what to ask an administrator for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import AgentError
from .agent_manifest import AgentSettings
from .kube_api import needed
from .kube_http import Answer

__all__ = ["exec_refused", "job_trouble", "pod_trouble", "refused", "said_at_the_end"]

_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_START = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError", "ContainerCannotRun")


def refused(answer: Answer, verb: str, resource: str, namespace: str | None, about: str) -> AgentError:
    """The API server's no to one request."""
    where = f" in namespace {namespace}" if namespace else ""
    if answer.status == 401:
        why = "not logged in (401). Renew the credentials of this kubeconfig context"
    elif answer.status == 403 and " cannot " not in answer.message:  # the authorizer's word in every refusal of a right
        why = (
            f"refused (403): {answer.message}. This is no missing right but a policy of the cluster, or something "
            f"between here and the server: show the message to an administrator"
        )
    elif answer.status == 403:
        why = (
            f"forbidden (403): {answer.message}. It needs the verb {verb} on {resource}{where}. "
            f"Ask an administrator for: {needed(verb, resource, namespace)}"
        )
    elif answer.status == 404:
        why = f"not found (404): {answer.message}{_no_namespace(answer, namespace)}"
    else:
        why = f"the server answered {answer.status}: {answer.message}"
    error = AgentError(f"{about}: {why}")
    error.status = answer.status
    return error


def _no_namespace(answer: Answer, namespace: str | None) -> str:
    if namespace is None or "namespaces" not in answer.message:
        return ""
    return (
        f". Ask an administrator for the namespace: `kubectl create namespace {namespace}` and "
        f"`kubectl label namespace {namespace} pod-security.kubernetes.io/enforce=privileged`"
    )


def job_trouble(events: Iterable[Mapping[str, Any]], settings: AgentSettings) -> str | None:
    """Why a Job has no pod, from its events (newest last)."""
    for event in reversed(list(events)):
        said = str(event.get("message"))
        if event.get("reason") != "FailedCreate":
            continue
        if "violates PodSecurity" in said:
            return (
                f"Pod Security refuses it: {said[:500]}. Ask an administrator to let this namespace run privileged "
                f"pods: "
                f"`kubectl label namespace {settings.namespace} pod-security.kubernetes.io/enforce=privileged`, or "
                f"name another with namespace=..."
            )
        if "exceeded quota" in said:
            return f"a ResourceQuota refuses it: {said[:500]}. Ask for room in namespace {settings.namespace}"
        return (
            f"its pod was refused: {said[:500]}. This is a policy of the cluster: show the message to an administrator"
        )
    return None


def pod_trouble(pod: Mapping[str, Any], settings: AgentSettings) -> str | None:
    """Why a pod will not run, as far as its status tells by now."""
    status = pod.get("status") or {}
    if status.get("phase") in ("Failed", "Succeeded"):
        return _ended(status, settings)
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, said = waiting.get("reason"), str(waiting.get("message") or "")[:400]
        if reason in _IMAGE:
            return (
                f"its image cannot be pulled ({reason}): {settings.image}: {said}. Give one that this cluster can "
                f"pull, "
                f'kn.open("live", agents=True, image="...") (any image with Python 3.9 or newer), and '
                f"image_pull_secret=... where its registry asks for one"
            )
        if reason in _START:
            return _no_start(said, settings)
    return None


def _ended(status: Mapping[str, Any], settings: AgentSettings) -> str:
    reason, said = status.get("reason"), str(status.get("message") or "")[:400]
    for container in status.get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended.get("reason") in _START:
            return _no_start(str(ended.get("message") or ""), settings)
        reason = reason or ended.get("reason")
        said = said or str(ended.get("message") or f"exit code {ended.get('exitCode')}")
    if reason in ("OutOfcpu", "OutOfmemory", "OutOfpods"):
        return f"the node has no room for it ({reason}): {said}"
    return f"its pod ended: {reason or status.get('phase')}: {said}"


def _no_start(said: str, settings: AgentSettings) -> str:
    if "executable file not found" in said or "no such file" in said:
        return (
            f"the image {settings.image} has no python3 ({said[:300]}). Give one with Python 3.9 or newer: "
            f'kn.open("live", agents=True, image="python:3.13-alpine"), or build deploy/agent/Dockerfile'
        )
    return f"its container did not start: {said[:400]}"


def exec_refused(error: AgentError, node: str, settings: AgentSettings) -> AgentError:
    """The no to an exec: the server's own status decides what it means."""
    about = f"agent of {node}"
    if error.status == 403:
        asked = needed("get,create", "pods/exec", settings.namespace)
        why = (
            f"forbidden (403): {error}. It needs the verbs get and create on pods/exec in namespace "
            f"{settings.namespace}. Ask an administrator for: {asked}"
        )
    elif error.status == 401:
        why = f"not logged in (401): {error}. Renew the credentials of this kubeconfig context"
    elif error.status == 404:
        why = f"its pod is gone (404): {error}. Ask again: it is started anew"
    elif "10250" in str(error):
        why = (
            f"the API server does not reach the node's kubelet: {error}. Then `kubectl exec` and `logs` fail there too"
        )
    else:
        why = f"no exec into its pod: {error}"
    told = AgentError(f"{about}: {why}")
    told.status = error.status
    return told


def said_at_the_end(error: AgentError, settings: AgentSettings) -> str:
    """An agent that ended before it said hello: what its last words mean."""
    said = str(error)
    if "executable file not found" in said or "no such file" in said:
        return _no_start(said, settings)
    if "hostPID" in said or "may not be opened" in said or "mount namespace" in said:
        return (
            f"{said}. Something takes privileges away from the agent's pod: see docs/live.md for what it needs and why"
        )
    return said
