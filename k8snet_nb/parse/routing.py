"""Routes, rules, neighbours and forwarding entries (``ip -j route/rule/neigh``, ``bridge -j fdb``) as frozen values.

Source: iproute2 ip/iproute.c, ip/iprule.c, ip/ipneigh.c, bridge/fdb.c; route(8). Destinations are networks in text;
``default`` stays ``default``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..facts import FactRef
from .records import Record, quote, records

__all__ = ["FdbEntry", "NextHop", "Neighbour", "Route", "Rule", "parse_fdb", "parse_neigh", "parse_routes", "parse_rules"]


@dataclass(frozen=True, slots=True)
class NextHop:
    """One way of a multipath route."""

    gateway: str | None
    dev: str | None
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Route:
    """One route: ``type`` (unicast, local, blackhole ...), destination, the way, and in which table it stands."""

    type: str
    dst: str
    dev: str | None = None
    gateway: str | None = None
    prefsrc: str | None = None
    table: str = "main"
    protocol: str | None = None
    scope: str | None = None
    metric: int | None = None
    nexthops: tuple[NextHop, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False, hash=False)

    @property
    def family(self) -> str | None:
        """``inet`` or ``inet6``; None for a default route that names no address."""
        for text in (self.dst.split("/")[0], self.gateway, self.prefsrc, *(hop.gateway for hop in self.nexthops)):
            if text and text != "default":
                return "inet6" if ":" in text else "inet"
        return "inet6" if "pref" in self.raw else None

    @property
    def host(self) -> str | None:
        """The one address that it leads to (a /32 or /128), without the prefix length; None for a network."""
        base, _, bits = self.dst.partition("/")
        return None if base == "default" or bits not in ("", "32" if ":" not in base else "128") else base

    def evidence_line(self) -> str:
        """The route as the fact says it."""
        return quote(self.raw, "type", "dst", "gateway", "dev", "table", "protocol", "scope", "prefsrc")


@dataclass(frozen=True, slots=True)
class Rule:
    """One routing rule: priority, selector and table, or the action in place of one."""

    priority: int
    src: str
    table: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False, hash=False)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One entry of the neighbour (ARP, NDP) table."""

    dst: str
    dev: str
    mac: str | None = None
    state: tuple[str, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False, hash=False)

    def evidence_line(self) -> str:
        """The entry as the fact says it."""
        return quote(self.raw, "dst", "dev", "lladdr", "state")


@dataclass(frozen=True, slots=True)
class FdbEntry:
    """One forwarding entry of a bridge or VXLAN interface: behind which port a MAC address was seen or set."""

    mac: str
    name: str
    master: str | None = None
    state: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False, hash=False)

    @property
    def learned(self) -> bool:
        """Whether a bridge learned it from traffic, which tells who is behind the port."""
        return self.master is not None and self.state != "permanent" and "self" not in self.raw.get("flags", ())

    def evidence_line(self) -> str:
        """The entry as the fact says it."""
        return quote(self.raw, "mac", "ifname", "master", "state")


def parse_routes(data: bytes, ref: FactRef) -> tuple[Route, ...]:
    """The routes of one fact, in its order. ``route.json`` may hold both families. Raises FactBroken."""
    return tuple(_route(record) for record in records(data, ref))


def parse_rules(data: bytes, ref: FactRef) -> tuple[Rule, ...]:
    """The routing rules of one fact. Raises FactBroken."""
    return tuple(
        Rule(record.integer("priority"), record.text("src"), record.text_or_none("table"), record.raw)
        for record in records(data, ref)
    )


def parse_neigh(data: bytes, ref: FactRef) -> tuple[Neighbour, ...]:
    """The neighbours of one fact. Raises FactBroken."""
    return tuple(
        Neighbour(r.text("dst"), r.text("dev"), r.text_or_none("lladdr"), r.texts("state"), r.raw)
        for r in records(data, ref)
        if "deleted" not in r.raw
    )


def parse_fdb(data: bytes, ref: FactRef) -> tuple[FdbEntry, ...]:
    """The forwarding entries of one fact. Raises FactBroken."""
    return tuple(
        FdbEntry(r.text("mac"), r.text("ifname"), r.text_or_none("master"), r.text_or_none("state") or "", r.raw)
        for r in records(data, ref)
        if "mac" in r.raw and "ifname" in r.raw
    )


def _route(record: Record) -> Route:
    dst = record.text("dst")
    if dst != "default":
        try:
            ipaddress.ip_network(dst, strict=False)
        except ValueError:
            record.broken(f'has "{dst}" as "dst", neither default nor a network')
    return Route(
        type=record.text_or_none("type") or "unicast",
        dst=dst,
        dev=record.text_or_none("dev"),
        gateway=record.text_or_none("gateway") or record.child("via").text_or_none("host"),
        prefsrc=record.text_or_none("prefsrc"),
        table=record.text_or_none("table") or "main",
        protocol=record.text_or_none("protocol"),
        scope=record.text_or_none("scope"),
        metric=record.integer_or_none("metric"),
        nexthops=tuple(_hop(child) for child in record.children("nexthops")),
        raw=record.raw,
    )


def _hop(record: Record) -> NextHop:
    gateway = record.text_or_none("gateway") or record.child("via").text_or_none("host")
    return NextHop(gateway, record.text_or_none("dev"), record.integer_or_none("weight") or 1)
