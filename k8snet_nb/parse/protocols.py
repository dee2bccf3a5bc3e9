"""Names of IP protocols and address families as conntrack prints them (IANA's protocol numbers)."""

from __future__ import annotations

__all__ = ["FAMILIES", "PROTOCOLS", "protocol_name"]

PROTOCOLS: dict[int, str] = {
    1: "icmp",
    6: "tcp",
    17: "udp",
    33: "dccp",
    47: "gre",
    58: "icmpv6",
    132: "sctp",
    136: "udplite",
}
"""Protocol number -> the name that conntrack-tools print."""

FAMILIES: dict[int, str] = {2: "ipv4", 10: "ipv6"}
"""Address family number -> conntrack's word."""


def protocol_name(number: int) -> str:
    """The name, or the tools' word ``unknown``."""
    return PROTOCOLS.get(number, "unknown")
