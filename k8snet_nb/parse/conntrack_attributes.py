"""Where the attributes of one ctnetlink message are, and what they mean (linux/netfilter/nfnetlink_conntrack.h)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["FLAGS", "OFFLOADS", "STATES", "Field", "fields"]

_BODY = 20  # nlmsghdr, then nfgenmsg
_TYPE = 0x3FFF  # without the nested and byte-order bits

OFFLOADS = (1 << 14, 1 << 15)
"""IPS_OFFLOAD and IPS_HW_OFFLOAD in CTA_STATUS."""

_STRONGEST = ("", "ASSURED", "OFFLOAD", "HW_OFFLOAD")
FLAGS = (*_STRONGEST, *(",".join(filter(None, ("UNREPLIED", word))) for word in _STRONGEST))
"""Flags by code: the strongest of three, plus 4 for UNREPLIED."""

STATES: dict[int, tuple[str, ...]] = {
    6: ("NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "FIN_WAIT", "CLOSE_WAIT", "LAST_ACK", "TIME_WAIT", "CLOSE",
        "SYN_SENT2"),
    33: ("NONE", "REQUEST", "RESPOND", "PARTOPEN", "OPEN", "CLOSEREQ", "CLOSING", "TIMEWAIT", "IGNORE", "INVALID"),
    132: ("NONE", "CLOSED", "COOKIE_WAIT", "COOKIE_ECHOED", "ESTABLISHED", "SHUTDOWN_SENT", "SHUTDOWN_RECD",
          "SHUTDOWN_ACK_SENT", "HEARTBEAT_SENT", "HEARTBEAT_ACKED"),
}  # fmt: skip
"""State names by protocol number, as conntrack prints them."""

_Path = tuple[int, ...]


def _tuple(outer: int, side: str) -> dict[_Path, tuple[str, int]]:
    found = {
        (outer, 1, 1): (f"{side}_src", 4),
        (outer, 1, 2): (f"{side}_dst", 4),
        (outer, 1, 3): (f"{side}_src:6", 16),
        (outer, 1, 4): (f"{side}_dst:6", 16),
        (outer, 2, 2): (f"{side}_sport", 2),
        (outer, 2, 3): (f"{side}_dport", 2),
        (outer, 3): (f"{side}_zone", 2),
    }
    if side == "orig":  # the reply's ICMP type follows from the original's
        found[(outer, 2, 1)] = ("protocol_number", 1)
        for first in (4, 7):
            found |= {
                (outer, 2, first): ("icmp_id", 2),
                (outer, 2, first + 1): ("icmp_type", 1),
                (outer, 2, first + 2): ("icmp_code", 1),
            }
    return found


_FIELDS: dict[_Path, tuple[str, int]] = {
    **_tuple(1, "orig"),
    **_tuple(2, "reply"),
    (3,): ("status", 4),
    (4, 1, 1): ("state:6", 1),
    (4, 2, 1): ("state:33", 1),
    (4, 3, 1): ("state:132", 1),
    (7,): ("timeout", 4),
    (8,): ("mark", 4),
    (9, 1): ("orig_packets", 8),
    (9, 2): ("orig_bytes", 8),
    (9, 3): ("orig_packets", 4),
    (9, 4): ("orig_bytes", 4),
    (10, 1): ("reply_packets", 8),
    (10, 2): ("reply_bytes", 8),
    (10, 3): ("reply_packets", 4),
    (10, 4): ("reply_bytes", 4),
    (12,): ("id", 4),
    (18,): ("zone", 2),
    (20, 1): ("start", 8),
    (22,): ("labels:6", 16),
}
"""Path of attribute types -> column and bytes of its value."""

_NESTS = {path[:depth] for path in _FIELDS for depth in range(1, len(path))}


@dataclass(frozen=True, slots=True)
class Field:
    """One value: its column, where it begins in the message, its bytes."""

    column: str
    offset: int
    size: int


def fields(message: bytes, order: str) -> tuple[list[int], list[Field]]:
    """Offsets of all attribute headers, and the values that the table shows. Raises ValueError on a damaged message."""
    headers: list[int] = []
    found: list[Field] = []
    _descend(message, order, _BODY, len(message), (), headers, found)
    return headers, found


def _descend(
    message: bytes, order: str, begin: int, end: int, above: _Path, headers: list[int], found: list[Field]
) -> None:
    at = begin
    while at + 4 <= end:
        length, kind = struct.unpack_from(f"{order}HH", message, at)
        path = (*above, kind & _TYPE)
        if length < 4 or at + length > end:
            raise ValueError(f"attribute {'.'.join(map(str, path))} is {length} bytes long where {end - at} are left")
        headers.append(at)
        if path in _NESTS:
            _descend(message, order, at + 4, at + length, path, headers, found)
        elif path in _FIELDS:
            column, size = _FIELDS[path]
            if length - 4 < size:
                raise ValueError(f"attribute {'.'.join(map(str, path))} holds {length - 4} bytes, {size} are due")
            found.append(Field(column, at + 4, size))
        at += (length + 3) & ~3
