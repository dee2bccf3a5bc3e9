"""Does a source address match, when the client is only known by its kind (any pod, this node, anyone outside)?

Address sets are lists of inclusive integer ranges of one family.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from ..outcome import NodeView, Packet

__all__ = ["Ranges", "Sources", "address_number", "canonical", "part_range"]

Ranges = tuple[tuple[int, int], ...]


@lru_cache(maxsize=65536)
def canonical(address: str) -> str:
    """An address as nft spells it (``inet_ntop``); raises ValueError for what is not one."""
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.inet_ntop(family, socket.inet_pton(family, address))
    except OSError:
        raise ValueError(f"{address!r} is not an IP address") from None


@lru_cache(maxsize=65536)
def address_number(address: str) -> int | None:
    """The number of an address, None for other text."""
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return int.from_bytes(socket.inet_pton(family, address))
    except OSError:
        return None


def part_range(part: Any) -> tuple[int, int] | None:
    """The numbers that one part of an nft element covers (address, port, prefix or range), None for other parts."""
    if isinstance(part, dict):
        if "prefix" in part:
            low = part_range(part["prefix"]["addr"])
            if low is None:
                return None
            bits = 128 if ":" in str(part["prefix"]["addr"]) else 32
            size = 1 << (bits - int(part["prefix"]["len"]))
            return low[0] // size * size, low[0] // size * size + size - 1
        if "range" in part:
            low, high = (part_range(end) for end in part["range"])
            return None if low is None or high is None else (low[0], high[1])
        return None
    number = part if isinstance(part, int) else address_number(part) if isinstance(part, str) else None
    return None if number is None else (number, number)


def _network(text: str) -> tuple[int, int]:
    network = ipaddress.ip_network(text, strict=False)
    return int(network.network_address), int(network.broadcast_address)


def _inside(inner: tuple[int, int], outer: Ranges) -> bool:
    return any(low <= inner[0] and inner[1] <= high for low, high in outer)


def _touches(one: tuple[int, int], others: Ranges) -> bool:
    return any(low <= one[1] and one[0] <= high for low, high in others)


@lru_cache(maxsize=64)
def _numbers_of(view: NodeView, six: bool) -> tuple[Ranges, Ranges, Ranges, Ranges]:
    """A node's own addresses, its pods', their networks and its primary addresses; many packets ask for the same."""

    def numbers(addresses: Iterable[str]) -> Ranges:
        found = (address_number(a) for a in addresses if (":" in a) == six)
        return tuple((n, n) for n in found if n is not None)

    networks = tuple(_network(n) for n in view.pod_networks if (":" in n) == six)
    pods = numbers(a for a in view.pod_addresses if a not in view.local)
    return numbers(view.local), pods, networks, numbers(view.primary)


class Sources:
    """The source addresses that a packet may have, and what becomes known of them on the way.

    ``inside``: ranges that the rules themselves treat as the inside of the cluster (whoever is not in them is
    masqueraded): a client from outside is not in them.
    """

    def __init__(self, packet: Packet, view: NodeView, inside: Ranges) -> None:
        self.kind = packet.client
        self._inside = inside
        self._local, self._pods, self._networks, self._primary = _numbers_of(view, packet.family == 6)
        self._known: list[tuple[Ranges, bool]] = []

    def candidates(self) -> Ranges:
        """Where the source can be; empty when nothing says so (and always for clients from outside)."""
        if self.kind == "node":
            return self._primary or self._local
        return (self._pods or self._networks) if self.kind == "pod" else ()

    def member(self, ranges: Ranges) -> bool | None:
        """Is the source in ``ranges``? None: some such clients are, some are not, or nothing says."""
        for known, answer in self._known:
            if answer and all(_inside(one, ranges) for one in known):
                return True
            if answer and not any(_touches(one, ranges) for one in known):
                return False
            if not answer and all(_inside(one, known) for one in ranges):
                return False
        if not ranges:
            return False
        if self.kind == "outside":
            return self._outside(ranges)
        candidates = self.candidates()
        if candidates and all(_inside(one, ranges) for one in candidates):
            return True
        if candidates and not any(_touches(one, ranges) for one in candidates):
            return False
        return None

    def _outside(self, ranges: Ranges) -> bool | None:
        if any(low == 0 and high >= (1 << 32) - 1 for low, high in ranges):
            return True
        known_inside = self._pods + self._networks + self._local
        if all(_inside(one, known_inside) for one in ranges):
            return False
        if all(_inside(one, self._inside) for one in ranges) and not any(_touches(p, ranges) for p in self._primary):
            return False
        return None

    def learn(self, ranges: Ranges, answer: bool) -> None:
        """Remember for the rest of this way that the source is, or is not, in ``ranges``."""
        self._known.append((ranges, answer))
