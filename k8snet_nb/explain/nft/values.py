"""What nft expressions stand for in one packet, and whether a value is in a set.

Questions have three answers: True, False, and None where the recorded facts do not say.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...parse.nft import Element
from ..outcome import NodeView, Packet
from .source import address_number, part_range

__all__ = ["ANY_SOURCE", "MISMATCH", "UNKNOWN", "Draw", "NotLoopback", "State", "Value", "number", "part_in", "read"]

Value = Any


class _Sentinel:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


MISMATCH = _Sentinel("MISMATCH")  # the packet has no such field: the rule does not match, whatever the operator
UNKNOWN = _Sentinel("UNKNOWN")
ANY_SOURCE = _Sentinel("ANY_SOURCE")


@dataclass(frozen=True, slots=True)
class Draw:
    """A number from ``low`` to ``low + size - 1``; ``fair``: all equally often (else by a hash of the packet)."""

    low: int
    size: int
    fair: bool


class NotLoopback:
    """Some interface that is not ``lo``."""


@dataclass(slots=True)
class State:
    """One packet on its way: what it is now, at which hook, and what was done to it."""

    packet: Packet
    view: NodeView
    source: str | None
    address: str
    port: int
    hook: str = ""
    mark: int | None = 0
    ct_mark: int | None = 0
    tracked: bool = True
    dnat: bool = False
    snat: bool = False
    loopback: bool = False
    affinity: int | None = None
    asked: set[str] = field(default_factory=set)

    def is_local(self, address: str) -> bool | None:
        """Is it an address of the node itself? None when the node's addresses are not known."""
        if address in self.view.local or ipaddress.ip_address(address).is_loopback:
            return True
        return False if self.view.local else None


_TRANSPORTS = ("tcp", "udp", "sctp", "udplite", "dccp")
_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128}


def read(expr: Any, state: State) -> Value:
    """The value of a simple expression (all but concatenations and maps) in this packet."""
    if not isinstance(expr, dict):
        return expr
    kind, body = next(iter(expr.items()))
    reader = _READERS.get(kind)
    return reader(body, state) if reader else UNKNOWN


def _payload(body: dict[str, Any], state: State) -> Value:
    protocol, key = body.get("protocol"), body.get("field")
    if protocol in ("ip", "ip6"):
        if (protocol == "ip6") != (state.packet.family == 6):
            return MISMATCH
        if key == "saddr":
            return ANY_SOURCE if state.source is None else state.source
        return {"daddr": state.address, "protocol": state.packet.protocol, "nexthdr": state.packet.protocol}.get(
            str(key), UNKNOWN
        )
    if protocol == "th" or protocol in _TRANSPORTS:
        if protocol not in ("th", state.packet.protocol):
            return MISMATCH
        if key == "dport":
            return state.port
        return _FLAGS["syn"] if (protocol, key) == ("tcp", "flags") else UNKNOWN
    return MISMATCH if protocol in ("icmp", "icmpv6", "igmp", "arp", "esp", "ah", "comp") else UNKNOWN


def _meta(body: dict[str, Any], state: State) -> Value:
    key = body.get("key")
    if key in ("iif", "iifname"):
        if state.hook in ("output", "postrouting"):
            return ""
        return "lo" if state.loopback else NotLoopback()
    if key in ("oif", "oifname"):
        if state.hook in ("prerouting", "input"):
            return ""
        return "lo" if state.is_local(state.address) else NotLoopback()
    if key == "mark":
        return UNKNOWN if state.mark is None else state.mark
    six = state.packet.family == 6
    known = {"l4proto": state.packet.protocol, "protocol": "ip6" if six else "ip", "nfproto": "ipv6" if six else "ipv4"}
    return known.get(str(key), UNKNOWN)


def _ct(body: dict[str, Any], state: State) -> Value:
    key, way = str(body.get("key")), body.get("dir")
    if key == "state":
        return frozenset(("new",)) if state.tracked else frozenset(("untracked",))
    if not state.tracked:
        return MISMATCH
    if key == "status":
        return frozenset(word for word, done in (("dnat", state.dnat), ("snat", state.snat)) if done)
    if key == "mark":
        return UNKNOWN if state.ct_mark is None else state.ct_mark
    if key == "direction":
        return "original"
    if way != "original":
        return UNKNOWN
    source = ANY_SOURCE if state.source is None else state.source
    original = {"daddr": state.packet.dst, "saddr": source, "proto-dst": state.packet.dport}
    return original.get(key.removeprefix("ip6 ").removeprefix("ip "), UNKNOWN)


def _fib(body: dict[str, Any], state: State) -> Value:
    flags = body.get("flags")
    flags = flags if isinstance(flags, list) else [flags]
    if body.get("result") != "type" or len(flags) != 1 or flags[0] not in ("saddr", "daddr"):
        return UNKNOWN
    if flags[0] == "saddr" and state.source is None:
        local: bool | None = state.packet.client == "node"
    elif flags[0] == "saddr":
        local = state.packet.client == "node" or state.is_local(str(state.source))
    else:
        local = state.is_local(state.address)
    if local is None:
        return UNKNOWN
    return "local" if local else NotLoopback()


def _numgen(body: dict[str, Any], state: State) -> Value:
    return Draw(int(body.get("offset", 0)), int(body["mod"]), True)  # "inc" takes turns: in the long run as often


def _hash(body: dict[str, Any], state: State) -> Value:
    return Draw(int(body.get("offset", 0)), int(body["mod"]), False)


def _operation(kind: str) -> Callable[[Any, State], Value]:
    def compute(parts: Any, state: State) -> Value:
        values = [part if isinstance(part, list) else read(part, state) for part in parts]
        if MISMATCH in values:
            return MISMATCH
        numbers = [number(value) for value in values]
        result = numbers[0]
        for other in numbers[1:]:
            if result is None or other is None:
                return UNKNOWN
            result = _apply(kind, result, other)
        return UNKNOWN if result is None else result

    return compute


def _apply(kind: str, left: int, right: int) -> int | None:
    if kind in ("<<", ">>"):
        if not 0 <= right < 128:
            return None
        return left << right if kind == "<<" else left >> right
    return left | right if kind == "|" else left & right if kind == "&" else left ^ right


_READERS: dict[str, Callable[[Any, State], Value]] = {
    "payload": _payload,
    "meta": _meta,
    "ct": _ct,
    "fib": _fib,
    "numgen": _numgen,
    "jhash": _hash,
    "symhash": _hash,
    **{kind: _operation(kind) for kind in ("|", "&", "^", "<<", ">>")},
}


def number(value: Value) -> int | None:
    """A value as the number that the kernel computes with, None when it is none."""
    if isinstance(value, list):
        numbers = [number(one) for one in value]
        return None if None in numbers else sum(n or 0 for n in numbers)
    if isinstance(value, str):
        return _FLAGS[value] if value in _FLAGS else address_number(value)
    return value if isinstance(value, int) else None


def part_in(value: Value, part: Any) -> bool | None:
    """Is one value what one part of an element says (equal, in the prefix or range, ``*``)?"""
    if part == "*" or (value == part and not isinstance(value, NotLoopback)):
        return True
    if value is UNKNOWN or value is ANY_SOURCE or (isinstance(part, dict) and not {"prefix", "range"} & part.keys()):
        return None
    if isinstance(value, NotLoopback):
        return False if part in ("lo", "local") else None
    if isinstance(value, frozenset):
        return part in value if isinstance(part, str) else None
    if isinstance(part, str) and part.endswith("*") and isinstance(value, str):
        return value.startswith(part[:-1])
    mine, covers = number(value), part_range(part) if isinstance(part, dict) else None
    if covers is None:
        listed = number(part)
        return mine is not None and listed is not None and mine == listed
    return None if mine is None else covers[0] <= mine <= covers[1]


def element_in(values: tuple[Value, ...], element: Element) -> tuple[bool | None, int | None]:
    """Do all parts but an open source match? Also the position of that source part, None without one."""
    answer: bool | None = True
    source_at = None
    if len(element.key) != len(values) and element.key != ("*",):
        return False, None
    for i, (value, part) in enumerate(zip(values, element.key, strict=False)):
        if value is ANY_SOURCE:
            source_at = i if part != "*" else None
            continue
        one = part_in(value, part)
        if one is False:
            return False, None
        answer = None if one is None else answer
    return answer, source_at
