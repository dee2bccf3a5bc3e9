"""Drift: what a node has programmed, against what the API says it ought to have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..text import socket_text
from .expected import Expected
from .programmed import Endpoints, Key, Programmed

__all__ = ["CODES", "Drift", "compare_node", "wanted"]

CODES: dict[str, tuple[str, str]] = {
    "SERVICE_NOT_PROGRAMMED": ("error", "the API has this Service port, the node knows nothing of it"),
    "SERVICE_GONE": ("error", "the node translates an address that no Service has any more"),
    "WRONG_PORT": ("error", "the node translates a port that the Service at this address does not have"),
    "ENDPOINT_MISSING": ("error", "a usable endpoint gets no connections from this node"),
    "ENDPOINT_STALE": ("error", "the node sends connections to what is no usable endpoint"),
    "ENDPOINT_RETIRING": ("warning", "the node still sends connections to an endpoint that is on its way out"),
    "MODE_LEFTOVER": ("warning", "rules of another mode are left on the node; they no longer follow the Services"),
    "NOT_FOLLOWED": ("warning", "the rules of this Service could not be followed to their end"),
    "NOT_CHECKED": ("info", "this node could not be compared"),
}
"""Stable codes: severity and meaning."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference. ``port`` is the Service's port, or the programmed one where there is no Service.

    ``missing`` and ``extra`` are sockets as ``address:port`` (``[address]:port`` for IPv6), sorted.
    """

    code: str
    node: str
    service: str | None
    entry: str | None
    address: str | None
    port: int | None
    protocol: str | None
    family: int | None
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    says: str = ""

    @property
    def severity(self) -> str:
        """``error``, ``warning`` or ``info``."""
        return CODES[self.code][0]


def compare_node(
    node: str, mode: str, expected: Mapping[Key, Expected], programmed: Mapping[Key, Programmed]
) -> list[Drift]:
    """Differences on one node, in the order of their keys. ``mode`` decides what Local without endpoints means."""
    found: list[Drift] = []
    for key, want in expected.items():
        have = programmed.get(key)
        if have is None or have.unmet:
            why = have.unmet if have else ""
            found.append(_drift("SERVICE_NOT_PROGRAMMED", node, want, missing=wanted(want, mode), says=why))
        elif have.problem:
            found.append(_drift("NOT_FOLLOWED", node, want, says=have.problem))
        else:
            found += _endpoints(node, mode, want, have)
    owners: dict[tuple[int, str | None], str] = {
        (key[0], key[1]): want.service for key, want in expected.items() if key[1] is not None
    }
    for key, have in programmed.items():
        if key not in expected:
            found.append(_left_behind(node, key, have, owners))
    return sorted(found, key=lambda d: (d.node, d.service or "", d.port or 0, d.protocol or "", d.entry or "", d.code))


def _endpoints(node: str, mode: str, want: Expected, have: Programmed) -> list[Drift]:
    pairs = [(wanted(want, mode), have.cluster | (have.local or frozenset()))]
    if want.local is not None and want.entry != "cluster_ip" and mode != "ipvs":
        # Local for outsiders only: pods and the node's own processes may still use every endpoint
        pairs = [(want.local, have.local or frozenset()), (want.cluster, have.cluster)]
    missing: Endpoints = frozenset().union(*(asked - held for asked, held in pairs))
    extra: Endpoints = frozenset().union(*(held - asked for asked, held in pairs))
    found = []
    if missing:
        found.append(_drift("ENDPOINT_MISSING", node, want, missing=missing))
    if extra - want.retiring:
        found.append(_drift("ENDPOINT_STALE", node, want, extra=extra - want.retiring))
    if extra & want.retiring:
        found.append(_drift("ENDPOINT_RETIRING", node, want, extra=extra & want.retiring))
    return found


def wanted(want: Expected, mode: str) -> Endpoints:
    """The endpoints that an entry's usual client may get on that node, by the mode's own semantics."""
    if want.local is None:
        return want.cluster
    if mode == "ipvs" and want.exposed:
        # pkg/proxy/ipvs: with none on the node it takes all endpoints (kubernetes issue 97081); those it only looks
        # up for a Service that can be called from outside
        return want.local or want.cluster
    return want.local


def _left_behind(node: str, key: Key, have: Programmed, owners: Mapping[tuple[int, str | None], str]) -> Drift:
    family, address, port, protocol = key
    owner = owners.get((family, address))
    code = "WRONG_PORT" if owner else "SERVICE_GONE"
    entry = "node_port" if address is None else None
    extra = _texts(have.cluster | (have.local or frozenset()))
    return Drift(
        code, node, owner or have.service, entry, address, port, protocol, family, extra=extra, says=CODES[code][1]
    )


def _drift(
    code: str,
    node: str,
    want: Expected,
    missing: Endpoints = frozenset(),
    extra: Endpoints = frozenset(),
    says: str = "",
) -> Drift:
    family, address, _, protocol = want.key
    where = (want.service, want.entry, address, want.port.port, protocol, family)
    return Drift(code, node, *where, _texts(missing), _texts(extra), says or CODES[code][1])


def _texts(sockets: Endpoints) -> tuple[str, ...]:
    return tuple(sorted(socket_text(a, p) for a, p in sockets))
