"""One pod of a cluster: what the API says of it, and its Services."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from shlex import quote
from typing import TYPE_CHECKING

import pandas as pd

from ..errors import FactMissing
from ..explain.dns.file import PodResolvConf
from ..explain.dns.path import DnsPath
from ..explain.dns.tools import Difference
from ..explain.names import PAIR, Cost, Query, cost, libc_differences, search_expansion
from ..explain.pod_commands import CommandOutput
from ..explain.pod_network import NoVethPair, VethPair, veth_of
from ..explain.resolution import DnsAnswer
from ..explain.sandbox import NodeView, PodView, Sandbox, find_sandbox
from ..facts import Evidence, FactRef
from ..parse.api import human_duration
from ..parse.conntrack_table import ConntrackTable
from ..parse.links import Link
from ..parse.pods import PodValue
from ..render import Report
from .inside import (
    PodRun,
    links_frame,
    node_facts,
    pod_facts,
    pod_routes,
    routes_frame,
    run_in_pod,
    runner_of,
    start_in_pod,
)
from .named import Named
from .resolving import checked_libc, checked_name, difference_of, path_of, read_conf, resolv_conf_of, resolve_in
from .tables import services_frame
from .tracking import conntrack_table

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["Pod"]


class Pod(Named):
    """A pod. Made by :meth:`Cluster.pod`; two lookups of the same pod are equal."""

    def __init__(self, cluster: Cluster, value: PodValue) -> None:
        super().__init__(value)
        self._cluster, self.value = cluster, value

    @property
    def cluster(self) -> Cluster:
        """The cluster that it was looked up in."""
        return self._cluster

    @property
    def ip(self) -> str | None:
        """Its primary address; None until it has one."""
        return self.value.ips[0] if self.value.ips else None

    @property
    def ips(self) -> tuple[str, ...]:
        """Its addresses of both families, the primary one first."""
        return self.value.ips

    @property
    def node(self) -> str | None:
        """The name of its node; None while it is not scheduled."""
        return self.value.node

    @property
    def host_network(self) -> bool | None:
        """Whether it uses its node's network namespace; None where that is not known."""
        return self.value.host_network

    @property
    def status(self) -> str:
        """Kubectl's STATUS word."""
        return self.value.status

    @property
    def phase(self) -> str:
        """The API's phase: Pending, Running, Succeeded, Failed or Unknown."""
        return self.value.phase

    @property
    def created(self) -> datetime | None:
        """When it was created."""
        return self.value.created

    @property
    def sandbox(self) -> Sandbox:
        """Its sandbox process and network namespace, or the reason why they are not known; with evidence."""
        return find_sandbox(*self._inside())

    @property
    def sandbox_pid(self) -> int | None:
        """The process id, on its node, of the process that holds its network namespace; None where there is none."""
        return self.sandbox.pid

    @property
    def netns(self) -> int | None:
        """The inode of its network namespace (``ls -l /proc/PID/ns/net``); None when it is not known."""
        return self.sandbox.netns

    def links(self) -> tuple[Link, ...]:
        """Its interfaces as values. Raises FactMissing or FactBroken."""
        if self.node is None:
            raise FactMissing("addr.json", f"pod {self.key}", "it is on no node yet")
        if self.host_network:
            return self._cluster.node(self.node).links()
        return self._cluster.pod_links(self.key, self.node)

    def interfaces(self) -> pd.DataFrame:
        """One row an interface: ifindex name kind mtu mac addresses peer_ifindex peer_nsid; evidence in ``attrs``.

        Those in its own network namespace, which on the host network are its node's.
        """
        links = self.links()
        ref = FactRef("addr.json", self.node, None if self.host_network else self.key)
        command = self._cluster.source.command(ref)
        return links_frame(links, (Evidence(ref, command, tuple(link.line() for link in links)),))

    def routes(self) -> pd.DataFrame:
        """One row a route: type destination via dev source table metric; evidence in ``attrs``."""
        if self.node is None:
            raise FactMissing("route.json", f"pod {self.key}", "it is on no node yet")
        node = self._cluster.node(self.node)
        routes = node.routes() if self.host_network else pod_routes(self._cluster, self.value)
        ref = FactRef("route.json", self.node, None if self.host_network else self.key)
        command = self._cluster.source.command(ref)
        return routes_frame(routes, (Evidence(ref, command, tuple(route.line() for route in routes)),))

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
        """The table of its own network namespace (on the host network: its node's); filters as in Node.conntrack.

        It is mostly empty: packets are tracked where rules ask for it, and a pod has none of its own.
        """
        if self.node is None:
            raise FactMissing("conntrack.txt", f"pod {self.key}", "it is on no node yet")
        pod = None if self.host_network else self.key
        return conntrack_table(
            self._cluster, self.node, pod, destination=destination, source=source, port=port, protocol=protocol,
            state=state, reply_source=reply_source,
        )  # fmt: skip

    def veth(self) -> VethPair | NoVethPair:
        """Its interface and the peer on the node, or why there is none; a NoVethPair is false."""
        return veth_of(*self._inside())

    def _inside(self) -> tuple[PodView, NodeView | None]:
        """What is known of its inside. On a live node it may have been made anew since: then it is looked up afresh."""
        pod, node = pod_facts(self._cluster, self.value), node_facts(self._cluster, self.node)
        if self.can_run and not find_sandbox(pod, node).pids:
            renewed = self._cluster.api.fresh_pod(self.key)
            if renewed is not None and renewed.uid != self.value.uid:
                self.value = renewed
                return pod_facts(self._cluster, renewed), node_facts(self._cluster, renewed.node)
        return pod, node

    def run(self, argv: Sequence[str], seconds: float = 30.0) -> CommandOutput:
        """Run a command of its node in its network namespace (what ``nsenter -t PID -n`` does).

        On a recording the lessons' commands are rendered from their facts and labelled so; others raise Refused with
        the list. ``seconds`` bounds the run. Raises AgentError when the node's agent cannot run it.
        """
        return run_in_pod(self._cluster, self.value, argv, seconds)

    def search_expansion(self, name: str, libc: str = "glibc", ndots: int | None = None) -> list[Query]:
        """Every question, in order, that a program here sends for a name when no try has an answer.

        By its own resolv.conf; ``libc`` is ``glibc`` or ``musl`` (Alpine); ``ndots``: as if the file said another
        number. Raises FactMissing without that file, Refused for a name with white space or control characters.
        """
        conf = read_conf(self._cluster, self.value)[0]
        conf = conf if ndots is None else replace(conf, ndots=ndots)
        return search_expansion(checked_name(name), conf, checked_libc(libc))

    def dns_cost(self, name: str, libc: str = "glibc", found_at: str | None = None) -> Cost:
        """Tries, queries and round trips for a name: until the try ``found_at`` answers, or all of them."""
        return cost(checked_name(name), read_conf(self._cluster, self.value)[0], checked_libc(libc), found_at=found_at)

    def libc_differences(self, name: str) -> tuple[str, ...]:
        """What glibc and musl do differently with this name and this pod's resolv.conf, in words."""
        return libc_differences(checked_name(name), read_conf(self._cluster, self.value)[0])

    def resolve(
        self, name: str, libc: str = "glibc", types: str | Sequence[str] = PAIR, seconds: float = 30.0
    ) -> DnsAnswer:
        """Look a name up as a program here does: the search list, each question, each reply, what it is in the cluster.

        Live, servers are asked now from inside its network namespace, ``seconds`` at most in all; on a recording what
        was asked then counts, and a question that was not recorded says so. Raises FactMissing without resolv.conf,
        FactBroken (with the line) when the answer may stand on a line of the log that cannot be read, Refused for a
        name with white space or control characters and for a type that there is not.
        """
        return resolve_in(self._cluster, self.value, name, libc, types, seconds)

    def resolv_conf(self) -> PodResolvConf:
        """Its /etc/resolv.conf, beside what the kubelet writes for its dnsPolicy and dnsConfig."""
        return resolv_conf_of(self._cluster, self.value)

    def compare_dns_tools(
        self, name: str, server: str | None = None, libc: str = "glibc", seconds: float = 30.0
    ) -> Difference:
        """A program here, nslookup and dig here, and dig from the node through nsenter: who asks what, with results.

        ``server``: the address after ``@`` on dig's command line.
        """
        return difference_of(self._cluster, self.value, name, libc, server, seconds)

    def dns_path(self, name: str, libc: str = "glibc", seconds: float = 30.0) -> DnsPath:
        """The way of its questions for a name: tries, the server's address, what the node makes of it, who answers."""
        return path_of(self._cluster, self, name, libc, seconds)

    def start_run(self, argv: Sequence[str], seconds: float = 30.0) -> PodRun:
        """The same as :meth:`run`, to be cancelled or waited for."""
        return start_in_pod(self._cluster, self.value, argv, seconds)

    @property
    def can_run(self) -> bool:
        """Whether commands really run there; on a recording they are rendered from facts."""
        return runner_of(self._cluster) is not None

    def services(self) -> pd.DataFrame:
        """The Services whose EndpointSlices name this pod; columns as in :meth:`Cluster.services`."""
        api = self._cluster.api
        return services_frame(
            (api.services[key] for key in self.service_keys() if key in api.services), self._cluster.now
        )

    def service_keys(self) -> tuple[str, ...]:
        """The same as ``namespace/name``."""
        return self._cluster.api.services_of_pods.get(self.key, ())

    def report(self) -> Report:
        """What the API says of it, as ``kubectl get pod -o wide`` does, and the Services that lead to it."""
        value = self.value
        now = self._cluster.now
        age = human_duration(now - value.created) if now and value.created else "<unknown>"
        headings = ("NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IPS", "NODE")
        row = (value.namespace, value.name, value.ready, value.status, value.restarts, age, value.ips, value.node)
        notes = [f"Services: {', '.join(self.service_keys()) or 'none leads to it'}"]
        if value.host_network:
            notes.append("On the host network: it has its node's network namespace, and so its node's address")
        command = f"kubectl get pod --namespace {quote(value.namespace)} {quote(value.name)} -o"
        uid = Evidence(FactRef("pods"), command + " jsonpath={.metadata.uid}", (value.uid,))
        line = f"{value.name}  {value.ready}  {value.status}  {self.ip or '<none>'}  {value.node or '<none>'}"
        evidence = (Evidence(FactRef("pods"), f"{command} wide", (line,)), uid)
        return Report("", headings, (row,), tuple(notes), evidence)
