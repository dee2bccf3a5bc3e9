"""A cluster whose facts are read now: its API through one function, its nodes' kernels through an agent each.

Every fact is read once and kept with its time until :meth:`ClusterSource.refresh`. What cannot be had is a FactMissing
that says why; everything else goes on. Which API and which agents is for :mod:`.live` and :mod:`.twin` to say.
"""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self, TypeVar

from ..errors import AgentError, FactError, FactMissing, NotFound, Stopped
from ..facts import FactRef
from .agents import Agent, Ran, Running, Told, Watching
from .base import command_for
from .live_node import LiveNode
from .together import together

__all__ = ["ClusterSource"]

T = TypeVar("T")
_MOMENT = timedelta(seconds=10)


class ClusterSource(ABC):
    """What is common to all sources of several nodes that are asked now. Close it, or use ``with``."""

    kind: str
    name: str

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._lock = threading.RLock()
        self._kept: dict[str, tuple[bytes | FactError, datetime]] = {}
        self._nodes: dict[str, LiveNode] = {}
        self._wanted: tuple[str, ...] = ()
        self._places: tuple[bytes, dict[str, str | None]] | None = None

    @abstractmethod
    def close(self) -> None:
        """End all agents."""

    @abstractmethod
    def describe(self) -> str:
        """One line: what this source is."""

    @abstractmethod
    def _api(self, resource: str) -> bytes:
        """The List of a resource as the API server sends it. Raises FactError."""

    @abstractmethod
    def _agent(self, node: str) -> Agent:
        """The agent of a node, started anew where it went away. Raises AgentError."""

    @abstractmethod
    def _no_agent(self, node: str) -> tuple[str, str]:
        """Why a node has no agent, and what to do about it."""

    def _stopper(self) -> Callable[[], None]:
        """Called between pieces of a long reading: raises Stopped when somebody asked for its end."""
        return lambda: None

    def _progress(self, what: str, done: int, total: int) -> None:  # noqa: B027 - not every source tells
        """Told of a long reading as it goes on."""

    def _forgotten(self) -> None:  # noqa: B027 - not every source keeps more
        """Everything that was kept has been forgotten."""

    def nodes(self) -> tuple[str, ...]:
        """The nodes that have an agent."""
        return self._wanted

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, ref: FactRef) -> bytes:
        """The raw fact: kept, or read now. Raises FactMissing with the reason."""
        if ref.node is None:
            return self._resource(ref.fact)
        return self._node(ref).read(ref)

    def read_now(self, ref: FactRef) -> bytes:
        """A node's fact as it is now, for what is looked at again and again. Raises FactMissing with the reason."""
        return self._node(ref).read_now(ref)

    def read_many(self, refs: Iterable[FactRef], seconds: float = 120.0) -> dict[FactRef, Told]:
        """Many facts of nodes and their pods at once: a request a node, several nodes together."""
        by_node: dict[str, list[FactRef]] = {}
        for ref in refs:
            if ref.node is not None:
                by_node.setdefault(ref.node, []).append(ref)
        found: dict[FactRef, Told] = {}

        def one(node: str) -> dict[FactRef, Told]:
            wanted = by_node[node]
            try:
                return self._node(wanted[0]).read_many(wanted, seconds)
            except (FactMissing, AgentError, NotFound) as error:
                return {ref: Told(None, getattr(error, "why", str(error)), "failed") for ref in wanted}

        done, check = 0, self._stopper()
        try:
            for told in together(one, list(by_node), self._at_once, check):
                found.update(told)
                done += 1
                if len(by_node) > 1:
                    self._progress("nodes", done, len(by_node))
        except (Stopped, KeyboardInterrupt) as ended:
            raise type(ended)(
                f"reading nodes was stopped after {done} of {len(by_node)}. What they told is kept until the next "
                f"refresh(); ask again for the rest"
            ) from None
        return found

    def has(self, ref: FactRef) -> bool:
        """Whether reading it would find it, as far as is known without reading a node."""
        if ref.node is None:
            try:
                self._resource(ref.fact)
            except FactError:
                return False
            return True
        return ref.node in self._wanted and self._quietly(ref, lambda node: node.has(ref), False)

    def trouble(self, ref: FactRef) -> str | None:
        """Why the last reading failed or was partial, or why it cannot be read at all."""
        if ref.node is None:
            kept = self._kept.get(ref.fact)
            return kept[0].why if kept is not None and isinstance(kept[0], FactError) else None
        if ref.node not in self._wanted:
            return self._no_agent(ref.node)[0]
        return self._quietly(ref, lambda node: node.trouble(ref), None)

    def command(self, ref: FactRef) -> str:
        """The command that a person would type."""
        return command_for(ref)

    def time(self, ref: FactRef) -> datetime | None:
        """When it was read."""
        if ref.node is None:
            kept = self._kept.get(ref.fact)
            return kept[1] if kept else None
        source = self._nodes.get(ref.node)
        return source.time(ref) if source else None

    def skew(self) -> float | None:
        """Seconds between the first and the last of the kept readings; None when nothing was read."""
        times = [moment for _, moment in self._kept.values()]
        times += [moment for source in self._nodes.values() for moment in source.times()]
        return (max(times) - min(times)).total_seconds() if times else None

    def refresh(self, node: str | None = None) -> None:
        """Forget what was read (of one node, or all): the next question reads it again."""
        with self._lock:
            if node is None:
                self._kept.clear()
                self._forgotten()
            for name, source in self._nodes.items():
                if node in (None, name):
                    source.forget()

    def run(self, pod: str, argv: Sequence[str], seconds: float = 30.0) -> Ran:
        """Run a command of the pod's node in the pod's network namespace. Raises AgentError, NotFound, FactMissing."""
        return self.start_run(pod, argv, seconds).result()

    def start_run(self, pod: str, argv: Sequence[str], seconds: float = 30.0) -> Running:
        """Start one, to be cancelled or waited for."""
        return self.node_of(pod).start_run(pod, argv, seconds)

    def exchange(self, pod: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """One DNS question to one server from a pod's network namespace; see :meth:`.node.NodeSource.exchange`."""
        return self.node_of(pod).exchange(pod, request)

    def read_filtered(self, ref: FactRef, wanted: Mapping[str, Any]) -> bytes:
        """The entries of a connection table that are wanted; see :meth:`.node.NodeSource.read_filtered`."""
        return self._node(ref).read_filtered(ref, wanted)

    def watch(self, ref: FactRef) -> Watching:
        """Conntrack events of a node, or of a pod's namespace; see :meth:`.node.NodeSource.watch`."""
        return self._node(ref).watch(ref)

    def on_node(self, node: str, argv: Sequence[str], seconds: float = 30.0) -> Ran:
        """Run a command of a node in its own network namespace. Raises AgentError, FactMissing without an agent."""
        return self._node(FactRef(argv[0], node)).on_node(node, argv, seconds)

    def whose(self, ref: FactRef) -> str | None:
        """Which tool, of which version, told a node's fact at the last reading."""
        source = self._nodes.get(ref.node or "")
        return source.whose(ref) if source else None

    def node_of(self, pod: str) -> LiveNode:
        """The source of the node that a pod runs on. Raises NotFound, or FactMissing when it has no agent."""
        places = self._pod_places()
        if pod not in places:
            raise NotFound(f"no pod {pod}; cluster.pods() has all")
        return self._node(FactRef("pod.json", places[pod] or "no node yet", pod))

    def _pod_places(self) -> dict[str, str | None]:
        """The node of every pod, taken from the kept List once: a recording asks for hundreds of pods."""
        listing = self._resource("pods")
        if self._places is None or self._places[0] is not listing:
            found: dict[str, str | None] = {}
            for item in json.loads(listing).get("items") or ():
                meta = item.get("metadata") or {}
                found[f"{meta.get('namespace')}/{meta.get('name')}"] = (item.get("spec") or {}).get("nodeName")
            self._places = listing, found
        return self._places[1]

    def _resource(self, resource: str) -> bytes:
        with self._lock:
            kept = self._kept.get(resource)
            if kept is None or _worth_another_try(*kept):
                kept = self._kept[resource] = (self._ask(resource), datetime.now(UTC))
        if isinstance(kept[0], FactError):
            raise kept[0]
        return kept[0]

    def _ask(self, resource: str) -> bytes | FactError:
        try:
            return self._api(resource)
        except FactError as error:
            return error

    def _node(self, ref: FactRef) -> LiveNode:
        """The node's source. Raises FactMissing."""
        name = ref.node or ""
        if name not in self._wanted:
            raise FactMissing(ref.fact, ref.where, *self._no_agent(name))
        try:
            agent = self._agent(name)
        except AgentError as error:
            raise FactMissing(ref.fact, ref.where, str(error)) from None
        with self._lock:
            source = self._nodes.get(name)
            if source is None:
                source = self._nodes[name] = LiveNode(api=self._resource, agent=agent, node=name)
            source.use(agent)
        return source

    def _quietly(self, ref: FactRef, ask: Callable[[LiveNode], T], otherwise: T) -> T:
        try:
            return ask(self._node(ref))
        except FactMissing:
            return otherwise


def _worth_another_try(kept: bytes | FactError, moment: datetime) -> bool:
    """Whether this is the trouble of a moment (429, 5xx, no answer), and that moment is over."""
    return isinstance(kept, FactMissing) and kept.passing and datetime.now(UTC) - moment > _MOMENT
