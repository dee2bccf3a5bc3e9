"""What an interface of a kind says about itself (``linkinfo`` of ``ip -d -j link``). Source: linux/if_link.h.

A kind that is not in the tables keeps its ``info_kind`` and has no ``info_data``.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable
from typing import Any

from .netlink import attributes, nested, s32, u8, u16, u32

__all__ = ["link_information", "mac_text"]

Field = tuple[str, Callable[[bytes], Any]]


def mac_text(data: bytes) -> str:
    """A hardware address as iproute2 prints it: an IPv4 tunnel end for 4 bytes, else hexadecimal."""
    return socket.inet_ntoa(data) if len(data) == 4 else data.hex(":")


def _u64(data: bytes) -> int:
    return int(struct.unpack_from("=Q", data)[0])


def _be16(data: bytes) -> int:
    return int.from_bytes(data[:2], "big")


def _truth(data: bytes) -> bool:
    return data[0] != 0


def _timer(data: bytes) -> float:
    return _u64(data) / 100


def _bridge_id(data: bytes) -> str:
    # iproute2 prints this one address without leading zeros (ether_ntoa).
    return "%02x%02x.%s" % (data[0], data[1], ":".join("%x" % byte for byte in data[2:8]))


def _hex16(data: bytes) -> str:
    return "%#x" % u16(data)


def _plain_hex16(data: bytes) -> str:
    return "%#x" % u16(data) if u16(data) else "0"


def _choice(*names: str) -> Callable[[bytes], str]:
    def name(data: bytes) -> str:
        number = int.from_bytes(data, "little")
        return names[number] if number < len(names) else str(number)

    return name


def _ethertype(data: bytes) -> str:
    return {0x8100: "802.1Q", 0x88A8: "802.1ad"}.get(_be16(data), hex(_be16(data)))


_IP4: Callable[[bytes], Any] = socket.inet_ntoa


def _ip6(data: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET6, data)


_BRIDGE: dict[int, Field] = {
    1: ("forward_delay", u32), 2: ("hello_time", u32), 3: ("max_age", u32), 4: ("ageing_time", u32),
    5: ("stp_state", u32), 6: ("priority", u16), 7: ("vlan_filtering", u8), 8: ("vlan_protocol", _ethertype),
    11: ("bridge_id", _bridge_id), 10: ("root_id", _bridge_id), 12: ("root_port", u16), 13: ("root_path_cost", u32),
    14: ("topology_change", u8), 15: ("topology_change_detected", u8), 16: ("hello_timer", _timer),
    17: ("tcn_timer", _timer), 18: ("topology_change_timer", _timer), 19: ("gc_timer", _timer),
    39: ("vlan_default_pvid", u16), 41: ("vlan_stats_enabled", u8), 45: ("vlan_stats_per_port", u8),
    48: ("fdb_n_learned", u32), 49: ("fdb_max_learned", u32),
    9: ("group_fwd_mask", _plain_hex16), 20: ("group_addr", mac_text), 23: ("mcast_snooping", u8),
    22: ("mcast_router", u8), 24: ("mcast_query_use_ifaddr", u8), 25: ("mcast_querier", u8),
    26: ("mcast_hash_elasticity", u32), 27: ("mcast_hash_max", u32), 28: ("mcast_last_member_cnt", u32),
    29: ("mcast_startup_query_cnt", u32), 30: ("mcast_last_member_intvl", _u64), 31: ("mcast_membership_intvl", _u64),
    32: ("mcast_querier_intvl", _u64), 33: ("mcast_query_intvl", _u64), 34: ("mcast_query_response_intvl", _u64),
    35: ("mcast_startup_query_intvl", _u64), 42: ("mcast_stats_enabled", u8), 43: ("mcast_igmp_version", u8),
    44: ("mcast_mld_version", u8), 36: ("nf_call_iptables", u8), 37: ("nf_call_ip6tables", u8),
    38: ("nf_call_arptables", u8),
}  # fmt: skip

_BRIDGE_PORT: dict[int, Field] = {
    1: ("state", _choice("disabled", "listening", "learning", "forwarding", "blocking")), 2: ("priority", u16),
    3: ("cost", u32), 4: ("hairpin", _truth), 5: ("guard", _truth), 6: ("root_block", _truth), 7: ("fastleave", _truth),
    8: ("learning", _truth), 9: ("flood", _truth), 17: ("id", _hex16), 18: ("no", _hex16),
    15: ("designated_port", u16), 16: ("designated_cost", u16), 14: ("bridge_id", _bridge_id),
    13: ("root_id", _bridge_id), 23: ("hold_timer", _timer), 21: ("message_age_timer", _timer),
    22: ("forward_delay_timer", _timer), 19: ("topology_change_ack", u8), 20: ("config_pending", u8),
    10: ("proxy_arp", _truth), 12: ("proxy_arp_wifi", _truth), 25: ("multicast_router", u8),
    27: ("mcast_flood", _truth),
    30: ("bcast_flood", _truth), 28: ("mcast_to_unicast", _truth), 32: ("neigh_suppress", _truth),
    31: ("group_fwd_mask", _plain_hex16), 29: ("vlan_tunnel", _truth), 33: ("isolated", _truth),
}  # fmt: skip

_DATA: dict[str, dict[int, Field]] = {
    "bridge": _BRIDGE,
    "vlan": {5: ("protocol", _ethertype), 1: ("id", u16)},
    "vxlan": {
        1: ("id", u32), 2: ("group", _IP4), 16: ("group6", _ip6), 4: ("local", _IP4), 17: ("local6", _ip6),
        15: ("port", _be16), 7: ("learning", _truth), 8: ("ageing", u32),
    },
    "ipvlan": {1: ("mode", _choice("l2", "l3", "l3s"))},
    "ipvtap": {1: ("mode", _choice("l2", "l3", "l3s"))},
    "netkit": {
        5: ("mode", _choice("l2", "l3")), 2: ("type", _choice("peer", "primary")),
    },
    "vrf": {1: ("table", u32)},
    "geneve": {1: ("id", u32), 2: ("remote", _IP4), 7: ("remote6", _ip6), 5: ("port", _be16)},
}  # fmt: skip
_MACVLAN = {1: "private", 2: "vepa", 4: "bridge", 8: "passthru", 16: "source"}
for _kind in ("macvlan", "macvtap"):
    _DATA[_kind] = {1: ("mode", lambda data: _MACVLAN.get(s32(data), str(s32(data))))}
_SLAVE_DATA: dict[str, dict[int, Field]] = {"bridge": _BRIDGE_PORT, "vrf": {1: ("table", u32)}}


def link_information(data: bytes) -> dict[str, Any]:
    """The ``linkinfo`` object of an interface, from its IFLA_LINKINFO attribute."""
    parts = dict(nested(data))
    found: dict[str, Any] = {}
    for key, kind_at, data_at, tables in (("info", 1, 2, _DATA), ("info_slave", 4, 5, _SLAVE_DATA)):
        if kind_at not in parts:
            continue
        kind = parts[kind_at].split(b"\0", 1)[0].decode("ascii", "replace")
        found[key + "_kind"] = kind
        fields = tables.get(kind)
        if fields and data_at in parts:
            found[key + "_data"] = _fields(attributes(parts[data_at]), fields)
    return found


def _fields(values: dict[int, bytes], fields: dict[int, Field]) -> dict[str, Any]:
    found = {name: read(values[number]) for number, (name, read) in fields.items() if number in values}
    for key in ("group", "group6"):
        if key in found and not ipaddress.ip_address(found[key]).is_multicast:
            found[key.replace("group", "remote")] = found.pop(key)
    return found
