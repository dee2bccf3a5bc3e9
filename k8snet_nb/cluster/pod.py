"""One pod of a cluster: what the API says of it, and its Services."""

from __future__ import annotations

from datetime import datetime
from shlex import quote
from typing import TYPE_CHECKING

import pandas as pd

from ..facts import Evidence, FactRef
from ..parse.api import human_duration
from ..parse.pods import PodValue
from ..render import Report
from .named import Named
from .tables import services_frame

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["Pod"]


class Pod(Named):
    """A pod. Made by :meth:`Cluster.pod`; two lookups of the same pod are equal."""

    def __init__(self, cluster: Cluster, value: PodValue) -> None:
        super().__init__(value)
        self._cluster, self.value = cluster, value

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
