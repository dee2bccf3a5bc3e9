"""What one request found out and the next need not ask again: words in memory that a process shares with its children.

Every request has a child process of its own, which forgets what it knew when it ends; these words stay.
"""

from __future__ import annotations

import json
import mmap
import struct
import zlib

__all__ = ["Learned"]

_SIZE = 1 << 16
_HEAD = struct.Struct("=II")


class Learned:
    """A small table of texts, shared with processes that are forked after it was made.

    Two that write at once may lose each other's word; one that reads meanwhile finds nothing. Both only ask again.
    """

    def __init__(self, size: int = _SIZE) -> None:
        self._memory = mmap.mmap(-1, size)

    def get(self, key: str) -> str | None:
        """The text that was put under ``key``, or None."""
        found = self._all().get(key)
        return found if isinstance(found, str) else None

    def put(self, key: str, text: str) -> None:
        """Keep a text. Where there is no room left, the table begins anew."""
        for words in ({**self._all(), key: text}, {key: text}):
            data = json.dumps(words).encode()
            if _HEAD.size + len(data) <= len(self._memory):
                self._memory[: _HEAD.size + len(data)] = _HEAD.pack(len(data), zlib.crc32(data)) + data
                return

    def _all(self) -> dict[str, str]:
        size, check = _HEAD.unpack_from(self._memory)
        data = self._memory[_HEAD.size : _HEAD.size + size]
        if not size or len(data) != size or zlib.crc32(data) != check:
            return {}
        found: dict[str, str] = json.loads(data)
        return found
