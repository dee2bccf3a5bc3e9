"""One DNS question to one server, as bytes, from the network namespace that the caller is in. Standard library only.

What the bytes mean is read elsewhere; here is only what a resolver must hold against a reply before it looks inside:
where it came from, its id and its question (RFC 5452 section 9.1).
"""

from __future__ import annotations

import base64
import binascii
import socket
import time
from typing import Any, NamedTuple

__all__ = ["MAX_IGNORED", "MAX_SECONDS", "Exchange", "answer", "exchange"]

MAX_IGNORED = 16
"""Of a flood of unfit replies only so many are kept."""

MAX_SECONDS = 30.0
"""glibc waits no longer for a server either."""

_Ignored = list[tuple[str, int, bytes, str]]

_ANY = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}  # noqa: S104 - the kernel picks port and address for one query
_IP_RECVERR = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
_NO_QUESTION = (1, 4, 5)
"""FORMERR, NOTIMP, REFUSED: replies that may come without the question."""


class Exchange(NamedTuple):
    """What came of it: ``reply`` or ``error`` (the other is None), and milliseconds from sending to either.

    ``kind`` is ``answered``, ``silent`` (nothing fit came in time), ``unreachable`` (the network refused) or ``broken``
    (a TCP stream that ended early). ``ignored`` are datagrams that were no reply to this question: source address,
    source port, the bytes and why.
    """

    kind: str
    reply: bytes | None
    error: str | None
    ms: float
    ignored: tuple[tuple[str, int, bytes, str], ...] = ()


def exchange(server: str, port: int, wire: bytes, transport: str, timeout: float) -> Exchange:
    """Send a query to ``server`` (an address) by ``udp`` or ``tcp`` and wait up to ``timeout`` seconds in all.

    A UDP reply from another address or port, with another id or to another question does not count: waiting goes on, as
    in a resolver, and it is reported in ``ignored``. Raises ValueError for arguments that are no such thing.
    """
    if transport not in ("udp", "tcp"):
        raise ValueError(f"transport {transport!r}: udp or tcp")
    if not 0 < port < 65536:
        raise ValueError(f"port {port}")
    if len(wire) < 17 or len(wire) > 65535:
        raise ValueError(f"a query of {len(wire)} bytes")
    family, address = _address(server, port)
    begin = time.monotonic()
    ignored: _Ignored = []
    kind, reply, error = "answered", None, None
    try:
        ask = _udp if transport == "udp" else _tcp
        reply = ask(family, address, wire, begin + timeout, ignored)
    except (socket.timeout, TimeoutError):
        kind, error = "silent", f"no answer within {timeout:g} s"
    except EOFError as ended:
        kind, error = "broken", str(ended)
    except OSError as refused:
        kind, error = "unreachable", refused.strerror or str(refused)
    return Exchange(kind, reply, error, round((time.monotonic() - begin) * 1000, 3), tuple(ignored))


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The same for a request and an answer that travel as JSON, their bytes in base64.

    The request holds server, wire, and port (53), transport (``udp``), timeout (5 seconds, at most MAX_SECONDS) where
    they differ; the answer the fields of Exchange. Raises ValueError for a request that is none.
    """
    try:
        wire = base64.b64decode(request["wire"], validate=True)
        server, port = str(request["server"]), int(request.get("port", 53))
        timeout = float(request.get("timeout", 5))
    except (KeyError, TypeError, binascii.Error) as bad:
        raise ValueError(f"no request for a DNS exchange: {bad!r}") from None
    if not 0 < timeout <= MAX_SECONDS:
        raise ValueError(f"timeout {timeout:g}: over 0, up to {MAX_SECONDS:g} seconds")
    found = exchange(server, port, wire, str(request.get("transport", "udp")), timeout)
    return {
        "kind": found.kind,
        "reply": None if found.reply is None else base64.b64encode(found.reply).decode(),
        "error": found.error,
        "ms": found.ms,
        "ignored": [(who, port, base64.b64encode(what).decode(), why) for who, port, what, why in found.ignored],
    }


def _address(server: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """The socket address of a server. Numbers only: to look a name up here would ask the wrong resolver."""
    try:
        found = socket.getaddrinfo(server, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
    except (OSError, OverflowError) as bad:
        raise ValueError(f"server {server!r} port {port!r}: {bad}") from None
    return found[0][0], found[0][4]


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout
    return left


def _udp(
    family: socket.AddressFamily, address: tuple[Any, ...], wire: bytes, deadline: float, ignored: _Ignored
) -> bytes:
    """Ask by UDP. The socket is not connected, so that a reply from elsewhere can be seen and named."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((_ANY[family], 0))
        sock.setsockopt(*_IP_RECVERR[family], 1)  # else a port-unreachable would pass unnoticed
        sock.sendto(wire, address)
        while True:
            sock.settimeout(_left(deadline))
            reply, source = sock.recvfrom(65535)
            why = "from another address" if source[:2] != address[:2] else _unfit(wire, reply)
            if why is None:
                return reply
            if len(ignored) < MAX_IGNORED:
                ignored.append((source[0], source[1], reply, why))


def _tcp(
    family: socket.AddressFamily, address: tuple[Any, ...], wire: bytes, deadline: float, ignored: _Ignored
) -> bytes:
    """Ask by TCP: two bytes of length before each message (RFC 1035 section 4.2.2)."""
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(_left(deadline))
        sock.connect(address)
        sock.sendall(len(wire).to_bytes(2, "big") + wire)
        while True:
            length = int.from_bytes(_exactly(sock, 2, deadline), "big")
            reply = _exactly(sock, length, deadline)
            why = _unfit(wire, reply)
            if why is None:
                return reply
            if len(ignored) < MAX_IGNORED:
                ignored.append((address[0], address[1], reply, why))


def _exactly(sock: socket.socket, count: int, deadline: float) -> bytes:
    found = b""
    while len(found) < count:
        sock.settimeout(_left(deadline))
        part = sock.recv(count - len(found))
        if not part:
            raise EOFError(f"the server closed the connection after {len(found)} of {count} bytes")
        found += part
    return found


def _unfit(query: bytes, reply: bytes) -> str | None:
    """Why bytes are no reply to a query with one question; None when they may be one."""
    if len(reply) < 12:
        return f"{len(reply)} bytes are too few for a DNS message"
    if reply[:2] != query[:2]:
        return "with another id"
    if not reply[2] & 0x80:
        return "a query, not a reply"
    if reply[4:6] == b"\0\0":
        return None if reply[3] & 15 in _NO_QUESTION else "without the question"
    end = 12
    while query[end]:
        end += query[end] + 1
    end += 5
    return None if reply[12:end].lower() == query[12:end].lower() else "to another question"
