"""What a plan is made of: the facts of a source, parsed; what is missing or broken is noted, not fatal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ...errors import FactBroken, FactMissing, K8snetError, UnsafeRecording
from ...explain.sandbox import NodeView, PodView, pod_identity
from ...facts import FactRef
from ...parse.api import parse_list
from ...parse.links import Link, Route, parse_links, parse_routes
from ...parse.namespaces import parse_lsns, parse_nsid, parse_pod_processes, parse_processes
from ...parse.nodes import NodeValue, parse_node
from ...parse.pods import PodValue, parse_pod
from ...parse.routing import Neighbour, Rule, parse_fdb, parse_neigh, parse_rules
from ...parse.services import ServiceValue, Slice, parse_service, parse_slice
from ...render import printable
from ...sources.base import Source
from .. import words
from ..model import LeftOut

__all__ = ["MOST_LEFT_OUT", "ApiFacts", "Notes", "Reader", "SpaceFacts", "read_api", "read_node", "read_pod"]

T = TypeVar("T")
MOST_LEFT_OUT = 2000
_MOST_TEXT = 200


@dataclass(slots=True)
class Notes:
    """What is left out, gathered while planning; bounded, whatever a recording holds."""

    items: list[LeftOut] = field(default_factory=list)
    more: int = 0

    def add(self, node: str | None, fact: str, text: object, why: object) -> None:
        """Note one thing; its text and reason are made printable and cut to a readable length."""
        if len(self.items) >= MOST_LEFT_OUT:
            self.more += 1
            return
        said, reason = printable(str(text))[:_MOST_TEXT], printable(str(why))[:_MOST_TEXT]
        self.items.append(LeftOut(node, fact, said, reason))

    def done(self) -> tuple[LeftOut, ...]:
        """All of them, each once, and how many more there were."""
        several = list(dict.fromkeys(self.items))
        if self.more:
            several.append(LeftOut(None, "", f"{self.more:,} more", "too many to list"))
        return tuple(several)


@dataclass(frozen=True, slots=True)
class SpaceFacts:
    """What was read in one network namespace. ``links`` None: its interfaces were not read, so it is not known."""

    links: tuple[Link, ...] | None = None
    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()


@dataclass(frozen=True, slots=True)
class ApiFacts:
    """The API's objects that matter here, by name; those that could not be read are noted."""

    nodes: Mapping[str, NodeValue]
    pods: Mapping[str, PodValue]
    services: Mapping[str, ServiceValue]
    slices: Mapping[str, Slice]


class Reader:
    """Reads facts of a source; what is missing is None, what is broken is None and noted."""

    def __init__(self, source: Source, notes: Notes) -> None:
        self.source, self.notes = source, notes

    def fact(self, ref: FactRef, parse: Callable[[bytes, FactRef], T]) -> T | None:
        """One fact's value. An empty one of ``ip -j`` and the like is a value, an absent one is None."""
        try:
            return parse(self.source.read(ref), ref)
        except FactMissing:
            return None
        except (FactBroken, UnsafeRecording) as error:
            self.notes.add(ref.node, ref.fact, ref.where, error)
            return None

    def objects(self, resource: str, parse: Callable[[Mapping[str, Any]], T], namespaced: bool) -> dict[str, T]:
        """The objects of one resource by name; each broken one is noted and left out."""
        try:
            items = parse_list(self.source.read(FactRef(resource)), resource)
        except K8snetError as error:
            self.notes.add(None, f"{resource}.json", resource, error)
            return {}
        found: dict[str, T] = {}
        for item in items:
            meta = item["metadata"]
            try:
                key = words.api_name(meta["name"])
                if namespaced:
                    key = f"{words.api_name(meta.get('namespace', 'default'))}/{key}"
                found[key] = parse(item)
            except (FactBroken, AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
                self.notes.add(None, f"{resource}.json", str(meta.get("name")), error)
        return dict(sorted(found.items()))


def read_api(reader: Reader) -> ApiFacts:
    """Nodes, pods, Services and EndpointSlices."""
    return ApiFacts(
        reader.objects("nodes", parse_node, namespaced=False),
        reader.objects("pods", parse_pod, namespaced=True),
        reader.objects("services", parse_service, namespaced=True),
        reader.objects("endpointslices", parse_slice, namespaced=True),
    )


def _routes(reader: Reader, node: str, pod: str | None) -> tuple[Route, ...] | None:
    """Both families, each route once: some versions of ``ip route show table all`` list IPv6 routes too."""
    four = reader.fact(FactRef("route.json", node, pod), parse_routes)
    six = reader.fact(FactRef("route6.json", node, pod), parse_routes)
    if four is None and six is None:
        return None
    unique = {(r.network, r.table, r.type, r.metric, r.hops): r for r in (*(four or ()), *(six or ()))}
    return tuple(unique.values())


def _space(reader: Reader, node: str, pod: str | None) -> SpaceFacts:
    return SpaceFacts(
        reader.fact(FactRef("addr.json", node, pod), parse_links),
        _routes(reader, node, pod) or (),
        reader.fact(FactRef("rule.json", node, pod), parse_rules) or (),
        reader.fact(FactRef("neigh.json", node, pod), parse_neigh) or (),
    )


def read_node(reader: Reader, node: str) -> tuple[SpaceFacts, NodeView]:
    """A node's own namespace, and the view by which the kit finds its pods."""
    space = _space(reader, node, None)
    view = NodeView(
        node,
        None,
        space.links,
        space.routes,
        space.neighbours,
        reader.fact(FactRef("fdb.json", node), parse_fdb),
        reader.fact(FactRef("nsid.json", node), parse_nsid),
        reader.fact(FactRef("lsns.json", node), parse_lsns),
        reader.fact(FactRef("processes.json", node), parse_processes),
    )
    return space, view


def read_pod(reader: Reader, pod: PodValue, node: str) -> tuple[SpaceFacts, PodView]:
    """A pod's namespace, and the view by which the kit finds its sandbox and its pair."""
    space = _space(reader, node, pod.key)
    processes = reader.fact(FactRef("pod.json", node, pod.key), parse_pod_processes)
    return space, PodView(pod_identity(pod), space.links, space.routes, processes)
