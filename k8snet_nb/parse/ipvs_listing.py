"""What ``ipvsadm -L`` lists: the table of virtual servers, their counters, and the connections.

``-Ln`` gives the same values as ``-Sn`` (:mod:`.ipvs`) with the connections counted, but without tunnel options.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from .ipvs import Forward, Identity, RealServer, Text, VirtualServer, numeric_endpoint, whole

__all__ = ["Connections", "Counters", "ServerCounters", "parse_connections", "parse_stats", "parse_table"]

_PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
_FORWARDS: dict[str, Forward] = {"Masq": "Masq", "Route": "Route", "Tunnel": "Tunnel", "Local": "Local"}


@dataclass(frozen=True, slots=True)
class Counters:
    """Since the virtual server was made or its counters were last set to zero; packets and bytes both ways."""

    connections: int
    in_packets: int
    out_packets: int
    in_bytes: int
    out_bytes: int
    text: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class ServerCounters:
    """Counters of one virtual server and of each of its real servers, by (address, port)."""

    identity: Identity
    total: Counters
    servers: tuple[tuple[str, int, Counters], ...] = ()


@dataclass(frozen=True, slots=True)
class Connections:
    """The connection table as columns of equal length. ``expires`` in seconds; ``protocol`` as printed, lower case.

    A persistence template (what keeps a client with its real server) has client port 0 or protocol ``ip``.
    """

    protocol: tuple[str, ...] = ()
    expires: tuple[int, ...] = ()
    state: tuple[str, ...] = ()
    client: tuple[str, ...] = ()
    client_port: tuple[int, ...] = ()
    virtual: tuple[str, ...] = ()
    virtual_port: tuple[int, ...] = ()
    server: tuple[str, ...] = ()
    server_port: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.protocol)


_Row = TypeVar("_Row")
_Under = TypeVar("_Under")


def parse_table(data: bytes | str, where: str = "the node", fact: str = "ipvs.txt") -> tuple[VirtualServer, ...]:
    """Virtual servers from ``ipvsadm -Ln``, with the active and inactive connections of each real server.

    Raises FactBroken for anything else, naming the line.
    """
    text = Text(data, fact, where, "ipvsadm -Ln")
    rows = _listing(text, _table_virtual, _table_server)
    return tuple(virtual._replace(servers=tuple(servers)) for virtual, servers in rows)


def parse_stats(data: bytes | str, where: str = "the node", fact: str = "ipvs-stats.txt") -> tuple[ServerCounters, ...]:
    """Counters from ``ipvsadm -Ln --stats --exact``. Raises FactBroken for anything else, naming the line."""
    text = Text(data, fact, where, "ipvsadm -Ln --stats --exact")
    rows = _listing(text, _stats_virtual, _stats_server)
    return tuple(ServerCounters(identity, total, tuple(servers)) for (identity, total), servers in rows)


def _listing(
    text: Text, virtual: Callable[[list[str], int, str], _Row], server: Callable[[list[str], int, str], _Under]
) -> list[tuple[_Row, list[_Under]]]:
    """Rows of virtual servers with the rows below each; the two share their title lines and their indentation."""
    if not text.lines:
        return []
    titles = ("IP Virtual Server version ", "Prot LocalAddress:Port", "  -> RemoteAddress:Port")
    for number, title in enumerate(titles, 1):
        if len(text.lines) < number or not text.lines[number - 1].startswith(title):
            found = text.lines[number - 1] if len(text.lines) >= number else ""
            raise text.broken(number, f"the title line {title.strip()!r} is missing", found)
    rows: list[tuple[_Row, list[_Under]]] = []
    for number, line in list(text)[len(titles) :]:
        words = line.split()
        try:
            if words[0] != "->":
                rows.append((virtual(words, number, line), []))
            elif not rows:
                raise ValueError("a real server before any virtual server")
            else:
                rows[-1][1].append(server(words[1:], number, line))
        except ValueError as error:
            raise text.broken(number, str(error), line) from None
    return rows


def _which(words: list[str]) -> tuple[Identity, list[str]]:
    """The virtual server that a line begins with, and the words after it."""
    if words[0] == "FWM" and len(words) > 1:
        six = words[2:3] == ["IPv6"]
        mark = whole(words[1], 2**32 - 1)
        return Identity(6 if six else 4, None, None, None, mark), words[3 if six else 2 :]
    if words[0] not in _PROTOCOLS or len(words) < 2:
        raise ValueError("neither a virtual server (TCP, UDP, SCTP or FWM) nor a real server (->)")
    family, address, port = numeric_endpoint(words[1])
    return Identity(family, _PROTOCOLS[words[0]], address, port, None), words[2:]


def _table_virtual(words: list[str], number: int, line: str) -> VirtualServer:
    identity, rest = _which(words)
    if not rest:
        raise ValueError("a virtual server without a scheduler")
    scheduler, *rest = rest
    flags: tuple[str, ...] = ()
    if rest and rest[0].startswith("(") and rest[0].endswith(")"):
        flags = tuple(rest.pop(0)[1:-1].split(","))
    words_of = {"persistent": "", "mask": "", "pe": ""}
    one_packet = False
    while rest:
        word = rest.pop(0)
        if word == "ops":
            one_packet = True
        elif word in words_of and rest:
            words_of[word] = rest.pop(0)
        else:
            raise ValueError(f"{word!r} is not known of a virtual server, or its value is missing")
    return VirtualServer(
        family=identity.family,
        protocol=identity.protocol,
        address=identity.address,
        port=identity.port,
        scheduler=scheduler,
        fwmark=identity.fwmark,
        flags=flags,
        persistent=whole(words_of["persistent"], 2**32 - 1) if words_of["persistent"] else None,
        netmask=words_of["mask"] or None,
        engine=words_of["pe"] or None,
        one_packet=one_packet,
        text=line,
        line=number,
    )


def _table_server(words: list[str], number: int, line: str) -> RealServer:
    if len(words) != 5:
        raise ValueError("a real server has an address, Forward, Weight, ActiveConn and InActConn")
    _, address, port = numeric_endpoint(words[0])
    if words[1] not in _FORWARDS:
        raise ValueError(f"unknown forwarding method {words[1]!r}")
    weight, active, inactive = (whole(word, 2**32 - 1) for word in words[2:])
    return RealServer(address, port, _FORWARDS[words[1]], weight, active, inactive, (), line, number)


def _stats_virtual(words: list[str], number: int, line: str) -> tuple[Identity, Counters]:
    identity, rest = _which(words)
    return identity, _counters(rest, number, line)


def _stats_server(words: list[str], number: int, line: str) -> tuple[str, int, Counters]:
    _, address, port = numeric_endpoint(words[0])
    return address, port, _counters(words[1:], number, line)


def _counters(words: list[str], number: int, line: str) -> Counters:
    if len(words) != 5:
        raise ValueError("five counters should follow the address: Conns InPkts OutPkts InBytes OutBytes")
    if any(word[-1] in "KMGT" for word in words):
        raise ValueError("rounded numbers: option --exact is missing")
    connections, in_packets, out_packets, in_bytes, out_bytes = (whole(word) for word in words)
    return Counters(connections, in_packets, out_packets, in_bytes, out_bytes, line, number)


def parse_connections(data: bytes | str, where: str = "the node", fact: str = "ipvs-connections.txt") -> Connections:
    """The connection table from ``ipvsadm -Lnc``. Raises FactBroken for anything else, naming the line."""
    text = Text(data, fact, where, "ipvsadm -Lnc")
    if not text.lines:
        return Connections()
    titles = ("IPVS connection entries", "pro expire state")
    for number, title in enumerate(titles, 1):
        if len(text.lines) < number or not text.lines[number - 1].startswith(title):
            raise text.broken(number, f"the title line {title!r} is missing")
    rows = []
    for number, line in list(text)[len(titles) :]:
        try:
            rows.append(_connection(line.split()))
        except ValueError as error:
            raise text.broken(number, str(error), line) from None
    return Connections(*zip(*rows, strict=True)) if rows else Connections()


def _connection(words: list[str]) -> tuple[str, int, str, str, int, str, int, str, int]:
    if len(words) != 6:
        raise ValueError("a connection has six columns: pro expire state source virtual destination")
    protocol, expire, state, *ends = words
    minutes, colon, seconds = expire.partition(":")
    if not colon:
        raise ValueError(f"{expire!r} is not minutes:seconds")
    (_, client, client_port), (_, virtual, virtual_port), (_, server, server_port) = map(numeric_endpoint, ends)
    expires = whole(minutes) * 60 + whole(seconds, 59)
    return protocol.lower(), expires, state, client, client_port, virtual, virtual_port, server, server_port
