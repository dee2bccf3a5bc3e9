"""The cluster's DNS from the façade: its Service, its domain, its Corefile, its replicas side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import FactBroken, FactMissing, NotFound, Refused
from ..explain.dns.server import CorefileExplained, explain_corefile
from ..explain.dns.service import LABEL, SERVICE, dns_port, find_dns_services
from ..explain.names import Query
from ..facts import FactRef
from ..parse.corefile import parse_corefile
from ..parse.resolv_conf import ResolvConf
from ..parse.services import ServiceValue
from ..text import printable

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["cluster_dns", "cluster_domain", "dns_port", "dns_service", "full_query", "read_corefile", "service_at"]

_DOMAIN = "cluster.local"


def dns_service(cluster: Cluster) -> ServiceValue:
    """The Service at which cluster DNS answers: by its usual name, else by its label. Raises NotFound, FactMissing."""
    found = find_dns_services(cluster.api.services)
    if len(found) == 1:
        return found[0]
    raise NotFound(f"no Service {SERVICE}, and {len(found) or 'none'} with label {'='.join(LABEL)}: "
                   "this cluster's DNS is called otherwise")  # fmt: skip


def cluster_dns(cluster: Cluster) -> tuple[str, ...] | None:
    """What the kubelets' clusterDNS is as a rule: the Service's addresses. None when Services are not known."""
    try:
        return dns_service(cluster).cluster_ips
    except NotFound:
        return ()
    except FactMissing:
        return None


def service_at(cluster: Cluster, address: str) -> tuple[ServiceValue, str] | None:
    """The Service with this cluster IP, and its DNS port as :meth:`Cluster.translate` takes it."""
    for service in cluster.api.services.values():
        if address in service.cluster_ips:
            port = dns_port(service)
            return service, "53" if port is None else port.name or f"{port.port}/{port.protocol}"
    return None


def cluster_domain(cluster: Cluster, resolv: ResolvConf | None = None) -> tuple[str, str]:
    """The cluster's domain, and from where it is known: the Corefile, a pod's search list, or only the usual one."""
    try:
        zones = [zone for zone in read_corefile(cluster).cluster_zones if not zone.rstrip(".").endswith(".arpa")]
        if zones:
            return zones[0].rstrip("."), f"Cluster domain {zones[0].rstrip('.')}: by the Corefile"
    except (FactMissing, FactBroken, NotFound):
        pass
    for domain in resolv.search if resolv else ():
        if domain.startswith("svc.") and domain != "svc.":
            found = domain.removeprefix("svc.").rstrip(".")
            return found, f"Cluster domain {found}: by the pod's search list (the Corefile cannot be read)"
    return _DOMAIN, f"Cluster domain {_DOMAIN}: taken for granted (neither a Corefile nor a search list tells)"


def read_corefile(cluster: Cluster, name: str = "coredns") -> CorefileExplained:
    """The Corefile in a ConfigMap of kube-system, in words. Raises NotFound with those that have one, FactBroken."""
    maps = {str(item["metadata"]["name"]): item for item in cluster.api.items("configmaps") if _in_system(item)}
    found = {key: _corefile_of(item) for key, item in maps.items()}
    having = sorted(key for key, text in found.items() if text is not None)
    text = found.get(name)
    if text is None:
        there = ", ".join(having) or "none has one"
        raise NotFound(printable(f"no ConfigMap kube-system/{name} with a Corefile; ConfigMaps with one: {there}"))
    command = f"kubectl get configmap --namespace kube-system {name} -o yaml"
    explained = explain_corefile(parse_corefile(text, f"configmap kube-system/{name}"), FactRef("configmaps"), command)
    notes = tuple(
        f"ConfigMap {other} has a Corefile too" + (": NodeLocal DNSCache, if it runs" if "local" in other else "")
        for other in having
        if other != name
    )
    return replace(explained, notes=(*explained.notes, *notes))


def _in_system(item: dict[str, Any]) -> bool:
    return str(item["metadata"].get("namespace", "kube-system")) == "kube-system"


def _corefile_of(item: dict[str, Any]) -> str | None:
    data = item.get("data")
    text = data.get("Corefile") if isinstance(data, dict) else None
    return text if isinstance(text, str) else None


def full_query(name: str, kind: str = "A") -> Query:
    """A question for a full name, with or without its last dot. Raises Refused for no name."""
    if not name.strip("."):
        raise Refused("give a full name, such as kubernetes.default.svc.cluster.local")
    return Query(name.rstrip(".") + ".", kind)
