"""The Service at which cluster DNS answers, among all Services."""

from __future__ import annotations

from collections.abc import Mapping

from ...parse.services import ServicePort, ServiceValue

__all__ = ["LABEL", "SERVICE", "dns_port", "find_dns_services"]

SERVICE, LABEL = "kube-system/kube-dns", ("k8s-app", "kube-dns")
"""The name and the label stayed when CoreDNS came (Kubernetes 1.13): pods and tools look for them."""


def find_dns_services(services: Mapping[str, ServiceValue]) -> list[ServiceValue]:
    """The one of the usual name, else all that carry its label and have an address."""
    if SERVICE in services:
        return [services[SERVICE]]
    return [s for s in services.values() if s.labels.get(LABEL[0]) == LABEL[1] and s.cluster_ips]


def dns_port(service: ServiceValue) -> ServicePort | None:
    """Its port for queries by UDP."""
    udp = [port for port in service.ports if port.protocol == "UDP"]
    return next((port for port in udp if port.port == 53), udp[0] if udp else None)
