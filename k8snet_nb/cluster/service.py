"""One Service of a cluster: its addresses and ports, and from its EndpointSlices its endpoints and their pods."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

import pandas as pd

from ..facts import Evidence, FactRef
from ..parse.services import SERVICE_LABEL, Endpoint, ServicePort, ServiceValue
from ..render import Report
from .named import Named
from .tables import endpoints_frame, pods_frame

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["Service"]


class Service(Named):
    """A Service. Made by :meth:`Cluster.service`; two lookups of the same one are equal."""

    def __init__(self, cluster: Cluster, value: ServiceValue) -> None:
        super().__init__(value)
        self._cluster, self.value = cluster, value

    @property
    def type(self) -> str:
        """ClusterIP, NodePort, LoadBalancer or ExternalName; a headless one is of type ClusterIP."""
        return self.value.type

    @property
    def headless(self) -> bool:
        """Whether ``spec.clusterIP`` is the word ``None``: DNS answers with its pods' addresses."""
        return self.value.headless

    @property
    def cluster_ip(self) -> str | None:
        """As kubectl prints it: an address, ``"None"`` for a headless Service; None for an ExternalName one."""
        return self.value.cluster_ip

    @property
    def cluster_ips(self) -> tuple[str, ...]:
        """Its cluster IPs of both families; empty without one."""
        return self.value.cluster_ips

    @property
    def ports(self) -> tuple[ServicePort, ...]:
        """Its ports; each prints as kubectl spells it."""
        return self.value.ports

    @property
    def endpoint_values(self) -> tuple[Endpoint, ...]:
        """Its endpoints as values, of every slice and both families."""
        return self._cluster.api.endpoints.get(self.key, ())

    def endpoints(self) -> pd.DataFrame:
        """One row an address and port: service port_name protocol address port state pod node zone slice."""
        return endpoints_frame((self.key, endpoint) for endpoint in self.endpoint_values)

    def pods(self) -> pd.DataFrame:
        """The pods behind it; columns as in :meth:`Cluster.pods`. An endpoint without a pod has no row here."""
        api = self._cluster.api
        keys = sorted({e.pod for e in self.endpoint_values if e.pod and api.is_pod(e)})
        return pods_frame((api.pods[key] for key in keys), self._cluster.now)

    def report(self) -> Report:
        """Its kubectl row in words, and its endpoints."""
        value, endpoints = self.value, self.endpoint_values
        rows = tuple((e.address, e.port, e.protocol, e.port_name or None, e.state, e.pod, e.node) for e in endpoints)
        kind = "headless" if value.headless else value.type
        ports = ", ".join(map(str, value.ports)) or "no ports"
        addresses = f"cluster IP {value.cluster_ip or '<none>'}, external {value.external_ip or '<none>'}"
        title = f"{value.key}: {kind}, {addresses}, {ports}"
        keys = self._cluster.api.slices_by_service.get(self.key, ())
        slices = [self._cluster.api.slices[key].name for key in keys]
        selector = f"--selector {quote(f'{SERVICE_LABEL}={value.name}')}"
        command = f"kubectl get endpointslices --namespace {quote(value.namespace)} {selector}"
        lines = tuple(f"{name}: {', '.join(_addresses(endpoints, name)) or '<unset>'}" for name in slices)
        evidence = Evidence(FactRef("endpointslices"), command, lines or ("No resources found",))
        headings = ("ADDRESS", "PORT", "PROTOCOL", "NAME", "STATE", "POD", "NODE") if rows else ()
        return Report(title, headings, rows, self._notes(), (evidence,))

    def _notes(self) -> tuple[str, ...]:
        value = self.value
        if value.type == "ExternalName":
            return (f"An ExternalName Service is a DNS alias (CNAME) of {value.external_name}: no address, no rules",)
        notes = []
        if value.headless:
            notes.append("Headless: no cluster IP; DNS answers with the addresses of its endpoints")
        if not value.selector:
            notes.append(
                "No selector: its EndpointSlices are written by something other than the EndpointSlice controller"
            )
        if not self.endpoint_values:
            notes.append("No endpoints: nobody answers for it")
        return tuple(notes)


def _addresses(endpoints: tuple[Endpoint, ...], name: str) -> list[str]:
    return list(dict.fromkeys(e.address for e in endpoints if e.slice == name))
