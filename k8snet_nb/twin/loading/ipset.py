"""The recorded ipset as one ``ipset restore``: lines of ``create`` and ``add``, every word of them looked at.

A line goes in as recorded or is left out. Sets of sets come last, when all that they may hold is made. Sizes are
bounded, so that a recording cannot take this machine's memory by one line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from ...parse.ipset import IpSet, Member
from ..model import LeftOut, Step
from .iptables_words import is_prefix, is_range

__all__ = ["set_step"]

_FACT = "ipset.txt"
_TYPES = frozenset(
    """bitmap:ip bitmap:ip,mac bitmap:port hash:ip hash:mac hash:ip,mac hash:net hash:net,net hash:ip,port
    hash:net,port hash:ip,port,ip hash:ip,port,net hash:ip,mark hash:net,port,net hash:net,iface list:set""".split()
)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,30}", re.ASCII)
_LINE = re.compile(r'[!#-&(-\[\]-~]+(?: (?:[!#-&(-\[\]-~]+|"[^"\\]*"))* ?')
_LONGEST_LINE = 900
_HEX = re.compile(r"0x[0-9a-fA-F]{1,8}", re.ASCII)
_PORT = re.compile(r"(?:(?:tcp|udp|sctp|udplite|\d{1,3}):)?\d{1,5}(?:-\d{1,5})?", re.ASCII)
_ICMP = re.compile(r"icmp(?:v6)?:(?:\d{1,3}/\d{1,3}|[a-z][a-z-]{1,40})", re.ASCII)
_MAC = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}", re.ASCII)
_IFACE = re.compile(r"(?:physdev:)?(?!-)[A-Za-z0-9._@:-]{1,15}", re.ASCII)
_SKB = re.compile(r"(?:0x)?[0-9a-fA-F]{1,8}(?:[/:](?:0x)?[0-9a-fA-F]{1,8})?", re.ASCII)


def set_step(sets: Mapping[str, IpSet], text: str, node: str) -> tuple[Step | None, tuple[LeftOut, ...]]:
    """The command that makes the sets of a save (``text``, of which ``sets`` was read); None where there are none."""
    lines, plain, nested, left_out = text.split("\n"), list[str](), list[str](), list[LeftOut]()
    made = {name for name, one in sets.items() if _set_problem(one) is None}
    for one in sets.values():
        if why := _set_problem(one):
            left_out.append(LeftOut(node, _FACT, one.text, f"{why}; its {len(one)} elements go with it"))
            continue
        into = nested if one.type == "list:set" else plain
        into.append(one.text)
        for member in one.members:
            line = lines[member.line - 1]
            if why := _member_problem(one, member, line, made):
                left_out.append(LeftOut(node, _FACT, line, why))
            else:
                into.append(line)
    count = len(made)
    says = f"{_FACT}: {count} set{'s' if count != 1 else ''}"
    step = Step(("ipset", "-exist", "restore"), "\n".join([*plain, *nested, ""]), says) if made else None
    return step, tuple(left_out)


def _number(least: int, most: int) -> Callable[[str], bool]:
    return lambda text: text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= most


def _ip_range(text: str) -> bool:
    ends = text.split("-")
    ports = all(map(_number(0, 65535), ends))
    return len(ends) <= 2 and (ports or all(map(is_prefix, ends)))


_CREATE: Mapping[str, Callable[[str], object]] = {
    "family": lambda text: text in ("inet", "inet6"),
    "hashsize": _number(1, 1 << 20),
    "maxelem": _number(1, 1 << 26),
    "bucketsize": _number(2, 64),
    "initval": _HEX.fullmatch,
    "timeout": _number(0, 2147483),
    "netmask": _number(0, 128),
    "markmask": _HEX.fullmatch,
    "range": _ip_range,
    "size": _number(1, 1 << 16),
}
_CREATE_FLAGS = frozenset(("counters", "comment", "skbinfo", "forceadd"))
_ADD: Mapping[str, Callable[[str], object]] = {
    "timeout": _number(0, 2147483),
    "packets": lambda text: text.isascii() and text.isdigit(),
    "bytes": lambda text: text.isascii() and text.isdigit(),
    "comment": lambda text: len(text.encode(errors="replace")) <= 255,
    "skbmark": _SKB.fullmatch,
    "skbprio": _SKB.fullmatch,
    "skbqueue": _number(0, 65535),
}
_ADD_FLAGS = frozenset(("nomatch", "wildcard"))


def _set_problem(one: IpSet) -> str | None:
    if one.type not in _TYPES:
        return f"{one.type} is no type that the twin makes"
    if why := _line_problem(one.text, ["create", one.name, one.type, *one.options]):
        return why
    return _options_problem(one.options, _CREATE, _CREATE_FLAGS)


def _member_problem(one: IpSet, member: Member, line: str, made: set[str]) -> str | None:
    if why := _line_problem(line, ["add", one.name, member.text, *member.options]):
        return why
    if one.type == "list:set":
        return None if member.text in made else "the set that it names is not made"
    parts = member.text.split(",")
    if len(parts) != len(one.dimensions):
        return f"{member.text!r} is no element of a {one.type}"
    for kind, part in zip(one.dimensions, parts, strict=True):
        if not _PARTS[kind](part) or (kind in ("ip", "net") and one.family and (":" in part) != (one.family == 6)):
            return f"{part!r} is not the {kind} of an element"
    return _options_problem(member.options, _ADD, _ADD_FLAGS)


def _line_problem(line: str, words: list[str]) -> str | None:
    """The tool must cut the line as this kit did: single blanks, whole words in quotes, nothing escaped."""
    if len(line) > _LONGEST_LINE or not line.isprintable() or not _LINE.fullmatch(line):
        return "ipset might read it in another way than this kit does"
    if list(_words(line)) != words:
        return "ipset might read it in another way than this kit does"
    return None if _NAME.fullmatch(words[1]) else f"{words[1]!r} is no name that the twin gives to a set"


def _words(line: str) -> Iterator[str]:
    return (quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|([^ ]+)', line))


def _options_problem(
    options: tuple[str, ...], known: Mapping[str, Callable[[str], object]], flags: frozenset[str]
) -> str | None:
    at = iter(options)
    for option in at:
        if option in flags and option not in known:
            continue
        value = next(at, None) if option in known else None
        if value is None:
            return f"{option} is not an option that the twin takes"
        if not known[option](value):
            return f"{value!r} is no value for {option}, or more than the twin gives"
    return None


_PARTS: Mapping[str, Callable[[str], object]] = {
    "ip": lambda part: is_prefix(part) or is_range(part),
    "net": lambda part: is_prefix(part) or is_range(part),
    "port": lambda part: _PORT.fullmatch(part) or _ICMP.fullmatch(part),
    "mac": _MAC.fullmatch,
    "iface": _IFACE.fullmatch,
    "mark": _HEX.fullmatch,
}
