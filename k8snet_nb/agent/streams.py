"""The two ends of the agent's conversation, neither of which makes its loop wait."""

from __future__ import annotations

import os
import selectors
import time
from typing import Any

from .protocol import BadFrame, check_head, frame_size, unpack

__all__ = ["Inbox", "Outbox"]

_CHUNK = 1 << 20


class Inbox:
    """Frames from a descriptor, of up to ``limit`` bytes; one that is not all there waits here."""

    def __init__(self, fd: int, limit: int) -> None:
        self.fd, self._limit = fd, limit
        self._data = bytearray()

    def fill(self) -> bool:
        """Take what there is, at least a byte; True at the end. Raises BadFrame when that is inside a frame."""
        data = os.read(self.fd, _CHUNK)
        self._data += data
        if not data and self._data:
            raise BadFrame("the stream ended inside a frame")
        return not data

    def take(self) -> dict[str, Any] | None:
        """The header of the next whole frame. Raises BadFrame."""
        head = check_head(self._data, self._limit)
        size = frame_size(self._data)
        if size is None:
            return None
        body = bytes(self._data[head:size])
        del self._data[:size]
        return unpack(body, self._limit)[0]


class Outbox:
    """Frames to a descriptor, kept until somebody takes them."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._data = bytearray()
        os.set_blocking(fd, False)

    @property
    def full(self) -> bool:
        """Whether something waits to be taken."""
        return bool(self._data)

    def add(self, frame: bytes) -> None:
        """Send a frame after those that wait. Raises BrokenPipeError when nobody will read it."""
        self._data += frame
        self.flush()

    def flush(self) -> None:
        """Send as much as can be sent without waiting. Raises BrokenPipeError."""
        sent = 0
        with memoryview(self._data) as view:
            try:
                while sent < len(view):
                    sent += os.write(self.fd, view[sent : sent + _CHUNK])
            except BlockingIOError:
                pass
        del self._data[:sent]

    def last_words(self, seconds: float) -> None:
        """Wait up to so long for the rest to be taken. Raises BrokenPipeError."""
        until = time.monotonic() + seconds
        with selectors.DefaultSelector() as waiting:
            waiting.register(self.fd, selectors.EVENT_WRITE)
            while self._data and (left := until - time.monotonic()) > 0:
                waiting.select(left)
                self.flush()
