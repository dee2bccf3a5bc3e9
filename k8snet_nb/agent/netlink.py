"""Dumps over a netlink socket, as few copies as Python allows. Source: netlink(7), rtnetlink(7).

A node has hundreds of namespaces, and a kit for message classes takes longer to decode one than ``ip`` takes to start:
the numbers that matter are unpacked here directly. Tests compare with what ``ip -j`` prints.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

from .kernel import Missing

__all__ = ["Netlink", "attributes", "nested", "s32", "u8", "u16", "u32"]

NETLINK_ROUTE, NETLINK_SOCK_DIAG = 0, 4
_REQUEST, _DUMP, _DUMP_INTR = 0x1, 0x300, 0x10
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_BUFFER = 1 << 18
_TRIES = 4


def u8(data: bytes) -> int:
    """The attribute's first byte."""
    return data[0]


def u16(data: bytes) -> int:
    """16 bits in the machine's order."""
    return int(struct.unpack_from("=H", data)[0])


def u32(data: bytes) -> int:
    """32 bits in the machine's order."""
    return int(struct.unpack_from("=I", data)[0])


def s32(data: bytes) -> int:
    """32 bits with sign in the machine's order."""
    return int(struct.unpack_from("=i", data)[0])


def nested(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """Type (without its flag bits) and value of every attribute of a message, in its order."""
    end = len(data)
    while start + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < 4 or start + length > end:
            raise Missing("the kernel's answer holds a malformed attribute", "failed")
        yield kind & 0x3FFF, data[start + 4 : start + length]
        start += (length + 3) & ~3


def attributes(data: bytes, start: int = 0) -> dict[int, bytes]:
    """The attributes of a message by type; of a repeated one the last."""
    return dict(nested(data, start))


class Netlink:
    """A netlink socket in the network namespace that the thread is in when it is made. Close it, or use ``with``."""

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        except OSError as error:
            raise Missing("no netlink socket: %s" % error.strerror) from None
        self._socket.settimeout(10)
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def dump(self, kind: int, body: bytes) -> list[tuple[int, bytes]]:
        """All messages (type, payload) that answer a dump. Repeated when the kernel says that it changed meanwhile."""
        for _ in range(_TRIES):
            found, consistent = self._dump(kind, body)
            if consistent:
                return found
        raise Missing("the kernel's tables changed during each of %d readings" % _TRIES, "failed")

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        self._socket.send(_HEADER.pack(16 + len(body), kind, _REQUEST | flags, self._sequence, 0) + body)

    def _dump(self, kind: int, body: bytes) -> tuple[list[tuple[int, bytes]], bool]:
        self._send(kind, _DUMP, body)
        found: list[tuple[int, bytes]] = []
        consistent = True
        while True:
            for number, flags, payload in self._receive():
                consistent = consistent and not flags & _DUMP_INTR
                if number in (_DONE, _ERROR):
                    failure = -s32(payload) if len(payload) >= 4 else 0
                    if failure > 0:
                        raise Missing(os.strerror(failure), "denied" if failure in (1, 13) else "failed")
                    return found, consistent
                found.append((number, payload))

    def ask(self, kind: int, body: bytes) -> bytes | None:
        """The one message that answers a request; None where the kernel answers with an error or nothing."""
        self._send(kind, 0, body)
        for number, _, payload in self._receive():
            return None if number == _ERROR else payload
        return None

    def _receive(self) -> Iterator[tuple[int, int, bytes]]:
        try:
            data = self._socket.recv(_BUFFER)
        except socket.timeout:
            raise Missing("the kernel did not answer within 10 seconds", "failed") from None
        position = 0
        while position + 16 <= len(data):
            length, number, flags, sequence, _ = _HEADER.unpack_from(data, position)
            if length < 16 or position + length > len(data):
                raise Missing("the kernel's answer is cut short", "failed")
            if sequence == self._sequence:
                yield number, flags, data[position + 16 : position + length]
            position += (length + 3) & ~3
