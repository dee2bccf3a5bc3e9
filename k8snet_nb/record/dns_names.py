"""What a recorded pod's DNS is asked: the names by which its answers can be followed later on."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..errors import FactError
from ..explain.dns.service import dns_port, find_dns_services
from ..explain.names import PAIR, Query, search_expansion
from ..facts import FactRef
from ..parse.resolv_conf import ResolvConf
from ..parse.services import ServiceValue, parse_service, parse_slice
from ..sources.base import Source

__all__ = ["OUTSIDE", "Directed", "DnsNames", "known_names", "looked_up", "questions"]

OUTSIDE = "example.com"
"""A name outside of any cluster (RFC 2606): whether and how such names are answered."""
_SERVICES, _SRV, _FOREIGN = 25, 10, 5
"""So many of the namespace's Services are looked up, of so many a port's SRV record, and so many of elsewhere."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DnsNames:
    """What of a cluster decides the questions: Services by namespace, and where its DNS answers.

    ``replicas``: address -> port of each ready server behind the DNS Service.
    """

    services: Mapping[str, tuple[ServiceValue, ...]] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    replicas: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Directed:
    """One question to one server; ``transport`` None: by UDP, and by TCP where that is truncated."""

    server: str
    query: Query
    transport: str | None = None


def known_names(source: Source) -> DnsNames:
    """From the API's Lists; without them only what every cluster has is asked."""
    services = {value.key: value for value in _values(source, "services", parse_service)}
    by_namespace: dict[str, tuple[ServiceValue, ...]] = {}
    for _, value in sorted(services.items()):
        by_namespace[value.namespace] = (*by_namespace.get(value.namespace, ()), value)
    found = find_dns_services(services)
    if len(found) != 1:
        return DnsNames(by_namespace)
    port = dns_port(found[0])
    replicas = {
        one.address: one.port or 53
        for piece in _values(source, "endpointslices", parse_slice)
        if piece.service == found[0].key
        for one in piece.endpoints
        if _is_address(one.address)
        and one.ready
        and one.protocol == "UDP"
        and (port is None or one.port_name == port.name)
    }
    return DnsNames(by_namespace, tuple(filter(_is_address, found[0].cluster_ips)), replicas)


def _values(source: Source, resource: str, parse: Callable[[Mapping[str, Any]], T]) -> Iterator[T]:
    try:
        items = json.loads(source.read(FactRef(resource)))["items"] or ()
    except (FactError, ValueError, KeyError, TypeError):
        return
    for item in items:
        try:
            yield parse(item)
        except (FactError, ValueError, KeyError, TypeError, AttributeError):
            continue  # one that cannot be read is a finding of the check, not of the names


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _domain(resolv: ResolvConf) -> str | None:
    """The cluster's domain by the pod's search list; None: this pod does not ask the cluster's DNS by itself."""
    return next((one.removeprefix("svc.").rstrip(".") for one in resolv.search if one.startswith("svc.")), None)


def looked_up(names: DnsNames, namespace: str, resolv: ResolvConf) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(name, types) that a program in the pod may look up: searched as its C library does."""
    domain = _domain(resolv)
    yield OUTSIDE, PAIR
    if domain is None:
        return
    own = names.services.get(namespace, ())[:_SERVICES]
    for service in own:
        yield service.name, PAIR
    for service in [one for one in own if one.ports and one.ports[0].name][:_SRV]:
        port = service.ports[0]
        yield f"_{port.name}._{port.protocol.lower()}.{service.name}", ("SRV",)
    for service in _foreign(names, namespace)[:_FOREIGN]:
        yield f"{service.name}.{service.namespace}", PAIR
    yield f"kubernetes.default.svc.{domain}", PAIR
    yield f"no-such.{namespace}.svc.{domain}.", PAIR


def _foreign(names: DnsNames, namespace: str) -> list[ServiceValue]:
    """Services of other namespaces, those of kube-system last."""
    found = [one for space, some in names.services.items() if space != namespace for one in some if one.cluster_ips]
    return sorted(found, key=lambda one: (one.namespace == "kube-system", one.key))


def questions(
    names: DnsNames, namespace: str, resolv: ResolvConf, ips: tuple[str, ...], server: str
) -> Iterator[Directed]:
    """Questions asked to their end, whatever is answered on the way.

    The search list of one name of each kind (all that any C library would ask), and that name at each replica and by
    TCP; backwards ``ips`` and the addresses of the DNS Service, of ``kubernetes`` and of a Service of the namespace.
    """
    domain = _domain(resolv)
    searched = ["kubernetes.default", OUTSIDE]
    own = [one for one in names.services.get(namespace, ()) if one.cluster_ips]
    own = sorted(own, key=lambda one: one.key == "default/kubernetes")[:1]
    if domain is not None:
        searched += [one.name for one in own]
        searched += [f"{one.name}.{one.namespace}" for one in _foreign(names, namespace)[:1]]
    for name in searched:
        for libc in ("glibc", "musl"):
            yield from (Directed(server, query) for query in search_expansion(name, resolv, libc))
    default = [one for one in names.services.get("default", ()) if one.name == "kubernetes"]
    for address in dict.fromkeys((*ips, *names.addresses, *(ip for one in (*default, *own) for ip in one.cluster_ips))):
        if not _is_address(address):
            continue
        yield Directed(server, Query(ipaddress.ip_address(address).reverse_pointer + ".", "PTR"))
    full = Query(f"kubernetes.default.svc.{domain or 'cluster.local'}.", "A")
    for address in names.addresses:
        yield Directed(address, full, "udp")
        yield Directed(address, full, "tcp")
    for address in names.replicas:
        yield Directed(address, full, "udp")
