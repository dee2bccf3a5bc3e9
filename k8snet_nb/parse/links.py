"""Interfaces (``ip -d -j addr``) and routes (``ip -d -j route show table all``): bytes in, frozen values out."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..facts import FactRef
from .facts_json import broken, json_list

__all__ = ["Address", "Link", "Route", "parse_links", "parse_routes", "route_to"]


@dataclass(frozen=True, slots=True)
class Address:
    """One address of an interface: canonical text, prefix length in bits, scope (``global``, ``link``, ``host``)."""

    family: int
    address: str
    prefix: int
    scope: str

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix}"


@dataclass(frozen=True, slots=True)
class Link:
    """One interface. ``kind`` is the kernel's (veth, bridge, vxlan ...), None for hardware and loopback.

    ``peer_ifindex`` and ``peer_nsid``: index of the other end *in its own namespace*, and that namespace's id as seen
    from here; both None without another end (rtnetlink's IFLA_LINK and IFLA_LINK_NETNSID).
    """

    ifindex: int
    name: str
    kind: str | None
    link_type: str
    mtu: int
    mac: str | None
    state: str
    flags: tuple[str, ...]
    master: str | None
    peer_ifindex: int | None
    peer_name: str | None
    peer_nsid: int | None
    addresses: tuple[Address, ...]
    raw: dict[str, Any]

    def ips(self) -> tuple[str, ...]:
        """Its addresses without prefixes and without link-local ones."""
        return tuple(a.address for a in self.addresses if a.scope != "link")

    def line(self) -> str:
        """One line as ``ip -brief addr`` would give it, to quote as evidence."""
        at = f"@if{self.peer_ifindex}" if self.peer_ifindex is not None and self.peer_nsid is not None else ""
        nsid = f" link-netnsid {self.peer_nsid}" if self.peer_nsid is not None else ""
        master = f" master {self.master}" if self.master else ""
        return f"{self.ifindex}: {self.name}{at} {self.kind or self.link_type}{master}{nsid} " + " ".join(
            map(str, self.addresses)
        )


@lru_cache(maxsize=256)  # one question asks for the same interfaces many times
def parse_links(content: bytes, ref: FactRef) -> tuple[Link, ...]:
    """Interfaces of one namespace, in the order of their index. Raises FactBroken naming the bad item."""
    links = [_link(item, n, ref) for n, item in enumerate(json_list(content, ref))]
    if not links:
        raise broken(ref, "lists no interface at all, where every network namespace has lo")
    return tuple(sorted(links, key=lambda k: k.ifindex))


def _link(item: dict[str, Any], number: int, ref: FactRef) -> Link:
    try:
        info = item.get("linkinfo") or {}
        peer = item.get("link_index")
        return Link(
            ifindex=int(item["ifindex"]),
            name=str(item["ifname"]),
            kind=info.get("info_kind"),
            link_type=str(item.get("link_type", "")),
            mtu=int(item.get("mtu", 0)),
            mac=item.get("address"),
            state=str(item.get("operstate", "UNKNOWN")),
            flags=tuple(item.get("flags") or ()),
            master=item.get("master"),
            peer_ifindex=int(peer) if peer else None,
            peer_name=item.get("link"),
            peer_nsid=item.get("link_netnsid"),
            addresses=tuple(_address(a) for a in item.get("addr_info") or () if a),
            raw=item,
        )
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise broken(ref, f"item {number} is no interface ({type(error).__name__}: {error})") from error


def _address(item: dict[str, Any]) -> Address:
    family = 6 if item.get("family") == "inet6" else 4
    return Address(
        family, str(ipaddress.ip_address(item["local"])), int(item["prefixlen"]), str(item.get("scope", "global"))
    )


@dataclass(frozen=True, slots=True)
class Route:
    """One route. ``network`` is the destination as a prefix; ``via`` the gateway, None when on the link itself.

    A multipath route has several ``hops`` (gateway or None, interface); ``via`` and ``dev`` are the first one's.
    """

    type: str
    network: ipaddress.IPv4Network | ipaddress.IPv6Network
    via: str | None
    dev: str | None
    table: str
    source: str | None
    metric: int
    hops: tuple[tuple[str | None, str | None], ...]
    raw: dict[str, Any]

    def line(self) -> str:
        """As ``ip route`` prints its main parts."""
        default = self.network.prefixlen == 0
        exact = self.network.prefixlen == self.network.max_prefixlen
        dst = "default" if default else str(self.network.network_address if exact else self.network)
        kind = "" if self.type == "unicast" else f"{self.type} "
        paths = "".join((f" via {via}" if via else "") + (f" dev {dev}" if dev else "") for via, dev in self.hops)
        source = f" src {self.source}" if self.source else ""
        return f"{kind}{dst}{paths}{source}"


@lru_cache(maxsize=256)
def parse_routes(content: bytes, ref: FactRef) -> tuple[Route, ...]:
    """Routes of one namespace and family, every table. Raises FactBroken naming the bad item."""
    return tuple(_route(item, number, ref) for number, item in enumerate(json_list(content, ref)))


def _route(item: dict[str, Any], number: int, ref: FactRef) -> Route:
    try:
        via = item.get("gateway") or (item.get("via") or {}).get("host")
        dst = str(item["dst"])
        if dst == "default":
            # only IPv6 routes have a router preference: it tells the family of a default without a gateway
            six = ref.fact == "route6.json" or "pref" in item or ":" in str(via or item.get("prefsrc") or "")
            dst = "::/0" if six else "0.0.0.0/0"
        hops = tuple(
            (h.get("gateway") or (h.get("via") or {}).get("host"), h.get("dev")) for h in item.get("nexthops") or ()
        )
        hops = hops or ((via, item.get("dev")),)
        if not all(part is None or isinstance(part, str) for hop in hops for part in hop):
            raise ValueError("a gateway or an interface that is no text")
        return Route(
            type=str(item.get("type", "unicast")),
            network=ipaddress.ip_network(dst, strict=False),
            via=hops[0][0],
            dev=hops[0][1],
            table=str(item.get("table", "main")),
            source=item.get("prefsrc"),
            metric=int(item.get("metric", 0)),
            hops=hops,
            raw=item,
        )
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise broken(ref, f"item {number} is no route ({type(error).__name__}: {error})") from error


def route_to(address: str, routes: Iterable[Route], table: str = "main") -> Route | None:
    """The route that one table gives for an address: longest prefix, then smallest metric. None: no route.

    Policy routing (``ip rule``) is not followed here: the caller says which table.
    """
    ip = ipaddress.ip_address(address)
    fits = [r for r in routes if r.table == table and r.network.version == ip.version and ip in r.network]
    fits = [r for r in fits if r.type not in ("broadcast", "multicast", "anycast") and not _dead(r)]
    return max(fits, key=lambda r: (r.network.prefixlen, -r.metric), default=None)


def _dead(route: Route) -> bool:
    return "dead" in (route.raw.get("flags") or ())
