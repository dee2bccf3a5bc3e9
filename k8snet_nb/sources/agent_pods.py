"""Agents in pods of the cluster: one Job a node, made only when asked for, and taken away again.

Three things end an agent that is no longer wanted, whatever happened to this process: its input ends, no heartbeat
came, its Job's deadline. The pod then has nothing to wait for, its Job completes, and ttlSecondsAfterFinished deletes
it.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
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
from .agent_trouble import exec_refused, refused, said_at_the_end
from .agent_wait import running_pod
from .agents import Agent
from .kube_http import WAITS, Connection
from .together import together

__all__ = ["AgentPods", "clean", "plan"]

_CLOSED = "the agents of this cluster were closed. Open it again to start new ones"
_SELECTOR = ",".join(f"{key}={value}" for key, value in LABELS.items())


class _Held:
    """What must be taken away at the end; apart from AgentPods, so that its finalizer does not keep it alive."""

    def __init__(self, connection: Connection, settings: AgentSettings) -> None:
        self.connection, self.settings = connection, settings
        self.lock = threading.Lock()
        self.agents: dict[str, Agent] = {}
        self.jobs: set[str] = set()
        self.over = threading.Event()

    def beat(self, agent: Agent) -> None:
        """Ping an agent until its end. A ping's answer is nobody's: only its coming matters, to the agent."""
        while not self.over.wait(self.settings.heartbeat / 3) and agent.alive:
            with suppress(AgentError):
                agent.send({"op": "ping", "id": 0})

    def keep(self, node: str, agent: Agent) -> None:
        """Have it found, kept alive and ended with the others. Raises AgentError when those have ended."""
        with self.lock:
            self.agents[node] = agent
        # a thread each: one whose connection hangs must not keep the beats from the others
        threading.Thread(target=self.beat, args=(agent,), name=f"k8snet heartbeat of {node}", daemon=True).start()
        if self.over.is_set():
            agent.close()
            raise AgentError(_CLOSED)

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
        self._starting: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._finalizer = weakref.finalize(self, self._held.clear)

    def close(self) -> None:
        """End all agents and delete their Jobs."""
        self._finalizer()

    def running(self) -> tuple[str, ...]:
        """The nodes whose agents can be asked now."""
        with self._held.lock:
            return tuple(sorted(node for node, agent in self._held.agents.items() if agent.alive))

    def agent(self, node: str, stopped: threading.Event | None = None) -> Agent:
        """The node's agent, started if there is none or it went away. Raises AgentError with what is in the way.

        ``stopped``: ends the waiting once it is set.
        """
        with self._starting[node]:
            with self._held.lock:
                known = self._held.agents.get(node)
            if known is not None and known.alive:
                return known
            started = self._start(node, stopped or threading.Event())
            self._held.keep(node, started)
            return started

    def start(
        self,
        nodes: Iterable[str],
        told: Callable[[str, str], None] | None = None,
        go_on: Callable[[], object] = lambda: None,
    ) -> dict[str, str]:
        """Start agents on several nodes at once, at most ``at_once`` together. Returns {node: why not}.

        ``told`` is called with a node and a word of where it is, from several threads; ``go_on`` now and then, and
        raises to stop.
        """
        stopped = threading.Event()

        def one(node: str) -> tuple[str, str | None]:
            say = told or (lambda _node, _word: None)
            say(node, "starting")
            try:
                self.agent(node, stopped)
            except AgentError as error:
                say(node, f"failed: {error}")
                return node, str(error)
            say(node, "ready")
            return node, None

        try:
            found = together(one, list(nodes), self.settings.at_once, go_on)
            return {node: why for node, why in found if why is not None}
        except BaseException:  # interrupted: those that are still coming up end their waiting
            stopped.set()
            raise

    def _start(self, node: str, stopped: threading.Event) -> Agent:
        if self._held.over.is_set():
            raise AgentError(_CLOSED)
        with self._ready_namespace:
            self._namespace(stopped)
        name = self._job(node)
        try:
            return self._converse(node, self._pod(node, name, stopped), stopped)
        except AgentError:
            if name in self._held.jobs or stopped.is_set():
                raise
        # the pod of an earlier session, which ended just now or cannot start: once more, with a new one
        delete_job(self._connection, self.settings.namespace, name, wait=True)
        return self._converse(node, self._pod(node, self._job(node), stopped), stopped)

    def _pod(self, node: str, job: str, stopped: threading.Event) -> str:
        return running_pod(self._connection, node, job, self.settings, stopped.is_set)

    def _namespace(self, stopped: threading.Event) -> None:
        name, until = self.settings.namespace, time.monotonic() + self.settings.patience
        path = f"/api/v1/namespaces/{name}"
        found = self._connection.ask("GET", path)
        while found.ok and (found.json().get("status") or {}).get("phase") == "Terminating":
            if time.monotonic() > until or stopped.wait(1.0):
                raise AgentError(f"namespace {name} is being deleted, and is not gone yet. Ask again when it is")
            found = self._connection.ask("GET", path)
        if found.ok or found.status == 403:  # not allowed to look is no reason not to try
            return
        if found.status != 404:
            raise refused(found, "get", "namespaces", None, f"namespace {name}")
        made = self._connection.ask("POST", "/api/v1/namespaces", body=namespace_manifest(name))
        if not made.ok and made.status != 409:
            raise refused(made, "create", "namespaces", None, f"namespace {name}, which is not there yet")

    def _job(self, node: str) -> str:
        """The node's Job: the one that is there and still good, or a new one."""
        name, namespace = job_name(node), self.settings.namespace
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        for _ in range(3):
            made = self._connection.ask("POST", path, body=job_manifest(node, self.settings))
            if made.ok:
                with self._held.lock:
                    self._held.jobs.add(name)
                return name
            if made.status != 409:
                raise refused(made, "create", "jobs.batch", namespace, f"agent of {node}")
            old = self._connection.ask("GET", f"{path}/{name}").json()
            if _usable(old):
                return name
            delete_job(self._connection, namespace, name, wait=True)
        raise AgentError(f"agent of {node}: an old Job {name} does not go away. Try `k8snet clean`")

    def _converse(self, node: str, pod: str, stopped: threading.Event) -> Agent:
        settings = self.settings
        command = agent_command(settings.lock, settings.heartbeat, settings.node_pid, LIMIT)
        query = [("container", "agent"), ("stdin", "true"), ("stdout", "true"), ("stderr", "true"), ("tty", "false")]
        query += [("command", word) for word in command]
        path = f"/api/v1/namespaces/{settings.namespace}/pods/{pod}/exec"
        for wait in (*WAITS, None):
            try:
                socket = self._connection.websocket(path, query)
                break
            except AgentError as error:
                passing = error.status == 429 or (error.status or 0) >= 500
                if wait is None or not passing or stopped.wait(wait):
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
    answer = connection.ask("DELETE", path, {"propagationPolicy": "Background"})
    deadline = time.monotonic() + 30
    while wait and answer.ok and time.monotonic() < deadline:
        if connection.ask("GET", path).status == 404:
            break
        time.sleep(0.2)
    return answer.ok or answer.status == 404


def plan(nodes: Iterable[dict[str, Any]], connection: Connection, settings: AgentSettings) -> list[Planned]:
    """What :class:`AgentPods` would make for these nodes of the API, in order; looks, and makes nothing."""
    namespace = settings.namespace
    found: list[Planned] = []
    if connection.ask("GET", f"/api/v1/namespaces/{namespace}").status == 404:
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
    listed = connection.ask("GET", path, {"labelSelector": _SELECTOR})
    if listed.status == 404:
        return []
    if not listed.ok:
        raise refused(listed, "list", "jobs.batch", namespace, "clean")
    told = []
    for job in listed.json().get("items") or ():
        name = str(job["metadata"]["name"])
        if not delete_job(connection, namespace, name, wait=True):
            by_hand = f"kubectl -n {namespace} delete job {name}"
            raise AgentError(f"clean: Job {name} in namespace {namespace} could not be deleted: {by_hand}")
        told.append(f"deleted Job {name} in namespace {namespace}")
    found = connection.ask("GET", f"/api/v1/namespaces/{namespace}").json()
    labels = (found.get("metadata") or {}).get("labels") or {}
    pods = connection.ask("GET", f"/api/v1/namespaces/{namespace}/pods")
    known_empty = pods.ok and all(map(_agents, pods.json().get("items") or ()))
    if labels.get("app.kubernetes.io/managed-by") == "k8snet" and known_empty:
        gone = connection.ask("DELETE", f"/api/v1/namespaces/{namespace}")
        if not gone.ok:
            raise refused(gone, "delete", "namespaces", None, f"namespace {namespace}")
        told.append(f"deleted Namespace {namespace}")
    return told


def _agents(pod: Mapping[str, Any]) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return all(labels.get(key) == value for key, value in LABELS.items())
