"""``sockets.txt``: TCP and UDP sockets of a namespace, printed as ``ss -tunap`` prints them.

Asked over sock_diag(7) where that loads no module, else read from /proc/thread-self/net (proc(5)), which does not know
how long the queue of a listening socket may grow: its Send-Q is 0 then.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .kernel import Missing, loadable_by_asking
from .netlink import NETLINK_SOCK_DIAG, Netlink, attributes

__all__ = ["Socket", "print_sockets", "sockets"]

_BY_FAMILY, _TCP_OF_BOTH = 20, 18
_HEAD = struct.Struct("=BBBB")
_STATES = ("UNKNOWN", "ESTAB", "SYN-SENT", "SYN-RECV", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT", "UNCONN", "CLOSE-WAIT",
           "LAST-ACK", "LISTEN", "CLOSING", "SYN-RECV")  # fmt: skip
_PROTOCOLS = ("udp", "tcp")
_SKV6ONLY = 11
Holders = Sequence[tuple[str, int, int]]


class Socket(NamedTuple):
    """One socket; ``local`` and ``peer`` as ss spells them, ports 0 for any."""

    netid: str
    state: str
    receive_queue: int
    send_queue: int
    local: str
    local_port: int
    peer: str
    peer_port: int
    inode: int


def sockets(names: dict[int, str]) -> tuple[list[Socket], str]:
    """All TCP and UDP sockets of the thread's namespace, and whose word it is."""
    if any(loadable_by_asking(module) for module in ("tcp_diag", "udp_diag")):
        return _from_proc(), "/proc/net (the socket diagnosis modules are not loaded)"
    try:
        with Netlink(NETLINK_SOCK_DIAG) as netlink:
            return _from_netlink(netlink, names), "sock_diag"
    except Missing:
        return _from_proc(), "/proc/net"


def _from_netlink(netlink: Netlink, names: dict[int, str]) -> list[Socket]:
    # A dump walks the table of all namespaces of the machine. The older request for TCP answers for both families in
    # one walk, which is half the time on a node with many pods.
    answers = [
        ("udp", _BY_FAMILY, struct.pack("=BBBBI48x", family, socket.IPPROTO_UDP, 0, 0, 0xFFFFFFFF))
        for family in (socket.AF_INET, socket.AF_INET6)
    ]
    answers.append(("tcp", _TCP_OF_BOTH, struct.pack("=BBBB48xII", 0, 0, 0, 0, 0xFFFFFFFF, 0)))
    found: list[Socket] = []
    for netid, kind, body in answers:
        payloads = sorted((payload for _, payload in netlink.dump(kind, body)), key=_family)
        found.extend(_diagnosed(netid, payload, names) for payload in payloads)
    return found


def _family(payload: bytes) -> int:
    return payload[0]


def _diagnosed(netid: str, data: bytes, names: dict[int, str]) -> Socket:
    family, state, _, _ = _HEAD.unpack_from(data)
    here, there = struct.unpack_from("!HH", data, 4)
    device, _, _, _, received, sent, _, inode = struct.unpack_from("=IIIIIIII", data, 40)
    only6 = family == socket.AF_INET6 and attributes(data, 72).get(_SKV6ONLY, b"\0")[0] != 0
    ends = [_spell(family, data[start : start + 16], only6) for start in (8, 24)]
    if device:
        ends[0] += "%" + names.get(device, "if%d" % device)
    word = _STATES[state] if state < len(_STATES) else _STATES[0]
    return Socket(netid, word, received, sent, ends[0], here, ends[1], there, inode)


def _spell(family: int, data: bytes, only6: bool) -> str:
    if family == socket.AF_INET:
        return socket.inet_ntop(family, data[:4])
    if data == bytes(16) and not only6:
        return "*"
    return "[%s]" % socket.inet_ntop(socket.AF_INET6, data)


def _from_proc() -> list[Socket]:
    found: list[Socket] = []
    for netid in _PROTOCOLS:
        for suffix in ("", "6"):
            try:
                with open("/proc/thread-self/net/" + netid + suffix) as file:
                    lines = file.readlines()[1:]
            except OSError:
                continue
            found.extend(_listed(netid, line.split()) for line in lines)
    return found


def _listed(netid: str, fields: list[str]) -> Socket:
    local, peer = (_decode(text) for text in fields[1:3])
    sent, received = (int(part, 16) for part in fields[4].split(":"))
    state = int(fields[3], 16)
    word = _STATES[state] if state < len(_STATES) else _STATES[0]
    return Socket(netid, word, received, sent, local[0], local[1], peer[0], peer[1], int(fields[9]))


def _decode(text: str) -> tuple[str, int]:
    address, port = text.split(":")
    words = [int(address[start : start + 8], 16) for start in range(0, len(address), 8)]
    data = struct.pack("=%dI" % len(words), *words)
    return _spell(socket.AF_INET if len(data) == 4 else socket.AF_INET6, data, False), int(port, 16)


def print_sockets(found: list[Socket], owners: Mapping[int, Holders]) -> str:
    """The table of ``ss -tunap``: columns as wide as their widest entry."""
    rows: list[tuple[str, ...]] = [
        ("Netid", "State", "Recv-Q", "Send-Q", "Local Address", "Port", "Peer Address", "Port", "Process")
    ]
    rows.extend(_row(entry, owners.get(entry.inode, ()) if entry.inode else ()) for entry in found)
    w = [max(len(row[column]) for row in rows) for column in range(8)]
    form = "{:<%d} {:<%d} {:<%d} {:<%d} {:>%d}:{:<%d} {:>%d}:{:<%d}{}\n" % tuple(w)
    return "".join(form.format(*row) for row in rows)


def _row(entry: Socket, held: Holders) -> tuple[str, ...]:
    ports = [str(port or "*") for port in (entry.local_port, entry.peer_port)]
    queues = (str(entry.receive_queue), str(entry.send_queue))
    return (entry.netid, entry.state, *queues, entry.local, ports[0], entry.peer, ports[1], _users(held))


def _users(held: Holders) -> str:
    if not held:
        return ""
    return " users:(%s)" % ",".join('("%s",pid=%d,fd=%d)' % entry for entry in held)
