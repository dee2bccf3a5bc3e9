"""One node of a live cluster: what its agent told is kept until it is to be read again."""

from __future__ import annotations

from datetime import datetime

from ..facts import FactRef
from .agents import Agent
from .node import NodeSource

__all__ = ["LiveNode"]


class LiveNode(NodeSource):
    """A node that is read through an agent of the cluster. The agent's end is its keeper's business."""

    kind = "live"

    def read(self, ref: FactRef) -> bytes:
        """The raw fact: kept, or asked now. Raises FactMissing with the reason."""
        kept = self._told.get(ref)
        return super().read(ref) if kept is None else self._data(ref, kept[0])

    def read_now(self, ref: FactRef) -> bytes:
        """The raw fact, asked now whatever is kept; this answer is kept from then on. Raises FactMissing."""
        return super().read(ref)

    def use(self, agent: Agent) -> None:
        """Ask this agent from now on: the one before went away."""
        self._agent = agent

    def times(self) -> list[datetime]:
        """When each of the kept facts was read."""
        with self._lock:
            return [moment for _, moment in self._told.values()]

    def forget(self) -> None:
        """Read everything afresh at the next question, and look pods up again."""
        with self._lock:
            self._identities.clear()
            self._told.clear()
