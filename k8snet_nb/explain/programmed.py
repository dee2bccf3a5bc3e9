"""What a node has programmed for Services, in one form for the three data planes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ..parse import iptables, nft
from ..parse.ipvs import VirtualServer
from .iptables import services as iptables_services
from .ipvs import path as ipvs_path
from .nft import services as nft_services

__all__ = ["Key", "Programmed", "from_iptables", "from_ipvs", "from_nft"]

Key = tuple[int, str | None, int, str]
"""Family, address (None: a NodePort, on the node's own addresses), port, protocol."""

Endpoints = frozenset[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class Programmed:
    """All that is programmed under one key. ``cluster``: endpoints for clients served cluster-wide.

    ``local``: those for clients that only get this node's (traffic policy Local), None where no such choice is made.
    ``service`` is ``namespace/name`` by the rule's own comment, None where rules carry none (IPVS). ``problem``: why
    it could not be followed to its end; ``unmet``: why packets do not come to it.
    """

    key: Key
    service: str | None
    cluster: Endpoints
    local: Endpoints | None
    problem: str = ""
    unmet: str = ""


def _merged(found: Iterable[Programmed]) -> dict[Key, Programmed]:
    """One record a key: a Service without usable endpoints may stand in nat and in filter at once."""
    merged: dict[Key, Programmed] = {}
    for one in found:
        before = merged.get(one.key)
        if before is not None:
            local = one.local if before.local is None else before.local | (one.local or frozenset())
            one = Programmed(
                one.key,
                before.service or one.service,
                before.cluster | one.cluster,
                local,
                before.problem or one.problem,
                before.unmet and one.unmet,
            )
        merged[one.key] = one
    return merged


def from_iptables(rules: iptables.Ruleset) -> dict[Key, Programmed]:
    """From kube-proxy's chains in one family's save."""
    return _merged(
        Programmed(
            (rules.family, one.address, one.port, one.protocol),
            one.service.partition(":")[0] or None,
            frozenset(one.cluster),
            None if one.local is None else frozenset(one.local),
            one.problem,
        )
        for one in iptables_services.services(rules)
    )


def from_nft(rules: nft.Ruleset) -> dict[Key, Programmed]:
    """From the maps of the tables ``kube-proxy``, both families."""
    return _merged(
        Programmed(
            (one.family, one.address or None, one.port, one.protocol),
            one.service,
            one.cluster or frozenset(),
            one.local,
        )
        for one in nft_services.services(rules)
    )


def from_ipvs(
    servers: Sequence[VirtualServer], node_addresses: Collection[str], held: Collection[str]
) -> dict[Key, Programmed]:
    """From virtual servers. ``node_addresses``: the node's own, without VIPs; a server on one of them is a NodePort.

    ``held``: all addresses on the node's interfaces, kube-ipvs0's among them: packets of others than
    the node's own processes come to IPVS only for those.

    Servers of weight 0 are draining: kube-proxy takes them out when their connections have ended, so they do not count.
    """
    return _merged(
        Programmed(
            (
                6 if ":" in one.address else 4,
                None if one.address in node_addresses else one.address,
                one.port,
                one.protocol,
            ),
            None,
            frozenset((address, port) for address, port, weight in one.endpoints if weight > 0),
            None,
            unmet=""
            if one.address in held
            else f"{one.address} is on no interface (kube-ipvs0 should hold it): packets from pods and from outside "
            "are routed on",
        )
        for one in ipvs_path.services(servers)
    )
