"""One pod of a cluster: what the API says of it, and its Services."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import pandas as pd

from ..errors import FactMissing
from ..explain.pod_commands import CommandOutput
from ..explain.pod_network import NoVethPair, VethPair, veth_of
from ..explain.sandbox import Sandbox, find_sandbox
from ..facts import Evidence, FactRef
from ..parse.api import human_duration
from ..parse.links import Link
from ..parse.pods import PodValue
from ..render import Report, Shown
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
from .tables import services_frame

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["Pod"]


class Pod(Shown):
    """A pod. Made by :meth:`Cluster.pod`; two lookups of the same pod are equal."""

    def __init__(self, cluster: Cluster, value: PodValue) -> None:
        self._cluster, self.value = cluster, value

    @property
    def cluster(self) -> Cluster:
        """The cluster that it was looked up in."""
        return self._cluster

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return self.value.key

    @property
    def namespace(self) -> str:
        """Its Kubernetes namespace."""
        return self.value.namespace

    @property
    def name(self) -> str:
        """Its name."""
        return self.value.name

    @property
    def uid(self) -> str:
        """Its uid: what tells it from a namesake, and what its cgroups are called after."""
        return self.value.uid

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
    def host_network(self) -> bool:
        """Whether it uses its node's network namespace."""
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
        return find_sandbox(pod_facts(self._cluster, self.value), node_facts(self._cluster, self.node))

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
        host = self._cluster.node(self.node) if self.host_network else None
        routes = host.routes() if host else pod_routes(self._cluster, self.value)
        ref = FactRef("route.json", self.node, None if self.host_network else self.key)
        command = self._cluster.source.command(ref)
        return routes_frame(routes, (Evidence(ref, command, tuple(route.line() for route in routes)),))

    def veth(self) -> VethPair | NoVethPair:
        """Its interface and the peer on the node, or why there is none; a NoVethPair is false."""
        return veth_of(pod_facts(self._cluster, self.value), node_facts(self._cluster, self.node))

    def run(self, argv: Sequence[str], seconds: float = 30.0) -> CommandOutput:
        """Run a command of its node in its network namespace (what ``nsenter -t PID -n`` does).

        On a recording the lessons' commands are rendered from their facts and labelled so; others raise Refused with
        the list. ``seconds`` bounds the run. Raises AgentError when the node's agent cannot run it.
        """
        return run_in_pod(self._cluster, self.value, argv, seconds)

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
        headings = ("NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE")
        row = (value.namespace, value.name, value.ready, value.status, value.restarts, age, value.ips, value.node)
        notes = [f"Services: {', '.join(self.service_keys()) or 'none leads to it'}"]
        if value.host_network:
            notes.append("On the host network: it has its node's network namespace, and so its node's address")
        command = f"kubectl get pod --namespace {value.namespace} {value.name} -o wide"
        ips, node = ", ".join(value.ips) or "<none>", value.node or "<none>"
        line = f"{value.key}: status.podIPs {ips}, spec.nodeName {node}, uid {value.uid}"
        return Report("", headings, (row,), tuple(notes), (Evidence(FactRef("pods"), command, (line,)),))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pod) and (other.key, other.uid) == (self.key, self.uid)

    def __hash__(self) -> int:
        return hash((self.key, self.uid))

    def __repr__(self) -> str:
        return f"<Pod {self.key}>"
