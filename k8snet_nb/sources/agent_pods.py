"""Agents in pods of the cluster: one Job a node, made only when asked for, and taken away again.

Three things end an agent that is no longer wanted, whatever happened to this process: its input ends, no heartbeat
came, its Job's deadline. The pod then has nothing to wait for, its Job completes, and ttlSecondsAfterFinished deletes
it.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from ..agent.protocol import LIMIT
from ..errors import AgentError
from .agent_exec import ExecStream
from .agent_manifest import (
    LABELS,
    AgentSettings,
    Planned,
    job_manifest,
    job_name,
    namespace_manifest,
    skipped,
)
from .agent_program import agent_command, packed_agent
from .agent_trouble import exec_refused, job_trouble, pod_trouble, refused, said_at_the_end
from .agents import Agent
from .kube_http import Connection

__all__ = ["AgentPods", "clean", "plan"]

_SELECTOR = ",".join(f"{key}={value}" for key, value in LABELS.items())


class _Held:
    """What must be taken away at the end; apart from AgentPods, so that its finalizer does not keep it alive."""

    def __init__(self, connection: Connection, settings: AgentSettings) -> None:
        self.connection, self.settings = connection, settings
        self.lock = threading.Lock()
        self.agents: dict[str, Agent] = {}
        self.jobs: set[str] = set()
        self.over = threading.Event()

    def beat(self) -> None:
        """Ping every agent until the end. A ping's answer is nobody's: only its coming matters, to the agent."""
        while not self.over.wait(self.settings.heartbeat / 3):
            with self.lock:
                agents = list(self.agents.values())
            for agent in agents:
                with suppress(AgentError):
                    agent.send({"op": "ping", "id": 0})

    def clear(self) -> None:
        """End the agents, then delete the Jobs that were made here."""
        self.over.set()
        with self.lock:
            agents, jobs = list(self.agents.values()), list(self.jobs)
            self.agents.clear()
            self.jobs.clear()
        for agent in agents:
            agent.close()
        for name in jobs:
            delete_job(self.connection, self.settings.namespace, name)


class AgentPods:
    """Starts, keeps and removes agents. Close it; at the interpreter's exit it closes itself."""

    def __init__(self, connection: Connection, settings: AgentSettings) -> None:
        self.settings = settings
        self._held = _Held(connection, settings)
        self._connection = connection
        self._ready_namespace = threading.Lock()
        self._finalizer = weakref.finalize(self, self._held.clear)
        threading.Thread(target=self._held.beat, name="k8snet heartbeats", daemon=True).start()

    def close(self) -> None:
        """End all agents and delete their Jobs."""
        self._finalizer()

    def running(self) -> tuple[str, ...]:
        """The nodes whose agents can be asked now."""
        with self._held.lock:
            return tuple(sorted(node for node, agent in self._held.agents.items() if agent.alive))

    def agent(self, node: str) -> Agent:
        """The node's agent, started if there is none or it went away. Raises AgentError with what is in the way."""
        with self._held.lock:
            known = self._held.agents.get(node)
        if known is not None and known.alive:
            return known
        started = self._start(node)
        with self._held.lock:
            self._held.agents[node] = started
        return started

    def start(self, nodes: Iterable[str], told: Callable[[str, str], None] | None = None) -> dict[str, str]:
        """Start agents on several nodes at once, at most ``at_once`` together. Returns {node: why not}.

        ``told`` is called with a node and a word of where it is, from several threads.
        """

        def one(node: str) -> tuple[str, str | None]:
            say = told or (lambda _node, _word: None)
            say(node, "starting")
            try:
                self.agent(node)
            except AgentError as error:
                say(node, f"failed: {error}")
                return node, str(error)
            say(node, "ready")
            return node, None

        with ThreadPoolExecutor(self.settings.at_once, "k8snet agents") as pool:
            return {node: why for node, why in pool.map(one, list(nodes)) if why is not None}

    def _start(self, node: str) -> Agent:
        if self._held.over.is_set():
            raise AgentError("the agents of this cluster were closed. Open it again to start new ones")
        with self._ready_namespace:
            self._namespace()
        name = self._job(node)
        pod = self._pod(node, name)
        try:
            return self._converse(node, pod)
        except AgentError:
            if name in self._held.jobs:
                raise
            # the pod of an earlier session may have ended just now: once more, with a new one
            delete_job(self._connection, self.settings.namespace, name, wait=True)
            return self._converse(node, self._pod(node, self._job(node)))

    def _namespace(self) -> None:
        name = self.settings.namespace
        found = self._connection.request("GET", f"/api/v1/namespaces/{name}")
        if found.ok or found.status == 403:  # not allowed to look is no reason not to try
            return
        if found.status != 404:
            raise refused(found, "get", "namespaces", None, f"namespace {name}")
        made = self._connection.request("POST", "/api/v1/namespaces", body=namespace_manifest(name))
        if not made.ok and made.status != 409:
            raise refused(made, "create", "namespaces", None, f"namespace {name}, which is not there yet")

    def _job(self, node: str) -> str:
        """The node's Job: the one that is there and still good, or a new one."""
        name, namespace = job_name(node), self.settings.namespace
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        for _ in range(3):
            made = self._connection.request("POST", path, body=job_manifest(node, self.settings))
            if made.ok:
                with self._held.lock:
                    self._held.jobs.add(name)
                return name
            if made.status != 409:
                raise refused(made, "create", "jobs.batch", namespace, f"agent of {node}")
            old = self._connection.request("GET", f"{path}/{name}").json()
            if _usable(old):
                return name
            delete_job(self._connection, namespace, name, wait=True)
        raise AgentError(f"agent of {node}: an old Job {name} does not go away. Try `k8snet clean`")

    def _pod(self, node: str, job: str) -> str:
        """The name of the Job's running pod. Raises AgentError with what keeps it from running."""
        namespace = self.settings.namespace
        deadline, pause = time.monotonic() + self.settings.patience, 0.1
        query = {"labelSelector": f"app.kubernetes.io/instance={job}"}
        while True:
            listed = self._connection.request("GET", f"/api/v1/namespaces/{namespace}/pods", query)
            if not listed.ok:
                raise refused(listed, "list", "pods", namespace, f"agent of {node}")
            pods = [p for p in listed.json().get("items") or () if not p["metadata"].get("deletionTimestamp")]
            trouble = self._why_none(job) if not pods else None
            for pod in pods:
                if _running(pod):
                    return str(pod["metadata"]["name"])
                trouble = pod_trouble(pod, self.settings)
            late = time.monotonic() > deadline
            if trouble or late:
                state = "no pod was made" if not pods else f"its pod is {(pods[0].get('status') or {}).get('phase')}"
                told = trouble or f"not running after {self.settings.patience:g} seconds ({state})"
                hint = "" if trouble else f". Look at: kubectl --namespace {namespace} describe pods,jobs"
                raise AgentError(f"agent of {node}: {told}{hint}")
            time.sleep(pause)
            pause = min(pause * 1.5, 2.0)

    def _why_none(self, job: str) -> str | None:
        query = {"fieldSelector": f"involvedObject.name={job}"}
        answer = self._connection.request("GET", f"/api/v1/namespaces/{self.settings.namespace}/events", query)
        return job_trouble(answer.json().get("items") or (), self.settings) if answer.ok else None

    def _converse(self, node: str, pod: str) -> Agent:
        settings = self.settings
        command = agent_command(settings.lock, settings.heartbeat, settings.node_pid, LIMIT)
        query = [("container", "agent"), ("stdin", "true"), ("stdout", "true"), ("stderr", "true"), ("tty", "false")]
        query += [("command", word) for word in command]
        try:
            socket = self._connection.websocket(f"/api/v1/namespaces/{settings.namespace}/pods/{pod}/exec", query)
        except AgentError as error:
            raise exec_refused(error, node, settings) from None
        stream = ExecStream(socket)
        try:
            stream.write(packed_agent())
        except OSError as error:
            raise AgentError(f"agent of {node}: {stream.close() or error}") from None
        agent = Agent(stream, node)
        try:
            agent.hello(settings.patience)
        except AgentError as error:
            agent.close()
            raise AgentError(f"agent of {node}: {said_at_the_end(error, settings)}") from None
        return agent


def _running(pod: Mapping[str, Any]) -> bool:
    status = pod.get("status") or {}
    states = [container.get("state") or {} for container in status.get("containerStatuses") or ()]
    return status.get("phase") == "Running" and any("running" in state for state in states)


def _usable(job: Mapping[str, Any]) -> bool:
    ended = any(
        condition.get("type") in ("Complete", "Failed", "FailureTarget", "SuccessCriteriaMet")
        and condition.get("status") == "True"
        for condition in (job.get("status") or {}).get("conditions") or ()
    )
    return bool(job) and not ended and not (job.get("metadata") or {}).get("deletionTimestamp")


def delete_job(connection: Connection, namespace: str, name: str, wait: bool = False) -> bool:
    """Delete a Job and its pods; with ``wait`` until it is gone. Whether the server agreed."""
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}"
    answer = connection.request("DELETE", path, {"propagationPolicy": "Background"})
    deadline = time.monotonic() + 30
    while wait and answer.ok and time.monotonic() < deadline:
        if connection.request("GET", path).status == 404:
            break
        time.sleep(0.2)
    return answer.ok or answer.status == 404


def plan(nodes: Iterable[dict[str, Any]], connection: Connection, settings: AgentSettings) -> list[Planned]:
    """What :class:`AgentPods` would make for these nodes of the API, in order; looks, and makes nothing."""
    namespace = settings.namespace
    found: list[Planned] = []
    if connection.request("GET", f"/api/v1/namespaces/{namespace}").status == 404:
        says = "privileged pods are allowed in it; it stays, `k8snet clean` removes it"
        found.append(Planned("create", "Namespace", namespace, None, None, says))
    for node in nodes:
        name = str(node["metadata"]["name"])
        why = skipped(node)
        if why is not None:
            found.append(Planned("leave out", "Node", name, None, name, why))
            continue
        says = (
            f"one pod of {settings.image} in the node's network and process namespaces; ends with this session, "
            f"{settings.idle} s after the last agent, or {settings.lifetime // 3600} h after its start"
        )
        found.append(Planned("create", "Job", job_name(name), namespace, name, says))
    return found


def clean(connection: Connection, namespace: str) -> list[str]:
    """Delete every agent's Job in a namespace, and the namespace where it was made for agents and is empty then.

    Returns a line a thing that was deleted. Raises AgentError with the reason when the server refuses.
    """
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    listed = connection.request("GET", path, {"labelSelector": _SELECTOR})
    if listed.status == 404:
        return []
    if not listed.ok:
        raise refused(listed, "list", "jobs.batch", namespace, "clean")
    told = []
    for job in listed.json().get("items") or ():
        name = str(job["metadata"]["name"])
        if not delete_job(connection, namespace, name, wait=True):
            raise AgentError(f"clean: Job {name} in namespace {namespace} could not be deleted")
        told.append(f"deleted Job {name} in namespace {namespace}")
    found = connection.request("GET", f"/api/v1/namespaces/{namespace}").json()
    labels = (found.get("metadata") or {}).get("labels") or {}
    pods = connection.request("GET", f"/api/v1/namespaces/{namespace}/pods").json().get("items")
    if labels.get("app.kubernetes.io/managed-by") == "k8snet" and not [p for p in pods or [] if not _agents(p)]:
        gone = connection.request("DELETE", f"/api/v1/namespaces/{namespace}")
        if not gone.ok:
            raise refused(gone, "delete", "namespaces", None, f"namespace {namespace}")
        told.append(f"deleted Namespace {namespace}")
    return told


def _agents(pod: Mapping[str, Any]) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in LABELS.items())
