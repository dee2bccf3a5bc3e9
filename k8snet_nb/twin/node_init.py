"""One node of a twin: the first process of its PID namespace. It builds the node from its plan, then does as asked.

It runs in namespaces of its own that somebody else made for it: the keeper on this kernel, ``guest.init`` in a guest.
Requests come on a socket, each with the connection of whoever asked, and are done by a forked child.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TwinError
from . import spaces
from .building import build_space, load_rules
from .inside import child, in_network, run_tool
from .model import LeftOut, Listener, NodePlan, PodPlan, Space
from .packets import receive
from .requests import answer_request
from .serving.servers import serve

if TYPE_CHECKING:
    from .serving.dns_server import Zone  # the DNS library takes its time to load: only where a zone is served

__all__ = ["Node"]

RUN = Path("/run/k8snet")
"""In the node's own /run: resolv.conf and cgroup texts of its pods."""


class Node:
    """A node that is being built, and then runs. ``servers``: a process by pod; under None the node's own."""

    def __init__(self, plan: NodePlan, zone: Zone | None) -> None:
        self.plan, self.zone = plan, zone
        self.sandboxes: dict[str, int] = {}
        self.servers: dict[str | None, int] = {}
        self.left_out: list[LeftOut] = []

    def prepare(self) -> None:
        """Own mounts and host name, and a sandbox process a pod: whoever waits may plug the wire in afterwards."""
        spaces.hide_machine()
        spaces.name_host(self.plan.name)
        if len(self.plan.name) > spaces.LONGEST_HOST:
            why = f"a host name has {spaces.LONGEST_HOST} bytes at most: this node's is cut there"
            self.left_out.append(LeftOut(self.plan.name, "node.json", self.plan.name, why))
        for folder in (RUN, Path("/run/netns")):
            folder.mkdir(parents=True, exist_ok=True)
        for pod in sorted(self.plan.pods, key=lambda pod: pod.pids[:1] or (0,)):
            self._sandbox(pod)

    def build(self) -> list[LeftOut]:
        """Interfaces, addresses, routes, rules, servers. Returns what the node does not have."""
        self.left_out += build_space(self.plan.name, self.plan.space, self._pid_of, run_tool, self.plan.pods)
        for pod in self.plan.pods:
            if pod.space is not None:
                self.left_out += self._build_pod(pod, pod.space)
        self.left_out += load_rules(self.plan, run_tool)
        self._serve(None, self.plan.listeners)
        for pod in self.plan.pods:
            self._serve(pod.key if pod.space is not None else None, pod.listeners, pod)
        return self.left_out

    def network_of(self, pod: str | None) -> int | None:
        """The process in whose network namespace a pod is; None: the node's own. Raises TwinError."""
        if pod is None:
            return None
        if pod not in self.sandboxes:
            raise TwinError(f"no pod {pod} on node {self.plan.name} of this twin")
        return self.sandboxes[pod]

    def _pid_of(self, pod: str) -> int:
        return self.sandboxes[pod]

    @staticmethod
    def _node_pid(_: str) -> int:
        return 1  # the other end of what a pod has is its node, whose first process we are

    def _sandbox(self, pod: PodPlan) -> None:
        reading, writing = os.pipe()

        def pause() -> None:
            spaces.own_mounts()
            if pod.space is not None:
                spaces.new_network()
            self._own_resolv_conf(pod)
            os.write(writing, b".")
            argv = spaces.sleeper()
            os.execv(argv[0], argv[1:])  # noqa: S606

        pid = child(pause, pod.pids[0] if pod.pids else None)
        os.close(writing)
        with os.fdopen(reading, "rb") as ready:
            if not ready.read(1):
                os.waitpid(pid, 0)
                raise TwinError(f"the sandbox of {pod.key} did not start; the twin's log says why")
        self.sandboxes[pod.key] = pid
        self._as_recorded(pod, pid)
        if pod.netns is not None and pod.space is not None:
            name = Path("/run/netns", pod.netns)
            name.touch()
            spaces.bind(f"/proc/{pid}/ns/net", str(name))

    def _own_resolv_conf(self, pod: PodPlan) -> None:
        if not pod.resolv_conf:
            return
        text = RUN / f"resolv-{os.getpid()}"
        text.write_text(pod.resolv_conf)
        target = Path("/etc/resolv.conf").resolve()
        if target.is_relative_to("/run") and not target.exists():  # a link into the /run that we have emptied
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        if target.is_file():
            spaces.bind(str(text), str(target))

    def _as_recorded(self, pod: PodPlan, pid: int) -> None:
        """The process shows the cgroup path that the pod's processes had: by it the agent finds the pod."""
        if pod.cgroup:
            text = RUN / f"cgroup-{pid}"
            text.write_text(f"0::{pod.cgroup}\n")
            spaces.bind(str(text), f"/proc/{pid}/cgroup")

    def _build_pod(self, pod: PodPlan, space: Space) -> list[LeftOut]:
        def work() -> Mapping[str, Any]:
            found = build_space(self.plan.name, space, self._node_pid, run_tool)
            return {"left_out": [(one.node, one.fact, one.text, one.why) for one in found]}

        told = in_network(self.sandboxes[pod.key], work)
        return [LeftOut(*one) for one in told["left_out"]]

    def _serve(self, place: str | None, listeners: Sequence[Listener], pod: PodPlan | None = None) -> None:
        """Start the servers of a pod, or of the node itself; what cannot be served is left out and said."""
        if not listeners:
            return
        reading, writing = os.pipe()

        def work() -> None:
            os.close(reading)
            if place is not None:
                spaces.enter_network(self.sandboxes[place])
            if pod is not None:  # the agent reads a pod's resolv.conf through any process of it
                spaces.enter_mounts(self.sandboxes[pod.key])

            def ready(problems: list[str]) -> None:
                with os.fdopen(writing, "w") as answer:
                    json.dump(problems, answer)

            serve(listeners, self.zone, ready)

        pid = child(work, pod.pids[1] if pod is not None and len(pod.pids) > 1 else None)
        os.close(writing)
        with os.fdopen(reading) as answer:
            text = answer.read()
        problems = json.loads(text) if text else ["the server ended at once; the twin's log says why"]
        who = pod.key if pod is not None else self.plan.name
        self.left_out += [LeftOut(self.plan.name, "servers", who, problem) for problem in problems]
        if pod is not None:
            self._as_recorded(pod, pid)
        self.servers[pod.key if pod is not None else None] = pid

    def stop_server(self, pod: str | None) -> bool:
        """Kill the servers of a pod; whether there were any."""
        pid = self.servers.pop(pod, None)
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
        return True

    def start_server(self, pod: str | None, zone: Zone | None = None) -> list[str]:
        """Start them again (with another zone, if one is given); what could not be served."""
        self.stop_server(pod)
        before, self.zone = len(self.left_out), zone or self.zone
        plan = next((one for one in self.plan.pods if one.key == pod), None)
        if plan is None:
            self._serve(None, self.plan.listeners)
        else:
            self._serve(plan.key if plan.space is not None else None, plan.listeners, plan)
        return [one.why for one in self.left_out[before:]]

    def run(self, control: socket.socket) -> None:
        """Do as asked until the control socket (SOCK_SEQPACKET) ends."""
        while True:
            self._reap()
            readable, _, _ = select.select([control], [], [], 1.0)
            if not readable:
                continue
            data, fds = receive(control)
            if not data:
                return
            for fd in fds:
                self._request(json.loads(data), socket.socket(fileno=fd))

    def _request(self, request: dict[str, Any], connection: socket.socket) -> None:
        with connection:
            answer_request(self, request, connection)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                for place, server in list(self.servers.items()):
                    if server == pid:
                        del self.servers[place]
                        print(f"the server of {place or self.plan.name} ended", file=sys.stderr, flush=True)
