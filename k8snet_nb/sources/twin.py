"""``kn.open("twin")``: a recording brought back to life. The API as recorded, the kernel's facts as of now.

Its agents run inside the twin's nodes (:mod:`..twin`); the API server is the recording, for a twin has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import AgentError, TwinError
from ..facts import FactRef
from ..render import printable
from .agents import Agent
from .cluster_source import ClusterSource
from .recorded import RecordedSource, open_recording
from .twin_control import SocketTransport, TwinFolder, find_twin

__all__ = ["TwinSource"]


class TwinSource(ClusterSource):
    """A running twin, and what only a twin can do: connections made, things changed (:meth:`ask`)."""

    kind = "twin"

    def __init__(self, name: str | None = None, folder: TwinFolder | None = None) -> None:
        super().__init__(at_once=8)
        self.twin = folder or find_twin(name)
        about = self.twin.about
        self._recording: RecordedSource = open_recording(about["recording"])
        self.name = self.twin.name
        self.left_out: Sequence[Any] = about.get("left_out") or ()
        self.marks: dict[str, int] = about.get("marks") or {}
        """The fwmark that sends an outside client's packets through a node, by node (ip-rule(8))."""
        self.outside = {int(family): str(ip) for family, ip in (about.get("outside") or {}).items()}
        """The outside client's address, by family."""
        networks = about.get("outside_networks") or {}
        self.outside_networks = {int(family): str(network) for family, network in networks.items()}
        """The network of clients outside, by family: each of its addresses can be one."""
        self._wanted = tuple(about["nodes"])
        self._agents: dict[str, Agent] = {}

    def close(self) -> None:
        """End the agents. The twin goes on."""
        with self._lock:
            self._nodes.clear()
            agents, self._agents = list(self._agents.values()), {}
        for agent in agents:
            agent.close()

    def describe(self) -> str:
        """Which recording, and which nodes."""
        nodes = ", ".join(self._wanted)
        return printable(f"twin {self.name} of {self._recording.describe()}; alive in this kernel: {nodes}")

    def ask(self, node: str, request: dict[str, Any], seconds: float = 120.0) -> dict[str, Any]:
        """One of the requests of :mod:`k8snet_nb.twin.requests`, to a node or the ``wire``. Raises TwinError."""
        return self.twin.ask({**request, "node": node}, seconds)

    def _api(self, resource: str) -> bytes:
        return self._recording.read(FactRef(resource))

    def _agent(self, node: str) -> Agent:
        with self._lock:
            agent = self._agents.get(node)
            if agent is None or not agent.alive:
                if agent is not None:
                    agent.close()
                try:
                    stream = self.twin.stream({"op": "agent", "node": node})
                except TwinError as error:
                    raise AgentError(str(error)) from None
                agent = self._agents[node] = Agent(SocketTransport(stream), node)
            return agent

    def _no_agent(self, node: str) -> tuple[str, str]:
        return (
            "this node is not in the twin",
            f"If its kernel was recorded: k8snet twin down, then k8snet twin up RECORDING --node {printable(node)}",
        )
