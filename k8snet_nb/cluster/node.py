"""One node of a cluster: what the API says of it, and what its kernel said."""

from __future__ import annotations

from functools import cached_property
from shlex import quote
from typing import TYPE_CHECKING

import pandas as pd

from ..errors import FactMissing
from ..explain.addon import NodeNetwork, node_network
from ..explain.outcome import NodeView
from ..explain.pod_network import host_interfaces
from ..explain.proxy_mode import ProxyMode
from ..explain.sandbox import NodeView as NodeInside
from ..facts import FACTS, Evidence, FactRef
from ..parse.facts_json import json_list
from ..parse.links import Link, Route, parse_links, parse_routes
from ..parse.nodes import NodeValue
from ..render import Report, Shown, printable
from .inside import host_frame, namespaces_frame, node_facts, pod_facts, processes_frame
from .rules import NodeRules, node_view
from .tables import pods_frame

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["Node"]


class Node(Shown):
    """A node. Made by :meth:`Cluster.node`."""

    def __init__(self, cluster: Cluster, value: NodeValue) -> None:
        self._cluster, self.value = cluster, value

    @property
    def name(self) -> str:
        """Its name."""
        return self.value.name

    @property
    def status(self) -> str:
        """Kubectl's STATUS word."""
        return self.value.status

    @property
    def ips(self) -> tuple[str, ...]:
        """The addresses that the API lists, of both families."""
        return self.value.ips()

    @property
    def has_facts(self) -> bool:
        """Whether anything is known of its kernel."""
        return self.name in self._cluster.source.nodes()

    def pods(self) -> pd.DataFrame:
        """The pods on it; columns as in :meth:`Cluster.pods`."""
        return pods_frame((p for p in self._cluster.api.pods.values() if p.node == self.name), self._cluster.now)

    def facts(self) -> pd.DataFrame:
        """One row a fact: fact present command trouble. ``trouble`` says why one is missing or only partial."""
        source = self._cluster.source
        refs = [FactRef(fact.file, self.name) for fact in FACTS.values() if fact.node]
        rows = [(r.fact, source.has(r), source.command(r), source.trouble(r)) for r in refs]
        return pd.DataFrame(rows, columns=["fact", "present", "command", "trouble"], dtype=object).astype(
            {"present": bool}
        )

    def links(self) -> tuple[Link, ...]:
        """Its interfaces, as values, in the order of their index. Raises FactMissing or FactBroken."""
        ref = FactRef("addr.json", self.name)
        return parse_links(self._cluster.source.read(ref), ref)

    def route_families(self) -> frozenset[int]:
        """The address families whose routes were collected: 6 only where there is an IPv6 route or route6.json."""
        six = self._cluster.source.has(FactRef("route6.json", self.name))
        return frozenset({4, *(r.network.version for r in self.routes()), *((6,) if six else ())})

    def policy_tables(self) -> tuple[str, ...]:
        """Routing tables beside local, main and default that ``ip rule`` asks. Empty where it was not collected."""
        ref = FactRef("rule.json", self.name)
        if not self._cluster.source.has(ref):
            return ()
        rules = json_list(self._cluster.source.read(ref), ref)
        named = (str(rule["table"]) for rule in rules if "table" in rule)
        return tuple(sorted({table for table in named if table not in ("local", "main", "default")}))

    def routes(self) -> tuple[Route, ...]:
        """Its routes of both families and every table, as values. Raises FactMissing or FactBroken.

        IPv6 routes are left out where route6.json was not collected: see :meth:`route_families`.
        """
        ref, ref6 = FactRef("route.json", self.name), FactRef("route6.json", self.name)
        routes = parse_routes(self._cluster.source.read(ref), ref)
        if self._cluster.source.has(ref6):
            # `ip route show table all` lists IPv6 routes too on some versions: each route is kept once
            known = {(r.network, r.table, r.type, r.metric, r.hops) for r in routes}
            more = parse_routes(self._cluster.source.read(ref6), ref6)
            routes += tuple(r for r in more if (r.network, r.table, r.type, r.metric, r.hops) not in known)
        return routes

    def network(self) -> NodeNetwork:
        """How it connects its pods and reaches the others, by its own routes and interfaces."""
        try:
            links, routes = self.links(), self.routes()
        except FactMissing as error:
            return NodeNetwork(self.name, "unknown", None, "unknown", (str(error),))
        families = self.route_families()
        local: dict[str, str] = {}
        remote: dict[str, str] = {}
        for pod in self._cluster.api.pods.values():
            if not pod.host_network and not pod.finished and pod.node:
                ips = [ip for ip in pod.ips if (6 if ":" in ip else 4) in families]
                (local if pod.node == self.name else remote).update(dict.fromkeys(ips, pod.key))
        nodes = {ip: node.name for node in self._cluster.api.nodes.values() for ip in node.ips()}
        commands = {
            fact: self._cluster.source.command(FactRef(fact, self.name)) for fact in ("addr.json", "route.json")
        }
        return node_network(self.name, links, routes, local, remote, nodes, commands)

    def interfaces(self) -> pd.DataFrame:
        """One row an interface of the node, and which pod is behind it.

        Columns: ifindex name kind mtu mac addresses master peer_ifindex peer_nsid pod netns says; evidence in
        ``attrs["evidence"]``.
        """
        facts = node_facts(self._cluster, self.name)
        if facts is None or facts.links is None:
            self.links()  # raises with the reason
        pods = [pod_facts(self._cluster, p) for p in self._cluster.api.pods.values() if p.node == self.name]
        return host_frame(host_interfaces(facts, pods) if facts else ())

    def processes(self) -> pd.DataFrame:
        """One row a process: pid netns (inode) pod cmdline cgroup; ``pod`` by the uid in its cgroup path.

        Raises FactMissing or FactBroken.
        """
        pods = (pod for pod in self._cluster.api.pods.values() if pod.node == self.name)
        return processes_frame(self._kernel("processes.json"), pods)

    def namespaces(self) -> pd.DataFrame:
        """One row a network namespace, as ``lsns -t net``: ns (inode) netnsid nprocs pid nsfs command.

        Raises FactMissing or FactBroken.
        """
        return namespaces_frame(self._kernel("lsns.json"))

    def _kernel(self, fact: str) -> NodeInside:
        facts = node_facts(self._cluster, self.name)
        there = None if facts is None else facts.processes if fact == "processes.json" else facts.namespaces
        if facts is None or there is None:
            self._cluster.source.read(FactRef(fact, self.name))  # raises with the reason
            raise FactMissing(fact, f"node {self.name}", "it was not read")
        return facts

    @cached_property
    def rules(self) -> NodeRules:
        """Its programmed rules: iptables, nftables, IPVS; parsed when first asked for."""
        return self._cluster.node_rules(self.name)

    @property
    def proxy_mode(self) -> str | None:
        """``iptables``, ``nftables`` or ``ipvs``: what translates Services here, as programmed; None: none does."""
        return self.rules.mode.mode

    @property
    def proxy_mode_evidence(self) -> ProxyMode:
        """The same with the reason: every mode found, leftovers, what kube-proxy says of itself, the lines."""
        return self.rules.mode

    def view(self) -> NodeView:
        """Its addresses and its pods', for following packets through its rules."""
        pods = (
            p for p in self._cluster.api.pods.values() if p.node == self.name and not p.host_network and not p.finished
        )
        addresses = tuple(ip for pod in pods for ip in pod.ips)
        return node_view(self.name, self.links(), self.routes(), self.ips, addresses, self.value.pod_cidrs)

    def report(self) -> Report:
        """What the API says of it, as ``kubectl get node -o wide`` does."""
        value = self.value
        headings = ("NAME", "STATUS", "ROLES", "VERSION", "INTERNAL-IP", "KERNEL-VERSION", "CONTAINER-RUNTIME")
        row = (
            value.name,
            value.status,
            value.roles,
            value.version or None,
            value.ips("InternalIP"),
            value.kernel or None,
        )
        ref = FactRef("node.json", self.name)
        note = (
            "Its kernel's facts can be read"
            if self.has_facts
            else f"No facts of its kernel: {self._cluster.source.trouble(ref)}"
        )
        line = "  ".join(str(cell or "<none>") for cell in (value.name, value.status, *value.ips("InternalIP")))
        evidence = Evidence(FactRef("nodes"), f"kubectl get node {quote(value.name)} -o wide", (line,))
        return Report("", headings, ((*row, value.runtime or None),), (note,), (evidence,))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return printable(f"<Node {self.name}>")
