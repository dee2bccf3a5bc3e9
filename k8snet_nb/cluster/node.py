"""One node of a cluster: what the API says of it, and what its kernel said."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import FactMissing
from ..explain.addon import NodeNetwork, node_network
from ..explain.chains import ChainView
from ..explain.flows import top_talkers
from ..explain.ipvs.view import IpvsTable
from ..explain.ladder import Ladder
from ..explain.outcome import NodeView
from ..explain.pod_network import host_interfaces
from ..explain.proxy_mode import ProxyMode
from ..explain.sandbox import NodeView as NodeInside
from ..explain.usage import ConntrackUsage
from ..facts import FACTS, Evidence, FactRef
from ..parse.conntrack_events import ConntrackEvents
from ..parse.conntrack_table import ConntrackTable
from ..parse.facts_json import json_list
from ..parse.links import Link, Route, parse_links, parse_routes
from ..parse.nodes import NodeValue
from ..render import Report, Shown, printable
from .chains import chain_frame_of, chain_view
from .dataplane import ipset_frame, ipvs_connections_frame, ipvs_stats_frame, ipvs_table, ladder, lookups_frame
from .events import node_events
from .flowing import node_flows
from .inside import host_frame, namespaces_frame, node_facts, pod_facts, processes_frame
from .rules import NodeRules, node_view
from .tables import pods_frame
from .tracking import conntrack_table, node_usage

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["Node"]


class Node(Shown):
    """A node. Made by :meth:`Cluster.node`."""

    def __init__(self, cluster: Cluster, value: NodeValue) -> None:
        self._cluster, self.value = cluster, value

    @property
    def cluster(self) -> Cluster:
        """The cluster that it is a node of."""
        return self._cluster

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
        """One row a fact: fact present command trouble whose.

        ``trouble`` says why one is missing or only partial, ``whose`` which tool told it (live: when it was last read).
        """
        source = self._cluster.source
        refs = [FactRef(fact.file, self.name) for fact in FACTS.values() if fact.node and fact.recorded]
        rows = [(r.fact, source.has(r), source.command(r), source.trouble(r), source.whose(r)) for r in refs]
        return pd.DataFrame(rows, columns="fact present command trouble whose".split(), dtype=object).astype(
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

    def conntrack(
        self,
        *,
        destination: str | None = None,
        source: str | None = None,
        port: int | None = None,
        protocol: str | None = None,
        state: str | None = None,
        reply_source: str | None = None,
    ) -> ConntrackTable:
        """Its connection tracking table, or the entries that match, as ``conntrack -L`` with -d, -s, -p ... lists them.

        ``destination`` and ``source`` are those of the original direction: a Service's address, not the pod's, which is
        ``reply_source``. Each is an address or a network. Raises FactMissing, FactBroken, Refused.
        """
        return conntrack_table(
            self._cluster, self.name, destination=destination, source=source, port=port, protocol=protocol, state=state,
            reply_source=reply_source,
        )  # fmt: skip

    def conntrack_usage(self) -> ConntrackUsage:
        """How full that table is, what it costs and what limits it. Raises FactMissing when no fact tells a count."""
        return node_usage(self._cluster, self.name)

    def conntrack_events(self, seconds: float = 5.0) -> ConntrackEvents:
        """What happened to the table: as recorded, or on a live node within the next ``seconds``."""
        return node_events(self._cluster, self.name, seconds)

    def flows(self, earlier: ConntrackTable | None = None, **filters: Any) -> pd.DataFrame:
        """The table's entries explained: its columns, and client service backend nat hairpin verdict.

        See :func:`k8snet_nb.explain.flows.explain_flows`. ``filters`` as in :meth:`conntrack`; ``earlier`` is a table
        read some seconds before. Evidence and notes in ``attrs``.
        """
        return node_flows(self._cluster, self.name, earlier, **filters)

    def top_talkers(self, by: str = "client", count: int = 10) -> pd.DataFrame:
        """The busiest of ``by`` (``client``, ``backend``, ``service``): flows, share of all, packets, bytes.

        Raises Refused for another column.
        """
        return top_talkers(self.flows(), by, count)

    @property
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

    def chains(self) -> pd.DataFrame:
        """One row a chain of iptables or a chain, map or set of nftables: key tool table name kind size about."""
        return chain_frame_of(self.rules)

    def chain(self, name: str, table: str | None = None, holding: str = "") -> ChainView:
        """One chain, map or set as its own tool lists it (``iptables -L NAME -n -v``, ``nft list chain``).

        ``table`` where several have one of that name; ``holding``: only rules whose line holds that text. Raises
        NotFound with the nearest names.
        """
        return chain_view(self.rules, name, table, holding)

    def ladder(self, service: str, port: str | int | None = None, family: int = 4) -> Ladder:
        """How iptables chooses among a Service's endpoints here, rung by rung. Raises Refused where it does not."""
        return ladder(self, self._cluster.service(service).value, port, family)

    def ipvs(self, service: str | None = None, port: str | int | None = None) -> IpvsTable:
        """The table of ``ipvsadm -Ln``: all virtual servers, or those of one Service (port).

        Connections are counted from ``ipvsadm -Lnc`` where the table itself was not collected. Raises FactMissing.
        """
        return ipvs_table(self._cluster, self, service, port)

    def ipvs_stats(self) -> pd.DataFrame:
        """One row a real server: service protocol address port server server_port and its five counters."""
        return ipvs_stats_frame(self._cluster, self)

    def ipvs_connections(self) -> pd.DataFrame:
        """One row a connection of IPVS's own table (``ipvsadm -Lnc``); ``expires`` in seconds.

        Columns: protocol state expires client client_port virtual virtual_port server server_port.
        """
        return ipvs_connections_frame(self)

    def ipsets(self) -> pd.DataFrame:
        """One row an ipset: name type family size members."""
        return ipset_frame(self)

    def lookups(self) -> pd.DataFrame:
        """What is looked at until a Service is found: service entry port protocol rules tables found_by.

        ``rules`` are compared one after the other, ``tables`` (maps, sets, hashes) looked into; for the first packet
        of a connection, in table nat. Raises Refused when no data plane is known.
        """
        return lookups_frame(self._cluster, self)

    def view(self) -> NodeView:
        """Its addresses and its pods', for following packets through its rules."""
        return self._cluster.node_view(self.name, self._view)

    def _view(self) -> NodeView:
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
