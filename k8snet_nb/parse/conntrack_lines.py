"""What each word of one conntrack line means.

The grammar is conntrack-tools' plain output (default, extended, id, ktimestamp, labels ...) and that of
``/proc/net/nf_conntrack``: optional family, protocol and its number, optional timeout, optional state, the original
tuple, flags, the reply tuple, then what belongs to the entry as a whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .protocols import FAMILIES, PROTOCOLS

__all__ = ["Layout", "NotAnEntry", "read_layout"]

_FLAGS = {f"[{flag}]": flag for flag in ("UNREPLIED", "ASSURED", "OFFLOAD", "HW_OFFLOAD")}
_IGNORED_FLAGS = {"[USERSPACE]"}
_TUPLE = {
    "src": "{}_src",
    "dst": "{}_dst",
    "sport": "{}_sport",
    "dport": "{}_dport",
    "srckey": "{}_sport",
    "dstkey": "{}_dport",
    "packets": "{}_packets",
    "bytes": "{}_bytes",
}
_WHOLE = {"mark": "mark", "zone": "zone", "zone-orig": "orig_zone", "zone-reply": "reply_zone", "labels": "labels"}
_ICMP = {"type": "icmp_type", "code": "icmp_code", "id": "icmp_id"}
_IGNORED = {"use", "secctx", "secmark", "delta-time", "helper", "portid", "progname", "timeout", "stream_timeout"}
_STATE = re.compile(r"[A-Z][A-Z0-9_]+$")
_PROTOCOL = re.compile(r"[a-z][a-z0-9-]*$")
_MONTHS = {"Jan": 1, "Feb": 2, "Mar": 3, "Apr": 4, "May": 5, "Jun": 6, "Jul": 7, "Aug": 8, "Sep": 9, "Oct": 10,
           "Nov": 11,
           "Dec": 12}  # fmt: skip


class NotAnEntry(ValueError):
    """The line is no (whole) conntrack entry; ``cut`` when it begins like one."""

    def __init__(self, why: str, *, cut: bool = False, expectation: bool = False) -> None:
        super().__init__(why)
        self.cut, self.expectation = cut, expectation


@dataclass(slots=True)
class Layout:
    """Where a line's values are: column -> (position of its word, bytes of the word before the value)."""

    protocol_word: str = ""
    protocol: int = -1
    state: str | None = None
    flags: list[str] = field(default_factory=list)
    values: dict[str, tuple[int, int]] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    """``start``: position of ``[start=Mon``, four more words follow."""
    unknown: list[str] = field(default_factory=list)
    """Keys that this version does not know; their values are left out."""
    last_key: str = ""
    keyed: list[tuple[int, int]] = field(default_factory=list)
    """Position and key length of every ``key=value``; that all have values is for the reader to see, line by line."""


def _head(words: list[str], layout: Layout) -> int:
    """Family, protocol, number, timeout and state; the position after them."""
    at = 0
    if words[0] in FAMILIES.values():
        if len(words) < 2 or FAMILIES.get(int(words[1]) if words[1].isdigit() else -1) != words[0]:
            raise NotAnEntry("the family's number is missing or another one's", cut=len(words) < 2)
        at = 2
    head = words[at : at + 2]
    if head and head[0].isdigit() and any(word.startswith(("proto=", "l3proto")) for word in words[:4]):
        raise NotAnEntry("an expectation", expectation=True)
    if not head or not _PROTOCOL.match(head[0]):
        raise NotAnEntry("no conntrack entry", cut=bool(at and not head))
    if len(head) < 2 or not head[1].isdigit():
        known = head[0] in PROTOCOLS.values() or head[0] == "unknown"
        raise NotAnEntry("no conntrack entry", cut=len(head) < 2 and (known or bool(at)))
    layout.protocol_word, layout.protocol = head[0], at + 1
    at += 2
    if at < len(words) and words[at].isdigit():
        layout.values["timeout"] = (at, 0)
        at += 1
    if at < len(words) and _STATE.match(words[at]):
        layout.state = words[at]
        at += 1
    return at


def _pair(key: str, direction: int, before: str, at: int, layout: Layout) -> None:
    """Where one ``key=value`` belongs."""
    side = ("orig", "reply")[max(direction, 0)]
    if key in _TUPLE and direction >= 0:
        name = _TUPLE[key].format(side)
    elif key in ("type", "code") or (key == "id" and before == "code"):
        if direction == 1:  # the reply's type follows from the original's
            return
        name = _ICMP[key]
    elif key == "id":
        name = "id"
    elif key in _WHOLE:
        name = _WHOLE[key]
    elif key in _IGNORED:
        return
    else:
        layout.unknown.append(key)
        return
    if name in layout.values:
        raise NotAnEntry(f"{key}= is there twice", cut=True)
    layout.values[name] = (at, len(key) + 1)


def _body(words: list[str], at: int, layout: Layout) -> None:
    """Tuples, flags and the rest, from position ``at`` on."""
    direction, before = -1, ""
    while at < len(words):
        word = words[at]
        key, has_value, _ = word.partition("=")
        if word in _FLAGS:
            layout.flags.append(_FLAGS[word])
        elif word in _IGNORED_FLAGS:
            pass
        elif word.startswith(("[start=", "[stop=")):
            if at + 4 >= len(words) or not words[at + 4].endswith("]"):
                raise NotAnEntry("its time is cut", cut=True)
            layout.times[key[1:]] = at
            at += 4
        elif has_value and re.fullmatch(r"[a-z][a-z0-9_-]*", key):
            direction += key == "src"
            if direction > 1:
                raise NotAnEntry("a third src=", cut=True)
            _pair(key, direction, before, at, layout)
            before = key
            layout.last_key = key
            layout.keyed.append((at, len(key) + 1))
        else:
            raise NotAnEntry(f"cannot read {word!r}", cut=True)
        at += 1


def read_layout(words: list[str]) -> Layout:
    """What each word of a line means. Raises NotAnEntry with the reason when it is no whole entry."""
    layout = Layout()
    _body(words, _head(words, layout), layout)
    needed = ["orig_src", "orig_dst", "reply_src", "reply_dst"]
    if layout.protocol_word in ("tcp", "udp", "sctp", "udplite"):
        needed += ["orig_sport", "orig_dport", "reply_sport", "reply_dport"]
    if layout.protocol_word in ("icmp", "icmpv6"):
        needed += ["icmp_type", "icmp_code", "icmp_id"]
    if any(name not in layout.values for name in needed):
        raise NotAnEntry("one of its two tuples is not whole", cut=True)
    return layout


def month_number(word: str) -> int | None:
    """``Jan`` -> 1; None for what is no month."""
    return _MONTHS.get(word)
