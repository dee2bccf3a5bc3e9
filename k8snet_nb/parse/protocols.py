"""Names of IP protocols and address families as conntrack prints them (IANA's protocol numbers)."""

from __future__ import annotations

__all__ = ["FAMILIES", "PROTOCOLS", "WITH_PORTS", "WITH_STATE", "protocol_name"]

PROTOCOLS: dict[int, str] = {
    1: "icmp",
    2: "igmp",
    4: "ipencap",
    6: "tcp",
    17: "udp",
    33: "dccp",
    41: "ipv6",
    47: "gre",
    50: "esp",
    51: "ah",
    58: "icmpv6",
    89: "ospf",
    103: "pim",
    112: "vrrp",
    132: "sctp",
    136: "udplite",
}
"""Protocol number -> name."""

WITH_PORTS = frozenset({6, 17, 132, 136})
"""Protocols whose conntrack tuples always hold ports."""

WITH_STATE = frozenset({6, 33, 132})
"""Protocols for which conntrack follows a state."""

FAMILIES: dict[int, str] = {2: "ipv4", 10: "ipv6"}
"""Address family number -> conntrack's word."""


def protocol_name(number: int) -> str:
    """The name, or ``protocol-253`` for what has none here."""
    return PROTOCOLS.get(number, f"protocol-{number}")
