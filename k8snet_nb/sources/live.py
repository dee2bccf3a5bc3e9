"""``kn.open("live")``: a cluster as it is now. Its API always; its nodes' kernels through agents, where asked for.

Every fact is read once and kept with its time until :meth:`LiveSource.refresh`. What cannot be had is a FactMissing
that says why; everything else goes on.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self, TypeVar

from ..errors import AgentError, FactError, FactMissing, NotFound, Stopped
from ..facts import FactRef
from ..render import printable
from .agent_manifest import AgentSettings, Planned, skipped
from .agent_pods import AgentPods, plan
from .agents import Ran, Running, Told, Watching
from .base import command_for
from .kube_api import KubeApi
from .live_node import LiveNode
from .together import together

__all__ = ["LiveSource"]

T = TypeVar("T")
_MOMENT = timedelta(seconds=10)

_OFF = "agents are off: only the API is read"
_ON = 'To read nodes: kn.open("live", agents=True), or kn.live_agents(cluster), which lists first what it would create'


class LiveSource:
    """The cluster of a kubeconfig context. Close it, or use ``with``, so that its agents are taken away at once."""

    kind = "live"

    def __init__(self, api: KubeApi, settings: AgentSettings | None = None) -> None:
        self.api, self.settings = api, settings or AgentSettings()
        self.name = api.connection.context or "in-cluster"
        self._lock = threading.RLock()
        self._kept: dict[str, tuple[bytes | FactError, datetime]] = {}
        self._pods: AgentPods | None = None
        self._nodes: dict[str, LiveNode] = {}
        self._wanted: tuple[str, ...] = ()
        self._without: dict[str, str] = {}
        self._user: str | None = None
        self._places: tuple[bytes, dict[str, str | None]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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

    def nodes(self) -> tuple[str, ...]:
        """The nodes that have an agent."""
        return self._wanted

    def read(self, ref: FactRef) -> bytes:
        """The raw fact: kept, or read now. Raises FactMissing with the reason."""
        if ref.node is None:
            return self._resource(ref.fact)
        return self._node(ref).read(ref)

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

        done, check = 0, self.api.stopper()
        try:
            for told in together(one, list(by_node), self.settings.at_once, check):
                found.update(told)
                done += 1
                if self.api.progress is not None and len(by_node) > 1:
                    self.api.progress("nodes", done, len(by_node))
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
            return self._no_agent(ref)
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
                self.api.forget()
            for name, source in self._nodes.items():
                if node in (None, name):
                    source.forget()

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
            raise NotFound(f"no pod {pod}")
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
            return self.api(resource)
        except FactError as error:
            return error

    def _chosen(self, nodes: Sequence[str] | None) -> list[dict[str, Any]]:
        items = [item for item in json.loads(self._resource("nodes")).get("items") or () if item.get("metadata")]
        if nodes is None:
            return items
        by_name = {item["metadata"]["name"]: item for item in items}
        for name in nodes:
            if name not in by_name:
                raise NotFound(f"no node {name!r}; there are: {', '.join(by_name)}")
        return [by_name[name] for name in nodes]

    def _no_agent(self, ref: FactRef) -> str:
        if self._pods is None:
            return _OFF
        return self._without.get(ref.node or "", "this node was not asked for when agents were started")

    def _node(self, ref: FactRef) -> LiveNode:
        """The node's source, its agent started anew where it went away. Raises FactMissing."""
        name = ref.node or ""
        if self._pods is None:
            raise FactMissing(ref.fact, ref.where, _OFF, _ON)
        if name not in self._wanted:
            raise FactMissing(ref.fact, ref.where, self._no_agent(ref), "k8snet_nb reads it once its agent runs")
        try:
            agent = self._pods.agent(name)
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
