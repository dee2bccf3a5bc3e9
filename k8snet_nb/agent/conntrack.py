"""Connection tracking straight from the kernel, in the network namespace of the calling thread.

Standard library only, and Python 3.9: this runs on nodes. Nothing is loaded and nothing is changed: whether conntrack
and its netlink interface are there is read from /proc first, because asking by netlink would load the module.
Protocol: linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h.
"""

from __future__ import annotations

import errno
import os
import platform
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .kernel import Missing

__all__ = [
    "DumpFilter",
    "Events",
    "Unavailable",
    "dump",
    "none_tracked",
    "sample",
    "stats_text",
    "table",
    "unavailable",
]

_NETFILTER = 12
_CTNETLINK = 1 << 8
_GET, _GET_STATS_CPU = 1, 4
_REQUEST, _DUMP = 0x1, 0x300
_ERROR, _DONE = 2, 3
_FIRST, _PIECE = 1 << 18, 8 << 20  # most namespaces hold few connections: a large piece would only be cleared
_LARGEST = 1 << 16  # the kernel fills at most 32 KiB at a time, if the first read offers room for it
_NOTHING = struct.pack("=IHHIIi", 20, _DONE, 0x2, 0, 0, 0)  # NLMSG_DONE: how the dump of an empty table ends
_COUNT, _MAXIMUM = "/proc/sys/net/netfilter/nf_conntrack_count", "/proc/sys/net/netfilter/nf_conntrack_max"
_CPU_COUNTERS = (
    (2, "found"),
    (4, "invalid"),
    (8, "insert"),
    (9, "insert_failed"),
    (10, "drop"),
    (11, "early_drop"),
    (12, "error"),
    (13, "search_restart"),
    (14, "clash_resolve"),
    (15, "chaintoolong"),
)
_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "gre": 47, "icmpv6": 58, "sctp": 132, "udplite": 136}


class Unavailable(Missing):
    """Connection tracking cannot be read here; the message says why and what would help."""


@dataclass(frozen=True)
class DumpFilter:
    """What the kernel is asked to leave out: at least what it is able to. Always filter the answer too.

    Old kernels ignore filters that they do not know, and IPv6 addresses are never asked for (only their family).

    Addresses are those of the original direction; ``reply_source`` of the reply. Ports need ``protocol``.
    """

    family: str | None = None  # "ipv4" or "ipv6"
    source: str | None = None
    destination: str | None = None
    protocol: str | None = None
    port: int | None = None
    reply_source: str | None = None
    mark: int | None = None
    zone: int | None = None


def unavailable() -> str | None:
    """Why this namespace's table cannot be read, without trying; None when nothing speaks against it."""
    if not Path(_COUNT).exists():
        return "nf_conntrack is not loaded: nothing on this node tracks connections"
    if not _ctnetlink_there():
        return "nf_conntrack_netlink is not loaded, and reading must not load it"
    return None


def _ctnetlink_there() -> bool:
    """Whether the netlink interface is loaded or built in: from module lists, at last from the kernel's symbols."""
    name = "nf_conntrack_netlink"
    if Path("/sys/module", name).is_dir():
        return True
    builtin = Path("/lib/modules", platform.release(), "modules.builtin")
    for listing, word in ((Path("/proc/modules"), name + " "), (builtin, "/" + name + ".ko")):
        try:
            if word in listing.read_text():
                return True
        except OSError:
            continue
    try:
        with Path("/proc/kallsyms").open() as symbols:
            return any(" ctnetlink_" in line for line in symbols)
    except OSError:
        return False


def _attribute(kind: int, payload: bytes, nested: bool = False) -> bytes:
    size = 4 + len(payload)
    return struct.pack("=HH", size, kind | (0x8000 if nested else 0)) + payload + b"\0" * (-size % 4)


def _tuple(address: list[tuple[int, str]], protocol: int | None, port: int | None) -> tuple[bytes, int]:
    """A partial tuple and the flags that say which of its parts count."""
    flags, ip, proto = 0, b"", b""
    for kind, text in address:
        six = ":" in text
        packed = socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, text)
        ip += _attribute(kind + (2 if six else 0), packed)
        flags |= 1 << (kind - 1)
    if protocol is not None:
        proto = _attribute(1, struct.pack("B", protocol))
        flags |= 1 << 3
        if port is not None:
            proto += _attribute(3, struct.pack(">H", port))
            flags |= 1 << 5
    parts = (_attribute(1, ip, True) if ip else b"") + (_attribute(2, proto, True) if proto else b"")
    return parts, flags


def _filter_attributes(wanted: DumpFilter) -> tuple[int, bytes]:
    """The address family to ask for, and the attributes of the request."""
    address = [(kind, text) for kind, text in ((1, wanted.source), (2, wanted.destination)) if text]
    reply = [(1, wanted.reply_source)] if wanted.reply_source else []
    families = {6 if ":" in text else 4 for _, text in address + reply}
    if wanted.family:
        families.add(6 if wanted.family == "ipv6" else 4)
    if len(families) > 1:
        raise ValueError("a filter with addresses of both families matches nothing")
    family = {0: 0, 4: socket.AF_INET, 6: socket.AF_INET6}[families.pop() if families else 0]
    out = b""
    if wanted.mark is not None:
        out += _attribute(8, struct.pack(">I", wanted.mark)) + _attribute(21, struct.pack(">I", 0xFFFFFFFF))
    if wanted.zone is not None:
        out += _attribute(18, struct.pack(">H", wanted.zone))
    if family:  # tuples are compared within one family only
        number = _PROTOCOLS.get(wanted.protocol or "")
        if family == socket.AF_INET6:  # kernels compare these the wrong way round: equal addresses do not match
            address, reply = [], []
        parts, flags = _tuple(address, number, wanted.port)
        back, back_flags = _tuple(reply, None, None)
        if flags or back_flags:
            out += _attribute(1, parts, True) if parts else b""
            out += _attribute(2, back, True) if back else b""
            both = _attribute(1, struct.pack("=I", flags)) + _attribute(2, struct.pack("=I", back_flags))
            out += _attribute(25, both, True)
    return family, out


def _open(groups: int = 0) -> socket.socket:
    reason = unavailable()
    if reason:
        raise Unavailable(reason)
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)
    except OSError as error:
        raise Unavailable("no netfilter netlink socket here (" + os.strerror(error.errno or 0) + ")") from error
    try:
        _grow(sock)
        sock.bind((0, groups))
    except OSError as error:
        sock.close()
        raise _refused(error.errno or 0) from error
    return sock


def _grow(sock: socket.socket, size: int = 16 << 20) -> None:
    """A large receive buffer; beyond the machine's limit only where that is allowed."""
    force = getattr(socket, "SO_RCVBUFFORCE", 33)
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def _refused(number: int) -> Unavailable:
    if number in (errno.EPERM, errno.EACCES):
        return Unavailable("not permitted: reading conntrack needs CAP_NET_ADMIN in this network namespace", "denied")
    return Unavailable("the kernel refuses to tell its conntrack table: " + os.strerror(number), "failed")


def _request(sock: socket.socket, message: int, family: int = 0, attributes: bytes = b"", flags: int = _DUMP) -> None:
    size = 20 + len(attributes)
    # A number that is unlikely among the values in the answer: its messages are found by it.
    sequence = 0x40000000 | int.from_bytes(os.urandom(3), "little") << 4 | 0x5
    head = struct.pack("=IHHII", size, _CTNETLINK | message, _REQUEST | flags, sequence, 0)
    sock.send(head + struct.pack("=BBH", family, 0, 0) + attributes)


def _ended(view: memoryview, begin: int, end: int) -> bool:
    """Whether the messages received last hold the end of the dump. Raises Unavailable on an error message."""
    if end - begin < 16:
        raise Unavailable("the kernel's answer is cut", "failed")
    kind = struct.unpack_from("=H", view, begin + 4)[0]
    if kind == _ERROR:
        number = -struct.unpack_from("=i", view, begin + 16)[0]
        if number:
            raise _refused(number)
        return True
    if kind == _DONE:
        return True
    # The end of a dump may follow the last entries in the same datagram: a message of 20 bytes at its very end.
    if end - begin < 36:
        return False
    size, last = struct.unpack_from("=IH", view, end - 20)
    sequence = struct.unpack_from("=I", view, begin + 8)[0]
    return bool(last == _DONE and size == 20 and struct.unpack_from("=I", view, end - 12)[0] == sequence)


def _answers(sock: socket.socket, piece: int) -> Iterator[bytearray]:
    """The answer to a dump request in pieces of whole messages, the last with the dump's end."""
    done, size = False, min(_FIRST, piece)
    while not done:
        data, size = bytearray(size), piece
        view, at = memoryview(data), 0
        while not done and len(data) - at >= _LARGEST:
            try:
                got, _, flags, _ = sock.recvmsg_into([view[at:]])
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    raise Unavailable("the kernel dropped part of the answer: no buffer space", "failed") from error
                raise _refused(error.errno or 0) from error
            if flags & socket.MSG_TRUNC:
                raise Unavailable("the kernel's answer does not fit: cut after " + str(got) + " bytes", "failed")
            done = _ended(view, at, at + got)
            at += got
        view.release()
        del data[at:]
        yield data


def dump(wanted: DumpFilter | None = None, piece: int = _PIECE) -> Iterator[bytearray]:
    """The table of this namespace as raw netlink messages, in pieces of at most ``piece`` bytes (whole messages).

    Both address families; the last piece ends with NLMSG_DONE. Raises Unavailable (not loaded, not permitted).
    """
    family, attributes = _filter_attributes(wanted) if wanted else (0, b"")
    sock = _open()
    try:
        _request(sock, _GET, family, attributes)
        yield from _answers(sock, piece)
    finally:
        sock.close()


def _values(view: bytes) -> Iterator[tuple[int, int]]:
    """The 32-bit attributes of one message's body."""
    at = 20
    while at + 8 <= len(view):
        size, kind = struct.unpack_from("=HH", view, at)
        if size < 4:
            return
        yield kind & 0x3FFF, struct.unpack_from(">I", view, at + 4)[0]
        at += (size + 3) & ~3


def _bodies(data: bytes) -> Iterator[bytes]:
    """Messages of one answer that belong to conntrack."""
    at = 0
    while at + 16 <= len(data):
        size, kind = struct.unpack_from("=IH", data, at)
        if size < 16:
            return
        if kind >> 8 == 1:
            yield data[at : at + size]
        at += (size + 3) & ~3


def stats_text() -> bytes:
    """The counters of each CPU, as ``conntrack -S`` prints them (only counters that the kernel tells)."""
    sock = _open()
    try:
        _request(sock, _GET_STATS_CPU)
        # some bytes a CPU: to make room for millions takes longer than all the rest
        data = b"".join(bytes(piece) for piece in _answers(sock, 2 * _LARGEST))
    finally:
        sock.close()
    lines = []
    for body in _bodies(data):
        values = dict(_values(body))
        cpu = struct.unpack_from(">H", body, 18)[0]
        pairs = " ".join(name + "=" + str(values[kind]) for kind, name in _CPU_COUNTERS if kind in values)
        lines.append("cpu=" + str(cpu).ljust(4) + "\t" + pairs + " \n")
    return "".join(lines).encode()


def table(said: dict[str, Any] | None = None) -> bytes:
    """The whole answer of :func:`dump` for a filter as a request spells it: names and values of DumpFilter.

    Raises Missing for a filter that is none.
    """
    try:
        wanted = DumpFilter(**said) if said else None
        _filter_attributes(wanted or DumpFilter())  # one that is none is refused even where there is nothing to choose
        if none_tracked() and unavailable() is None:
            return _NOTHING
        return b"".join(dump(wanted))
    except (TypeError, ValueError, OverflowError, struct.error) as error:
        raise Missing("a filter that is none: %s" % error, "failed") from None


def none_tracked() -> bool:
    """Whether this namespace's table is empty. A dump would walk the connections of all namespaces to find none."""
    try:
        with open(_COUNT) as file:
            return file.read().strip() == "0"
    except OSError:
        return False


def sample() -> bytes:
    """Count and maximum of this namespace now: a heading, and a line of seconds since 1970 and the two."""
    numbers = []
    for path in (_COUNT, _MAXIMUM):
        try:
            with open(path) as file:
                numbers.append(file.read().strip())
        except OSError as error:
            raise Missing("nf_conntrack is not loaded: no %s (%s)" % (path, error.strerror)) from None
    return ("unix_time,nf_conntrack_count,nf_conntrack_max\n%.1f,%s\n" % (time.time(), ",".join(numbers))).encode()


class Events:
    """What happens to this namespace's table from now on: raw NEW, UPDATE and DESTROY messages.

    ``dropped`` counts how often the kernel said that events were lost because nobody read them in time. Entries that
    were made before the first listener came may tell nothing (net.netfilter.nf_conntrack_events is 2).
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._sock = _open(groups=0b111)

    def read(self, timeout: float = 1.0) -> bytes:
        """The messages of one datagram, or nothing when none came within ``timeout`` seconds or some were lost."""
        if not select.select([self._sock], [], [], timeout)[0]:
            return b""
        try:
            return self._sock.recv(_LARGEST)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self.dropped += 1
            return b""

    def close(self) -> None:
        """Stop listening."""
        self._sock.close()
