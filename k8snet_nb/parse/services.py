"""Services and EndpointSlices: API objects in, values out.

Endpoints come from EndpointSlices (GA in Kubernetes 1.21), which may be several for one Service, of several address
types, and written by hand. The v1 Endpoints API is not read: it is deprecated since 1.33 and IPv4-first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..errors import FactBroken
from .api import canonical_host, canonical_ip, count, mapping, parse_time

__all__ = ["SERVICE_LABEL", "Endpoint", "ServicePort", "ServiceValue", "Slice", "parse_service", "parse_slice"]

SERVICE_LABEL = "kubernetes.io/service-name"
"""The label by which a slice says whose it is."""


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service. ``target`` is a number, a container port's name, or None (the same as ``port``)."""

    name: str
    protocol: str
    port: int
    target: int | str | None
    node_port: int | None

    def __str__(self) -> str:
        middle = f":{self.node_port}" if self.node_port else ""
        return f"{self.port}{middle}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class ServiceValue:
    """One Service. ``cluster_ips`` is empty for headless and ExternalName ones; see ``headless``."""

    namespace: str
    name: str
    uid: str
    type: str
    headless: bool
    cluster_ips: tuple[str, ...]
    families: tuple[int, ...]
    external_ips: tuple[str, ...]
    load_balancer: tuple[str, ...]
    external_name: str | None
    ports: tuple[ServicePort, ...]
    selector: Mapping[str, str]
    created: datetime | None
    affinity_seconds: int | None
    internal_policy: str
    external_policy: str
    source_ranges: tuple[str, ...]
    publish_not_ready: bool
    traffic_distribution: str | None
    health_check_node_port: int | None
    labels: Mapping[str, str]
    raw: Mapping[str, Any]

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    @property
    def cluster_ip(self) -> str | None:
        """As kubectl's CLUSTER-IP column: an address, ``None`` (the word) for a headless Service, None without one."""
        return "None" if self.headless else (self.cluster_ips[0] if self.cluster_ips else None)

    @property
    def external_ip(self) -> str | None:
        """As kubectl's EXTERNAL-IP column; None where kubectl prints ``<none>``."""
        if self.type == "ExternalName":
            return self.external_name
        addresses = (*self.load_balancer, *self.external_ips) if self.type == "LoadBalancer" else self.external_ips
        if addresses:
            return ",".join(addresses)
        return "<pending>" if self.type == "LoadBalancer" else None


def parse_service(item: Mapping[str, Any]) -> ServiceValue:
    """A Service of the API. Raises FactBroken when it has no spec or a port that is no number."""
    meta = item["metadata"]
    namespace, name = str(meta.get("namespace", "default")), str(meta["name"])
    spec = item.get("spec")
    if not isinstance(spec, dict):
        raise FactBroken("services.json", f"Service {namespace}/{name}", "has no spec", "Record it again.")
    said = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    addresses = tuple(canonical_ip(ip) for ip in said if ip and ip != "None")
    ingress = mapping(mapping(item.get("status")).get("loadBalancer")).get("ingress") or ()
    affinity = mapping(mapping(spec.get("sessionAffinityConfig")).get("clientIP")).get("timeoutSeconds")
    families = tuple(6 if family == "IPv6" else 4 for family in spec.get("ipFamilies") or ())
    return ServiceValue(
        namespace=namespace,
        name=name,
        uid=str(meta.get("uid", "")),
        type=str(spec.get("type") or "ClusterIP"),
        headless="None" in said,
        cluster_ips=addresses,
        families=families or tuple(dict.fromkeys(6 if ":" in ip else 4 for ip in addresses)),
        external_ips=tuple(canonical_ip(ip) for ip in spec.get("externalIPs") or ()),
        load_balancer=tuple(
            canonical_host(i.get("ip") or i.get("hostname")) for i in ingress if i.get("ip") or i.get("hostname")
        ),
        external_name=spec.get("externalName"),
        ports=tuple(_port(port, f"Service {namespace}/{name}") for port in spec.get("ports") or ()),
        selector=mapping(spec.get("selector")),
        created=parse_time(meta.get("creationTimestamp")),
        affinity_seconds=int(affinity or 10800) if spec.get("sessionAffinity") == "ClientIP" else None,
        internal_policy=str(spec.get("internalTrafficPolicy") or "Cluster"),
        external_policy=str(spec.get("externalTrafficPolicy") or "Cluster"),
        source_ranges=tuple(spec.get("loadBalancerSourceRanges") or ()),
        publish_not_ready=spec.get("publishNotReadyAddresses") is True,
        traffic_distribution=spec.get("trafficDistribution"),
        health_check_node_port=spec.get("healthCheckNodePort") or None,
        labels=mapping(meta.get("labels")),
        raw=item,
    )


def _port(port: Any, where: str) -> ServicePort:
    try:
        return ServicePort(
            name=str(port.get("name") or ""),
            protocol=str(port.get("protocol") or "TCP"),
            port=int(port["port"]),
            target=port.get("targetPort"),
            node_port=int(port["nodePort"]) if port.get("nodePort") else None,
        )
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise FactBroken(
            "services.json", where, f"has a port that cannot be read ({port!r:.80})", "Record it again."
        ) from error


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address and port behind a Service.

    ``state`` is ``ready``, ``serving`` (terminating, still answering), ``terminating`` or ``not ready``. ``pod`` is
    ``namespace/name`` or None for an endpoint that is no pod; ``pod_uid`` tells a pod from its namesake. ``hints``
    are zones, ``node_hints`` nodes, whose clients should use it (KEP-2433, KEP-4444).
    """

    address: str
    port: int | None
    port_name: str
    protocol: str
    ready: bool
    serving: bool
    terminating: bool
    node: str | None
    pod: str | None
    pod_uid: str | None
    zone: str | None
    hints: tuple[str, ...]
    node_hints: tuple[str, ...]
    slice: str

    @property
    def state(self) -> str:
        """One word for the three conditions (KEP-1672)."""
        if self.ready:
            return "ready"
        if self.terminating:
            return "serving" if self.serving else "terminating"
        return "not ready"


@dataclass(frozen=True, slots=True)
class Slice:
    """One EndpointSlice. ``service`` is ``namespace/name``, None when no Service owns it; ``type`` IPv4, IPv6, FQDN."""

    namespace: str
    name: str
    service: str | None
    type: str
    endpoints: tuple[Endpoint, ...]


def parse_slice(item: Mapping[str, Any]) -> Slice:
    """An EndpointSlice (discovery.k8s.io/v1): the product of its endpoints and its ports. ``null`` means none."""
    meta = item["metadata"]
    namespace, name = str(meta.get("namespace", "default")), str(meta["name"])
    labels = mapping(meta.get("labels"))
    owner = labels.get(SERVICE_LABEL)
    endpoints, ports = item.get("endpoints") or (), item.get("ports") or ()
    try:
        # A slice without ports has endpoints all the same: a headless Service of any port (port None).
        known = [(_slice_port(p), str(p.get("name") or ""), str(p.get("protocol") or "TCP")) for p in ports]
        known = known or [(None, "", "TCP")]
        values = tuple(_endpoints(endpoints, known, namespace, name))
    except (AttributeError, TypeError, ValueError) as error:
        raise FactBroken(
            "endpointslices.json", f"EndpointSlice {namespace}/{name}", f"cannot be read ({error})"
        ) from error
    return Slice(
        namespace=namespace,
        name=name,
        service=f"{namespace}/{owner}" if owner else None,
        type=str(item.get("addressType") or "IPv4"),
        endpoints=values,
    )


def _slice_port(said: Mapping[str, Any]) -> int | None:
    port = said.get("port")
    return port if port is None else count(port)


def _endpoints(
    endpoints: Iterable[Mapping[str, Any]], ports: list[tuple[int | None, str, str]], namespace: str, name: str
) -> Iterable[Endpoint]:
    for endpoint in endpoints:
        conditions = mapping(endpoint.get("conditions"))
        terminating = conditions.get("terminating") is True
        # null is to be read as true, for `ready` as for `serving` (API reference of EndpointConditions, kube-proxy)
        ready, serving = conditions.get("ready") is not False, conditions.get("serving") is not False
        target = mapping(endpoint.get("targetRef"))
        is_pod = target.get("kind") == "Pod" and target.get("name")
        hinted = mapping(endpoint.get("hints"))
        hints = tuple(str(zone.get("name")) for zone in hinted.get("forZones") or ())
        node_hints = tuple(str(node.get("name")) for node in hinted.get("forNodes") or ())
        for address in endpoint.get("addresses") or ():
            for port, port_name, protocol in ports:
                yield Endpoint(
                    address=canonical_host(address),
                    port=port,
                    port_name=port_name,
                    protocol=protocol,
                    ready=ready,
                    serving=serving,
                    terminating=terminating,
                    node=endpoint.get("nodeName") or None,
                    pod=f"{target.get('namespace') or namespace}/{target['name']}" if is_pod else None,
                    pod_uid=target.get("uid") if is_pod else None,
                    zone=endpoint.get("zone"),
                    hints=hints,
                    node_hints=node_hints,
                    slice=name,
                )
