"""Recorded routes, rules, neighbours and forwarding entries as words for ``ip`` and ``bridge``, validated.

What the kernel makes by itself when an interface gets its addresses (protocol kernel) is not made again. Keys of an
entry that are not known here leave it out: half a route is another route.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from ...parse import links as parsed
from ...parse.routing import FdbEntry, Neighbour, Rule
from .. import words
from ..model import Link, Route
from .facts import Notes

__all__ = ["MOST_ROUTES", "plan_fdb", "plan_neighbours", "plan_routes", "plan_rules", "withdrawn"]

MOST_ROUTES = 20_000
"""How many routes, rules, neighbours or forwarding entries a namespace may have in a twin, of each."""

_TYPES = ("unicast", "local", "blackhole", "unreachable", "prohibit", "throw")
_ROUTE_KEYS = {"type", "dst", "gateway", "via", "dev", "table", "protocol", "scope", "prefsrc", "metric", "flags"}
_ROUTE_KEYS |= {"pref", "metrics", "nexthops", "nhid", "expires", "tos", "error", "cache", "from"}
_METRICS = ("mtu", "advmss", "window", "rtt", "rttvar", "cwnd", "initcwnd", "initrwnd", "hoplimit", "ssthresh")
_STATE_FLAGS = ("dead", "linkdown", "pervasive", "offload", "trap", "rt_offload", "rt_trap", "unresolved")
_RULE_KEYS = {"priority", "src", "srclen", "dst", "dstlen", "fwmark", "fwmask", "iif", "iif_detached", "oif"}
_RULE_KEYS |= {"oif_detached", "table", "action", "not", "tos", "ipproto", "sport", "dport", "suppress_prefixlen"}
_RULE_KEYS |= {"protocol", "sport_start", "sport_end", "dport_start", "dport_end"}
_DEFAULTS = {(0, "local"), (32766, "main"), (32767, "default")}

_Errors = (AttributeError, LookupError, TypeError, ValueError)


def plan_routes(routes: Sequence[parsed.Route], links: Sequence[Link], notes: Notes, node: str) -> tuple[Route, ...]:
    """Routes of one namespace, those on a link before those that need a gateway which is on that link."""
    found: list[tuple[int, Route]] = []
    known = {link.name for link in links}
    for route in routes[:MOST_ROUTES]:
        fact = "route6.json" if route.network.version == 6 else "route.json"
        try:
            if not _kernel_makes(route, links):
                order = any(via for via, _ in route.hops) + (len(route.hops) > 1)
                found.append((order, _route(route, known, notes, node)))
        except _Errors as error:
            notes.add(node, fact, route.line(), error)
    if len(routes) > MOST_ROUTES:
        notes.add(node, "route.json", "", f"{len(routes) - MOST_ROUTES:,} further routes")
    unique = dict.fromkeys(route for _, route in sorted(found, key=lambda pair: pair[0]))
    return tuple(unique)


def _kernel_makes(route: parsed.Route, links: Iterable[Link]) -> bool:
    """Protocol kernel, but for the network of an address that was added without its route (noprefixroute)."""
    if route.type in ("broadcast", "anycast", "multicast"):
        return True
    if route.raw.get("protocol") != "kernel":
        return False
    mine = (address for link in links if link.name == route.dev for address in link.addresses)
    bare = {ip_network(a.split()[0], strict=False) for a in mine if a.endswith("noprefixroute") and " peer " not in a}
    return route.type != "unicast" or route.network not in bare


def _route(route: parsed.Route, known: set[str], notes: Notes, node: str) -> Route:
    raw, family = route.raw, route.network.version
    unknown = set(raw) - _ROUTE_KEYS
    if unknown or raw.get("from") or raw.get("tos"):
        raise ValueError(f"has {', '.join(sorted(unknown | ({'from', 'tos'} & set(raw))))}, which a twin does not make")
    if route.type not in _TYPES:
        raise ValueError(f"a route of type {route.type!r:.30}")
    text = [] if route.type == "unicast" else [route.type]
    text.append(_destination(route))
    hopless = route.type not in ("unicast", "local")
    if raw.get("nexthops"):
        hops = [part for hop in raw["nexthops"] for part in ("nexthop", *_hop(hop, family, known))]
    else:
        hops = [] if hopless else list(_hop(raw, family, known))
    if raw.get("nhid") is not None:
        notes.add(node, "route.json", route.line(), "refers to a nexthop object; made as a route of its own")
    if raw.get("expires"):
        notes.add(node, "route.json", route.line(), "made without its time limit, which nobody would renew")
    return Route(family, (*text, *_attributes(raw, family, hopless), *hops))


def _destination(route: parsed.Route) -> str:
    # "default" would be IPv4's: in a batch only the destination tells the family
    return str(words.network(str(route.network)))


def _hop(raw: Mapping[str, Any], family: int, known: set[str]) -> tuple[str, ...]:
    """One way: gateway, interface, weight, onlink."""
    text: list[str] = []
    other = raw.get("via")
    if other:
        text += ["via", "inet6", words.on_link(other["host"], 6)] if family == 4 else ["via", words.on_link(other, 6)]
    elif raw.get("gateway"):
        text += ["via", words.on_link(raw["gateway"], family)]
    dev = words.interface_name(raw.get("dev"))
    if dev not in known:
        raise ValueError(f"leads to {dev}, which is not made")
    text += ["dev", dev]
    if raw.get("weight", 1) != 1:
        text += ["weight", str(words.number(raw["weight"], 1, 256))]
    flags = raw.get("flags") or ()
    if "onlink" in flags:
        text.append("onlink")
    strange = [flag for flag in flags if flag != "onlink" and flag not in _STATE_FLAGS]
    if strange:
        raise ValueError(f"has the flags {strange!r:.60}, which a twin does not make")
    return tuple(text)


def _attributes(raw: Mapping[str, Any], family: int, hopless: bool) -> list[str]:
    text: list[str] = []
    if raw.get("table") not in (None, "main"):
        text += ["table", words.table(raw["table"])]
    if raw.get("protocol") not in (None, "boot"):
        text += ["proto", words.protocol(raw["protocol"])]
    if family == 4 and raw.get("scope") and not hopless:
        text += ["scope", words.scope(raw["scope"])]
    if raw.get("prefsrc"):
        text += ["src", words.on_link(raw["prefsrc"], family)]
    if raw.get("metric"):
        text += ["metric", str(words.number(raw["metric"], 0, 2**32 - 1))]
    for metrics in raw.get("metrics") or ():
        for key, value in metrics.items():
            if key not in _METRICS:
                raise ValueError(f"has the metric {key!r:.30}, which a twin does not make")
            text += [key, str(words.number(value, 0, 2**32 - 1))]
    if raw.get("pref") in ("low", "high"):
        text += ["pref", raw["pref"]]
    return text


def withdrawn(routes: Sequence[parsed.Route], links: Sequence[Link]) -> tuple[Route, ...]:
    """Networks of addresses to which the recorded namespace had no such route: a network add-on took it away."""
    there = {(route.network, route.dev) for route in routes if route.raw.get("protocol") == "kernel"}
    families = {route.network.version for route in routes}
    found: dict[Route, None] = {}
    for link in links:
        for text in link.addresses if link.up else ():
            own = ip_interface(text.split()[0])
            made = own.network.prefixlen < own.max_prefixlen and not (own.is_loopback or own.is_link_local)
            made = made and " peer " not in text and not text.endswith("noprefixroute")
            if made and own.version in families and (own.network, link.name) not in there:
                found[Route(own.version, (str(own.network), "dev", link.name, "proto", "kernel"))] = None
    return tuple(found)


def plan_rules(rules: Sequence[Rule], notes: Notes, node: str) -> tuple[Route, ...]:
    """Routing rules beyond the three that every namespace has. ``ip -j rule`` lists those of IPv4 only."""
    found: list[Route] = []
    for rule in rules[:MOST_ROUTES]:
        if (rule.priority, rule.table) in _DEFAULTS and set(rule.raw) <= {"priority", "src", "table", "protocol"}:
            continue
        try:
            found.append(Route(4, _rule(rule.raw)))
        except _Errors as error:
            notes.add(node, "rule.json", f"{rule.priority}: from {rule.src} lookup {rule.table}", error)
    there = {(rule.priority, rule.table) for rule in rules}
    for priority, name in sorted(_DEFAULTS - there) if rules else ():
        notes.add(node, "rule.json", f"{priority}: {name}", "the kernel's own rule was taken away there; here it stays")
    return tuple(found)


def _rule(raw: Mapping[str, Any]) -> tuple[str, ...]:
    unknown = set(raw) - _RULE_KEYS
    if unknown:
        raise ValueError(f"has {', '.join(sorted(unknown))}, which a twin does not make")
    text = ["not"] if "not" in raw else []
    text += ["priority", str(words.number(raw["priority"], 0, 2**32 - 1)), "from", _selector(raw, "src")]
    if raw.get("dst"):
        text += ["to", _selector(raw, "dst")]
    if raw.get("fwmark") is not None:
        text += ["fwmark", words.fwmark(raw["fwmark"], raw.get("fwmask"))]
    for key in ("iif", "oif"):
        if raw.get(key):
            text += [key, words.interface_name(raw[key])]
    if raw.get("tos"):
        text += ["tos", f"{words.number(int(str(raw['tos']), 16), 0, 255):#x}"]
    if raw.get("ipproto"):
        text += ["ipproto", _ip_protocol(raw["ipproto"])]
    text += [*_ports(raw, "sport"), *_ports(raw, "dport")]
    if raw.get("action") is not None:
        if raw["action"] not in ("blackhole", "unreachable", "prohibit"):
            raise ValueError(f"the action {raw['action']!r:.30}, which a twin does not make")
        return (*text, raw["action"])
    text += ["lookup", words.table(raw.get("table"))]
    if raw.get("suppress_prefixlen") is not None:
        text += ["suppress_prefixlength", str(words.number(raw["suppress_prefixlen"], 0, 128))]
    return tuple(text)


def _selector(raw: Mapping[str, Any], key: str) -> str:
    if raw[key] == "all":
        return "all"
    return str(words.network(f"{words.address(raw[key], 4)}/{words.number(raw.get(f'{key}len', 32), 0, 32)}"))


def _ip_protocol(said: object) -> str:
    return str(said) if said in ("tcp", "udp", "sctp", "icmp") else str(words.number(said, 1, 255))


def _ports(raw: Mapping[str, Any], key: str) -> tuple[str, ...]:
    if raw.get(key) is not None:
        return (key, str(words.number(raw[key], 1, 65535)))
    if raw.get(f"{key}_start") is not None:
        low, high = (words.number(raw[f"{key}_{end}"], 1, 65535) for end in ("start", "end"))
        return (key, f"{low}-{high}")
    return ()


def plan_neighbours(entries: Sequence[Neighbour], links: Sequence[Link], notes: Notes, node: str) -> tuple[Route, ...]:
    """Neighbours that somebody set (permanent, noarp); what was learned will be learned again."""
    known = {link.name for link in links}
    found: list[Route] = []
    for entry in entries[:MOST_ROUTES]:
        state = next((s for s in ("PERMANENT", "NOARP") if s in entry.state), None)
        try:
            if state is None or (state == "NOARP" and not entry.mac) or ip_address(entry.dst).is_multicast:
                continue
            if entry.dev not in known:
                raise ValueError(f"behind {entry.dev}, which is not made")
            dst, dev = words.on_link(entry.dst), words.interface_name(entry.dev)
            text = (dst, "lladdr", words.mac(entry.mac), "dev", dev, "nud", state.lower())
            found.append(Route(6 if ":" in dst else 4, text))
        except _Errors as error:
            notes.add(node, "neigh.json", entry.evidence_line(), error)
    return tuple(found)


def plan_fdb(entries: Sequence[FdbEntry], links: Sequence[Link], notes: Notes, node: str) -> tuple[Route, ...]:
    """Forwarding entries that somebody set: a VXLAN's remote ends, a bridge's static ones."""
    known = {link.name for link in links}
    found: list[Route] = []
    for entry in entries[:MOST_ROUTES]:
        remote, static = entry.raw.get("dst"), entry.master is not None and entry.state == "static"
        if (not remote and not static) or (remote and entry.state not in ("permanent", "static")):
            continue
        try:
            if entry.name not in known:
                raise ValueError(f"behind {entry.name}, which is not made")
            found.append(_fdb(entry, remote))
        except _Errors as error:
            notes.add(node, "fdb.json", entry.evidence_line(), error)
    return tuple(found)


def _fdb(entry: FdbEntry, remote: object) -> Route:
    dev = words.interface_name(entry.name)
    if not remote:
        return Route(0, (words.mac(entry.mac), "dev", dev, "master", "static"))
    to = words.on_link(remote)
    flood = entry.mac == "00:00:00:00:00:00"
    text = ["00:00:00:00:00:00" if flood else words.mac(entry.mac), "dev", dev, "dst", to]
    for key, high in (("vni", 2**24 - 1), ("port", 65535)):
        if entry.raw.get(key) is not None:
            text += [key, str(words.number(entry.raw[key], 0, high))]
    return Route(6 if ":" in to else 4, (*text, "self", "permanent"))
