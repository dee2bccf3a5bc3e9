"""Rules, neighbours and forwarding entries (``ip -j rule``, ``ip -j neigh``, ``bridge -j fdb``) as frozen values.

Source: iproute2 ip/iprule.c, ip/ipneigh.c, bridge/fdb.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..facts import FactRef
from .records import quote, records

__all__ = ["FdbEntry", "Neighbour", "Rule", "parse_fdb", "parse_neigh", "parse_rules"]


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
