"""The Kubernetes network model, each rule checked on the cluster at hand.

The rules are those of the Kubernetes documentation ("The Kubernetes network model"): every pod has an address of its
own in the whole cluster; pods reach each other without NAT; a node's agents reach the node's pods. The tutorial adds
that a pod sees itself under the address that others see. A rule *holds* as far as what was looked at shows; what was
not looked at is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from ..facts import Evidence, FactRef
from ..parse.links import Link, Route, route_to
from ..parse.pods import PodValue
from ..render import Report, Shown
from .flows import flow_line
from .holders import holders

__all__ = ["NodeFacts", "Rule", "ServiceAddresses", "check_model"]

_NO_WAY = ("blackhole", "unreachable", "prohibit")


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What is known of one node's kernel. None: not collected, see ``missing``. ``flows``: conntrack columns.

    ``families``: those whose routes are known; ``policy_tables``: routing tables beside main that ``ip rule`` asks.
    """

    node: str
    links: Sequence[Link] | None
    routes: Sequence[Route] | None
    flows: pd.DataFrame | None
    pod_links: Mapping[str, Sequence[Link]]
    commands: Mapping[str, str]
    missing: tuple[str, ...] = ()
    families: frozenset[int] = frozenset((4, 6))
    policy_tables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule(Shown):
    """One rule. ``verdict``: ``holds``, ``violated`` or ``not seen``; ``checked`` says what was looked at."""

    rule: str
    verdict: str
    checked: str
    exceptions: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    unknown: tuple[str, ...] = ()

    def report(self) -> Report:
        """The verdict, what it rests on, exceptions and what was not looked at."""
        notes = (*self.exceptions, *(f"Not looked at: {why}" for why in self.unknown))
        return Report(
            "", ("RULE", "VERDICT", "CHECKED"), ((self.rule, self.verdict, self.checked),), notes, self.evidence
        )


@dataclass
class _Finding:
    checked: int = 0
    against: list[str] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)

    def verdict(self) -> str:
        return "violated" if self.against else ("holds" if self.checked else "not seen")


@dataclass(frozen=True, slots=True)
class ServiceAddresses:
    """What is translated on purpose: addresses of Services, and ports that are NodePorts on every node."""

    addresses: frozenset[str] = frozenset()
    node_ports: frozenset[int] = frozenset()


def check_model(
    pods: Iterable[PodValue], nodes: Sequence[NodeFacts], node_ips: Mapping[str, str], services: ServiceAddresses
) -> tuple[Rule, ...]:
    """The four rules, checked. ``node_ips``: address -> node (the API's); ``services`` are no counter-examples."""
    alive = [pod for pod in pods if pod.ips and not pod.finished]
    own = [pod for pod in alive if not pod.host_network]
    missing = tuple(dict.fromkeys(why for node in nodes for why in node.missing))
    return (
        _unique(alive, own, node_ips),
        _same_inside(own, nodes, missing),
        _pods_reach_pods(own, nodes, missing),
        _nodes_reach_pods(own, nodes, node_ips, services, missing),
    )


def _unique(alive: Sequence[PodValue], own: Sequence[PodValue], node_ips: Mapping[str, str]) -> Rule:
    held = {ip: [owner.name for owner in owners] for ip, owners in sorted(holders(own).items())}
    twice = [f"{ip} is held by {' and '.join(names)}" for ip, names in held.items() if len(names) > 1]
    twice += [f"{ip} is pod {names[0]}'s and node {node_ips[ip]}'s" for ip, names in held.items() if ip in node_ips]
    guests = [
        f"{pod.key} is on the host network and has its node's address {pod.ips[0]}" for pod in alive if pod.host_network
    ]
    lines = tuple(f"{pod.namespace}  {pod.name}  {', '.join(pod.ips)}  {pod.node}" for pod in own[:20])
    more = (f"... and {len(own) - 20} more",) if len(own) > 20 else ()
    says = "; ".join(twice) or f"{len(held)} addresses, each listed once"
    evidence = Evidence(FactRef("pods"), "kubectl get pods --all-namespaces -o wide", lines + more, says)
    verdict = "violated" if twice else ("holds" if held else "not seen")
    checked = f"{len(held)} addresses of {len(own)} pods"
    return Rule("Every pod has an address of its own", verdict, checked, (*twice, *guests), (evidence,))


def _same_inside(own: Sequence[PodValue], nodes: Sequence[NodeFacts], missing: tuple[str, ...]) -> Rule:
    found = _Finding()
    seen = {key: (node, links) for node in nodes for key, links in node.pod_links.items()}
    for pod in own:
        if pod.key not in seen:
            continue
        node, links = seen[pod.key]
        inside = {a.address for link in links if link.link_type != "loopback" for a in link.addresses}
        found.checked += 1
        differ = [ip for ip in pod.ips if ip not in inside]
        if differ:
            found.against.append(
                f"{pod.key}: the API says {', '.join(differ)}, its own interfaces say {', '.join(sorted(inside))}"
            )
        if len(found.evidence) < 3 or differ:
            ref = FactRef("addr.json", node.node, pod.key)
            lines = tuple(link.line() for link in links if link.link_type != "loopback")
            found.evidence.append(
                Evidence(ref, node.commands["pod addr.json"], lines, f"the API says {', '.join(pod.ips)}")
            )
    left = tuple(f"the interfaces of {pod.key}" for pod in own if pod.key not in seen)
    return Rule(
        "A pod sees itself under the address that others see",
        found.verdict(),
        f"interfaces inside {found.checked} of {len(own)} pods",
        tuple(found.against),
        tuple(found.evidence),
        (*(left if len(left) < 6 else (f"the interfaces of {len(left)} pods",)), *(missing if left else ())),
    )


def _pods_reach_pods(own: Sequence[PodValue], nodes: Sequence[NodeFacts], missing: tuple[str, ...]) -> Rule:
    addresses = {ip: pod for pod in own for ip in pod.ips}
    found = _Finding()
    routed, unknown = _routes_lead(addresses, nodes, found)
    flows = 0
    for node in nodes:
        if node.flows is None:
            continue
        between = node.flows[node.flows.orig_src.isin(addresses) & node.flows.orig_dst.isin(addresses)]
        flows += len(between)
        _judge_flows(between, node, found, "between two pods")
    found.checked = flows
    return Rule(
        "Pods reach pods without NAT",
        found.verdict(),
        f"{routed} routes from nodes to pods; {flows} tracked connections from pod to pod",
        tuple(found.against),
        tuple(found.evidence),
        (*missing, *unknown),
    )


def _nodes_reach_pods(
    own: Sequence[PodValue],
    nodes: Sequence[NodeFacts],
    node_ips: Mapping[str, str],
    services: ServiceAddresses,
    missing: tuple[str, ...],
) -> Rule:
    addresses = {ip for pod in own for ip in pod.ips}
    found = _Finding()
    flows = 0
    for node in nodes:
        mine = {ip for ip, name in node_ips.items() if name == node.node}
        mine |= {a.address for link in node.links or () for a in link.addresses if a.scope != "link"}
        mine -= services.addresses  # an IPVS node has the Services' addresses on an interface, too
        if node.flows is None:
            continue
        src, dst = node.flows.orig_src, node.flows.orig_dst
        # a NodePort is a Service's, not the node's
        to_node = src.isin(addresses) & dst.isin(mine) & ~node.flows.orig_dport.isin(services.node_ports)
        between = node.flows[(src.isin(mine) & dst.isin(addresses)) | to_node]
        flows += len(between)
        _judge_flows(between, node, found, "between the node and a pod")
    found.checked = flows
    return Rule(
        "Nodes and pods reach each other without NAT",
        found.verdict(),
        f"{flows} tracked connections between a node's own addresses and a pod's",
        tuple(found.against),
        tuple(found.evidence),
        missing,
    )


def _routes_lead(
    addresses: Mapping[str, PodValue], nodes: Sequence[NodeFacts], found: _Finding
) -> tuple[int, tuple[str, ...]]:
    """How many routes there are from nodes to pods; a node without one is a violation, if routing is plain there.

    A default route is no evidence that the way to a pod is known, nor that it is not: it is told apart.
    """
    count, unknown = 0, list[str]()
    for node in nodes:
        if node.routes is None:
            continue
        lines, by_default, none = list[str](), 0, list[str]()
        for ip, pod in sorted(addresses.items()):
            if (6 if ":" in ip else 4) not in node.families:
                continue
            route = route_to(ip, node.routes)
            if route is None or route.type in _NO_WAY:
                none.append(f"{node.node} has no route to {pod.key} ({ip})")
            elif route.network.prefixlen == 0:
                by_default += 1
            else:
                lines.append(route.line())
        count += len(lines)
        if node.policy_tables:
            unknown.append(f"routing tables {', '.join(node.policy_tables)} of {node.node}, which ip rule asks too")
        else:
            found.against += none
        if by_default:
            unknown.append(f"{by_default} pods that {node.node} reaches by its default route: a router knows the way")
        unique = list(dict.fromkeys(lines))
        shown = tuple(unique[:4]) + ((f"... and {len(unique) - 4} more",) if len(unique) > 4 else ())
        says = f"{len(lines)} of {len(addresses)} pod addresses have a route"
        found.evidence.append(Evidence(FactRef("route.json", node.node), node.commands["route.json"], shown, says))
    return count, tuple(unknown)


def _judge_flows(flows: pd.DataFrame, node: NodeFacts, found: _Finding, between: str) -> None:
    """A connection that was not translated has a reply tuple that mirrors the original one."""
    bad = flows[(flows.reply_src != flows.orig_dst) | (flows.reply_dst != flows.orig_src)]
    for flow in bad.head(5).itertuples():
        answer = f"is answered by {flow.reply_src} to {flow.reply_dst}: translated"
        found.against.append(f"{node.node}: {flow.orig_src} -> {flow.orig_dst} {answer}")
    if len(flows):
        says = f"{len(flows)} {between}, {len(bad)} translated: " + (
            "the reply tuple is not the original's mirror" if len(bad) else "each reply tuple is the original's mirror"
        )
        quoted = tuple(flow_line(flow) for flow in (bad if len(bad) else flows).head(2).itertuples())
        ref = FactRef("conntrack.txt", node.node)
        found.evidence.append(Evidence(ref, node.commands["conntrack.txt"], quoted, says))
