"""``resolv.conf`` as the C library reads it: which servers, which search list, which options, and what it ignores.

Source: resolv.conf(5) and glibc's ``res_init``. glibc uses at most 3 servers, ndots of at most 15, a time limit of at
most 30 seconds and at most 5 attempts; a keyword counts only at the start of a line, and a comment only where ``#``
or ``;`` is the line's first character.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address

__all__ = ["DEFAULT_SERVER", "FLAGS", "MAX_ATTEMPTS", "MAX_NDOTS", "MAX_SERVERS", "MAX_TIMEOUT"]
__all__ += ["Problem", "ResolvConf", "ipv4_address", "parse_resolv_conf", "server_address"]

MAX_SERVERS, MAX_NDOTS, MAX_TIMEOUT, MAX_ATTEMPTS = 3, 15, 30, 5
DEFAULT_SERVER = "127.0.0.1"

FLAGS = (
    "rotate",
    "edns0",
    "single-request-reopen",
    "single-request",
    "no-tld-query",
    "no-reload",
    "use-vc",
    "trust-ad",
    "no-aaaa",
)
"""Options without a number that glibc 2.36 follows. It compares only as many letters as the option has."""

_PAST = ("debug", "inet6", "ip6-bytestring", "ip6-dotint", "no-ip6-dotint", "no-check-names", "insecure1", "insecure2")
_BLANK = " \t"
_MOST = {"ndots": MAX_NDOTS, "timeout": MAX_TIMEOUT, "attempts": MAX_ATTEMPTS}


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that does not do what it seems to: its number (from 1), its text, and why."""

    line: int
    text: str
    why: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text!r}: {self.why}"


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """What a resolver does with the file. Addresses and names are text; ``timeout`` is in seconds.

    A time limit of 0 seconds works as 1. ``nameservers`` are those that are used: ``127.0.0.1`` when the file names
    none (``server_default``); those after the third are ``unused_nameservers``. ``flags`` are the options without a
    number.
    """

    nameservers: tuple[str, ...] = (DEFAULT_SERVER,)
    server_default: bool = True
    unused_nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    ndots: int = 1
    timeout: int = 5
    attempts: int = 2
    flags: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    lines: tuple[str, ...] = ()

    def quote(self, keyword: str) -> tuple[str, ...]:
        """The lines that begin with a keyword, as they stand in the file: evidence."""
        return tuple(line for line in self.lines if line.startswith((keyword + " ", keyword + "\t")))


def ipv4_address(text: str) -> str | None:
    """An IPv4 address as inet_aton(3) reads it: one to four parts, decimal, octal (``010``) or hexadecimal (``0xa``).

    The last part fills what the others leave: ``10.1`` is 10.0.0.1.
    """
    parts = text.split(".")
    if len(parts) > 4 or not all(re.fullmatch(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*", part) for part in parts):
        return None
    *front, last = (int(p, 16 if p[:2] in ("0x", "0X") else 8 if p[0] == "0" else 10) for p in parts)
    room = 256 ** (4 - len(front))
    if any(number > 255 for number in front) or last >= room:
        return None
    value = 0
    for number in front:
        value = value * 256 + number
    return str(IPv4Address(value * room + last))


def server_address(text: str) -> str | None:
    """The address that a ``nameserver`` line means, in its usual spelling; None when it is none.

    glibc takes IPv4 as inet_aton does (so ``10.1`` is 10.0.0.1), IPv6 with an optional ``%zone``.
    """
    word = re.split("[ \\t]", text, maxsplit=1)[0]
    if not re.fullmatch(r"[!-~]+", word):
        return None
    ipv4 = ipv4_address(word)
    if ipv4 is not None:
        return ipv4
    address, percent, zone = word.partition("%")
    try:
        return str(IPv6Address(address)) + percent + zone
    except ValueError:
        return None


def _number(value: str) -> int:
    """C's atoi: leading blanks, a sign, digits; anything else counts as 0."""
    found = re.match(r"\s*([+-]?\d{1,9})", value, re.ASCII)
    return int(found.group(1)) if found else 0


class _Reader:
    """The state of one pass over the file."""

    def __init__(self) -> None:
        self.conf = ResolvConf()
        self.servers: list[str] = []
        self.problems: list[Problem] = []
        self.at, self.text = 0, ""

    def complain(self, why: str) -> None:
        self.problems.append(Problem(self.at, self.text, why))

    def line(self, number: int, text: str) -> None:
        self.at, self.text = number, text
        if not text.strip() or text[0] in "#;":
            return
        if text[0].isspace():
            self.complain("a keyword counts only at the start of a line: ignored")
            return
        found = re.match(r"([^ \t]+)(?:[ \t]+(.*))?$", text, re.DOTALL)
        keyword, value = (found.group(1), (found.group(2) or "")) if found else (text, "")
        read: Callable[[str], None] | None = {
            "nameserver": self.nameserver,
            "search": self.search,
            "domain": self.domain,
            "options": self.options,
            "sortlist": self.sortlist,
        }.get(keyword)
        if read is None:
            self.complain("not a keyword of resolv.conf(5): ignored")
        elif not value.strip(_BLANK):
            self.complain(f"{keyword} without a value: ignored")
        else:
            read(value)

    def nameserver(self, value: str) -> None:
        address = server_address(value)
        if address is None:
            self.complain("not an address (a name is not looked up): ignored")
            return
        self.servers.append(address)
        if len(self.servers) > MAX_SERVERS:
            self.complain(f"only the first {MAX_SERVERS} name servers are used")

    def search(self, value: str) -> None:
        names = tuple(part for part in re.split("[ \t]+", value) if part)
        if any(name.startswith(("#", ";")) for name in names):
            self.complain("a comment counts only at the start of a line: its words became search domains")
        self.replace_search(names)

    def domain(self, value: str) -> None:
        self.replace_search((re.split("[ \t]", value, maxsplit=1)[0],))

    def replace_search(self, names: tuple[str, ...]) -> None:
        if self.conf.search:
            self.complain("replaces the search list of an earlier line: the last search or domain line counts")
        self.conf = replace(self.conf, search=names)

    def options(self, value: str) -> None:
        for found in re.finditer("[^ \t]+", value):
            word = found.group()
            name, colon, _ = word.partition(":")
            flag = next((known for known in FLAGS if word.startswith(known)), None)
            if colon and name in _MOST:
                self.number(name, value[found.start() + len(name) + 1 :])
            elif flag:
                if flag != word:
                    self.complain(f"option {word!r} is taken for {flag}")
                if flag not in self.conf.flags:
                    self.conf = replace(self.conf, flags=(*self.conf.flags, flag))
            else:
                self.complain(f"option {word!r} " + ("has no effect today" if word in _PAST else "is unknown: ignored"))

    def number(self, name: str, rest: str) -> None:
        most, meant = _MOST[name], _number(rest)
        kept = min(meant, most) if meant >= 0 else (meant & MAX_NDOTS if name == "ndots" else 0)
        if meant > most:
            self.complain(f"{name} is at most {most}")
        elif not re.match(r"\d+([ \t]|$)", rest, re.ASCII):
            self.complain(f"{name} is not written as a whole number: it counts as {kept}")
        if name == "ndots":
            self.conf = replace(self.conf, ndots=kept)
        elif name == "timeout":
            self.conf = replace(self.conf, timeout=max(kept, 1))
        else:
            if kept == 0:
                self.complain("no attempts: glibc sends no query at all")
            self.conf = replace(self.conf, attempts=kept)

    def sortlist(self, value: str) -> None:
        self.complain("sortlist only orders answers of the old gethostbyname: not followed here")


def parse_resolv_conf(data: bytes | str) -> ResolvConf:
    """Read a resolv.conf. Never fails: like the C library it goes on, and says in ``problems`` what it passed over.

    glibc falls back on the domain part of the host name when there is no search list; a pod's host name has no dot,
    so the search list is empty here.
    """
    text = data.decode("utf-8", "surrogateescape") if isinstance(data, bytes) else data
    lines = text.split("\n")
    reader = _Reader()
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            reader.at, reader.text = number, line
            reader.complain("holds a NUL byte: read up to it")
        reader.line(number, line.split("\0", 1)[0])
    servers = tuple(reader.servers)
    return replace(
        reader.conf,
        nameservers=servers[:MAX_SERVERS] or (DEFAULT_SERVER,),
        server_default=not servers,
        unused_nameservers=servers[MAX_SERVERS:],
        problems=tuple(reader.problems),
        lines=tuple(lines[:-1] if lines[-1] == "" else lines),
    )
