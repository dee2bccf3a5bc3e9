"""``addr.json`` and the names of interfaces, over rtnetlink, in the shape of ``ip -d -j addr``.

Source: rtnetlink(7), linux/if_link.h, linux/if_addr.h; iproute2 ip/ipaddress.c for names and order of the keys.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from . import names
from .linkinfo import link_information, mac_text
from .netlink import Netlink, attributes, nested, s32, u8, u32

__all__ = ["addresses", "links", "name_table", "raw_links"]

_GETLINK, _GETADDR = 18, 22
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_EXT_MASK = struct.pack("=HHI", 8, 29, 1 << 3)  # IFLA_EXT_MASK: RTEXT_FILTER_SKIP_STATS
_NUMBERS = (
    (31, "num_tx_queues"), (32, "num_rx_queues"), (41, "gso_max_size"), (40, "gso_max_segs"), (59, "tso_max_size"),
    (60, "tso_max_segs"), (58, "gro_max_size"), (63, "gso_ipv4_max_size"), (64, "gro_ipv4_max_size"),
)  # fmt: skip


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("utf-8", "replace")


def raw_links(netlink: Netlink) -> list[tuple[tuple[int, int, int], dict[int, bytes]]]:
    """(ARP type, index, flags) and attributes of every interface of the namespace, in the kernel's order."""
    body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + _EXT_MASK
    found = []
    for _, payload in netlink.dump(_GETLINK, body):
        _, kind, index, flags, _ = _LINK.unpack_from(payload)
        found.append(((kind, index, flags), attributes(payload, 16)))
    return found


def name_table(raw: list[tuple[tuple[int, int, int], dict[int, bytes]]]) -> dict[int, str]:
    """Index -> name of the interfaces of the namespace."""
    return {index: _text(values[3]) for (_, index, _), values in raw}


def links(netlink: Netlink) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """The list that ``ip -d -j addr`` prints, and the names by index, in two dumps."""
    raw = raw_links(netlink)
    table = name_table(raw)
    flags_of = {index: flags for (_, index, flags), _ in raw}
    held = addresses(netlink)
    found = []
    for head, values in raw:
        entry = _link(head, values, table, flags_of)
        entry["addr_info"] = held.get(head[1], [])
        found.append(entry)
    return found, table


def _link(
    head: tuple[int, int, int], values: dict[int, bytes], table: dict[int, str], flags_of: dict[int, int]
) -> dict[str, Any]:
    kind, index, flags = head
    entry: dict[str, Any] = {"ifindex": index}
    lower_down = False
    if 5 in values:
        parent = u32(values[5])
        if parent and 37 in values:
            entry["link_index"] = parent
        else:
            entry["link"] = table.get(parent, "if%d" % parent) if parent else None
            lower_down = bool(parent) and not flags_of.get(parent, names.IFF_UP) & names.IFF_UP
    entry["ifname"] = table[index]
    entry["flags"] = _flags(flags) + (["M-DOWN"] if lower_down else [])
    _about(entry, kind, values, table)
    _detail(entry, values)
    return entry


def _flags(flags: int) -> list[str]:
    # A carrier is only worth a word when it is missing: NO-CARRIER is up without running.
    missing = ["NO-CARRIER"] if flags & names.IFF_UP and not flags & names.IFF_RUNNING else []
    return missing + [name for bit, name in names.LINK_FLAGS if flags & bit]


def _about(entry: dict[str, Any], kind: int, values: dict[int, bytes], table: dict[int, str]) -> None:
    if 4 in values:
        entry["mtu"] = u32(values[4])
    if 6 in values:
        entry["qdisc"] = _text(values[6])
    if 10 in values:
        master = u32(values[10])
        entry["master"] = table.get(master, "if%d" % master)
    if 16 in values:
        state = u8(values[16])
        entry["operstate"] = names.OPERSTATES[state] if state < len(names.OPERSTATES) else "%#x" % state
    if 27 in values:
        entry["group"] = names.group_name(u32(values[27]))
    if 13 in values:
        entry["txqlen"] = u32(values[13])
    entry["link_type"] = names.LINK_TYPES.get(kind, "[%d]" % kind)
    if values.get(1):
        entry["address"] = mac_text(values[1])
    if values.get(2):
        entry["broadcast"] = mac_text(values[2])
    if 37 in values:
        entry["link_netnsid"] = s32(values[37])


def _detail(entry: dict[str, Any], values: dict[int, bytes]) -> None:
    for number, key in ((30, "promiscuity"), (61, "allmulti"), (50, "min_mtu"), (51, "max_mtu")):
        if number in values:
            entry[key] = u32(values[number])
    if 18 in values:
        entry["linkinfo"] = link_information(values[18])
    for number, key in _NUMBERS:
        if number in values:
            entry[key] = u32(values[number])
    for number, key in ((38, "phys_port_name"), (57, "parentbus"), (56, "parentdev")):
        if number in values:
            entry[key] = _text(values[number])
    if 20 in values:
        entry["ifalias"] = _text(values[20])
    if 52 in values:
        entry["altnames"] = [_text(value) for number, value in nested(values[52]) if number == 53]


def addresses(netlink: Netlink) -> dict[int, list[dict[str, Any]]]:
    """The addresses of every interface by its index, as ``addr_info`` lists."""
    found: dict[int, list[dict[str, Any]]] = {}
    for _, payload in netlink.dump(_GETADDR, _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
        family, bits, flags, scope, index = _ADDRESS.unpack_from(payload)
        if family in (socket.AF_INET, socket.AF_INET6):
            found.setdefault(index, []).append(_address(family, bits, flags, scope, attributes(payload, 8)))
    for entries in found.values():
        entries.sort(key=lambda entry: entry["family"] != "inet")
    return found


def _address(family: int, bits: int, flags: int, scope: int, values: dict[int, bytes]) -> dict[str, Any]:
    near, far = values.get(2, values.get(1, b"")), values.get(1, b"")
    entry: dict[str, Any] = {
        "family": "inet" if family == socket.AF_INET else "inet6",
        "local": socket.inet_ntop(family, near),
    }
    if far and far != near:
        entry["address"] = socket.inet_ntop(family, far)
    entry["prefixlen"] = bits
    if 9 in values:
        entry["metric"] = u32(values[9])
    for number, key in ((4, "broadcast"), (5, "anycast")):
        if number in values:
            entry[key] = socket.inet_ntop(family, values[number])
    entry["scope"] = names.scope_name(scope)
    _address_flags(entry, family, u32(values[8]) if 8 in values else flags)
    if 11 in values:
        entry["protocol"] = names.ADDRESS_PROTOCOLS.get(u8(values[11]), str(u8(values[11])))
    if 3 in values:
        entry["label"] = _text(values[3])
    if 6 in values:
        preferred, valid = struct.unpack_from("=II", values[6])
        entry["valid_life_time"], entry["preferred_life_time"] = valid, preferred
    return entry


def _address_flags(entry: dict[str, Any], family: int, flags: int) -> None:
    for bit, name in names.ADDRESS_FLAGS:
        if name == "permanent":
            if not flags & bit:
                entry["dynamic"] = True
        elif flags & bit:
            entry["temporary" if name == "secondary" and family == socket.AF_INET6 else name] = True
