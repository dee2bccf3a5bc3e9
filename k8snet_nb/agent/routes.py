"""``route.json``, ``route6.json``, ``rule.json``, ``neigh.json`` and ``fdb.json`` over rtnetlink.

In the shape of ``ip -d -j route show table all``, ``ip -j rule``, ``ip -j neigh`` and ``bridge -j fdb``.
Source: rtnetlink(7), linux/rtnetlink.h, linux/fib_rules.h, linux/neighbour.h; iproute2 for names and order of the keys.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from . import names
from .linkinfo import mac_text
from .netlink import Netlink, attributes, nested, s32, u8, u16, u32

__all__ = ["fdb", "neighbours", "routes", "rules"]

_GETNEIGH, _GETROUTE, _GETRULE = 30, 26, 34
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
_NEXTHOP = struct.Struct("=HBBi")
_CLONED = 0x200
_WIDTH: dict[int, int] = {socket.AF_INET: 32, socket.AF_INET6: 128}
_FAMILIES: dict[int, str] = {socket.AF_INET: "inet", socket.AF_INET6: "inet6"}
_PREFERENCE = {0: "medium", 1: "high", 3: "low"}
_HZ = 100


def routes(netlink: Netlink, family: int, table: dict[int, str]) -> list[dict[str, Any]]:
    """The routes of one family in all tables, without the cache."""
    body = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
    found = []
    for _, payload in netlink.dump(_GETROUTE, body):
        head = _ROUTE.unpack_from(payload)
        if head[0] == family and not head[8] & _CLONED:
            found.append(_route(head, attributes(payload, 12), table))
    return found


def _network(family: int, bits: int, data: bytes | None) -> str:
    if data is None:
        return "0/%d" % bits if bits else "default"
    text = socket.inet_ntop(family, data)
    return text if bits == _WIDTH[family] else "%s/%d" % (text, bits)


def _route(head: tuple[int, ...], values: dict[int, bytes], table: dict[int, str]) -> dict[str, Any]:
    family, bits, source_bits, tos, table_id, protocol, scope, kind, flags = head
    entry: dict[str, Any] = {
        "type": names.ROUTE_TYPES[kind] if kind < len(names.ROUTE_TYPES) else str(kind),
        "dst": _network(family, bits, values.get(1)),
    }
    if 2 in values or source_bits:
        entry["from"] = _network(family, source_bits, values.get(2))
    if tos:
        entry["tos"] = "%#x" % tos
    if 30 in values:
        entry["nhid"] = u32(values[30])
    entry.update(_way(family, values, table))
    entry["table"] = names.table_name(u32(values[15]) if 15 in values else table_id)
    entry["protocol"] = names.route_protocol(protocol)
    entry["scope"] = names.scope_name(scope)
    if 7 in values:
        entry["prefsrc"] = socket.inet_ntop(family, values[7])
    if 6 in values:
        entry["metric"] = u32(values[6])
    entry["flags"] = [name for bit, name in names.ROUTE_FLAGS if flags & bit]
    _extra(entry, family, values, table)
    return entry


def _way(family: int, values: dict[int, bytes], table: dict[int, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if 5 in values:
        found["gateway"] = socket.inet_ntop(family, values[5])
    if 18 in values:
        via = u16(values[18])
        name = _FAMILIES.get(via, str(via))
        host = socket.inet_ntop(via, values[18][2:]) if via in _WIDTH else values[18][2:].hex()
        found["via"] = {"family": name, "host": host}
    if 4 in values:
        found["dev"] = table.get(u32(values[4]), "if%d" % u32(values[4]))
    return found


def _extra(entry: dict[str, Any], family: int, values: dict[int, bytes], table: dict[int, str]) -> None:
    if 8 in values:
        entry["metrics"] = [_metrics(values[8])]
    if 20 in values:
        entry["pref"] = _PREFERENCE.get(u8(values[20]), str(u8(values[20])))
    if family == socket.AF_INET6 and 12 in values:
        expires, error = struct.unpack_from("=8xii", values[12])
        if expires:
            entry["expires"] = expires // _HZ
        if error:
            entry["error"] = error
    if 9 in values:
        entry["nexthops"] = list(_nexthops(family, values[9], table))


def _metrics(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, value in nested(data):
        if 2 <= number < len(names.METRICS):
            text = number == 16
            found[names.METRICS[number]] = value.split(b"\0", 1)[0].decode("ascii", "replace") if text else u32(value)
    return found


def _nexthops(family: int, data: bytes, table: dict[int, str]) -> list[dict[str, Any]]:
    found, start = [], 0
    while start + 8 <= len(data):
        length, flags, hops, index = _NEXTHOP.unpack_from(data, start)
        if length < 8:
            break
        way = _way(family, attributes(data[start : start + length], 8), {})
        way["dev"] = table.get(index, "if%d" % index)
        way["weight"] = hops + 1
        way["flags"] = [name for bit, name in names.ROUTE_FLAGS if flags & bit]
        found.append(way)
        start += (length + 3) & ~3
    return found


def rules(netlink: Netlink, family: int = socket.AF_INET) -> list[dict[str, Any]]:
    """The routing rules of one family."""
    found = []
    for _, payload in netlink.dump(_GETRULE, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)):
        head = _ROUTE.unpack_from(payload)
        if head[0] == family:
            found.append(_rule(head, attributes(payload, 12)))
    return found


def _rule(head: tuple[int, ...], values: dict[int, bytes]) -> dict[str, Any]:
    family, to_bits, from_bits, tos, table_id, _, _, action, flags = head
    entry: dict[str, Any] = {"priority": u32(values[6]) if 6 in values else 0}
    if flags & 2:
        entry["not"] = None
    for number, bits, key in ((2, from_bits, "src"), (1, to_bits, "dst")):
        if number in values:
            entry[key] = socket.inet_ntop(family, values[number])
            if bits != _WIDTH[family]:
                entry[key + "len"] = bits
        elif key == "src":
            entry[key] = "all"
    if tos:
        entry["tos"] = "%#x" % tos
    if 10 in values or 16 in values:
        mark, mask = (u32(values.get(number, b"\0\0\0\0")) for number in (10, 16))
        entry["fwmark"] = "%#x" % mark
        if mask != 0xFFFFFFFF:
            entry["fwmask"] = "%#x" % mask
    for number, key in ((3, "iif"), (17, "oif")):
        if number in values:
            entry[key] = values[number].split(b"\0", 1)[0].decode("utf-8", "replace")
    _rule_action(entry, action, table_id, values)
    return entry


def _rule_action(entry: dict[str, Any], action: int, table_id: int, values: dict[int, bytes]) -> None:
    number = u32(values[15]) if 15 in values else table_id
    if number:
        entry["table"] = names.table_name(number)
        if 14 in values and s32(values[14]) != -1:
            entry["suppress_prefixlen"] = s32(values[14])
    if action == 2:
        entry["goto"] = u32(values[4]) if 4 in values else 0
    elif action != 1:
        entry["action"] = names.RULE_ACTIONS.get(action, str(action))


def neighbours(netlink: Netlink, table: dict[int, str]) -> list[dict[str, Any]]:
    """The neighbours of both families that ``ip neigh`` shows: those with a state other than NOARP."""
    found = []
    for _, payload in netlink.dump(_GETNEIGH, _NEIGHBOUR.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
        family, index, state, flags, _ = _NEIGHBOUR.unpack_from(payload)
        values = attributes(payload, 12)
        if family not in _WIDTH or 1 not in values or not (state & 0xBF or flags & 0x18):
            continue
        entry: dict[str, Any] = {
            "dst": socket.inet_ntop(family, values[1]),
            "dev": table.get(index, "if%d" % index),
        }
        if values.get(2):
            entry["lladdr"] = mac_text(values[2])
        for bit, key in ((0x80, "router"), (0x08, "proxy"), (0x10, "extern_learn"), (0x20, "offload")):
            if flags & bit:
                entry[key] = None
        entry["state"] = [name for bit, name in names.NEIGHBOUR_STATES if state & bit]
        if 12 in values:
            entry["protocol"] = names.route_protocol(u8(values[12]))
        found.append(entry)
    return found


def fdb(netlink: Netlink, table: dict[int, str]) -> list[dict[str, Any]]:
    """The forwarding entries of bridges and of the interfaces that keep their own (VXLAN, hardware filters)."""
    found = []
    for _, payload in netlink.dump(_GETNEIGH, _NEIGHBOUR.pack(socket.AF_BRIDGE, 0, 0, 0, 0)):
        family, index, state, flags, _ = _NEIGHBOUR.unpack_from(payload)
        if family == socket.AF_BRIDGE:
            found.append(_forwarding(index, state, flags, attributes(payload, 12), table))
    return found


def _forwarding(index: int, state: int, flags: int, values: dict[int, bytes], table: dict[int, str]) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    if 2 in values:
        entry["mac"] = mac_text(values[2])
    entry["ifname"] = table.get(index, "if%d" % index)
    if 1 in values:
        family = socket.AF_INET if len(values[1]) == 4 else socket.AF_INET6
        entry["dst"] = socket.inet_ntop(family, values[1])
    if 5 in values:
        entry["vlan"] = u16(values[5])
    if 7 in values:
        entry["vni"] = u32(values[7])
    if 8 in values:
        entry["viaIf"] = table.get(u32(values[8]), "if%d" % u32(values[8]))
    named = ((2, "self"), (0x80, "router"), (0x10, "extern_learn"), (0x20, "offload"), (4, "master"), (0x40, "sticky"))
    entry["flags"] = [name for bit, name in named if flags & bit]
    if 9 in values:
        entry["master"] = table.get(u32(values[9]), "if%d" % u32(values[9]))
    states = ((0x80, "permanent"), (0x40, "static"), (0x04, "stale"), (0x02, ""))
    entry["state"] = next((name for bit, name in states if state & bit), "state=%#x" % state)
    return entry
