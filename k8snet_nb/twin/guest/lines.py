"""Connections over serial lines: what stands at both ends of each line between a guest and its host.

A serial line has no end and no second connection. So what goes over it is framed: a kind, a length (2 bytes, big
endian) and as many bytes. A line carries one connection at a time, with the two half-closings that a stream socket has,
and after both it is free for the next one.

Each end takes everything that comes at once: the other sends no more than a window before it is told that it was passed
on. So nothing ever has to be held up, neither a guest's tty by its full host nor a host by a full tty: measured on
User-Mode Linux 6.1, either may then wait for ever.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

__all__ = ["ACK", "DATA", "END", "HELLO", "OPEN", "STOP", "TO_GUEST", "TO_HOST", "BadLine", "Line"]

HELLO, OPEN, DATA, ACK, END, STOP = b"H", b"O", b"D", b"A", b"E", b"S"
"""The guest's end is free; a new connection; bytes of it; so much was passed on; no more comes; no more is taken."""

_HEAD, _AMOUNT = struct.Struct("!cH"), struct.Struct("!I")
_PIECE = 16384
TO_GUEST, TO_HOST = 3000, 32768
"""Windows, in bytes: a tty is held up at 3,968 unread ones (N_TTY_BUF_SIZE less TTY_THRESHOLD_THROTTLE), of which some
go to frames without data; a socket at about 200,000, with what it keeps beside each piece."""
_KEPT = 256
"""What a frame of data takes of the window beside its bytes."""


class BadLine(Exception):
    """What came over a line is no frame, or none that may come now."""


class Line:
    """One end of one line. ``opened`` makes the connection that the host asks for; None: this end is the host's.

    The loop that owns it asks :meth:`wanted` what to wait for and tells :meth:`ready` what came.
    """

    def __init__(self, fd: int, opened: Callable[[], socket.socket] | None = None) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.greeted = False
        self.alive = True
        self._opened = opened
        self._connection: socket.socket | None = None
        self._input, self._to_line, self._to_connection = bytearray(), bytearray(), bytearray()
        self._carrying = False
        self._said_end = self._heard_end = True
        self._stopped = self._shut = False
        self._credit = self._owed = 0

    @property
    def free(self) -> bool:
        """Whether a new connection may begin."""
        return self.alive and self.greeted and not self._carrying

    def greet(self) -> None:
        """Say that this end can take a connection."""
        self._frame(HELLO)
        self.greeted = True

    def begin(self, connection: socket.socket, first: bytes = b"") -> None:
        """Carry ``connection`` from now on; it gets ``first`` before anything of the other end's."""
        self._frame(OPEN)
        self.greeted = False  # until the other end says so again
        self._carry(connection)
        self._to_connection += first

    def wanted(self) -> dict[int, int]:
        """Descriptor -> events of poll(2) to wait for."""
        if not self.alive:
            return {}
        wanted = {self.fd: select.POLLIN | (select.POLLOUT if self._to_line else 0)}
        if self._connection is not None and not self._stopped:
            events = select.POLLIN if not self._said_end and self._credit > _KEPT else 0
            events |= select.POLLOUT if self._to_connection else 0
            if events or self._said_end:  # without any event: whether both directions of it were closed
                wanted[self._connection.fileno()] = events
        return wanted

    def ready(self, fd: int, events: int) -> None:
        """Do what these events allow. Raises BadLine for what is no frame."""
        try:
            if fd == self.fd:
                if events & select.POLLOUT:
                    self._flush()
                if events & ~select.POLLOUT:
                    self._hear()
            elif self._connection is not None and fd == self._connection.fileno():
                if events & ~select.POLLOUT and not self._said_end and self._credit > _KEPT:
                    self._read()
                self._write()
                if events & select.POLLHUP and self._said_end:
                    self._stop()
        finally:
            self._settle()

    def close(self) -> None:
        """End the connection; the line is of no more use."""
        self.alive = False
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _carry(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._carrying = True
        self._said_end = self._heard_end = self._stopped = self._shut = False
        self._credit, self._owed = TO_GUEST if self._opened is None else TO_HOST, 0

    def _frame(self, kind: bytes, body: bytes = b"") -> None:
        self._to_line += _HEAD.pack(kind, len(body)) + body

    def _flush(self) -> None:
        with suppress(BlockingIOError):
            try:
                del self._to_line[: os.write(self.fd, memoryview(self._to_line)[:_PIECE].tobytes())]
            except BlockingIOError:
                raise
            except OSError:
                self.close()

    def _hear(self) -> None:
        try:
            data = os.read(self.fd, _PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._input += data
        while len(self._input) >= _HEAD.size:
            kind, size = _HEAD.unpack_from(self._input)
            if len(self._input) < _HEAD.size + size:
                return
            body = bytes(self._input[_HEAD.size : _HEAD.size + size])
            del self._input[: _HEAD.size + size]
            self._take(kind, body)

    def _take(self, kind: bytes, body: bytes) -> None:
        if kind == HELLO:
            self.greeted = True
        elif kind == OPEN and self._opened is not None and self.free:
            try:
                self._carry(self._opened())
            except OSError:
                self._carrying, self._heard_end = True, False
                self._frame(END)
        elif kind == DATA and not self._heard_end:
            self._owed += len(body) + _KEPT
            if self._connection is not None and not self._stopped:
                self._to_connection += body
            self._acknowledge()
        elif kind == ACK and len(body) == _AMOUNT.size:
            self._credit += _AMOUNT.unpack(body)[0]
        elif kind == END and not self._heard_end:
            self._heard_end = True
            self._settle()
        elif kind == STOP:
            if self._connection is not None and not self._said_end:
                with suppress(OSError):  # whoever writes to the other end of it now fails, as with a closed socket
                    self._connection.shutdown(socket.SHUT_RD)
                self._said_end = True
                self._frame(END)
                self._settle()
        else:
            raise BadLine(f"a frame of kind {kind!r} with {len(body)} bytes cannot come here")

    def _read(self) -> None:
        if self._connection is None:
            return
        try:
            data = self._connection.recv(min(_PIECE, self._credit - _KEPT))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._credit -= len(data) + _KEPT
            self._frame(DATA, data)
        else:
            self._said_end = True
            self._frame(END)

    def _write(self) -> None:
        if self._connection is None or not self._to_connection:
            return
        try:
            del self._to_connection[: self._connection.send(self._to_connection)]
        except BlockingIOError:
            return
        except OSError:
            self._stop()
        self._acknowledge()

    def _stop(self) -> None:
        """Nobody takes what the other end sends."""
        if not self._stopped:
            self._stopped = True
            self._to_connection.clear()
            self._frame(STOP)
            self._acknowledge()

    def _acknowledge(self) -> None:
        if self._owed and not self._to_connection:
            self._frame(ACK, _AMOUNT.pack(self._owed))
            self._owed = 0

    def _settle(self) -> None:
        """Pass on the other end's half-closing, and end what ended on both sides."""
        if not self._carrying or not self._heard_end or self._to_connection:
            return
        if self._connection is not None and not self._shut:
            self._shut = True
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_WR)
        if self._said_end:
            self._carrying = False
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if self._opened is not None:
                self.greet()
