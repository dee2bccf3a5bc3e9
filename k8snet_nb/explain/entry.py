"""Which address and port a Service is called by: the four entries, and what each needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import Refused
from ..parse.api import ip_family
from ..parse.services import ServicePort, ServiceValue
from ..render import printable

__all__ = ["ENTRIES", "Entry", "Target", "default_client", "find_port", "find_target"]

Entry = Literal["cluster_ip", "node_port", "external_ip", "load_balancer"]
ENTRIES: tuple[Entry, ...] = get_args(Entry)


@dataclass(frozen=True, slots=True)
class Target:
    """What a client connects to. ``family`` 4 or 6; ``protocol`` tcp, udp or sctp, as rules spell it."""

    entry: Entry
    family: int
    address: str
    port: int
    protocol: str
    service_port: ServicePort


def default_client(entry: str) -> str:
    """Who usually calls by that entry: pods call cluster IPs, the rest is there for others."""
    return "pod" if entry == "cluster_ip" else "outside"


def find_port(service: ServiceValue, port: str | int | None) -> ServicePort:
    """The Service's port of that name, number or spelling (``53/UDP``); without one, the only port.

    Raises Refused with the list.
    """
    listed = ", ".join(f"{p.name or '(no name)'} {p}" for p in service.ports) or "none"
    if port is None:
        if len(service.ports) == 1:
            return service.ports[0]
        raise Refused(printable(f"{service.key} has {len(service.ports)} ports, say which: {listed}"))
    wanted = str(port)
    found = [p for p in service.ports if wanted == p.name] or [
        p for p in service.ports if wanted in (str(p.port), f"{p.port}/{p.protocol}", str(p))
    ]
    if len(found) == 1:
        return found[0]
    why = "no port" if not found else "more than one port"
    raise Refused(printable(f"{service.key} has {why} {wanted!r}; its ports: {listed}"))


def find_target(
    service: ServiceValue, port: str | int | None, entry: str, family: int | None, node_ips: Sequence[str]
) -> Target:
    """The address and port of an entry. ``family`` None: the Service's first. ``node_ips``: the node's, for NodePorts.

    Raises Refused, saying what the Service has, when it cannot be called that way.
    """
    if entry not in ENTRIES:
        raise Refused(printable(f"{entry!r} is no entry; there are {', '.join(ENTRIES)}"))
    if service.type == "ExternalName" or service.headless:
        kind = "headless" if service.headless else f"an alias of {service.external_name}"
        raise Refused(printable(f"{service.key} is {kind}: no rule translates for it, DNS answers"))
    wanted = find_port(service, port)
    chosen = family or (service.families[0] if service.families else 4)
    addresses = {
        "cluster_ip": service.cluster_ips,
        "node_port": tuple(node_ips) if wanted.node_port else (),
        "external_ip": service.external_ips,
        "load_balancer": service.load_balancer,
    }
    fits = [ip for ip in addresses[entry] if ip_family(ip) == chosen]
    if not fits:
        has = [name for name in ENTRIES if any(ip_family(ip) == chosen for ip in addresses[name])]
        others = f"it can be called by {', '.join(has)}" if has else f"it has no IPv{chosen} address at all"
        raise Refused(printable(f"{service.key} has no IPv{chosen} {entry} for {wanted}; {others}"))
    number = wanted.node_port if entry == "node_port" and wanted.node_port else wanted.port
    return Target(entry, chosen, fits[0], number, wanted.protocol.lower(), wanted)
