"""IPVS as ``ipvsadm -Sn`` prints it: virtual servers, each with the real servers behind it.

The other three listings are in :mod:`.ipvs_listing`. Format: ipvsadm(8); meaning: the kernel's
Documentation/networking/ipvs-sysctl.rst. An empty text is an answer: the node has no virtual servers.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, NamedTuple

from ..errors import FactBroken
from ..text import socket_text

__all__ = ["Forward", "Identity", "RealServer", "VirtualServer", "parse_rules"]

Forward = Literal["Masq", "Route", "Tunnel", "Local"]
"""How a packet reaches the real server, in the word that ``ipvsadm -L`` uses. kube-proxy uses Masq (NAT) alone."""


class RealServer(NamedTuple):
    """One destination of a virtual server. ``weight`` 0: draining, it gets no new connections.

    ``active`` and ``inactive`` connections are known from ``ipvsadm -Ln`` only. ``tunnel``: the options that follow
    ``-i``. ``text`` is the line as printed, ``line`` its number from 1.
    """

    address: str
    port: int
    forward: Forward
    weight: int
    active: int | None = None
    inactive: int | None = None
    tunnel: tuple[str, ...] = ()
    text: str = ""
    line: int = 0


class Identity(NamedTuple):
    """What tells one virtual server from another."""

    family: int
    protocol: str | None
    address: str | None
    port: int | None
    fwmark: int | None


class VirtualServer(NamedTuple):
    """A virtual server: an address and port, or a firewall mark (then ``protocol``, ``address``, ``port`` are None).

    ``family`` 4 or 6. ``persistent``: seconds, None without persistence; ``netmask``: how much of a client's address
    counts (a prefix length for IPv6), None for all of it. ``port`` 0: every port (only with persistence).
    ``engine``: the persistence engine; ``one_packet``: every datagram is scheduled on its own.
    """

    family: int
    protocol: str | None
    address: str | None
    port: int | None
    scheduler: str
    fwmark: int | None = None
    flags: tuple[str, ...] = ()
    persistent: int | None = None
    netmask: str | None = None
    engine: str | None = None
    one_packet: bool = False
    servers: tuple[RealServer, ...] = ()
    text: str = ""
    line: int = 0

    @property
    def identity(self) -> Identity:
        """Family, protocol, address, port and mark: no two virtual servers of a node share them."""
        return Identity(self.family, self.protocol, self.address, self.port, self.fwmark)

    @property
    def name(self) -> str:
        """``tcp 10.32.0.1:443``, ``fwmark 7``: for people and as a key."""
        if self.fwmark is not None:
            return f"fwmark {self.fwmark}" + (" IPv6" if self.family == 6 else "")
        return f"{self.protocol} {socket_text(self.address or '', self.port or 0)}"


class Text:
    """The lines of one fact, and the errors about them: ``broken(line, why)`` names fact, node and line.

    Raises FactBroken for bytes that are no text, and for a last line without an end: the fact was cut off there.
    """

    def __init__(self, data: bytes | str, fact: str, where: str, command: str) -> None:
        self.fact, self.where, self.command = fact, where, command
        try:
            text = data.decode() if isinstance(data, bytes) else data
        except UnicodeDecodeError as error:
            raise self.broken(None, f"is not text (byte {error.start})") from None
        if text and not text.endswith("\n"):
            raise self.broken(text.count("\n") + 1, "the last line has no end: the text is cut off")
        self.lines = text.split("\n")[:-1]
        self._not_another_command()

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return ((number, line) for number, line in enumerate(self.lines, 1) if line and not line.isspace())

    def broken(self, line: int | None, why: str, quote: str = "") -> FactBroken:
        """The error about one line of this fact."""
        place = f"line {line}: " if line else ""
        quoted = f": {quote[:120]!r}" if quote else ""
        return FactBroken(
            self.fact, self.where, f"{place}{why}{quoted}", f"It should hold the output of `{self.command}`"
        )

    def _not_another_command(self) -> None:
        head = [line for line in self.lines[:3] if line.strip()]
        found = _command_of(head)
        if found and found != self.command:
            raise self.broken(1, f"this looks like `{found}`, the fact wants `{self.command}`", head[0])


def _command_of(head: list[str]) -> str | None:
    """Which known command prints a text that begins so."""
    if not head:
        return None
    first = head[0]
    if first.startswith("IP Virtual Server version"):
        titles = " ".join(head[1:])
        if "Conns" in titles:
            return "ipvsadm -Ln --stats --exact"
        if "CPS" in titles:
            return "ipvsadm -Ln --rate"
        return "ipvsadm -Ln --thresholds" if "Uthreshold" in titles else "ipvsadm -Ln"
    for start, command in _BEGINNINGS:
        if first.startswith(start):
            return command
    return None


_BEGINNINGS = (
    ("-A ", "ipvsadm -Sn"),
    ("IPVS connection entries", "ipvsadm -Lnc"),
    ("# Generated by ", "iptables-save"),
    ("*", "iptables-save"),
    ("Chain ", "iptables -L"),
    ("create ", "ipset save"),
    ("table ", "nft list ruleset"),
    ("{", "nft -j list ruleset"),
)


def split_endpoint(text: str) -> tuple[int, str, int]:
    """Family, canonical address and port of ``10.0.0.1:80`` or ``[fd00::1]:80``; ValueError says what is wrong."""
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError("no port")
    try:
        if host[:1] != "[":
            socket.inet_pton(socket.AF_INET, host)  # takes the canonical spelling alone
            return 4, host, _port(port)
        if host[-1] == "]":
            return 6, socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, host[1:-1])), _port(port)
    except OSError:
        pass
    raise ValueError("an IPv6 address stands in brackets, an IPv4 address does not")


def whole(text: str, most: int = 2**64 - 1) -> int:
    """A number of decimal digits within its bounds; ValueError otherwise."""
    if not (text.isascii() and text.isdigit()) or int(text) > most:
        raise ValueError(f"{text!r} is not a number from 0 to {most}")
    return int(text)


@lru_cache(maxsize=65536)
def _port(text: str) -> int:
    return whole(text, 65535)


@lru_cache(maxsize=1024)
def _weight(text: str) -> int:
    return whole(text, 2**31 - 1)


_PROTOCOLS = {"-t": "tcp", "-u": "udp", "--sctp-service": "sctp"}
_FORWARDS: dict[str, Forward] = {"-m": "Masq", "-g": "Route", "-i": "Tunnel"}
_TUNNEL = {"--tun-type": True, "--tun-port": True, "--tun-nocsum": False, "--tun-csum": False, "--tun-remcsum": False}


def parse_rules(data: bytes | str, where: str = "the node", fact: str = "ipvs-save.txt") -> tuple[VirtualServer, ...]:
    """Virtual servers from ``ipvsadm -Sn``, in its order. Empty text: none.

    Raises FactBroken, naming the line, for anything that ``ipvsadm -Sn`` does not print.
    """
    text = Text(data, fact, where, "ipvsadm -Sn")
    found: dict[Identity, tuple[VirtualServer, list[RealServer]]] = {}
    # what most lines are: a real server of a virtual server by its address, as that one was spelt
    by_name: dict[tuple[str, str], list[RealServer]] = {}
    for number, line in text:
        words = line.split()
        try:
            servers = by_name.get((words[1], words[2])) if len(words) == 8 and words[0] == "-a" else None
            if servers is not None and words[3] == "-r" and words[5] == "-m" and words[6] == "-w":
                _, address, port = numeric_endpoint(words[4])
                servers.append(RealServer(address, port, "Masq", _weight(words[7]), None, None, (), line, number))
            elif words[0] == "-A":
                virtual = _virtual(words[1:], number, line)
                if virtual.identity in found:
                    raise ValueError(f"virtual server {virtual.name} is defined a second time")
                found[virtual.identity] = (virtual, [])
                if virtual.address is not None:
                    by_name[words[1], words[2]] = found[virtual.identity][1]
            elif words[0] == "-a":
                key, server = _server(words[1:], number, line)
                if key not in found:
                    raise ValueError("a real server of a virtual server that was not defined before")
                found[key][1].append(server)
            else:
                raise ValueError("neither -A (a virtual server) nor -a (one of its real servers)")
        except ValueError as error:
            raise text.broken(number, str(error), line) from None
    return tuple(virtual._replace(servers=tuple(servers)) for virtual, servers in found.values())


class _Words:
    """The options of one line, taken from the left."""

    def __init__(self, words: list[str]) -> None:
        self.words, self.at = words, 0

    def next(self, after: str = "") -> str:
        if self.at == len(self.words):
            raise ValueError(
                f"the line ends where the value of {after} should be" if after else "the line ends too early"
            )
        self.at += 1
        return self.words[self.at - 1]

    def more(self) -> bool:
        return self.at < len(self.words)


def _which(words: _Words) -> Identity:
    """The virtual server that a line begins with."""
    kind = words.next()
    if kind == "-f":
        mark = whole(words.next("-f"), 2**32 - 1)
        six = words.more() and words.words[words.at] == "-6"
        words.at += six
        return Identity(6 if six else 4, None, None, None, mark)
    if kind not in _PROTOCOLS:
        raise ValueError(f"{kind!r} stands where -t, -u, --sctp-service or -f should be")
    family, address, port = numeric_endpoint(words.next(kind))
    return Identity(family, _PROTOCOLS[kind], address, port, None)


def numeric_endpoint(text: str) -> tuple[int, str, int]:
    """As split_endpoint, with the advice that helps most often: names come from ipvsadm without -n."""
    try:
        return split_endpoint(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not address:port in numbers, as option -n prints it ({error})") from None


def _virtual(words: list[str], number: int, line: str) -> VirtualServer:
    if len(words) == 4 and words[0] in _PROTOCOLS and words[2] == "-s":  # what most of them are
        family, address, port = numeric_endpoint(words[1])
        return VirtualServer(family, _PROTOCOLS[words[0]], address, port, words[3], text=line, line=number)
    rest = _Words(words)
    key = _which(rest)
    scheduler: str | None = None
    persistent: int | None = None
    netmask: str | None = None
    engine: str | None = None
    flags: tuple[str, ...] = ()
    one_packet = False
    while rest.more():
        match option := rest.next():
            case "-s":
                scheduler = rest.next(option)
            case "-p":
                persistent = whole(rest.next(option), 2**32 - 1)
            case "-M":
                netmask = rest.next(option)
            case "--pe" | "pe":
                engine = rest.next(option)
            case "-o" | "ops":
                one_packet = True
            case "-b":
                flags = tuple(rest.next(option).split(","))
            case _:
                raise ValueError(f"unknown option {option!r} of a virtual server")
    if scheduler is None:
        raise ValueError("a virtual server without a scheduler (-s)")
    return VirtualServer(
        family=key.family,
        protocol=key.protocol,
        address=key.address,
        port=key.port,
        scheduler=scheduler,
        fwmark=key.fwmark,
        flags=flags,
        persistent=persistent,
        netmask=netmask,
        engine=engine,
        one_packet=one_packet,
        text=line,
        line=number,
    )


def _server(words: list[str], number: int, line: str) -> tuple[Identity, RealServer]:
    rest = _Words(words)
    key = _which(rest)
    if rest.next() != "-r":
        raise ValueError("a real server without its address (-r)")
    _, address, port = numeric_endpoint(rest.next("-r"))
    forward: Forward | None = None
    weight: int | None = None
    tunnel: list[str] = []
    while rest.more():
        option = rest.next()
        if option in _FORWARDS:
            forward = _FORWARDS[option]
        elif option == "-w":
            weight = _weight(rest.next(option))
        elif option in _TUNNEL:
            tunnel += [option, rest.next(option)] if _TUNNEL[option] else [option]
        else:
            raise ValueError(f"unknown option {option!r} of a real server")
    if forward is None or weight is None:
        raise ValueError("a real server without its forwarding method (-m, -g or -i) or weight (-w)")
    return key, RealServer(address, port, forward, weight, None, None, tuple(tunnel), line, number)
