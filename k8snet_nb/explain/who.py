"""What is an address? A pod, a Service, a node, an endpoint that is no pod, or nothing that this cluster knows."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ..errors import FactError, Refused
from ..facts import Evidence, FactRef
from ..parse.links import Link
from ..parse.nodes import NodeValue
from ..parse.pods import PodValue
from ..parse.services import Endpoint, ServiceValue
from ..render import Report, Shown, printable

__all__ = ["Directory", "Who", "who"]


@dataclass(frozen=True, slots=True)
class Directory:
    """Where addresses are looked up. ``links`` reads one node's interfaces and may raise FactError."""

    pods_by_ip: Callable[[], Mapping[str, tuple[PodValue, ...]]]
    services: Callable[[], Iterable[ServiceValue]]
    endpoints: Callable[[], Mapping[str | None, tuple[Endpoint, ...]]]
    nodes: Callable[[], Iterable[NodeValue]]
    readable: Callable[[], tuple[str, ...]]
    links: Callable[[str], tuple[Link, ...]]
    service_ranges: Callable[[], tuple[str, ...]]
    command: Callable[[FactRef], str]


@dataclass(frozen=True, slots=True)
class Who(Shown):
    """The answer. ``kind``: ``pod``, ``service``, ``node``, ``endpoint`` or ``unknown``; ``name`` its name.

    ``also``: what else holds the address (a node's pods on the host network share the node's). ``unknown``: what
    could not be looked at, so that an ``unknown`` kind is not read as "nobody".
    """

    address: str
    kind: str
    name: str | None
    says: str
    also: tuple[Who, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    unknown: tuple[str, ...] = ()

    def report(self) -> Report:
        """One row for what it is, one for each thing that it also is."""
        rows = tuple((w.address, w.kind, w.name, w.says) for w in (self, *self.also))
        evidence = tuple(e for w in (self, *self.also) for e in w.evidence)
        notes = tuple(f"Not looked at: {why}" for why in self.unknown)
        return Report("", ("ADDRESS", "KIND", "NAME", "WHAT IT IS"), rows, notes, evidence)


def who(address: str, look: Directory) -> Who:
    """What an address is. Raises Refused for text that is no IP address."""
    try:
        ip = str(ipaddress.ip_address(address.strip()))
    except ValueError:
        raise Refused(
            f"{printable(address)!r} is no IPv4 or IPv6 address; a name is looked up by pod.resolve(name)"
        ) from None
    found: list[Who] = []
    broken: list[FactError] = []
    for search in (_services, _nodes, _pods, _endpoints):
        try:
            found += search(ip, look)
        except FactError as error:  # what another list says of the address still holds
            broken.append(error)
    unknown = tuple(str(error) for error in broken)
    if not found or all(w.kind == "endpoint" for w in found):
        own, missing = _own_addresses(ip, look)
        found, unknown = [*own, *found], unknown + missing
    if not found and broken:
        raise broken[0]
    if not found:
        says, because, more = _unknown(ip, look)
        searched = tuple(
            Evidence(FactRef(resource), _command(resource), (), f"{ip} is not there")
            for resource in ("pods", "services", "endpointslices", "nodes")
        ) + tuple(
            Evidence(FactRef("addr.json", node), look.command(FactRef("addr.json", node)), (), f"{ip} is not there")
            for node in look.readable()
        )
        return Who(ip, "unknown", None, says, evidence=(*because, *searched), unknown=unknown + more)
    first, *rest = found
    return Who(ip, first.kind, first.name, first.says, tuple(rest), first.evidence, unknown)


def _kubectl(resource: str, columns: Iterable[object], says: str) -> Evidence:
    """A line of ``kubectl get`` in its own columns."""
    return Evidence(FactRef(resource), _command(resource), ("  ".join(str(c or "<none>") for c in columns),), says)


def _command(resource: str) -> str:
    return "kubectl get nodes -o wide" if resource == "nodes" else f"kubectl get {resource} --all-namespaces -o wide"


def _services(ip: str, look: Directory) -> Iterable[Who]:
    for service in look.services():
        for addresses, says in (
            (service.cluster_ips, "a cluster IP"),
            (service.load_balancer, "a load balancer's address"),
            (service.external_ips, "an external IP"),
        ):
            if ip in addresses:
                ports = ",".join(map(str, service.ports))
                words = f"{says} of the {service.type} Service, ports {ports}"
                shown = (service.namespace, service.name, service.type, service.cluster_ip, service.external_ip, ports)
                yield Who(ip, "service", service.key, words, evidence=(_kubectl("services", shown, words),))


def _nodes(ip: str, look: Directory) -> Iterable[Who]:
    for node in look.nodes():
        for kind, address in node.addresses:
            if address == ip:
                says = f"the node's {kind}"
                evidence = _kubectl("nodes", (node.name, node.status, address), says)
                yield Who(ip, "node", node.name, says, evidence=(evidence,))


def _pods(ip: str, look: Directory) -> Iterable[Who]:
    for pod in look.pods_by_ip().get(ip, ()):
        says = "a pod on the host network: it has its node's address" if pod.host_network else f"a pod on {pod.node}"
        shown = (pod.namespace, pod.name, pod.ready, pod.status, ip, pod.node)
        yield Who(ip, "pod", pod.key, says, evidence=(_kubectl("pods", shown, says),))


def _endpoints(ip: str, look: Directory) -> Iterable[Who]:
    pods = {(pod.key, pod.uid) for pod in look.pods_by_ip().get(ip, ())} | {
        (pod.key, None) for pod in look.pods_by_ip().get(ip, ())
    }
    for service, endpoints in look.endpoints().items():
        mine = [e for e in endpoints if e.address == ip and (e.pod is None or (e.pod, e.pod_uid or None) not in pods)]
        if mine:
            ports = ", ".join(f"{e.port}/{e.protocol} {e.state}" for e in mine)
            gone = sorted({e.pod for e in mine if e.pod})
            what = f"an endpoint whose pod {', '.join(gone)} is not there" if gone else "an endpoint that is no pod"
            says = f"{what}, of {service or 'no Service'}: {ports}"
            evidence = _kubectl("endpointslices", (mine[0].slice, ports, ip), says)
            yield Who(ip, "endpoint", service, says, evidence=(evidence,))


def _own_addresses(ip: str, look: Directory) -> tuple[list[Who], tuple[str, ...]]:
    """Addresses of nodes that the API does not list, such as a CNI bridge's gateway address."""
    found: list[Who] = []
    missing = [f"interfaces of {node.name}" for node in look.nodes() if node.name not in look.readable()]
    for node in look.readable():
        try:
            links = look.links(node)
        except FactError as error:
            missing.append(str(error))
            continue
        mine = [link for link in links if any(a.address == ip for a in link.addresses)]
        if mine and not ipaddress.ip_address(ip).is_loopback:
            ref = FactRef("addr.json", node)
            names = ", ".join(link.name for link in mine)
            says = f"the node's own address on {names}; the API does not list it"
            if all(link.kind == "dummy" for link in mine):
                says = f"on {names}, a dummy interface where nobody listens: IPVS keeps Service addresses on such a one"
            evidence = Evidence(ref, look.command(ref), tuple(link.line() for link in mine[:3]), says)
            found.append(Who(ip, "node", node, says, evidence=(evidence,)))
    return found, tuple(missing)


def _unknown(ip: str, look: Directory) -> tuple[str, tuple[Evidence, ...], tuple[str, ...]]:
    """In words what an address could be that nobody holds, the evidence for that, and what could not be looked at."""
    address = ipaddress.ip_address(ip)
    if address.is_loopback:
        return "loopback: every network namespace has its own", (), ()
    if address.is_link_local:
        return "link-local: means something on one link only; pods' own ones were not searched", (), ()
    ranges, missing = _ranges(look)
    for said in ranges:
        if address in ipaddress.ip_network(said, strict=False):
            says = f"in the Service range {said}, but no Service holds it"
            return says, (Evidence(FactRef("servicecidrs"), "kubectl get servicecidrs", (said,), says),), missing
    for node in look.nodes():
        for cidr in node.pod_cidrs:
            if address in ipaddress.ip_network(cidr, strict=False):
                says = f"in the pod range {cidr} of {node.name}, but no pod holds it"
                command = "kubectl get nodes -o custom-columns=NAME:.metadata.name,PODCIDRS:.spec.podCIDRs"
                line = f"{node.name}  [{' '.join(node.pod_cidrs)}]"
                return says, (Evidence(FactRef("nodes"), command, (line,), says),), missing
    return "nothing in this cluster's API holds it; outside the cluster, or gone", (), missing


def _ranges(look: Directory) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        return look.service_ranges(), ()
    except FactError as error:  # clusters before ServiceCIDR (1.33) have no such list
        return (), (str(error),)
