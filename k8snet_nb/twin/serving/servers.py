"""The servers of one pod (or node, or of the wire): small, real, and each says who it is and whom it sees.

:func:`serve` runs in a process that the caller forked and put into the network namespace. What it speaks, by the
listener's kind:

- ``http``: any request gets 200 and the body ``says``, filled up to N bytes for ``/?bytes=N``; headers tell which
  address and port the server has and which client it saw, the translation's two ends. The connection is closed then,
  unless the client asks ``Connection: keep-alive``. A client that sends nothing gets the body alone after
  :data:`PATIENCE` seconds, so that ``nc`` shows it too. On ports where others speak TLS it is plain HTTP all the same,
  and says so; what is no HTTP gets 400.
- ``tcp``, ``udp``, ``sctp``: one message gets one line of JSON: pod, server, port, peer, peer_port.
- ``dns``: what ``Zone.answer`` says, by UDP or TCP as the listener's protocol is.

Every socket is bound to the listener's own address: what leaves it, leaves from the address that was asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import json
import re
import resource
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ...text import printable, socket_text
from ..model import Listener

if TYPE_CHECKING:
    from .dns_server import Zone  # the DNS library takes its time to load: only where a zone is served

__all__ = ["PATIENCE", "serve"]

PATIENCE = 2.0
"""Seconds after which a TCP client that says nothing is told who is here."""

_SLOW, _KEPT, _DRAIN = 10.0, 600.0, 1.0
"""Seconds: for a whole request to come in; for a kept connection to be silent; for a client to close after us."""

_HEAD, _BACKLOG, _MOST_OPEN = 16384, 1024, 4000
_AT_ONCE, _SO_RCVBUFFORCE = 256, 33
_METHOD = 16
"""No HTTP method is longer than this: a first line that does not name one by then is no HTTP."""

_BYTES, _LARGEST = re.compile(rb"[A-Z]+ /[^ ?]*\?bytes=(\d{1,6}) "), 60_000

_TLS = (443, 6443, 8443, 10250)
_ENDS = (OSError, EOFError, asyncio.LimitOverrunError)
"""How a client ends that does not wait for its answer (a time-out is an OSError)."""

_Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def serve(listeners: Sequence[Listener], zone: Zone | None, ready: Callable[[list[str]], None]) -> NoReturn:
    """Serve until the process is ended. Call it inside the namespace; ``zone`` is what ``dns`` listeners answer from.

    ``ready`` is called once, when every socket is bound, with a message for each listener that could not be: the others
    are served. Two listeners of one protocol, address and port are one, the first.
    """
    asyncio.run(_run(listeners, zone, ready))
    raise AssertionError("servers do not end by themselves")


async def _run(listeners: Sequence[Listener], zone: Zone | None, ready: Callable[[list[str]], None]) -> None:
    _raise_limit()
    distinct = {(each.protocol, each.address, each.port): each for each in reversed(listeners)}
    failures: list[str] = []
    running: list[object] = []  # nothing else holds on to what serves
    for each in reversed(distinct.values()):
        try:
            running.append(await _start(each, zone))
        except (OSError, OverflowError, ValueError) as cannot:
            why = cannot.strerror if isinstance(cannot, OSError) and cannot.strerror else str(cannot)
            if isinstance(cannot, OSError) and cannot.errno == errno.EPROTONOSUPPORT:
                why = "this kernel does not have the protocol"
            failures.append(printable(f"{each.protocol} {each.address} port {each.port} ({each.says}): {why}"))
    ready(failures)
    await asyncio.Event().wait()


def _raise_limit() -> None:
    """As many open files as the machine allows: a crowd of clients is what a lesson sends."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _start(listener: Listener, zone: Zone | None) -> object:
    if listener.kind == "dns" and zone is None:
        raise ValueError("no zone to answer from")
    bound = _bound(listener)
    try:
        if listener.protocol == "udp":
            asyncio.get_running_loop().add_reader(bound, _datagrams, bound, listener, zone)
            return bound
        talk = _talk(listener, zone)
        return await asyncio.start_server(_Crowd(talk), sock=bound, backlog=_BACKLOG, limit=_HEAD)
    except BaseException:
        bound.close()
        raise


def _bound(listener: Listener) -> socket.socket:
    """The listener's socket, bound to its address and nothing else. No SO_REUSEADDR for UDP: it would share the port.

    Raises OSError, ValueError.
    """
    kinds = {
        "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
        "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
        "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
    }
    if listener.protocol not in kinds or listener.kind not in ("http", "tcp", "udp", "sctp", "dns"):
        raise ValueError(f"no server for {listener.kind} over {listener.protocol}")
    six = ":" in listener.address
    bound = socket.socket(socket.AF_INET6 if six else socket.AF_INET, *kinds[listener.protocol])
    try:
        if listener.protocol == "udp":
            _long_queue(bound)
        else:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if six:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.setblocking(False)
        bound.bind((listener.address, listener.port))
    except BaseException:
        bound.close()
        raise
    return bound


def _talk(listener: Listener, zone: Zone | None) -> _Talk:
    if listener.kind == "http":
        return functools.partial(_http, listener)
    if listener.kind == "dns" and zone is not None:
        return functools.partial(_dns, listener, zone)
    return functools.partial(_echo, listener)


class _Crowd:
    """Runs one conversation a connection, and sees to its end, whatever the client does. Too many: the last go."""

    def __init__(self, talk: _Talk) -> None:
        self._talk, self._open = talk, 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= _MOST_OPEN:
                with contextlib.suppress(*_ENDS):
                    await self._talk(reader, writer)
                    await _finish(reader, writer)
        finally:
            self._open -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _finish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say that we are done and read what is still under way: to close over it would reset the client's connection."""
    async with asyncio.timeout(_SLOW):
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    async with asyncio.timeout(_DRAIN):
        while await reader.read(65536):
            pass


def _ends(writer: asyncio.StreamWriter) -> dict[str, Any]:
    """The server's own address and port, and the client's as the server sees them."""
    own, peer = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
    if not own or not peer:
        raise EOFError("the client is gone")
    return _who(own, peer)


def _who(own: Sequence[Any], peer: Sequence[Any]) -> dict[str, Any]:
    return {"server": own[0], "port": own[1], "peer": peer[0], "peer_port": peer[1]}


def _line(listener: Listener, ends: dict[str, Any]) -> bytes:
    return json.dumps({"pod": listener.says, **ends}).encode() + b"\n"


async def _echo(listener: Listener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the first message, whatever it is; also a client that stays silent, after a while."""
    try:
        async with asyncio.timeout(PATIENCE):
            if not await reader.read(_HEAD):
                return
    except TimeoutError:
        pass
    writer.write(_line(listener, _ends(writer)))


async def _http(listener: Listener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    ends, first = _ends(writer), b""
    try:
        async with asyncio.timeout(PATIENCE):
            first = await reader.read(1)
    except TimeoutError:
        writer.write(_body(listener))
        return
    while first:
        async with asyncio.timeout(_SLOW):
            head = await _head(reader, first)
            kept = _wants_more(head)
            writer.write(_response(listener, ends, head, kept=kept))
            await writer.drain()
        if not kept:
            return
        async with asyncio.timeout(_KEPT):
            first = await reader.read(1)


async def _head(reader: asyncio.StreamReader, first: bytes) -> bytes:
    """A request up to its empty line; what is none, only as far as that shows. Raises EOFError, LimitOverrunError."""
    head = first
    while b"\r\n\r\n" not in head and b"\n\n" not in head and _may_be_http(head):
        more = await reader.read(4096)
        if not more:
            raise EOFError
        head += more
        if len(head) > _HEAD:
            return b""
    return head


def _may_be_http(head: bytes) -> bool:
    method, blank, _ = head[: _METHOD + 1].partition(b" ")
    return method.isalpha() and method.isupper() and (bool(blank) or len(method) <= _METHOD)


def _wants_more(head: bytes) -> bool:
    """Whether the client asked to keep the connection; never when more came than a head: a body is not read."""
    lines = [line.strip().lower() for line in head.split(b"\n")[1:]]
    if not head.endswith((b"\r\n\r\n", b"\n\n")):
        return False
    names = {line.partition(b":")[0] for line in lines}
    asked = any(line.startswith(b"connection:") and b"keep-alive" in line for line in lines)
    return asked and not names & {b"content-length", b"transfer-encoding", b"expect"}


def _body(listener: Listener) -> bytes:
    return listener.says.encode("utf-8", "replace") + b"\n"


def _filled(body: bytes, head: bytes) -> bytes:
    """The body, with as many dots as make it the length that the request line asks for (at most 60,000 bytes)."""
    asked = _BYTES.match(head)
    return body + b"." * (min(int(asked[1]), _LARGEST) - len(body)) if asked else body


def _response(listener: Listener, ends: dict[str, Any], head: bytes, *, kept: bool) -> bytes:
    """The answer to a request; to what is none (an empty ``head``: one too long) 400, with the same body and headers.

    What ``says`` holds reaches a header only as printable ASCII.
    """
    good = bool(head) and _may_be_http(head)
    body, pod = _filled(_body(listener), head), printable(listener.says).encode("ascii", "backslashreplace").decode()
    lines = [
        "HTTP/1.1 200 OK" if good else "HTTP/1.1 400 Bad Request",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        f"Connection: {'keep-alive' if kept else 'close'}",
        f"X-K8snet-Pod: {pod}",
        f"X-K8snet-Server: {socket_text(ends['server'], ends['port'])}",
        f"X-K8snet-Peer: {socket_text(ends['peer'], ends['peer_port'])}",
    ]
    if listener.port in _TLS or not good:
        lines.append(f"X-K8snet-Note: plain HTTP on port {listener.port}, no TLS in a twin")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + (b"" if head.startswith(b"HEAD ") else body)


async def _dns(listener: Listener, zone: Zone, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Queries, each after two bytes of its length (RFC 1035 section 4.2.2), until the client closes or falls silent."""
    told = _told(listener, _ends(writer))
    while True:
        async with asyncio.timeout(_SLOW):
            length = int.from_bytes(await reader.readexactly(2), "big")
            reply = zone.answer(await reader.readexactly(length), "tcp", told)
            if reply is None:
                return
            writer.write(len(reply).to_bytes(2, "big") + reply)
            await writer.drain()


def _told(listener: Listener, ends: dict[str, Any]) -> tuple[str, ...]:
    """What ``id.server.`` is answered: the line that other kinds answer with, one text a part."""
    return (listener.says, *(str(part) for part in ends.values()))


def _datagrams(bound: socket.socket, listener: Listener, zone: Zone | None) -> None:
    """Answer what has come in, from the address that it came to; not so much at once that TCP clients starve.

    Read first, then answered: the kernel's queue is short. A reply that does not leave (that queue is full, the client
    says its port is 0) is lost, as in any network.
    """
    own = bound.getsockname()
    came: list[tuple[bytes, Any]] = []
    while len(came) < _AT_ONCE:
        try:
            came.append(bound.recvfrom(65535))
        except BlockingIOError:
            break
        except OSError:
            continue  # an ICMP error for an earlier reply: that client is gone
    for data, peer in came:
        ends = _who(own, peer)
        if listener.kind == "dns" and zone is not None:
            reply = zone.answer(data, "udp", _told(listener, ends))
        else:
            reply = _line(listener, ends)
        if reply is not None:
            with contextlib.suppress(OSError):
                bound.sendto(reply, peer)


def _long_queue(bound: socket.socket) -> None:
    """Room for a crowd's datagrams: as much as this process may have (``socket(7)``, SO_RCVBUFFORCE)."""
    for option in (socket.SO_RCVBUF, _SO_RCVBUFFORCE):
        with contextlib.suppress(OSError):
            bound.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
