"""The inside of pods, from the façade: which facts a pod's sandbox, namespace and veth pair are read from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

import pandas as pd

from ..cgroups import pod_of, same_pod
from ..errors import FactMissing, Refused
from ..explain.pod_commands import CommandOutput, rendered_command
from ..explain.pod_network import HostInterface
from ..explain.sandbox import NodeView, PodView, find_sandbox, pod_identity
from ..facts import Evidence, FactRef
from ..parse.links import Link, Route, parse_links, parse_routes
from ..parse.namespaces import parse_lsns, parse_nsid, parse_pod_processes, parse_processes
from ..parse.pods import PodValue
from ..parse.routing import parse_fdb, parse_neigh

if TYPE_CHECKING:
    from ..sources.agents import Running
    from .cluster import Cluster

__all__ = [
    "PodRun",
    "Runner",
    "as_output",
    "host_frame",
    "links_frame",
    "namespaces_frame",
    "node_facts",
    "pod_facts",
    "pod_routes",
    "processes_frame",
    "routes_frame",
    "run_in_pod",
    "runner_of",
    "sandboxes_frame",
    "start_in_pod",
]

T = TypeVar("T")


@runtime_checkable
class Runner(Protocol):
    """A source that can run a command of the node in a pod's network namespace."""

    def start_run(self, pod: str, argv: Sequence[str], seconds: float) -> Running: ...


def _read(cluster: Cluster, ref: FactRef, parse: Callable[[bytes, FactRef], T]) -> T | None:
    """A fact's value; None when it was not collected. One that is broken raises."""
    try:
        return parse(cluster.source.read(ref), ref)
    except FactMissing:
        return None


def node_facts(cluster: Cluster, node: str | None) -> NodeView | None:
    """What is known of the kernel of a node; None when nothing is."""
    if node is None or node not in cluster.source.nodes():
        return None

    def fact(name: str, parse: Callable[[bytes, FactRef], T]) -> T | None:
        return _read(cluster, FactRef(name, node), parse)

    netns = cluster.about_node(node).get("netns")
    return NodeView(
        node,
        netns if isinstance(netns, int) else None,
        fact("addr.json", parse_links),
        fact("route.json", parse_routes),
        fact("neigh.json", parse_neigh),
        fact("fdb.json", parse_fdb),
        fact("nsid.json", parse_nsid),
        fact("lsns.json", parse_lsns),
        fact("processes.json", parse_processes),
    )


def pod_facts(cluster: Cluster, pod: PodValue) -> PodView:
    """A pod and what was read inside its network namespace."""
    identity = pod_identity(pod)
    if pod.node is None or pod.node not in cluster.source.nodes():
        return PodView(identity)

    def fact(name: str, parse: Callable[[bytes, FactRef], T]) -> T | None:
        return _read(cluster, FactRef(name, pod.node, pod.key), parse)

    routes = fact("route.json", parse_routes)
    return PodView(
        identity,
        fact("addr.json", parse_links),
        _both(routes, fact("route6.json", parse_routes)),
        fact("pod.json", parse_pod_processes),
    )


def _both(routes: tuple[Route, ...] | None, routes6: tuple[Route, ...] | None) -> tuple[Route, ...] | None:
    """Both families, each route once: some versions of ``ip route show table all`` list IPv6 routes too."""
    if routes is None or routes6 is None:
        return routes if routes6 is None else routes6
    known = {(r.network, r.table, r.type, r.metric, r.hops) for r in routes}
    return routes + tuple(r for r in routes6 if (r.network, r.table, r.type, r.metric, r.hops) not in known)


def pod_routes(cluster: Cluster, pod: PodValue) -> tuple[Route, ...]:
    """Routes inside the pod's network namespace, both families. Raises FactMissing or FactBroken."""
    ref = FactRef("route.json", pod.node, pod.key)
    routes = parse_routes(cluster.source.read(ref), ref)
    return _both(routes, _read(cluster, FactRef("route6.json", pod.node, pod.key), parse_routes)) or ()


def links_frame(links: Iterable[Link], evidence: tuple[Evidence, ...]) -> pd.DataFrame:
    """One row an interface: ifindex name kind mtu mac addresses peer_ifindex peer_nsid. ``attrs["evidence"]``."""
    rows = [
        (k.ifindex, k.name, k.kind, k.mtu, k.mac, tuple(map(str, k.addresses)), k.peer_ifindex, k.peer_nsid)
        for k in links
    ]
    columns = "ifindex name kind mtu mac addresses peer_ifindex peer_nsid".split()
    frame = pd.DataFrame(rows, columns=columns, dtype=object).astype({"ifindex": "int64", "mtu": "int64"})
    frame.attrs["evidence"] = evidence
    return frame


def host_frame(interfaces: Iterable[HostInterface]) -> pd.DataFrame:
    """One row an interface of a node, with the pod behind it."""
    found = list(interfaces)
    rows = [
        (
            *(k.ifindex, k.name, k.kind, k.mtu, k.mac, tuple(map(str, k.addresses))),
            *(k.master, k.peer_ifindex, k.peer_nsid, one.pod, one.netns, one.says),
        )
        for one in found
        for k in (one.link,)
    ]
    columns = "ifindex name kind mtu mac addresses master peer_ifindex peer_nsid pod netns says".split()
    frame = pd.DataFrame(rows, columns=columns, dtype=object).astype({"ifindex": "int64", "mtu": "int64"})
    frame.attrs["evidence"] = tuple(e for one in found for e in one.evidence)
    return frame


def processes_frame(facts: NodeView, pods: Iterable[PodValue]) -> pd.DataFrame:
    """One row a process: pid netns pod cmdline cgroup. ``pod`` by the uid or config hash in its cgroup path."""
    owners = {identity: pod.key for pod in pods for identity in pod_identity(pod).identities}
    rows = []
    for process in facts.processes or ():
        named = pod_of(process.cgroups)
        key = next((owner for uid, owner in owners.items() if named and same_pod(named.uid, (uid,))), None)
        cgroup = next((path for path in process.cgroups if pod_of((path,))), next(iter(process.cgroups), None))
        rows.append((process.pid, process.netns, key, process.cmdline, cgroup))
    return pd.DataFrame(rows, columns="pid netns pod cmdline cgroup".split(), dtype=object).astype({"pid": "int64"})


def namespaces_frame(facts: NodeView) -> pd.DataFrame:
    """One row a network namespace, as ``lsns -t net``: ns netnsid nprocs pid nsfs command."""
    rows = [(n.inode, n.nsid, n.nprocs, n.pid, n.bound, n.command) for n in facts.namespaces or ()]
    frame = pd.DataFrame(rows, columns="ns netnsid nprocs pid nsfs command".split(), dtype=object)
    return frame.astype({"ns": "int64", "nprocs": "int64"})


def sandboxes_frame(cluster: Cluster) -> pd.DataFrame:
    """One row a pod: namespace name node pid netns host_network, sorted by name; None for what is not known."""
    nodes = {name: node_facts(cluster, name) for name in cluster.source.nodes()}
    rows = []
    for key, pod in sorted(cluster.api.pods.items()):
        box = find_sandbox(pod_facts(cluster, pod), nodes.get(pod.node or ""))
        rows.append((*key.split("/", 1), pod.node, box.pid, box.netns, pod.host_network))
    columns = "namespace name node pid netns host_network".split()
    return pd.DataFrame(rows, columns=columns, dtype=object).astype({"host_network": bool})


def routes_frame(routes: Iterable[Route], evidence: tuple[Evidence, ...]) -> pd.DataFrame:
    """One row a route: type destination via dev source table metric. ``attrs["evidence"]``."""
    rows = [(r.type, str(r.network), r.via, r.dev, r.source, r.table, r.metric) for r in routes]
    columns = "type destination via dev source table metric".split()
    frame = pd.DataFrame(rows, columns=columns, dtype=object).astype({"metric": "int64"})
    frame.attrs["evidence"] = evidence
    return frame


def runner_of(cluster: Cluster) -> Runner | None:
    """The source, when it can run commands on nodes; a recording cannot."""
    return cluster.source if isinstance(cluster.source, Runner) else None


class PodRun:
    """A command in a pod's network namespace: :meth:`cancel` it, or wait for its :meth:`result`.

    On a recording nothing runs; the result is rendered at once.
    """

    def __init__(
        self, argv: Sequence[str], place: str, running: Running | None = None, rendered: CommandOutput | None = None
    ) -> None:
        self._argv, self._place, self._running, self._rendered = tuple(argv), place, running, rendered

    def cancel(self) -> None:
        """Have the command ended; what it wrote until then is in the result. Raises AgentError."""
        if self._running is not None:
            self._running.cancel()

    def result(self) -> CommandOutput:
        """What it wrote. Raises AgentError when the node's agent could not run it."""
        if self._rendered is not None:
            return self._rendered
        if self._running is None:
            raise Refused(f"{' '.join(self._argv)} was not started")
        return as_output(self._argv, self._running, self._place)


def start_in_pod(cluster: Cluster, pod: PodValue, argv: Sequence[str], seconds: float) -> PodRun:
    """Start a command in a pod's network namespace, or render its output from recorded facts."""
    if isinstance(argv, str) or not argv:
        raise Refused('give the command as a list of words, such as ["ip", "addr"]')
    if pod.node is None:
        raise Refused(f"pod {pod.key} is on no node yet: there is no network namespace to enter")
    place = FactRef("addr.json", pod.node, pod.key).place
    runner = runner_of(cluster)
    if runner is not None:
        return PodRun(argv, place, runner.start_run(pod.key, argv, seconds))
    ref = FactRef("", pod.node, pod.key)
    shown = rendered_command(argv, lambda fact: _recorded(cluster, pod, fact), ref)
    return PodRun(argv, place, rendered=shown)


def _recorded(cluster: Cluster, pod: PodValue, fact: str) -> bytes:
    """A recorded fact of the pod's network namespace: of its node's, where it has none of its own (hostNetwork)."""
    own = fact == "resolv.conf" or not pod.host_network
    return cluster.source.read(FactRef(fact, pod.node, pod.key if own else None))


def run_in_pod(cluster: Cluster, pod: PodValue, argv: Sequence[str], seconds: float) -> CommandOutput:
    """The same to its end."""
    return start_in_pod(cluster, pod, argv, seconds).result()


def as_output(argv: Sequence[str], running: Running, place: str) -> CommandOutput:
    """Wait for a running command, and keep its output apart from its errors."""
    ran = running.result()
    out, err = (part.decode("utf-8", "replace") for part in (ran.out, ran.err))
    note = "A program of the node, in the pod's network namespace; files are the node's (its mount namespace)."
    return CommandOutput(tuple(argv), out, err, ran.status, place, ended=ran.ended, note=note)
