"""Interfaces and their addresses (``ip -d -j addr``) as frozen values.

Source: iproute2 ip/ipaddress.c and the kernel's rtnetlink(7). ``link_index`` is the index of the peer or the parent
*in the namespace that link_netnsid names*; without ``link_netnsid`` it is in the same namespace, and iproute2 then
prints the name as ``link``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..facts import FactRef
from .records import Record, quote, records

__all__ = ["Address", "Link", "parse_links"]


@dataclass(frozen=True, slots=True)
class Address:
    """One address of an interface: text, prefix length in bits, family ``inet`` or ``inet6``, scope, label."""

    family: str
    local: str
    prefixlen: int
    scope: str = "global"
    peer: str | None = None
    label: str | None = None

    def __str__(self) -> str:
        return f"{self.local}/{self.prefixlen}"


@dataclass(frozen=True, slots=True)
class Link:
    """One interface. ``kind`` is the kernel's (veth, bridge, ipvlan ...), None for hardware and loopback."""

    ifindex: int
    name: str
    kind: str | None = None
    mtu: int = 0
    mac: str | None = None
    flags: tuple[str, ...] = ()
    operstate: str | None = None
    link_index: int | None = None
    link: str | None = None
    link_netnsid: int | None = None
    master: str | None = None
    slave_kind: str | None = None
    addresses: tuple[Address, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False, hash=False)

    @property
    def loopback(self) -> bool:
        """Whether it is the loopback interface."""
        return "LOOPBACK" in self.flags

    @property
    def up(self) -> bool:
        """Whether it is set up and has a carrier."""
        return "UP" in self.flags and "LOWER_UP" in self.flags

    def evidence_line(self) -> str:
        """What decides about a peer: both indices, the namespace id, the kind and the master, as the fact says them."""
        kind = f', "linkinfo": {{"info_kind": "{self.kind}"}}' if self.kind else ""
        shown = quote(self.raw, "ifindex", "link_index", "link", "ifname", "master", "address", "link_netnsid")
        return shown[:-1] + kind + "}"


def parse_links(data: bytes, ref: FactRef) -> tuple[Link, ...]:
    """The interfaces of one network namespace, in the order of the fact. Raises FactBroken."""
    found = tuple(_link(record) for record in records(data, ref))
    seen: set[int] = set()
    for number, link in enumerate(found, 1):
        if link.ifindex in seen:
            Record({}, ref, number).broken(f"has ifindex {link.ifindex} for the second time")
        seen.add(link.ifindex)
    return found


def _link(record: Record) -> Link:
    info = record.child("linkinfo")
    return Link(
        ifindex=record.integer("ifindex"),
        name=record.text("ifname"),
        kind=info.text_or_none("info_kind"),
        mtu=record.integer_or_none("mtu") or 0,
        mac=record.text_or_none("address"),
        flags=record.texts("flags"),
        operstate=record.text_or_none("operstate"),
        link_index=record.integer_or_none("link_index"),
        link=record.text_or_none("link"),
        link_netnsid=record.integer_or_none("link_netnsid"),
        master=record.text_or_none("master"),
        slave_kind=info.text_or_none("info_slave_kind"),
        addresses=tuple(_address(child) for child in record.children("addr_info")),
        raw=record.raw,
    )


def _address(record: Record) -> Address:
    local, bits = record.text("local"), record.integer("prefixlen")
    try:
        width = ipaddress.ip_address(local).max_prefixlen
    except ValueError:
        record.broken(f'has "{local}" as "local", not an address')
    if not 0 <= bits <= width:
        record.broken(f'has {bits} as "prefixlen" of {local}')
    return Address(
        family=record.text("family"),
        local=local,
        prefixlen=bits,
        scope=record.text_or_none("scope") or "global",
        peer=record.text_or_none("address"),
        label=record.text_or_none("label"),
    )
