"""One pod of a cluster: what the API says of it, and its Services."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import pandas as pd

from ..errors import FactMissing
from ..explain.pod_commands import CommandOutput
from ..explain.pod_network import NoVethPair, VethPair, veth_of
from ..explain.sandbox import NodeView, PodView, Sandbox, find_sandbox, pod_identity
from ..facts import Evidence, FactRef
from ..parse.api import human_duration
from ..parse.links import parse_links
from ..parse.pods import PodValue
from ..render import Report, Shown
from .inside import all_routes, interfaces_frame, node_view, pod_view, routes_frame, run_in_pod
from .tables import services_frame

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["Pod"]


class Pod(Shown):
    """A pod. Made by :meth:`Cluster.pod`; two lookups of the same pod are equal."""

    def __init__(self, cluster: Cluster, value: PodValue) -> None:
        self._cluster, self.value = cluster, value

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

    def services(self) -> pd.DataFrame:
        """The Services whose EndpointSlices name this pod; columns as in :meth:`Cluster.services`."""
        api = self._cluster.api
        return services_frame(
            (api.services[key] for key in self.service_keys() if key in api.services), self._cluster.now
        )

    def sandbox(self) -> Sandbox:
        """Its sandbox process and network namespace on its node, with evidence, or the reason why they are unknown."""
        return find_sandbox(*self._views())

    @property
    def sandbox_pid(self) -> int | None:
        """The pid of its sandbox ("pause") process on its node; None where there is none: :meth:`sandbox` says why."""
        return self.sandbox().pid

    @property
    def netns(self) -> int | None:
        """The inode of its network namespace; None where that is not known: :meth:`sandbox` says why."""
        return self.sandbox().netns

    def interfaces(self) -> pd.DataFrame:
        """Its interfaces: ifindex name kind mtu mac addresses peer_ifindex peer_nsid. Raises FactMissing.

        A hostNetwork pod has its node's.
        """
        ref = self._inside("addr.json")
        return interfaces_frame(parse_links(self._cluster.source.read(ref), ref))

    def routes(self) -> pd.DataFrame:
        """The routes in its network namespace: type network via dev table source metric. Raises FactMissing."""
        ref = self._inside("route.json")
        self._cluster.source.read(ref)
        return routes_frame(all_routes(self._cluster.source, ref.node, ref.pod) or ())

    def veth(self) -> VethPair | NoVethPair:
        """Its primary interface and the peer on the node, with evidence; or why there is no such pair."""
        return veth_of(*self._views())

    def run(self, argv: Sequence[str], seconds: float = 30.0) -> CommandOutput:
        """A command in its network namespace; on a recording rendered from facts. Raises Refused, AgentError."""
        return run_in_pod(self._cluster.source, pod_identity(self.value), argv, seconds)

    def _views(self) -> tuple[PodView, NodeView | None]:
        source, node = self._cluster.source, self.node
        known = node is not None and node in source.nodes()
        return pod_view(source, pod_identity(self.value)), node_view(source, node) if node and known else None

    def _inside(self, fact: str) -> FactRef:
        if self.node is None:
            raise FactMissing(fact, f"pod {self.key}", "it is on no node yet, so it has no network namespace")
        return FactRef(fact, self.node, None if self.host_network else self.key)

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
