"""``kn.open("live")``: a cluster as it is now. Its API always; its nodes' kernels through agents, where asked for.

How facts are read and kept is :mod:`.cluster_source`'s; here is whose API, and the agents that run as pods.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import AgentError, NotFound
from ..render import printable
from .agent_manifest import AgentSettings, Planned, skipped
from .agent_pods import AgentPods, plan
from .agents import Agent
from .cluster_source import ClusterSource
from .kube_api import KubeApi

__all__ = ["LiveSource"]

_OFF = "agents are off: only the API is read"
_ON = 'To read nodes: kn.open("live", agents=True), or kn.live_agents(cluster), which lists first what it would create'


class LiveSource(ClusterSource):
    """The cluster of a kubeconfig context. Close it, or use ``with``, so that its agents are taken away at once."""

    kind = "live"

    def __init__(self, api: KubeApi, settings: AgentSettings | None = None) -> None:
        self.api, self.settings = api, settings or AgentSettings()
        super().__init__(self.settings.at_once)
        self.name = api.connection.context or "in-cluster"
        self._pods: AgentPods | None = None
        self._without: dict[str, str] = {}
        self._user: str | None = None

    def close(self) -> None:
        """End all agents and delete their Jobs. The API can still be read."""
        with self._lock:
            self._nodes.clear()
            self._wanted = ()
            pods, self._pods = self._pods, None
        if pods is not None:
            pods.close()

    @property
    def user(self) -> str:
        """Who the API server says that we are; asked once."""
        if self._user is None:
            self._user = self.api.user()
        return self._user

    def describe(self) -> str:
        """Context, server and user, and how many nodes' kernels can be read."""
        kernels = "agents are off" if self._pods is None else f"agents on {len(self.nodes())} nodes"
        if self._pods is not None and self._without:
            kernels += f", none on {', '.join(sorted(self._without))}"
        return printable(f"live cluster: {self.api.about}, user {self.user}; {kernels}")

    def stop(self) -> None:
        """End what is being read, in whichever threads: of the API after its page, of nodes after those at work."""
        self.api.stop()

    def plan(self, nodes: Sequence[str] | None = None) -> list[Planned]:
        """What :meth:`start_agents` would create, and where. Nothing is created by asking."""
        return plan(self._chosen(nodes), self.api.connection, self.settings)

    def start_agents(
        self, nodes: Sequence[str] | None = None, told: Callable[[str, str], None] | None = None
    ) -> dict[str, str]:
        """Start agents on all nodes that can have one, or on some. Returns {node: why it has none}.

        A node that fails does not keep the others. ``told(node, word)`` is called as they come up.
        """
        chosen = {str(node["metadata"]["name"]): skipped(node) for node in self._chosen(nodes)}
        with self._lock:
            if self._pods is None:
                self._pods = AgentPods(self.api.connection, self.settings)
            pods = self._pods
        self._without.update({name: why for name, why in chosen.items() if why is not None})
        wanted = [name for name, why in chosen.items() if why is None]
        check, ended = self.api.stopper(), set[str]()

        def say(node: str, word: str) -> None:
            if word != "starting":
                ended.add(node)
            if told is not None:
                told(node, word)

        def go_on() -> None:
            check()
            if told is None and self.api.progress is not None:
                self.api.progress("agents", len(ended), len(wanted))

        try:
            self._without.update(pods.start(wanted, say, go_on))
            go_on()
        finally:  # also when it was stopped: those that run are of use
            with self._lock:
                running = pods.running()
                self._wanted = tuple(sorted({*self._wanted, *running}))
                for name in running:
                    self._without.pop(name, None)
        return {name: self._without[name] for name in chosen if name in self._without}

    def _chosen(self, nodes: Sequence[str] | None) -> list[dict[str, Any]]:
        items = [item for item in json.loads(self._resource("nodes")).get("items") or () if item.get("metadata")]
        if nodes is None:
            return items
        by_name = {item["metadata"]["name"]: item for item in items}
        for name in nodes:
            if name not in by_name:
                raise NotFound(f"no node {name!r}; there are: {', '.join(by_name)}")
        return [by_name[name] for name in nodes]

    def _api(self, resource: str) -> bytes:
        return self.api(resource)

    def _agent(self, node: str) -> Agent:
        if self._pods is None:
            raise AgentError(_OFF)
        return self._pods.agent(node)

    def _no_agent(self, node: str) -> tuple[str, str]:
        if self._pods is None:
            return _OFF, _ON
        why = self._without.get(node, "this node was not asked for when agents were started")
        return why, "k8snet_nb reads it once its agent runs"

    def _stopper(self) -> Callable[[], None]:
        return self.api.stopper()

    def _progress(self, what: str, done: int, total: int) -> None:
        if self.api.progress is not None:
            self.api.progress(what, done, total)

    def _forgotten(self) -> None:
        self.api.forget()
