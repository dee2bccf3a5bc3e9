"""The CoreDNS pods and their Service's address side by side, from the façade."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import FactMissing, Refused
from ..explain.dns.answers import RecordedAnswers
from ..explain.dns.replicas import ReplicaComparison, compare_replicas
from ..explain.names import Query
from ..facts import FactRef
from ..parse.pods import PodValue
from ..parse.resolv_conf import ResolvConf
from ..parse.services import ServiceValue
from .dns_service import cluster_domain, dns_port, dns_service, full_query
from .resolving import Exchanger, answers_of, read_conf

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["replicas_of"]


def replicas_of(
    cluster: Cluster, name: str | None, pod: str | None, seconds: float, known: RecordedAnswers | None = None
) -> ReplicaComparison:
    """Each ready CoreDNS pod asked directly, the Service's address by UDP and TCP; all from inside one pod.

    ``known``: that pod's answers, where they were read already.
    """
    service = dns_service(cluster)
    if not service.cluster_ips:
        raise Refused(f"{service.key} has no cluster IP: there is no address to compare the pods with")
    vip = service.cluster_ips[0]
    replicas, ports = _replicas(cluster, service, vip)
    asker = cluster.pod(pod).value if pod else _asker(cluster)
    resolv = _conf(cluster, asker)
    answers = known or answers_of(cluster, asker, resolv, seconds, ports)
    if name is not None:
        query: Query | None = full_query(name)
    elif isinstance(answers, RecordedAnswers):
        query = answers.most_compared((vip, *replicas))
    else:
        query = full_query(f"kubernetes.default.svc.{cluster_domain(cluster, resolv)[0]}")
    if query is None:
        why = cluster.source.trouble(FactRef("dns.jsonl", asker.node, asker.key)) or "no question to any of them"
        raise FactMissing("dns.jsonl", f"pod {asker.key}", why, "Name another pod, or a cluster that can be asked")
    return compare_replicas(query, vip, replicas, answers, f"Service {service.key}")


def _replicas(cluster: Cluster, service: ServiceValue, vip: str) -> tuple[dict[str, str], dict[str, int]]:
    """Address -> who is there, and address -> the port it listens at; ready ones of the address's family."""
    port = dns_port(service)
    names, ports = {}, {}
    for endpoint in cluster.api.endpoints.get(service.key, ()):
        fits = endpoint.protocol == "UDP" and (port is None or endpoint.port_name == port.name)
        if fits and endpoint.ready and (":" in endpoint.address) == (":" in vip):
            names[endpoint.address] = endpoint.pod or "an endpoint that is no pod"
            ports[endpoint.address] = endpoint.port or 53
    return names, ports


def _asker(cluster: Cluster) -> PodValue:
    """The pod from which is asked: one with a log, or, where questions can be sent, one that runs."""
    live = isinstance(cluster.source, Exchanger)
    for pod in cluster.api.pods.values():
        if pod.node not in cluster.source.nodes() or pod.finished:
            continue
        if pod.phase == "Running" if live else cluster.source.has(FactRef("dns.jsonl", pod.node, pod.key)):
            return pod
    why = "no pod runs on a node that can be asked" if live else "no pod's questions were recorded"
    raise FactMissing("dns.jsonl", "any pod", why)


def _conf(cluster: Cluster, pod: PodValue) -> ResolvConf:
    """The pod's resolv.conf: only its time limits matter here."""
    try:
        return read_conf(cluster, pod)[0]
    except FactMissing:
        return ResolvConf()
