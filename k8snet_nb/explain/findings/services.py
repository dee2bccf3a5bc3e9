"""Services judged by the API alone: is anything behind them, for each port, on each node?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from shlex import quote

from ...facts import Evidence, FactRef
from ...parse.services import SERVICE_LABEL, Endpoint, ServicePort, ServiceValue
from .finding import Finding

__all__ = ["service_findings"]

_LINES = 6


def service_findings(
    service: ServiceValue, endpoints: Sequence[Endpoint], nodes: Sequence[str], is_pod: Callable[[Endpoint], bool]
) -> Iterator[Finding]:
    """What is wrong with one Service. ``endpoints``: its own; ``nodes``: all of the cluster."""
    if service.type == "ExternalName":
        return
    proof = (_object(service), _slices(service, endpoints))
    if service.external_ip == "<pending>":
        what = "status.loadBalancer has no address"
        yield Finding("LOAD_BALANCER_PENDING", what, service=service.key, evidence=proof[:1])
    for endpoint in {e.pod: e for e in endpoints if e.pod and not is_pod(e)}.values():
        what = f"slice {endpoint.slice} gives {endpoint.address} to pod {endpoint.pod}, which the API does not have"
        yield Finding("ENDPOINT_POD_GONE", what, service=service.key, pod=endpoint.pod, evidence=proof[1:])
    whole = _behind(service, endpoints)
    if whole is not None:
        yield Finding(whole[0], whole[1], service=service.key, evidence=proof)
        return
    yield from _ports(service, endpoints, proof)
    yield from _local(service, endpoints, nodes, proof)


def _behind(service: ServiceValue, endpoints: Sequence[Endpoint]) -> tuple[str, str] | None:
    if not endpoints:
        words = ", ".join(f"{k}={v}" for k, v in sorted(service.selector.items()))
        why = (
            f"selector {words} matches no pod with an address" if words else "it has no selector, and no slice by hand"
        )
        return "SERVICE_NO_ENDPOINTS", f"no endpoint in any of its EndpointSlices: {why}"
    if service.publish_not_ready or any(endpoint.ready for endpoint in endpoints):
        return None
    addresses = sorted({endpoint.address for endpoint in endpoints})
    if any(endpoint.serving and endpoint.terminating for endpoint in endpoints):
        return "SERVICE_ONLY_TERMINATING", f"{', '.join(addresses)}: all terminating, some still serving"
    states = ", ".join(sorted({endpoint.state for endpoint in endpoints}))
    return "SERVICE_NONE_READY", f"{len(addresses)} endpoints, none ready ({states}): {', '.join(addresses[:5])}"


def _ports(service: ServiceValue, endpoints: Sequence[Endpoint], proof: tuple[Evidence, ...]) -> Iterator[Finding]:
    if any(endpoint.port is None for endpoint in endpoints):
        return  # a slice without ports: a headless Service of any port
    for port in service.ports:
        if not any((e.port_name, e.protocol) == (port.name, port.protocol) for e in endpoints):
            there = ", ".join(sorted({f"{e.port_name or '(no name)'} {e.port}/{e.protocol}" for e in endpoints}))
            what = f"port {port} ({_named(port)}, targetPort {port.target}) has no endpoint; the slices have {there}"
            number = port.name or str(port.port)
            yield Finding("SERVICE_PORT_NO_ENDPOINTS", what, service=service.key, evidence=proof, port=number)


def _named(port: ServicePort) -> str:
    return port.name or "no name"


def _local(
    service: ServiceValue, endpoints: Sequence[Endpoint], nodes: Sequence[str], proof: tuple[Evidence, ...]
) -> Iterator[Finding]:
    if service.headless:
        return
    exposed = service.type in ("NodePort", "LoadBalancer") or service.external_ips
    policies = [
        name
        for name, policy in (
            ("internalTrafficPolicy", service.internal_policy),
            ("externalTrafficPolicy", service.external_policy if exposed else ""),
        )
        if policy == "Local"
    ]
    having = {e.node for e in endpoints if e.ready or (e.serving and e.terminating)}
    for node in nodes if policies else ():
        if node not in having:
            what = f"{' and '.join(policies)} Local, and no endpoint on {node}"
            yield Finding("SERVICE_LOCAL_NONE", what, node, service.key, evidence=proof)


def _object(service: ServiceValue) -> Evidence:
    command = f"kubectl get service --namespace {quote(service.namespace)} {quote(service.name)} -o wide"
    selector = ",".join(f"{key}={value}" for key, value in sorted(service.selector.items()))
    cells = (service.name, service.type, service.cluster_ip, service.external_ip)
    ports = ",".join(map(str, service.ports))
    line = "  ".join(cell or "<none>" for cell in (*cells, ports, selector))
    return Evidence(FactRef("services"), command, (line,))


def _slices(service: ServiceValue, endpoints: Sequence[Endpoint]) -> Evidence:
    label = quote(f"{SERVICE_LABEL}={service.name}")
    command = f"kubectl get endpointslices --namespace {quote(service.namespace)} --selector {label} -o yaml"
    told = [f"{e.address}:{e.port} {e.port_name or '<unset>'} {e.state} {e.pod or 'no pod'}" for e in endpoints]
    more = (f"... and {len(told) - _LINES} more",) if len(told) > _LINES else ()
    return Evidence(FactRef("endpointslices"), command, (*told[:_LINES], *more), "" if told else "no endpoint")
