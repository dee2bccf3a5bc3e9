"""What CoreDNS makes of the API: for one name of the cluster, the targets that its records are built from.

Which Service, port, endpoint or pod a name means is decided by ``explain.dns.names.cluster_name``, as everywhere in the
kit; here is only what stands behind it. Held against the answers of a real CoreDNS (recorded ``dns.jsonl``) and its
plugin ``kubernetes`` (coredns.io/plugins/kubernetes): an answer has ready endpoints only, a Service without ports of
that name does not exist, and a namespace that is there without the Service asked for is no name either.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import FactBroken, FactError
from ...explain.dns.names import ClusterName, cluster_name
from ...facts import FactRef
from ...parse.api import mapping, parse_list
from ...parse.corefile import Corefile, Directive, parse_corefile
from ...parse.pods import parse_pod
from ...parse.services import SERVICE_LABEL, Endpoint, ServiceValue, parse_service, parse_slice
from ...sources.base import Source

__all__ = ["Host", "Options", "Records", "Target", "Unknown", "read_records", "reverse_address"]

REVERSE = (".in-addr.arpa.", ".ip6.arpa.")


class Unknown(LookupError):
    """The answer depends on something that the recording does not have."""


@dataclass(frozen=True, slots=True)
class Target:
    """One target of a name: ``host`` is an address, or the other name of an ExternalName Service.

    ``owner`` is the full name, with its dot, that an SRV record points to; ``port`` None: no port is declared.
    """

    host: str
    port: int | None
    owner: str

    @property
    def version(self) -> int | None:
        """4 or 6, None for a name."""
        return _version(self.host)


@dataclass(frozen=True, slots=True)
class Host:
    """One address of a ready endpoint at one port; ``label`` is its name below the Service's."""

    address: str
    label: str
    port: int | None
    port_name: str
    protocol: str


@dataclass(frozen=True, slots=True)
class Options:
    """What the Corefile says of the cluster's names. Zones end with a dot, ``ttl`` is in seconds.

    ``pods``: ``disabled``, ``insecure`` or ``verified``. ``passes_on``: zones whose names, when there are none, go on
    to the next plugin. ``namespaces``: only these are served; empty: all. ``refuses``: no server block is for every
    name, so one outside is REFUSED.
    """

    zones: tuple[str, ...] = ("cluster.local.", "in-addr.arpa.", "ip6.arpa.")
    ttl: int = 5
    pods: str = "disabled"
    passes_on: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    pod_names: bool = False
    ignore_empty: bool = False
    refuses: bool = False


@dataclass(frozen=True, slots=True)
class Records:
    """The cluster's names. ``services``: by ``namespace/name``, None for one that cannot be read.

    ``hosts``: ready endpoints by Service. ``pods``: (namespace, address). ``missing``: what was not recorded, so that
    every name of the cluster is unknown.
    """

    options: Options
    services: Mapping[str, ServiceValue | None]
    hosts: Mapping[str, tuple[Host, ...]]
    namespaces: Collection[str]
    pods: Collection[tuple[str, str]]
    missing: str = ""
    dns: str = "kube-system/kube-dns"
    broken: Collection[str] = field(default=frozenset())
    """Services with a slice that cannot be read."""

    def zone(self, name: str) -> str | None:
        """The zone among the cluster's that a name (lower case, with its dot) is in: the longest; None: in none."""
        found = [zone for zone in self.options.zones if name == zone or name.endswith("." + zone)]
        return max(found, key=len, default=None)

    def targets(self, name: str, zone: str) -> tuple[Target, ...] | None:
        """What stands behind a name of the zone; empty: the name is there, without records; None: no such name.

        Raises Unknown where the recording does not tell.
        """
        if self.missing:
            raise Unknown(self.missing)
        if name == zone:
            return ()
        if ("." + name).endswith(REVERSE):
            return None
        meant = cluster_name(name, zone)
        if meant.kind == "pod":
            return self._pod(meant, name)
        if meant.key is not None:
            return self._service(meant, zone)
        labels = name.removesuffix("." + zone).split(".")
        if labels == ["ns", "dns"]:
            return self._servers(zone)
        empty = len(labels) == 2 and labels[1] in ("svc", "pod") and self._exposed(labels[0])
        return () if empty and (labels[1] == "svc" or self.options.pods != "disabled") else None

    def names(self, address: str) -> tuple[str, ...]:
        """The names of an address: that of the Service whose cluster IP it is, else those of its endpoints."""
        if self.missing:
            raise Unknown(self.missing)
        zone = next((zone for zone in self.options.zones if not ("." + zone).endswith(REVERSE)), "cluster.local.")
        for service in self.services.values():
            if service and address in service.cluster_ips and self._exposed(service.namespace):
                return (f"{service.name}.{service.namespace}.svc.{zone}",)
        found = (
            f"{host.label}.{key.split('/')[1]}.{key.split('/')[0]}.svc.{zone}"
            for key, hosts in self.hosts.items()
            for host in hosts
            if host.address == address and self._exposed(key.split("/")[0])
        )
        return tuple(dict.fromkeys(found))

    def _exposed(self, namespace: str | None) -> bool:
        served = self.options.namespaces
        return namespace in self.namespaces and (not served or namespace in served)

    def _servers(self, zone: str) -> tuple[Target, ...]:
        service = self.services.get(self.dns)
        return tuple(Target(ip, None, f"ns.dns.{zone}") for ip in (service.cluster_ips if service else ()))

    def _pod(self, meant: ClusterName, name: str) -> tuple[Target, ...] | None:
        label, namespace = name.split(".")[0], meant.namespace or ""
        plain = label.count("-") == 3 and "--" not in label
        address = label.replace("-", "." if plain else ":")
        mode = self.options.pods
        if mode == "disabled" or not self._exposed(namespace) or _version(address) is None:
            return None
        address = str(ipaddress.ip_address(address))
        if mode == "verified" and (namespace, address) not in self.pods:
            return None
        return (Target(address, None, name),)

    def _service(self, meant: ClusterName, zone: str) -> tuple[Target, ...] | None:
        key = meant.key or ""
        if not self._exposed(meant.namespace) or key not in self.services:
            return None
        service = self.services[key]
        if service is None:
            raise Unknown(f"Service {key} cannot be read")
        owner = f"{service.name}.{service.namespace}.svc.{zone}"
        if service.type == "ExternalName":
            host = (service.external_name or "").rstrip(".")
            usable = bool(host) and _version(host) is None and meant.kind != "endpoint"
            return (Target(host, None, owner),) if usable else None
        by_endpoint = service.headless or meant.kind == "endpoint"
        if (by_endpoint or self.options.ignore_empty) and key in self.broken:
            raise Unknown(f"an EndpointSlice of {key} cannot be read")
        hosts = self.hosts.get(key, ())
        if by_endpoint:
            return _of_endpoints(meant, hosts, owner)
        if self.options.ignore_empty and not hosts:
            return None
        ports = [port for port in service.ports if _fits(meant, port.name, port.protocol)]
        return tuple(Target(ip, port.port, owner) for port in ports for ip in service.cluster_ips) if ports else None


def _of_endpoints(meant: ClusterName, hosts: Iterable[Host], owner: str) -> tuple[Target, ...] | None:
    fitting = (host for host in hosts if _fits(meant, host.port_name, host.protocol))
    named = [host for host in fitting if meant.kind != "endpoint" or host.label == meant.host]
    return tuple(Target(host.address, host.port, f"{host.label}.{owner}") for host in named) or None


def _fits(meant: ClusterName, port: str, protocol: str) -> bool:
    return meant.kind != "port" or (meant.port == port.lower() and meant.protocol == protocol.upper())


def _version(text: str) -> int | None:
    try:
        return ipaddress.ip_address(text).version
    except ValueError:
        return None


def reverse_address(name: str) -> str | None:
    """The address that a name below in-addr.arpa or ip6.arpa is of (RFC 1035 section 3.5, RFC 3596); None: of none."""
    labels = name.rstrip(".").split(".")
    if labels[-2:] == ["in-addr", "arpa"] and len(labels) == 6:
        text = ".".join(labels[3::-1])
    elif labels[-2:] == ["ip6", "arpa"] and len(labels) == 34 and all(len(label) == 1 for label in labels[:32]):
        digits = "".join(labels[31::-1])
        text = ":".join(digits[at : at + 4] for at in range(0, 32, 4))
    else:
        return None
    return str(ipaddress.ip_address(text)) if _version(text) else None


def read_records(source: Source) -> tuple[Records, tuple[str, ...]]:
    """The cluster's names as a source's API tells them, and notes on what could not be read."""
    notes: list[str] = []
    options = _read_options(source, notes)
    items = {name: _items(source, name, notes) for name in ("services", "endpointslices", "namespaces", "pods")}
    services: dict[str, ServiceValue | None] = {}
    for item in items["services"] or ():
        try:
            services[_key(item)] = parse_service(item)
        except (FactError, AttributeError, LookupError, TypeError, ValueError) as error:
            services[_key(item)] = None
            notes.append(f"Service {_key(item)} cannot be read: {error}")
    hosts, broken = _read_hosts(items["endpointslices"] or (), options, notes)
    known = items["namespaces"]
    names = {str(item["metadata"]["name"]) for item in known or ()}
    if known is None:
        names = {key.split("/")[0] for key in services}
    if items["endpointslices"] is None:
        broken = frozenset(services)
    pods = frozenset(_read_pods(items["pods"] or ()))
    missing = "the Services are not recorded" if items["services"] is None else ""
    records = Records(options, services, hosts, frozenset(names), pods, missing, _dns_service(services), broken)
    return records, tuple(notes)


def _items(source: Source, resource: str, notes: list[str]) -> list[dict[str, Any]] | None:
    try:
        return parse_list(source.read(FactRef(resource)), resource)
    except FactError as error:
        notes.append(str(error))
        return None


def _key(item: Mapping[str, Any]) -> str:
    return f"{item['metadata'].get('namespace', 'default')}/{item['metadata']['name']}"


def _dns_service(services: Mapping[str, ServiceValue | None]) -> str:
    """The Service of the cluster's DNS: by its usual name, else by its label."""
    usual = "kube-system/kube-dns"
    labelled = [key for key, each in services.items() if each and each.labels.get("k8s-app") == "kube-dns"]
    return usual if usual in services or not labelled else labelled[0]


def _read_hosts(
    items: Iterable[Mapping[str, Any]], options: Options, notes: list[str]
) -> tuple[dict[str, tuple[Host, ...]], frozenset[str]]:
    found: dict[str, list[Host]] = {}
    broken: set[str] = set()
    for item in items:
        meta = item["metadata"]
        owner = f"{meta.get('namespace', 'default')}/{mapping(meta.get('labels')).get(SERVICE_LABEL)}"
        try:
            value = parse_slice(item)
            named = {
                str(address): str(endpoint["hostname"])
                for endpoint in item.get("endpoints") or ()
                for address in endpoint.get("addresses") or ()
                if endpoint.get("hostname")
            }
        except (FactBroken, AttributeError, LookupError, TypeError, ValueError) as error:
            broken.add(owner)
            notes.append(f"EndpointSlice {_key(item)} cannot be read: {error}")
            continue
        ready = (each for each in value.endpoints if each.ready and _version(each.address))
        hosts = [_host(each, named.get(each.address), options) for each in ready] if value.service else []
        found.setdefault(owner, []).extend(hosts)
    return {key: tuple(dict.fromkeys(hosts)) for key, hosts in found.items()}, frozenset(broken)


def _host(endpoint: Endpoint, hostname: str | None, options: Options) -> Host:
    label = hostname or (endpoint.pod.split("/")[1] if options.pod_names and endpoint.pod else "")
    label = (label or endpoint.address.replace(".", "-").replace(":", "-")).lower()
    return Host(endpoint.address, label, endpoint.port, endpoint.port_name, endpoint.protocol)


def _read_pods(items: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    """Pods by namespace and first address, as CoreDNS's index has them; one that cannot be read has no name."""
    for item in items:
        try:
            pod = parse_pod(item)
        except (FactError, AttributeError, LookupError, OverflowError, TypeError, ValueError):
            continue
        if pod.ips and not pod.finished:
            yield pod.key.split("/")[0], pod.ips[0]


def _read_options(source: Source, notes: list[str]) -> Options:
    """The Corefile's; without one those of a usual cluster, which is noted."""
    usual = Options(ttl=30, pods="insecure", passes_on=("in-addr.arpa.", "ip6.arpa."))
    for item in _items(source, "configmaps", notes) or ():
        text = mapping(item.get("data")).get("Corefile")
        if _key(item) == "kube-system/coredns" and isinstance(text, str):
            try:
                return _options(parse_corefile(text))
            except FactBroken as error:
                notes.append(str(error))
    notes.append("No Corefile: names are served as in a usual cluster (cluster.local, TTL 30, pods insecure)")
    return usual


def _options(corefile: Corefile) -> Options:
    """What the Corefile's first ``kubernetes`` plugin says. A number that is none is the plugin's own default."""
    whole = any(zone.name == "." for block in corefile.servers for zone in block.zones)
    for block in corefile.servers:
        plugin = block.plugin("kubernetes")
        if plugin is None:
            continue
        zones = _dotted(plugin.args) or tuple(zone.name for zone in block.zones)
        passed = plugin.options("fallthrough")
        ttl = _first(plugin, "ttl")
        return Options(
            zones=zones,
            ttl=int(ttl) if ttl.isascii() and ttl.isdecimal() and len(ttl) < 6 else 5,
            pods=_first(plugin, "pods") or "disabled",
            passes_on=(_dotted(passed[0].args) or zones) if passed else (),
            namespaces=tuple(name for option in plugin.options("namespaces") for name in option.args),
            pod_names=bool(plugin.options("endpoint_pod_names")),
            ignore_empty=any("empty_service" in option.args for option in plugin.options("ignore")),
            refuses=not whole,
        )
    return Options(zones=(), refuses=not whole)


def _first(plugin: Directive, option: str) -> str:
    return next((each.args[0] for each in plugin.options(option) if each.args), "")


def _dotted(zones: Iterable[str]) -> tuple[str, ...]:
    return tuple(zone.lower().rstrip(".") + "." for zone in zones)
