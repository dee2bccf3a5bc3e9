"""Rules that match a range of addresses, as rules that each match a network of it: a network keeps its shape.

The pieces are disjoint, so of the rules that come of one a packet matches one or none, as before.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from .addresses import RANGE, Network

__all__ = ["without_ranges"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_OPTION = re.compile(rf"(?P<not>! )?(?P<option>--(?:src|dst)-range) (?P<range>{RANGE.pattern})")
_COUNTERS = re.compile(r"^\[\d+:\d+\]")


def without_ranges(line: str) -> list[str]:
    """The lines that stand for one line of ``iptables-save``. What they count stays with the first."""
    found = _OPTION.search(line)
    if found is None:
        return [line]
    first, last = ipaddress.ip_address(found["first"]), ipaddress.ip_address(found["last"])
    pieces = list(_outside(first, last) if found["not"] else _inside(first, last))
    if len(pieces) == 1 and not found["not"]:
        head, tail = line[: found.end()], without_ranges(line[found.end() :])
        return [head + one for one in tail]
    lines = []
    for piece in pieces:
        told = f"{found['option']} {piece[0]}-{piece[-1]}"
        lines += [line[: found.start()] + told + rest for rest in without_ranges(line[found.end() :])]
    return lines[:1] + [_COUNTERS.sub("[0:0]", one) for one in lines[1:]]


def _inside(first: Address, last: Address) -> Iterator[Network]:
    yield from ipaddress.summarize_address_range(first, last)


def _outside(first: Address, last: Address) -> Iterator[Network]:
    kind, most = type(first), (1 << first.max_prefixlen) - 1
    if int(first) > 0:
        yield from _inside(kind(0), kind(int(first) - 1))
    if int(last) < most:
        yield from _inside(kind(int(last) + 1), kind(most))
