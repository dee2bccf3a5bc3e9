"""``kn.open("node")``: the machine that this program runs on, as one node, asked through an agent.

Pods come from the API where one is given; else from the node's own processes: the cgroup paths carry the uid, and the
kubelet's log folders (/var/log/pods/<namespace>_<name>_<uid>) the names. A pod whose name nobody tells is
``unknown/pod-<uid>``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Self

from ..errors import AgentError, FactBroken, FactMissing, NotFound
from ..facts import FactRef
from .agents import ADVICE, Agent, Ran, Running, Told, Watching
from .base import command_for
from .bound import BOUND_FACTS, bound_target
from .local_pods import Sighting, pod_list, seen_pods

__all__ = ["NodeSource"]

Api = Callable[[str], bytes]
"""Delivers the List of a resource as the API server sends it. Raises FactMissing."""

_ENTERING = 15.0
"""Seconds to find a pod's processes and enter its namespace, beside the waiting for a server."""
_ALWAYS = frozenset(
    "addr.json route.json route6.json rule.json neigh.json nsid.json fdb.json lsns.json processes.json sockets.txt "
    "sysctl.txt pod.json".split()
)
"""Facts that need no tool and no module: an agent that may look has them."""
_HASHES = ("kubernetes.io/config.hash", "kubernetes.io/config.mirror")


class NodeSource:
    """This machine as one node. Close it, or use ``with``. Raises AgentError when no agent can be started here."""

    kind = "node"

    def __init__(
        self, api: Api | None = None, agent: Agent | None = None, node: str | None = None, logs: str = "/var/log/pods"
    ) -> None:
        self._agent = agent or Agent.start()
        self._api, self._logs = api, logs
        self._lock = threading.Lock()
        self._told: dict[FactRef, tuple[Told, datetime]] = {}
        self._identities: dict[str, tuple[str, ...]] = {}
        self._ips: dict[str, tuple[str, ...]] = {}
        try:
            hello = self._agent.hello()
            self._about: dict[str, Any] = hello["about"]
            self._facts = {"node": tuple(hello["node_facts"]), "pod": tuple(hello["pod_facts"])}
            self.name = node or self._own_name()
        except BaseException:
            self._agent.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the agent."""
        self._agent.close()

    def describe(self) -> str:
        """One line: which machine, and where the pods come from."""
        whose = "its pods from the Kubernetes API" if self._api else "its pods from its own processes"
        return f"node {self.name} (this machine, kernel {self._about['kernel']}), {whose}"

    def nodes(self) -> tuple[str, ...]:
        """This node only."""
        return (self.name,)

    def read(self, ref: FactRef) -> bytes:
        """The raw fact, asked now. Raises FactMissing with the reason."""
        if ref.node is None:
            return self._resource(ref)
        self._check_node(ref)
        if ref.fact == "node.json":
            return self._node_json()
        return self._data(ref, self.read_many([ref])[ref])

    def read_many(self, refs: Iterable[FactRef], seconds: float = 120.0) -> dict[FactRef, Told]:
        """Many facts of the node and its pods in one request: one reading of /proc, one visit to each namespace."""
        by_pod: dict[str | None, list[FactRef]] = {}
        for ref in refs:
            self._check_node(ref)
            by_pod.setdefault(ref.pod, []).append(ref)
        targets = []
        for pod, wanted in by_pod.items():
            target: dict[str, Any] = {"key": pod, "facts": [ref.fact for ref in wanted]}
            if pod is not None:
                target["pod"] = self._identity(pod)
            targets.append(target)
        told = self._agent.facts(targets, seconds)
        self._retry_gone([target for target in targets if "pod" in target], told, seconds)
        now = datetime.now(UTC)
        found = {ref: told[pod, ref.fact] for pod, wanted in by_pod.items() for ref in wanted}
        with self._lock:
            self._told.update({ref: (answer, now) for ref, answer in found.items()})
        return found

    def _retry_gone(self, targets: list[dict[str, Any]], told: dict[tuple[Any, str], Told], seconds: float) -> None:
        """Ask once more, and elsewhere, for what was gone. What cannot be had there either keeps its first reason."""
        gone = [t for t in targets if any(told[t["key"], fact].code == "gone" for fact in t["facts"])]
        others = self._elsewhere([str(target["key"]) for target in gone]) if gone else {}
        again = [{"key": t["key"], "facts": t["facts"], **others[t["key"]]} for t in gone if t["key"] in others]
        if again:
            found = self._agent.facts(again, seconds)
            told.update({place: answer for place, answer in found.items() if answer.data is not None})

    def _elsewhere(self, pods: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Where else pods may be whose processes are gone, by a fresh look-up.

        Made anew under the same name, or in a namespace that is still bound though no process is left in it.
        """
        before = {pod: self._identities.pop(pod, ()) for pod in pods}
        for pod in before:
            self._ips.pop(pod, None)
        self._look_up()
        found: dict[str, dict[str, Any]] = {}
        for pod, identity in before.items():
            now = self._identities.setdefault(pod, identity)
            if now != identity:
                found[pod] = {"pod": list(now)}
        left = [pod for pod in before if pod not in found and self._ips.get(pod)]
        if left:
            told = self._agent.facts([{"key": None, "facts": list(BOUND_FACTS)}])
            facts = {fact: told[None, fact].data for fact in BOUND_FACTS}
            bound = {pod: bound_target(self._ips[pod], facts) for pod in left}
            found.update({pod: target for pod, target in bound.items() if target is not None})
        return found

    def read_filtered(self, ref: FactRef, wanted: Mapping[str, Any]) -> bytes:
        """``conntrack.netlink`` of the entries that are wanted, as far as the kernel can choose (agent's DumpFilter).

        Raises FactMissing with the reason.
        """
        self._check_node(ref)
        told = self._agent.fact(ref.fact, 120.0, filter=dict(wanted), **self._target(ref.pod))
        if told.code == "gone" and ref.pod is not None and (other := self._elsewhere([ref.pod]).get(ref.pod)):
            told = self._agent.fact(ref.fact, 120.0, filter=dict(wanted), **other)
        return self._data(ref, told)

    def watch(self, ref: FactRef) -> Watching:
        """Listen to the conntrack events of the node, or of a pod of it. Raises FactMissing with the reason."""
        self._check_node(ref)
        try:
            return self._watch(ref.pod)
        except AgentError as error:
            if not self._agent.alive:
                raise
            raise FactMissing(ref.fact, ref.where, str(error)) from error

    def _watch(self, pod: str | None) -> Watching:
        try:
            return self._agent.watch(self._target(pod))
        except AgentError as error:
            other = self._elsewhere([pod]).get(pod) if error.code == "gone" and pod is not None else None
            if other is None:
                raise
            return self._agent.watch(other)

    def _target(self, pod: str | None) -> dict[str, Any]:
        return {} if pod is None else {"pod": self._identity(pod)}

    def has(self, ref: FactRef) -> bool:
        """Whether reading it finds it. What any node tells is not read for that; what depends on its tools is."""
        if ref.node is None:
            return self._api is not None or ref.fact in ("pods", "nodes")
        if ref.node != self.name:
            return False
        if ref not in self._told:
            if ref.fact == "node.json" or ref.fact not in self._facts["pod" if ref.pod else "node"]:
                return ref.fact == "node.json"
            if ref.fact in _ALWAYS:
                return True
            try:
                self.read_many([ref])
            except NotFound:
                return False
        return self._told[ref][0].data is not None

    def trouble(self, ref: FactRef) -> str | None:
        """Why the last reading failed or was partial."""
        before = self._told.get(ref)
        return None if before is None else (before[0].why or before[0].note)

    def command(self, ref: FactRef) -> str:
        """The command that a person would type on this node."""
        return command_for(ref)

    def time(self, ref: FactRef) -> datetime | None:
        """When it was read last."""
        before = self._told.get(ref)
        return None if before is None else before[1]

    def whose(self, ref: FactRef) -> str | None:
        """Which tool, of which version, told it at the last reading."""
        before = self._told.get(ref)
        return (before[0].whose or None) if before else None

    def run(self, pod: str, argv: Sequence[str], seconds: float = 30.0) -> Ran:
        """Run a command of this node in a pod's network namespace. Raises AgentError, NotFound."""
        return self.start_run(pod, argv, seconds).result()

    def start_run(self, pod: str, argv: Sequence[str], seconds: float = 30.0) -> Running:
        """Start one, to be cancelled or waited for."""
        target = {"pod": self._identity(pod)}
        return self._agent.start_run(argv, target, seconds, lambda: self._elsewhere([pod]).get(pod))

    def on_node(self, node: str, argv: Sequence[str], seconds: float = 30.0) -> Ran:
        """Run a command of this node in its own network namespace. Raises AgentError, FactMissing for another node."""
        self._check_node(FactRef(argv[0], node))
        return self._agent.run(argv, {}, seconds)

    def exchange(self, pod: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """One DNS question to one server from a pod's network namespace. Raises AgentError, NotFound.

        ``request`` and the answer are those of :func:`k8snet_nb.agent.dns_exchange.answer`.
        """
        waiting = float(request.get("timeout", 5))
        try:
            return self._agent.exchange(request, {"pod": self._identity(pod)}, waiting + _ENTERING)
        except AgentError as error:
            other = self._elsewhere([pod]).get(pod) if error.code == "gone" else None
            if other is None:
                raise
            return self._agent.exchange(request, other, waiting + _ENTERING)

    def _data(self, ref: FactRef, told: Told) -> bytes:
        if told.data is not None:
            return told.data
        raise FactMissing(ref.fact, ref.where, told.why, ADVICE.get(told.code, ""))

    def _check_node(self, ref: FactRef) -> None:
        if ref.node != self.name:
            raise FactMissing(ref.fact, ref.where, f"this source is node {self.name} only")

    def _resource(self, ref: FactRef) -> bytes:
        if self._api is not None:
            return self._api(ref.fact)
        if ref.fact == "pods":
            return json.dumps(pod_list(self._sightings(), self.name)).encode()
        if ref.fact == "nodes":
            return json.dumps(self._node_list()).encode()
        raise FactMissing(ref.fact, ref.where, "no kubeconfig was given, and a node's processes do not tell it",
                          'Give a kubeconfig, or use kn.open("live")')  # fmt: skip

    def _sightings(self) -> list[Sighting]:
        told = self._agent.fact("processes.json", 30)
        if told.data is None:
            raise FactMissing("pods", self.name, told.why)
        found = seen_pods(json.loads(told.data), self._about["netns"], self._logs)
        targets = [{"key": pod.uid, "pod": [pod.uid], "facts": ["addr.json"]} for pod in found if not pod.host_network]
        addresses = self._agent.facts(targets, 60) if targets else {}
        own = _global_addresses(self._agent.fact("addr.json").data)
        for pod in found:
            held = addresses.get((pod.uid, "addr.json"))
            pod.ips = own[:1] if pod.host_network else _global_addresses(held.data if held else None)
            self._identities[f"{pod.namespace}/{pod.name}"] = (pod.uid,)
        return found

    def _identity(self, pod: str) -> list[str]:
        """The uid and config hashes by which the agent finds a pod. Looked up afresh when the name is new."""
        if pod not in self._identities:
            self._look_up()
        if pod not in self._identities:
            known = ", ".join(sorted(self._identities)[:20]) or "none"
            raise NotFound(f"no pod {pod} on node {self.name}; pods here: {known}")
        return list(self._identities[pod])

    def _look_up(self) -> None:
        if self._api is None:
            self._sightings()
            return
        for item in _items(self._api("pods"), "pods"):
            meta, spec = item.get("metadata") or {}, item.get("spec") or {}
            if spec.get("nodeName") != self.name:
                continue
            notes = meta.get("annotations") or {}
            hashes = [str(notes[key]) for key in _HASHES if notes.get(key)]
            key = f"{meta.get('namespace')}/{meta.get('name')}"
            self._identities[key] = (str(meta.get("uid")), *hashes)
            self._ips[key] = _own_ips(spec, item.get("status") or {})

    def _own_name(self) -> str:
        """The name that the API has for this machine: by its addresses, else by its host name, else the host name."""
        host = str(self._about["node"])
        if self._api is None:
            return _hostname_override(self._agent.fact("processes.json").data) or host
        mine = set(_global_addresses(self._agent.fact("addr.json").data))
        by_address, by_name = [], []
        for item in _items(self._api("nodes"), "nodes"):
            said = (item.get("status") or {}).get("addresses") or []
            name = str((item.get("metadata") or {}).get("name"))
            if mine & {entry.get("address") for entry in said if entry.get("type") == "InternalIP"}:
                by_address.append(name)
            if host in (name, *(entry.get("address") for entry in said if entry.get("type") == "Hostname")):
                by_name.append(name)
        return next((found[0] for found in (by_address, by_name) if len(found) == 1), host)

    def _node_list(self) -> dict[str, Any]:
        ips = _global_addresses(self._agent.fact("addr.json").data)
        addresses = [{"type": "InternalIP", "address": ip} for ip in ips]
        status = {"addresses": [*addresses, {"type": "Hostname", "address": self._about["node"]}]}
        return {"kind": "NodeList", "apiVersion": "v1", "items": [{"metadata": {"name": self.name}, "status": status}]}

    def _node_json(self) -> bytes:
        collected = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with self._lock:
            errors = {ref.fact: told.why for ref, (told, _) in self._told.items() if told.why and ref.pod is None}
        return json.dumps({**self._about, "node": self.name, "collected": collected, "errors": errors}).encode()


def _items(data: bytes, resource: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(data)["items"]
    except (ValueError, KeyError, TypeError):
        raise FactBroken(resource, "the Kubernetes API", "is not a List with items") from None
    return [item for item in found or () if isinstance(item, dict)]


def _own_ips(spec: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[str, ...]:
    """The addresses that are a pod's alone; none on the host network, and none that another pod may have by now."""
    if spec.get("hostNetwork") or status.get("phase") in ("Pending", "Succeeded", "Failed"):
        return ()
    listed = [entry.get("ip") for entry in status.get("podIPs") or ()] or [status.get("podIP")]
    return tuple(str(ip) for ip in listed if ip)


def _global_addresses(data: bytes | None) -> list[str]:
    """The addresses of global scope in ``addr.json``, those of the first interface first."""
    found: list[str] = []
    for link in json.loads(data) if data else ():
        if "LOOPBACK" not in link["flags"]:
            found.extend(entry["local"] for entry in link["addr_info"] if entry["scope"] == "global")
    return found


def _hostname_override(data: bytes | None) -> str | None:
    """The kubelet's ``--hostname-override``, where its command line has one."""
    for process in json.loads(data) if data else ():
        words = str(process.get("cmdline")).split(" ")
        if words[0].rsplit("/", 1)[-1] != "kubelet":
            continue
        for word, following in zip(words, [*words[1:], ""], strict=True):
            if word == "--hostname-override" and following:
                return following
            if word.startswith("--hostname-override="):
                return word.partition("=")[2] or None
    return None
