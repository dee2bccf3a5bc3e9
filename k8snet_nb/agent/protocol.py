"""The frames between an agent and who asks it: length-prefixed, compressed, bounded.

A frame is ``K8SN``, the length of the body (4 bytes, big endian), and the body: a zlib stream of one line of JSON (the
header) and raw bytes (the payload). Whoever reads bounds both the body and what it unpacks to.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

__all__ = ["LIMIT", "REQUEST_LIMIT", "BadFrame", "check_head", "frame_size", "pack", "read_frame", "unpack"]

LIMIT = 256 * 1024 * 1024
"""Bytes that one frame may unpack to, unless the reader says another number."""

REQUEST_LIMIT = 16 * 1024 * 1024
"""The same for a request; an agent ends when it gets a larger one."""

_MAGIC = b"K8SN"
_HEAD = struct.Struct("!4sI")
_CHUNK = 1 << 20


class BadFrame(Exception):
    """What came is no frame, or a larger one than agreed."""


def pack(header: dict[str, Any], payload: bytes = b"", limit: int = LIMIT) -> bytes:
    """One frame. Raises BadFrame for more bytes than ``limit``."""
    line = json.dumps(header, separators=(",", ":")).encode() + b"\n"
    if len(line) + len(payload) > limit:
        raise BadFrame("an answer of %d bytes is over the limit of %d" % (len(line) + len(payload), limit))
    squeezer = zlib.compressobj(1)
    body = squeezer.compress(line) + squeezer.compress(payload) + squeezer.flush()
    return _HEAD.pack(_MAGIC, len(body)) + body


def frame_size(data: bytes | bytearray) -> int | None:
    """How many bytes the frame that begins here has; None as long as it is not all there."""
    if len(data) < _HEAD.size:
        return None
    size = _HEAD.size + int(_HEAD.unpack_from(data)[1])
    return size if len(data) >= size else None


def check_head(data: bytes | bytearray, limit: int) -> int:
    """The size of a frame's head. Raises BadFrame when ``data`` begins with another, or with one of a larger frame."""
    if len(data) >= _HEAD.size:
        magic, length = _HEAD.unpack_from(data)
        if magic != _MAGIC:
            raise BadFrame("this is no frame of the agent: %r" % bytes(data[: _HEAD.size]))
        if length > limit + 1024:
            raise BadFrame("a frame of %d bytes is over the limit of %d" % (length, limit))
    return _HEAD.size


def unpack(body: bytes, limit: int = LIMIT) -> tuple[dict[str, Any], bytes]:
    """Header and payload of a frame's body. Raises BadFrame; never unpacks more than ``limit`` bytes."""
    opener = zlib.decompressobj()
    try:
        data = opener.decompress(body, limit + 1)
    except zlib.error as error:
        raise BadFrame("a frame does not unpack: %s" % error) from None
    if len(data) > limit:
        raise BadFrame("a frame unpacks to more than the limit of %d bytes" % limit)
    if not opener.eof:
        raise BadFrame("a frame is cut short")
    line, separator, payload = data.partition(b"\n")
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    if not separator or not isinstance(header, dict):
        raise BadFrame("a frame has no header")
    return header, payload


def read_frame(read: Callable[[int], bytes], limit: int = LIMIT) -> tuple[dict[str, Any], bytes] | None:
    """The next frame from ``read(n)`` (which returns up to n bytes, b"" at the end); None at a clean end."""
    head = _exactly(read, _HEAD.size)
    if not head:
        return None
    if len(head) < _HEAD.size:
        raise BadFrame("the stream ended inside a frame's head")
    check_head(head, limit)
    length = _HEAD.unpack(head)[1]
    body = _exactly(read, length)
    if len(body) < length:
        raise BadFrame("the stream ended inside a frame: %d of %d bytes" % (len(body), length))
    return unpack(body, limit)


def _exactly(read: Callable[[int], bytes], size: int) -> bytes:
    parts = []
    while size > 0:
        part = read(min(size, _CHUNK))
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
