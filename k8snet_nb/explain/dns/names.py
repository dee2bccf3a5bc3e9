"""DNS answers joined to the cluster: which Service a name or a record is, and why a name is not there.

The names are those of the Kubernetes DNS specification (github.com/kubernetes/dns, docs/specification.md, 1.1.0).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from ...parse.dns import Record
from ...parse.services import Endpoint, ServiceValue
from ..resolution import DnsAnswer, Joined

__all__ = [
    "ClusterName",
    "Joined",
    "NameDirectory",
    "cluster_name",
    "explain_missing",
    "explain_tries",
    "join",
    "join_answer",
]

Kind = Literal["service", "port", "endpoint", "pod", "reverse", "incomplete", "outside"]


class Identity(Protocol):
    """What an address is: see ``explain.who``."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str | None: ...
    @property
    def says(self) -> str: ...


@dataclass(frozen=True, slots=True)
class NameDirectory:
    """Where names and addresses are looked up. Keys are ``namespace/name``.

    ``who`` says what an address is. ``domain`` is the cluster's domain, without dots around it.
    """

    services: Mapping[str, ServiceValue]
    endpoints: Mapping[str, tuple[Endpoint, ...]]
    namespaces: Collection[str]
    who: Callable[[str], Identity]
    domain: str = "cluster.local"


@dataclass(frozen=True, slots=True)
class ClusterName:
    """What a name means by its form alone. ``key`` is the Service's ``namespace/name`` for service, port, endpoint.

    ``incomplete`` is under the cluster's domain but of no form that cluster DNS has; ``outside`` is not under it.
    """

    kind: Kind
    says: str
    key: str | None = None
    namespace: str | None = None
    port: str | None = None
    protocol: str | None = None
    host: str | None = None


def cluster_name(name: str, domain: str = "cluster.local") -> ClusterName:
    """Read a full name by its form: Service, port (SRV), endpoint of a headless Service, pod, reverse, or outside."""
    bare, under = name.lower().rstrip("."), "." + domain.lower().strip(".")
    if bare.endswith((".in-addr.arpa", ".ip6.arpa")):
        return ClusterName("reverse", "the name of an address (PTR)")
    if not ("." + bare).endswith(under):
        return ClusterName("outside", f"not under {domain}: CoreDNS hands it on, or has nobody to ask")
    labels = bare[: -len(under)].split(".") if len(bare) >= len(under) else []
    zone = labels.pop() if labels else ""
    if zone == "pod" and len(labels) == 2:
        return ClusterName("pod", f"the pod with address {labels[0]} in namespace {labels[1]}", namespace=labels[1])
    if zone != "svc" or len(labels) < 2:
        return ClusterName("incomplete", _incomplete(zone, labels, domain))
    namespace, service = labels[-1], labels[-2]
    key, front = f"{namespace}/{service}", labels[:-2]
    where = f"Service {service} in namespace {namespace}"
    if not front:
        return ClusterName("service", where, key, namespace)
    if len(front) == 2 and all(label.startswith("_") for label in front):
        port, protocol = front[0][1:], front[1][1:].upper()
        return ClusterName("port", f"port {port}/{protocol} of {where}", key, namespace, port, protocol)
    if len(front) == 1:
        return ClusterName("endpoint", f"endpoint {front[0]} of {where}", key, namespace, host=front[0])
    return ClusterName(
        "incomplete", f"{len(front)} labels before {where}: no form that cluster DNS has", namespace=namespace
    )


def _incomplete(zone: str, labels: list[str], domain: str) -> str:
    if zone == "svc" and len(labels) == 1:
        return f"one label before svc: it would be the namespace {labels[0]}, without a Service"
    if zone in ("svc", "pod"):
        return f"no form that cluster DNS has below {zone}.{domain}"
    return f"directly under {domain}: neither svc nor pod" if zone else f"the domain {domain} itself"


def join(record: Record, directory: NameDirectory) -> Joined:
    """What a record is in this cluster: an address's owner, an ExternalName's target, the port of an SRV record."""
    meant = cluster_name(record.name, directory.domain)
    service = directory.services.get(meant.key or "")
    if record.type in ("A", "AAAA"):
        return _address(record, meant, service, directory)
    if record.type == "CNAME":
        named = service is not None and (service.external_name or "").lower().rstrip(".") == record.text.lower().rstrip(
            "."
        )
        if service is not None and named:
            says = f"Service {service.key} is of type ExternalName: another name for {record.text}, not an address"
            return Joined(record, "external name", service.key, says)
        return Joined(record, "alias", None, f"another name for {record.text}")
    if record.type == "SRV":
        return _srv(record, meant, service, directory)
    if record.type == "PTR":
        target = cluster_name(record.text, directory.domain)
        return Joined(record, "reverse", target.key, f"the address belongs to {record.text}: {target.says}")
    return Joined(record, "other", None, meant.says)


def _address(record: Record, meant: ClusterName, service: ServiceValue | None, directory: NameDirectory) -> Joined:
    address = str(ipaddress.ip_address(record.text))
    if service is not None and address in service.cluster_ips:
        return Joined(record, "service", service.key, f"the cluster IP of Service {service.key}")
    endpoints = directory.endpoints.get(meant.key or "", ())
    mine = next((endpoint for endpoint in endpoints if endpoint.address == address), None)
    if service is not None and service.headless and mine is not None:
        state = "" if mine.ready else f" ({mine.state})"
        what = f"pod {mine.pod}{state}" if mine.pod else f"an endpoint that is no pod{state}"
        return Joined(
            record, "pod" if mine.pod else "endpoint", mine.pod, f"{what}, behind the headless Service {service.key}"
        )
    who = directory.who(address)
    says = f"{who.name}: {who.says}" if who.name else who.says
    if service is not None:
        says += (
            f". The API gives Service {service.key} another address: the answer is older than that, or not from here"
        )
    return Joined(record, who.kind, who.name, says)


def _srv(record: Record, meant: ClusterName, service: ServiceValue | None, directory: NameDirectory) -> Joined:
    priority, weight, port, target = record.text.split()
    owner = cluster_name(target, directory.domain)
    ends = f"port {port} at {target} ({owner.says}), priority {priority}, weight {weight}"
    if service is None or meant.kind != "port":
        return Joined(record, "port", meant.key, ends)
    known = [p for p in service.ports if p.name == meant.port and p.protocol == meant.protocol]
    if service.headless:
        says = f"the named port {meant.port} of the headless Service {service.key}: {ends}"
    elif known and str(known[0].port) == port:
        says = f"the port named {meant.port} of Service {service.key} is {known[0].port}/{known[0].protocol}: {ends}"
    else:
        says = f"Service {service.key} has no port named {meant.port} with number {port} in the API: {ends}"
    return Joined(record, "port", service.key, says)


def join_answer(answer: DnsAnswer, directory: NameDirectory) -> DnsAnswer:
    """The same answer with each record joined to the cluster, and each try explained where that says more."""
    said: tuple[str, ...] = ()
    if answer.outcome in ("no such name", "no such record", "half an answer", "failed", "not recorded"):
        said = explain_missing(answer, directory)
    elif len({each.query.name for each in answer.queries}) > 1:
        said = explain_tries(answer, directory)
    return replace(answer, joined=tuple(join(record, directory) for record in answer.records), says=said)


def explain_missing(answer: DnsAnswer, directory: NameDirectory) -> tuple[str, ...]:
    """For a name without an answer: what each try looked for and where, and the names that there are instead."""
    return (*explain_tries(answer, directory), *_elsewhere(answer.asked, directory))


def explain_tries(answer: DnsAnswer, directory: NameDirectory) -> tuple[str, ...]:
    """What each name that was tried means in the cluster: which Service in which namespace, and whether it is there."""
    found: list[str] = []
    for name in dict.fromkeys(each.query.name for each in answer.queries):
        results = dict.fromkeys(each.result for each in answer.queries if each.query.name == name)
        meant = cluster_name(name, directory.domain)
        found.append(f"{name} {'; '.join(results)}: {meant.says}{_absent(meant, directory)}")
    return tuple(found)


def _absent(meant: ClusterName, directory: NameDirectory) -> str:
    if meant.key is None or meant.namespace is None:
        return ""
    if meant.namespace not in directory.namespaces:
        return f"; there is no namespace {meant.namespace}"
    service = directory.services.get(meant.key)
    if service is None:
        return f"; namespace {meant.namespace} has no such Service"
    if meant.kind == "port" and not any(p.name == meant.port and p.protocol == meant.protocol for p in service.ports):
        names = ", ".join(f"_{p.name}._{p.protocol.lower()}" for p in service.ports if p.name) or "none with a name"
        return f"; its ports are {names}"
    if meant.kind == "endpoint":
        return "; no endpoint has that host name"
    ready = [endpoint for endpoint in directory.endpoints.get(meant.key, ()) if endpoint.ready]
    if service.headless and not ready:
        return "; it is headless and has no ready endpoint"
    return "; the API has it"


def _elsewhere(asked: str, directory: NameDirectory) -> tuple[str, ...]:
    """Namespaces that have a Service of the first label's name: the usual slip is to leave the namespace out."""
    first = re.sub(r"^(_[^.]+\._[^.]+\.)", "", asked.lower()).split(".")[0]
    keys = sorted(key for key in directory.services if key.split("/", 1)[1] == first)
    return tuple(
        f"There is a Service {first} in namespace {key.split('/', 1)[0]}: {first}.{key.split('/', 1)[0]}"
        for key in keys
    )
