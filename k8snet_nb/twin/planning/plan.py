"""From a recording to a plan: which namespaces, interfaces, routes and servers a twin has. Pure; nothing is made here.

Every node whose kernel was read is made as it was, unless fewer are chosen. The API's other nodes become stand-ins,
which only hold the addresses of the node and its pods, so that packets to them arrive and are answered. What a twin
does not have is in the plan's ``left_out``, with the reason; nothing is edited or dropped without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_network
from typing import Protocol

from ...errors import NotFound
from ...parse.pods import PodValue
from ...render import printable
from ...sources.base import Source
from .. import words
from ..model import WIRE, LeftOut, Listener, NodePlan, Step, TwinPlan, own_links
from .facts import ApiFacts, Notes, Reader, SpaceFacts, read_api, read_node
from .listeners import Places, listeners, nameservers, node_dns
from .nodes import BuiltNode, node_plan, proxied, stand_in
from .wire import NodeOnWire, Ways, gateways_of, plan_wire

__all__ = ["MOST_NODES", "Rules", "plan_twin", "with_rules"]

MOST_NODES = 250
"""How many nodes a twin has at most, stand-ins included."""


def plan_twin(source: Source, nodes: Sequence[str] | None = None) -> TwinPlan:
    """The plan of a twin of what ``source`` tells: ``nodes`` as recorded (by default all), the others as stand-ins.

    Without the steps that load rules: :func:`with_rules` adds them. Raises NotFound for a node of
    which the source has no facts; facts that are missing or broken are noted in ``left_out``.
    """
    notes = Notes()
    reader = Reader(source, notes)
    api = read_api(reader)
    chosen = _chosen(source, nodes, notes)
    pods = _by_node(api)
    built: list[BuiltNode] = []
    prefixes: list[str] = []
    for name in chosen:
        facts, view = read_node(reader, name)
        if facts.links is None:
            notes.add(name, "addr.json", name, "its interfaces were not read: it stands in by its addresses")
            continue
        prefixes += _prefixes(facts)
        built.append(node_plan(reader, facts, view, pods.get(name, ()), _node_ips(api, name)))
    ways = [(one.on_wire, Ways(one.on_wire.routes)) for one in built]
    built = [_with_proxies(one, ways) for one in built]
    built += _stand_ins(api, pods, built, notes)
    prefixes += _api_prefixes(api)
    return _whole(source.name, api, built, prefixes, notes)


class Rules(Protocol):
    """How one node's rules are loaded, as ``loading.rule_steps`` says it."""

    @property
    def steps(self) -> tuple[Step, ...]: ...
    @property
    def nfacct(self) -> tuple[str, ...]: ...
    @property
    def left_out(self) -> tuple[LeftOut, ...]: ...
    @property
    def guest(self) -> bool: ...


def with_rules(plan: TwinPlan, rules_of: Callable[[str], Rules]) -> TwinPlan:
    """The plan with the steps that load each node's rules; a stand-in has none."""
    nodes, left_out = [], list(plan.left_out)
    for node in plan.nodes:
        if not node.stand_in:
            rules = rules_of(node.name)
            node = replace(node, steps=rules.steps, nfacct=rules.nfacct, guest=rules.guest)
            left_out += rules.left_out
        nodes.append(node)
    return replace(plan, nodes=tuple(nodes), left_out=tuple(left_out))


def _chosen(source: Source, nodes: Sequence[str] | None, notes: Notes) -> list[str]:
    known = source.nodes()
    for name in nodes or ():
        if name not in known:
            there = printable(", ".join(known)) or "none"
            raise NotFound(f"no facts of a node {printable(name)!r}; there are: {there}")
    found: dict[str, None] = {}
    for name in known if nodes is None else [name for name in known if name in nodes]:
        try:
            if words.api_name(name) == WIRE:
                raise ValueError(f"a twin has a place of its own that is called {WIRE}")
            found[name] = None
        except ValueError as error:
            notes.add(None, "node.json", name, error)
    for name in list(found)[MOST_NODES:]:
        notes.add(name, "node.json", name, f"a twin has {MOST_NODES} nodes at most")
    return list(found)[:MOST_NODES]


def _by_node(api: ApiFacts) -> dict[str, list[PodValue]]:
    """Pods that have not ended, by node."""
    found: dict[str, list[PodValue]] = {}
    for pod in api.pods.values():
        if pod.node is not None and not pod.finished:
            found.setdefault(pod.node, []).append(pod)
    return found


def _node_ips(api: ApiFacts, name: str) -> tuple[str, ...]:
    """A node's addresses of the API, internal ones first, those that a host can have."""
    node = api.nodes.get(name)
    found: dict[str, None] = {}
    for ip in (*node.ips("InternalIP"), *node.ips("ExternalIP")) if node else ():
        try:
            found[words.on_link(ip)] = None
        except ValueError:
            continue  # a host name: it stands for no interface
    return tuple(found)


def _with_proxies(node: BuiltNode, others: Sequence[tuple[NodeOnWire, Ways]]) -> BuiltNode:
    entries = proxied(node, others)
    if not entries:
        return node
    space = node.plan.space
    sysctls = {f"net/ipv6/conf/{entry.words[-1]}/proxy_ndp": "1" for entry in entries if entry.family == 6}
    space = replace(space, neighbours=(*space.neighbours, *entries), sysctls={**space.sysctls, **sysctls})
    return replace(node, plan=replace(node.plan, space=space))


def _stand_ins(
    api: ApiFacts, pods: Mapping[str, Sequence[PodValue]], built: Sequence[BuiltNode], notes: Notes
) -> list[BuiltNode]:
    there = {one.plan.name for one in built}
    known = [one.on_wire for one in built]
    gateways = gateways_of(known)
    found: list[BuiltNode] = []
    for name in api.nodes:
        if name in there:
            continue
        if name == WIRE:
            notes.add(name, "nodes.json", name, f"a twin has a place of its own that is called {WIRE}")
            continue
        ips = [ip for ip in _node_ips(api, name) if ip in api.nodes[name].ips("InternalIP")]
        if len(built) + len(found) >= MOST_NODES or not ips:
            notes.add(name, "nodes.json", name, "no address to stand in by" if not ips else f"over {MOST_NODES} nodes")
            continue
        notes.add(
            name, "nodes.json", name, "its kernel is not in the twin: it only holds the node's and pods' addresses"
        )
        found.append(stand_in(name, ips, _usable(pods.get(name, ()), notes), known, gateways))
    return found


def _usable(pods: Iterable[PodValue], notes: Notes) -> list[PodValue]:
    """Pods with addresses that a host can have."""
    found = []
    for pod in pods:
        try:
            [words.on_link(ip) for ip in pod.ips]
            found.append(pod)
        except ValueError as error:
            notes.add(pod.node, "pods.json", pod.key, error)
    return found


def _whole(
    recording: str, api: ApiFacts, built: Sequence[BuiltNode], prefixes: Sequence[str], notes: Notes
) -> TwinPlan:
    plans = [one.plan for one in built]
    node_of_ip = {str(a.ip): one.plan.name for one in built for a in one.on_wire.addresses}
    asked = nameservers(pod.resolv_conf for plan in plans for pod in plan.pods)
    places = listeners(api, asked, node_of_ip, _pod_places(api, plans), notes)
    wire = plan_wire([one.on_wire for one in built], [one.address for one in places.wire], prefixes)
    finished = tuple(_with_listeners(plan, places, asked) for plan in plans)
    left_out: tuple[LeftOut, ...] = notes.done()
    return TwinPlan(printable(recording)[:200], finished, wire.space, tuple(places.wire), wire.outside, left_out)


def _pod_places(api: ApiFacts, plans: Iterable[NodePlan]) -> dict[str, tuple[str, str]]:
    """Where each pod's servers run: in its own namespace, or on its node's network."""
    found: dict[str, tuple[str, str]] = {}
    standing = {plan.name for plan in plans if plan.stand_in}
    for plan in plans:
        for pod in plan.pods:
            found[pod.key] = ("nodes", plan.name) if pod.space is None else ("pods", pod.key)
    for key, pod_value in api.pods.items():
        if pod_value.node in standing and not pod_value.finished:
            found[key] = ("nodes", pod_value.node or "")
    return found


def _with_listeners(plan: NodePlan, places: Places, asked: frozenset[str]) -> NodePlan:
    pods = tuple(replace(pod, listeners=tuple(places.pods.get(pod.key, ()))) for pod in plan.pods)
    mine: list[Listener] = list(places.nodes.get(plan.name, ()))
    if not plan.stand_in:
        # not those of interfaces that are down: kube-ipvs0 holds Services' addresses, which IPVS answers for
        up = [link for link in own_links(plan.space.links) if link.up]
        addresses = [text.split("/")[0].split()[0] for link in up for text in link.addresses]
        taken = {(one.protocol, one.address, one.port) for one in mine}
        mine += [one for one in node_dns(addresses, asked, plan.name) if (one.protocol, one.address, 53) not in taken]
    return replace(plan, pods=pods, listeners=tuple(mine))


def _prefixes(facts: SpaceFacts) -> list[str]:
    """Every prefix that a node's facts name."""
    own = [str(address) for link in facts.links or () for address in link.addresses]
    return [text for text in (*own, *(str(route.network) for route in facts.routes)) if _is_network(text)]


def _api_prefixes(api: ApiFacts) -> list[str]:
    """Every address that the API's objects name."""
    said = [ip for service in api.services.values() for ip in (*service.cluster_ips, *service.external_ips)]
    said += [ip for service in api.services.values() for ip in service.load_balancer]
    said += [ip for pod in api.pods.values() for ip in pod.ips]
    said += [endpoint.address for one in api.slices.values() for endpoint in one.endpoints]
    said += [ip for name in api.nodes for ip in _node_ips(api, name)]
    return [text for text in said if _is_network(text)]


def _is_network(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False  # a host name of a load balancer, or an address that is left out, and noted, elsewhere
    return True
