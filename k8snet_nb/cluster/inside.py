"""Inside a pod's network namespace: reading the facts that the explanations join, running commands, tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import pandas as pd

from ..errors import FactMissing, Refused
from ..explain.pod_commands import CommandOutput, rendered_command
from ..explain.pod_network import HostInterface
from ..explain.sandbox import NodeView, PodIdentity, PodView
from ..facts import FactRef
from ..parse.facts_json import broken
from ..parse.links import Link, Route, parse_links, parse_routes
from ..parse.namespaces import parse_lsns, parse_nsid, parse_pod_processes, parse_processes
from ..parse.records import json_object
from ..parse.routing import parse_fdb, parse_neigh
from ..sources.base import Source

__all__ = [
    "all_routes",
    "host_interfaces_frame",
    "interfaces_frame",
    "node_view",
    "pod_view",
    "routes_frame",
    "run_in_pod",
]

T = TypeVar("T")


class _Ran(Protocol):
    argv: tuple[str, ...]
    status: int | None
    out: bytes
    err: bytes
    ended: str


@runtime_checkable
class _Runs(Protocol):
    """A source that can run a command in a pod's network namespace."""

    def run(self, pod: str, argv: Sequence[str], seconds: float = 30.0) -> Any:
        """Run it; see :class:`k8snet_nb.sources.agents.Ran`."""
        ...


def _read(source: Source, parse: Callable[[bytes, FactRef], T], *refs: FactRef) -> T | None:
    """The first of these facts that is there, parsed; None where none was collected. Broken ones raise."""
    for ref in refs:
        try:
            return parse(source.read(ref), ref)
        except FactMissing:
            continue
    return None


def all_routes(source: Source, node: str | None, pod: str | None) -> tuple[Route, ...] | None:
    """The routes of both families, each once: ``route.json`` holds both on some versions of the tool."""
    found: dict[str, Route] = {}
    known = False
    for fact in ("route.json", "route6.json"):
        routes = _read(source, parse_routes, FactRef(fact, node, pod))
        known = known or routes is not None
        found.update({repr(sorted(route.raw.items(), key=str)): route for route in routes or ()})
    return tuple(found.values()) if known else None


def node_view(source: Source, node: str) -> NodeView:
    """What a node's kernel said of its interfaces, namespaces and processes."""

    def read(fact: str, parse: Callable[[bytes, FactRef], T]) -> T | None:
        return _read(source, parse, FactRef(fact, node))

    return NodeView(
        node=node,
        netns=read("node.json", _own_inode),
        links=read("addr.json", parse_links),
        routes=all_routes(source, node, None),
        neighbours=read("neigh.json", parse_neigh),
        fdb=read("fdb.json", parse_fdb),
        nsids=read("nsid.json", parse_nsid),
        namespaces=read("lsns.json", parse_lsns),
        processes=read("processes.json", parse_processes),
    )


def _own_inode(data: bytes, ref: FactRef) -> int | None:
    inode = json_object(data, ref).get("netns")
    if inode is not None and type(inode) is not int:
        raise broken(ref, 'has no number as "netns"')
    return inode


def pod_view(source: Source, identity: PodIdentity) -> PodView:
    """A pod and what was read in its network namespace."""
    node = identity.node
    if node is None or node not in source.nodes():
        return PodView(identity)
    return PodView(
        identity,
        _read(source, parse_links, FactRef("addr.json", node, identity.name)),
        all_routes(source, node, identity.name),
        _read(source, parse_pod_processes, FactRef("pod.json", node, identity.name)),
    )


def run_in_pod(source: Source, identity: PodIdentity, argv: Sequence[str], seconds: float = 30.0) -> CommandOutput:
    """A command in a pod's network namespace: run where the source can, else rendered from recorded facts.

    Raises Refused (with the list of what a recording can answer), FactMissing, AgentError.
    """
    ref = FactRef("addr.json", identity.node, identity.name)
    if identity.node is None:
        raise Refused(f"{identity.name} is on no node yet, so it has no network namespace to enter")
    if isinstance(source, _Runs):
        ran: _Ran = source.run(identity.name, argv, seconds)
        out, err = (stream.decode("utf-8", "replace") for stream in (ran.out, ran.err))
        note = "The node's own program, in the pod's network namespace; files are the node's (mount namespace)."
        return CommandOutput(tuple(argv), out, err, ran.status, ref.place, ended=ran.ended, note=note)
    pod = None if identity.host_network else identity.name
    return rendered_command(argv, lambda fact: source.read(_where(fact, identity, pod)), ref)


def _where(fact: str, identity: PodIdentity, pod: str | None) -> FactRef:
    """A hostNetwork pod's network is its node's; its resolv.conf is its own."""
    return FactRef(fact, identity.node, identity.name if fact == "resolv.conf" else pod)


def _frame(rows: Iterable[Sequence[object]], columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(columns), dtype=object)


def interfaces_frame(links: Iterable[Link]) -> pd.DataFrame:
    """One row an interface: ifindex name kind mtu mac addresses peer_ifindex peer_nsid."""
    rows = [
        (k.ifindex, k.name, k.kind, k.mtu, k.mac, tuple(map(str, k.addresses)), k.peer_ifindex, k.peer_nsid)
        for k in links
    ]
    return _frame(rows, ("ifindex", "name", "kind", "mtu", "mac", "addresses", "peer_ifindex", "peer_nsid"))


def host_interfaces_frame(found: Iterable[HostInterface]) -> pd.DataFrame:
    """One row an interface of a node: ifindex name kind mtu addresses master peer_ifindex peer_nsid pod netns says."""
    rows = [
        (
            entry.link.ifindex,
            entry.link.name,
            entry.link.kind,
            entry.link.mtu,
            tuple(map(str, entry.link.addresses)),
            entry.link.master,
            entry.link.peer_ifindex,
            entry.link.peer_nsid,
            entry.pod,
            entry.netns,
            entry.says,
        )
        for entry in found
    ]
    columns = ("ifindex", "name", "kind", "mtu", "addresses", "master", "peer_ifindex", "peer_nsid")
    return _frame(rows, (*columns, "pod", "netns", "says"))


def routes_frame(routes: Iterable[Route]) -> pd.DataFrame:
    """One row a route: type network via dev table source metric."""
    rows = [(r.type, str(r.network), r.via, r.dev, r.table, r.source, r.metric) for r in routes]
    return _frame(rows, ("type", "network", "via", "dev", "table", "source", "metric"))
