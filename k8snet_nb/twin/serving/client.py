"""The twin's client: many connections from one place, and what each of them met.

:func:`connect` runs in a process that is already inside the client's network namespace. It speaks with the twin's
servers, so that each answer says which pod gave it and which client address that pod saw: the two ends that translation
changed. How a connection ends is told by what the kernel reported (``connect(2)``, ``icmp(7)``):

- ``refused``: a TCP reset to the SYN, or ICMP port unreachable, which kube-proxy's REJECT sends;
- ``unreachable``: another ICMP error, or this namespace has no way there (no route, a packet filter that says so);
- ``reset``: it was established and broke off before the answer;
- ``timeout``: nothing came: dropped, or nobody is there.

Two limits of the kernel's show here. Between namespaces of one machine an ICMPv6 error can come back before
``connect(2)`` has let go of its socket, and is not heeded then (``LockDroppedIcmps`` of ``nstat``); the one to the next
SYN, a second later, is: allow more than a second. And a kernel sends one client only some ICMP errors a second
(``icmp_ratelimit``): of many refused at once most would hear nothing. A twin's namespaces have no such limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import json
import resource
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...errors import Refused
from ...text import printable

__all__ = ["Answer", "Plan", "attempt", "connect"]

_SO_MARK = 36  # socket.SO_MARK since Python 3.11 on Linux; a number lets this module load elsewhere
_RECVERR = {socket.AF_INET: (socket.IPPROTO_IP, 11), socket.AF_INET6: (socket.IPPROTO_IPV6, 25)}
_PORTS = range(1, 65536)
_LIMITS = {"count": (1, 10_000), "concurrency": (1, 4_000)}
_MOST = 65536
_LARGEST = 60_000
_SOCKETS = {
    "tcp": (socket.SOCK_STREAM, 6),
    "udp": (socket.SOCK_DGRAM, 17),
    "sctp": (socket.SOCK_STREAM, 132),
}
_SPEAKS = {"tcp": "http", "udp": "text", "sctp": "text"}
_UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.ENOPROTOOPT, errno.EHOSTDOWN, errno.ENONET}
"""Other ICMP errors than port unreachable, and a route that refuses: see ``ip(7)``, ``icmp_err_convert`` in the kernel.

EPERM is not among them: this namespace's own OUTPUT dropped the packet, and a TCP client would not be told.
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask. ``protocol``: tcp, udp or sctp; ``timeout`` and ``keep`` in seconds.

    ``source``: the client's address; None: the kernel chooses. ``mark``: its packets' fwmark (SO_MARK). ``concurrency``
    connections are under way at once. ``keep``: established TCP connections stay open so long after all have been
    answered. ``speaks``: ``http``, ``text`` (any bytes) or ``dns`` (asks ``id.server.``, RFC 4892); None: by protocol.
    ``size``: bytes of body to ask an HTTP server for, 0: as many as it has to say.

    Raises Refused for values that are no such thing.
    """

    protocol: str
    address: str
    port: int
    count: int = 1
    timeout: float = 2.0
    source: str | None = None
    mark: int | None = None
    concurrency: int = 64
    keep: float = 0.0
    speaks: str | None = None
    size: int = 0

    def __post_init__(self) -> None:
        """Check all of it: a plan may come from a notebook's cell, or over a socket."""
        _require(self.protocol in _SOCKETS, f"protocol {self.protocol!r}: tcp, udp or sctp")
        _require(self.speaks in (None, "http", "text", "dns"), f"speaks {self.speaks!r}: http, text or dns")
        _require(self.port in _PORTS, f"port {self.port!r}: 1 to 65535")
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            _require(type(value) is int and low <= value <= high, f"{name} {value!r}: {low} to {high}")
        _require(0 < self.timeout <= 60, f"timeout {self.timeout!r}: over 0, up to 60 seconds")
        _require(0 <= self.keep <= 600, f"keep {self.keep!r}: 0 to 600 seconds")
        http = (self.speaks or _SPEAKS[self.protocol]) == "http"
        _require(type(self.size) is int and 0 <= self.size <= _LARGEST, f"size {self.size!r}: 0 to {_LARGEST} bytes")
        _require(http or not self.size, "size: only an HTTP server is asked for one")
        _require(self.mark is None or 0 <= self.mark < 1 << 32, f"mark {self.mark!r}: 32 bits")
        try:
            versions = {ipaddress.ip_address(each).version for each in (self.address, self.source) if each is not None}
        except ValueError as bad:
            raise Refused(printable(bad)) from None
        _require(len(versions) == 1, f"from {self.source} to {self.address}: not of one family")


def _require(good: bool, else_says: str) -> None:
    if not good:
        raise Refused(printable(else_says))


@dataclass(frozen=True, slots=True)
class Answer:
    """What one connection met. ``end``: ``ok``, ``refused``, ``unreachable``, ``timeout`` or ``reset``.

    With ``ok``: ``pod`` is who answered, ``server`` and ``port`` its own, ``peer`` and ``peer_port`` the client as it
    saw it; ``local`` and ``local_port`` are the client's own (of a connection without answer too, as far as it came).
    ``ms``: milliseconds to the end. ``says``: the kernel's or the server's words where it is not ``ok``.
    """

    end: str
    pod: str = ""
    server: str = ""
    port: int = 0
    peer: str = ""
    peer_port: int = 0
    local: str = ""
    local_port: int = 0
    ms: float = 0.0
    says: str = ""


class _Broke(Exception):
    """The connection ended before the answer did, or the answer is none of the twin's."""


def connect(plan: Plan, answered: Callable[[Sequence[Answer]], None] | None = None) -> list[Answer]:
    """Make the connections of a plan and give back what each met, in the order they were begun.

    ``answered`` is called once with all answers before kept connections are closed: the time to look at conntrack.

    Raises Refused where the namespace does not have the source address, may not set marks, lacks the protocol, or
    allows fewer open sockets than the plan needs.
    """
    needed = (plan.count if plan.keep else min(plan.count, plan.concurrency)) + 64
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        _require(
            hard == resource.RLIM_INFINITY or hard >= needed, f"{needed} open sockets: this process may have {hard}"
        )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    return asyncio.run(_run(plan, answered))


async def _run(plan: Plan, answered: Callable[[Sequence[Answer]], None] | None) -> list[Answer]:
    free = asyncio.Semaphore(plan.concurrency)
    kept: list[socket.socket] = []

    async def one() -> Answer:
        async with free:
            return await _one(plan, kept)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one()) for _ in range(plan.count)]
        answers = [task.result() for task in tasks]
        if answered is not None:
            answered(answers)
        if kept:
            await asyncio.sleep(plan.keep)
        return answers
    except* Refused as several:
        raise several.exceptions[0] from None
    finally:
        for each in kept:
            each.close()


async def attempt(plan: Plan) -> Answer:
    """One connection of a plan, closed when it is answered. Raises Refused as :func:`connect` does."""
    return await _one(plan, [])


async def _one(plan: Plan, kept: list[socket.socket]) -> Answer:
    client = _socket(plan)
    begun = time.perf_counter()
    established = False
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(plan.timeout):
            await loop.sock_connect(client, (plan.address, plan.port))
            established = plan.protocol != "udp"
            await _say(client, plan)
            found = await _read(client, plan)
    except TimeoutError as late:
        # the kernel's own ETIMEDOUT is one too: it gave up earlier than we
        found = Answer("timeout", says=late.strerror or f"nothing within {plan.timeout:g} s")
    except _Broke as broke:
        found = Answer("reset", says=str(broke))
    except OSError as error:
        found = _ended(error, established)
    found = replace(found, ms=round((time.perf_counter() - begun) * 1000, 3), **_local(client))
    if found.end == "ok" and plan.keep and established:
        kept.append(client)
    else:
        client.close()
    return found


async def _say(client: socket.socket, plan: Plan) -> None:
    """Send the request. Where this namespace's own rules stop a datagram, sending fails, and the ICMP error that tells
    a refusal from a drop comes after that: the answer is waited for all the same.
    """
    with contextlib.suppress(PermissionError) if plan.protocol == "udp" else contextlib.nullcontext():
        await asyncio.get_running_loop().sock_sendall(client, _request(plan))


def _socket(plan: Plan) -> socket.socket:
    """The client's socket. Raises Refused where this namespace cannot have such a one."""
    family = socket.AF_INET6 if ":" in plan.address else socket.AF_INET
    what = f"{plan.protocol} sockets"
    client = None
    try:
        client = socket.socket(family, *_SOCKETS[plan.protocol])
        client.setblocking(False)
        if plan.protocol == "udp":  # else a connected UDP socket is told of port unreachable only, see ip(7)
            client.setsockopt(*_RECVERR[family], 1)
        if plan.mark is not None:
            what = f"mark {plan.mark}"
            client.setsockopt(socket.SOL_SOCKET, _SO_MARK, plan.mark)
        if plan.source is not None:
            what = f"source address {plan.source}"
            client.bind((plan.source, 0))
    except OSError as cannot:
        if client is not None:
            client.close()
        raise Refused(printable(f"{what}: not to be had here ({cannot.strerror})")) from None
    return client


def _local(client: socket.socket) -> dict[str, Any]:
    try:
        name = client.getsockname()
    except OSError:
        return {}
    return {"local": name[0], "local_port": name[1]}


def _ended(error: OSError, established: bool) -> Answer:
    number = error.errno or 0
    says = errno.errorcode.get(number, "") or printable(error)
    if number in _UNREACHABLE:
        return Answer("unreachable", says=says)
    if number == errno.EPERM:
        return Answer("timeout", says=f"{says}: dropped on its way out of this namespace")
    if established or number in (errno.ECONNRESET, errno.EPIPE):
        return Answer("reset", says=says)
    return Answer("refused" if number == errno.ECONNREFUSED else "unreachable", says=says)


def _speaks(plan: Plan) -> str:
    return plan.speaks or _SPEAKS[plan.protocol]


def _request(plan: Plan) -> bytes:
    speaks = _speaks(plan)
    if speaks == "dns":
        from .dns_identity import question

        wire = question()
        return wire if plan.protocol == "udp" else len(wire).to_bytes(2, "big") + wire
    if speaks == "text":
        return b"who?\n"
    host = f"[{plan.address}]" if ":" in plan.address else plan.address
    connection = "keep-alive" if plan.keep else "close"
    path = f"/?bytes={plan.size}" if plan.size else "/"
    return f"GET {path} HTTP/1.1\r\nHost: {host}:{plan.port}\r\nConnection: {connection}\r\n\r\n".encode()


async def _read(client: socket.socket, plan: Plan) -> Answer:
    """The answer, once it is whole. Raises _Broke when the stream ends before, or when it says nothing of a twin."""
    loop, got = asyncio.get_running_loop(), b""
    try:
        while True:
            part = await loop.sock_recv(client, _MOST)
            got += part
            found = _parse(got, plan)
            if found is not None:
                return found
            if not part or plan.protocol == "udp" or len(got) > _MOST:
                raise _Broke(f"the answer broke off after {len(got)} bytes" if got else "closed without an answer")
    except (ValueError, LookupError) as bad:
        raise _Broke(printable(f"no answer of a twin's server: {bad}")) from None


def _parse(got: bytes, plan: Plan) -> Answer | None:
    """What a server said, None while more has to come. Raises ValueError, LookupError."""
    speaks = _speaks(plan)
    if speaks == "dns":
        return _parse_dns(got, framed=plan.protocol != "udp")
    if got.startswith(b"HTTP/"):
        return _parse_http(got)
    if b"\n" not in got:
        return None
    told = json.loads(got.partition(b"\n")[0])
    texts = [str(told[name]) for name in ("pod", "server", "port", "peer", "peer_port")]
    return _told(texts)


def _told(texts: Sequence[str]) -> Answer:
    pod, server, port, peer, peer_port = texts
    return Answer("ok", pod, server, int(port), peer, int(peer_port))


def _parse_dns(got: bytes, *, framed: bool) -> Answer | None:
    from .dns_identity import identity  # the DNS library takes its time to load, and few connections ask for it

    if framed:
        length = int.from_bytes(got[:2], "big")
        if len(got) < 2 + max(length, 1):
            return None
        got = got[2 : 2 + length]
    elif not got:
        return None
    return _told(identity(got))


def _parse_http(got: bytes) -> Answer | None:
    head, blank, body = got.partition(b"\r\n\r\n")
    if not blank:
        return None
    fields = (line.partition(": ") for line in head.decode("ascii", "replace").split("\r\n")[1:])
    headers = {name.lower(): value for name, _, value in fields}
    if len(body) < int(headers.get("content-length", "0")):
        return None
    server, _, port = headers["x-k8snet-server"].rpartition(":")
    peer, _, peer_port = headers["x-k8snet-peer"].rpartition(":")
    return _told([headers["x-k8snet-pod"], server.strip("[]"), port, peer.strip("[]"), peer_port])
