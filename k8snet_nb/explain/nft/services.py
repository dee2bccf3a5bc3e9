"""What kube-proxy has programmed in nftables, Service port by Service port: :func:`services`, for drift.

Here kube-proxy's names and comments do count: they say which Service an entry was made for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ...parse.nft import Chain, Element, NftSet, Ruleset, Table
from ...parse.nft_expr import Problems, expression
from ..outcome import Action

__all__ = ["Programmed", "services"]

Entry = Literal["cluster_ip", "external", "node_port"]
Endpoints = frozenset[tuple[str, int]]
_ADDRESSES = {("ipv4_addr", "inet_proto", "inet_service"), ("ipv6_addr", "inet_proto", "inet_service")}
DEEPEST = 16  # the kernel's own limit for jumps
_NODE_PORTS = ("inet_proto", "inet_service")


@dataclass(frozen=True, slots=True)
class Programmed:
    """One address (or node port), protocol and port that the node's kube-proxy table answers for.

    ``entry``: ``external`` is an external or load balancer address (the rules do not tell them apart). ``address`` is
    empty for a node port. ``service`` "ns/name" and ``port_name`` (may be empty) as named by kube-proxy, None where
    the name was cut. ``cluster`` are the endpoints for clients served cluster-wide, ``local`` those for clients that
    get this node's only, None where there is no such set. ``action`` is reject or drop for a Service without
    endpoints; one address can be in both kinds of record (policy Local: outsiders are dropped, pods served).
    """

    family: int
    entry: Entry
    address: str
    port: int
    protocol: str
    service: str | None
    port_name: str | None
    action: Action
    cluster: Endpoints | None = None
    local: Endpoints | None = None
    source_ranges: tuple[str, ...] = ()


class _Reach(NamedTuple):
    cluster: Endpoints | None
    local: Endpoints | None


def services(rules: Ruleset) -> list[Programmed]:
    """All that the tables named ``kube-proxy`` of both families hold, in one pass over their maps and rules."""
    found = list[Programmed]()
    for family, version in (("ip", 4), ("ip6", 6)):
        table = rules.table(family, "kube-proxy")
        if table is not None:
            found += _Inventory(table, version).collect()
    return found


class _Inventory:
    def __init__(self, table: Table, version: int) -> None:
        self._table, self._version = table, version
        self._reach: dict[str, _Reach] = {}
        self._cluster_ips = table.sets.get("cluster-ips")

    def collect(self) -> list[Programmed]:
        found, ranges = list[Programmed](), dict[tuple[Any, ...], tuple[str, ...]]()
        maps = [one for one in self._table.sets.values() if one.is_map and one.raw.get("map") == "verdict"]
        for one in maps:
            if one.name.startswith("firewall"):
                ranges.update((element.key, self._ranges(element)) for element in one.elements())
        for one in maps:
            if not one.name.startswith("firewall") and (one.types in _ADDRESSES or one.types == _NODE_PORTS):
                found += [self._programmed(one, element, ranges) for element in one.elements()]
        return found

    def _programmed(
        self, owner: NftSet, element: Element, ranges: dict[tuple[Any, ...], tuple[str, ...]]
    ) -> Programmed:
        address, protocol, port = element.key if owner.types != _NODE_PORTS else ("", *element.key)
        verdict, body = next(iter(element.data.items()))
        target = body["target"] if isinstance(body, dict) else ""
        reach = self._reached(target, 0) if target else _Reach(None, None)
        action: Action = (
            "dnat" if reach.cluster is not None or reach.local is not None else self._refusal(verdict, target)
        )
        if element.comment:
            service, _, name = element.comment.partition(":")
            port_name: str | None = name
        else:
            service, port_name = _service_of(target)  # type: ignore[assignment]
        shared = (self._entry(address), address, port, protocol, service or None, port_name, action)
        return Programmed(self._version, *shared, reach.cluster, reach.local, ranges.get(element.key, ()))

    def _entry(self, address: str) -> Entry:
        if not address:
            return "node_port"
        known = self._cluster_ips is not None and (address,) in self._cluster_ips.exact
        return "cluster_ip" if known else "external"

    def _refusal(self, verdict: str, target: str) -> Action:
        if verdict == "drop":
            return "drop"
        chain = self._table.chains.get(target)
        kinds = [kind for rule in chain.rules for part in rule.expr for kind in part] if chain else []
        return "reject" if "reject" in kinds else "drop" if "drop" in kinds else "none"

    def _reached(self, name: str, depth: int) -> _Reach:
        """The endpoints that a chain leads to; those behind a ``local-`` chain are the node's own."""
        if name in self._reach:
            return self._reach[name]
        self._reach[name] = _Reach(None, None)  # a circle ends here
        chain = self._table.chains.get(name)
        if chain is None or depth > DEEPEST:
            return self._reach[name]
        cluster, local = None, None
        for target in _targets(chain):
            below = self._reached(target, depth + 1)
            cluster = _either(cluster, below.cluster)
            local = _either(local, below.local)
        dnats = (part["dnat"] for rule in chain.rules for part in rule.expr if "dnat" in part)
        here = frozenset(endpoint for body in dnats for endpoint in self._endpoints(body)) or None
        own = name.startswith("local-")
        reach = _Reach(None, _either(_either(local, cluster), here)) if own else _Reach(_either(cluster, here), local)
        self._reach[name] = reach
        return reach

    def _endpoints(self, body: dict[str, Any]) -> list[tuple[str, int]]:
        address = body.get("addr")
        if isinstance(address, str):
            return [(address, body["port"])] if isinstance(body.get("port"), int) else []
        if isinstance(address, dict) and "map" in address:
            data = address["map"]["data"]
            if isinstance(data, str) and data[1:] in self._table.sets:
                values = [element.data for element in self._table.sets[data[1:]].elements()]
            else:
                values = [pair[1] for pair in data["set"]] if isinstance(data, dict) else []
            return [tuple(value["concat"]) for value in values if isinstance(value, dict) and "concat" in value]
        return []

    def _ranges(self, element: Element) -> tuple[str, ...]:
        body = next(iter(element.data.values()))
        chain = self._table.chains.get(body["target"]) if isinstance(body, dict) else None
        found = dict[str, None]()
        for rule in chain.rules if chain else ():
            for part in rule.expr:
                match = part.get("match")
                if match and match["left"].get("payload", {}).get("field") == "saddr":
                    right = match["right"]
                    listed = right["set"] if isinstance(right, dict) and "set" in right else [right]
                    found.update((expression(one, Problems()), None) for one in listed)
        return tuple(found)


def _either(one: Endpoints | None, other: Endpoints | None) -> Endpoints | None:
    return other if one is None else one if other is None else one | other


def _targets(chain: Chain) -> list[str]:
    found = list[str]()
    for rule in chain.rules:
        for part in rule.expr:
            kind, body = next(iter(part.items()))
            if kind in ("jump", "goto"):
                found.append(body["target"])
            elif kind == "vmap" and isinstance(body["data"], dict):
                verdicts = (next(iter(pair[1].values())) for pair in body["data"]["set"])
                found += [verdict["target"] for verdict in verdicts if isinstance(verdict, dict)]
    return found


def _service_of(chain: str) -> tuple[str | None, str | None]:
    """``service-HASH-ns/name/protocol/port`` -> ("ns/name", port); a name that kube-proxy cut is unknown."""
    parts = chain.split("-", 2)[-1].split("/")
    if len(parts) != 4 or chain.endswith("..."):
        return None, None
    return f"{parts[0]}/{parts[1]}", parts[3]
