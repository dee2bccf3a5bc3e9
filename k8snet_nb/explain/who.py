"""What is an address? A pod, a Service, a node, an endpoint that is no pod, or nothing that this cluster knows."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ..errors import FactMissing, Refused
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
        raise Refused(f"{printable(address)!r} is no IPv4 or IPv6 address; names are DNS's business") from None
    found = [*_services(ip, look), *_nodes(ip, look), *_pods(ip, look), *_endpoints(ip, look)]
    unknown: tuple[str, ...] = ()
    if not found or all(w.kind == "endpoint" for w in found):
        own, unknown = _own_addresses(ip, look)
        found = [*own, *found]
    if not found:
        says, line = _unknown(ip, look)
        searched = tuple(
            Evidence(FactRef(resource), _command(resource), (line,) if line and resource == "nodes" else (), f"no {ip}")
            for resource in ("pods", "services", "endpointslices", "nodes")
        )
        return Who(ip, "unknown", None, says, evidence=searched, unknown=unknown)
    first, *rest = found
    return Who(ip, first.kind, first.name, first.says, tuple(rest), first.evidence, unknown)


def _kubectl(resource: str, line: str, says: str) -> Evidence:
    return Evidence(FactRef(resource), _command(resource), (line,), says)


def _command(resource: str) -> str:
    return "kubectl get nodes -o wide" if resource == "nodes" else f"kubectl get {resource} --all-namespaces -o wide"


def _services(ip: str, look: Directory) -> Iterable[Who]:
    for service in look.services():
        for addresses, field, says in (
            (service.cluster_ips, "spec.clusterIPs", "a cluster IP"),
            (service.load_balancer, "status.loadBalancer.ingress", "a load balancer's address"),
            (service.external_ips, "spec.externalIPs", "an external IP"),
        ):
            if ip in addresses:
                line = f"{service.key}: {field} {', '.join(addresses)}"
                ports = ", ".join(map(str, service.ports))
                words = f"{says} of the {service.type} Service, ports {ports}"
                yield Who(ip, "service", service.key, words, evidence=(_kubectl("services", line, words),))


def _nodes(ip: str, look: Directory) -> Iterable[Who]:
    for node in look.nodes():
        for kind, address in node.addresses:
            if address == ip:
                says = f"the node's {kind}"
                line = f"{node.name}: status.addresses {kind} {address}"
                yield Who(ip, "node", node.name, says, evidence=(_kubectl("nodes", line, says),))


def _pods(ip: str, look: Directory) -> Iterable[Who]:
    for pod in look.pods_by_ip().get(ip, ()):
        says = "a pod on the host network: it has its node's address" if pod.host_network else f"a pod on {pod.node}"
        line = f"{pod.key}: status.podIPs {', '.join(pod.ips)}, node {pod.node}, {pod.status}"
        yield Who(ip, "pod", pod.key, says, evidence=(_kubectl("pods", line, says),))


def _endpoints(ip: str, look: Directory) -> Iterable[Who]:
    pods = {pod.key for pod in look.pods_by_ip().get(ip, ())}
    for service, endpoints in look.endpoints().items():
        mine = [e for e in endpoints if e.address == ip and (e.pod is None or e.pod not in pods)]
        if mine:
            ports = ", ".join(f"{e.port}/{e.protocol} {e.state}" for e in mine)
            gone = sorted({e.pod for e in mine if e.pod})
            what = f"an endpoint whose pod {', '.join(gone)} is not there" if gone else "an endpoint that is no pod"
            says = f"{what}, of {service or 'no Service'}: {ports}"
            line = f"EndpointSlice {mine[0].slice}: addresses {ip}, ports {ports}"
            yield Who(ip, "endpoint", service, says, evidence=(_kubectl("endpointslices", line, says),))


def _own_addresses(ip: str, look: Directory) -> tuple[list[Who], tuple[str, ...]]:
    """Addresses of nodes that the API does not list, such as a CNI bridge's gateway address."""
    found: list[Who] = []
    missing = [f"interfaces of {node.name}" for node in look.nodes() if node.name not in look.readable()]
    for node in look.readable():
        try:
            links = look.links(node)
        except FactMissing as error:
            missing.append(str(error))
            continue
        mine = [link for link in links if any(a.address == ip for a in link.addresses)]
        if mine and not ipaddress.ip_address(ip).is_loopback:
            ref = FactRef("addr.json", node)
            names = ", ".join(link.name for link in mine)
            says = f"the node's own address on {names}; the API does not list it"
            evidence = Evidence(ref, look.command(ref), tuple(link.line() for link in mine[:3]), says)
            found.append(Who(ip, "node", node, says, evidence=(evidence,)))
    return found, tuple(missing)


def _unknown(ip: str, look: Directory) -> tuple[str, str]:
    """In words what an address could be that nobody holds, and the line of the nodes that says so."""
    address = ipaddress.ip_address(ip)
    if address.is_loopback:
        return "loopback: every network namespace has its own", ""
    for said in _ranges(look):
        if address in ipaddress.ip_network(said, strict=False):
            return f"in the Service range {said}, but no Service holds it", ""
    for node in look.nodes():
        for cidr in node.pod_cidrs:
            if address in ipaddress.ip_network(cidr, strict=False):
                says = f"in the pod range {cidr} of {node.name}, but no pod holds it"
                return says, f"{node.name}: spec.podCIDRs {', '.join(node.pod_cidrs)}"
    return "nothing in this cluster's API holds it; outside the cluster, or gone", ""


def _ranges(look: Directory) -> tuple[str, ...]:
    try:
        return look.service_ranges()
    except FactMissing:  # clusters before ServiceCIDR (1.33) have no such list
        return ()
