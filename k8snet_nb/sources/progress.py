"""A line that tells how far a long reading is; quick ones stay silent."""

from __future__ import annotations

import sys
import time
from typing import TextIO

__all__ = ["ProgressLine", "usual_progress"]


class ProgressLine:
    """Called with what is read, how much is there and of how much; rewrites one line, from the second second on."""

    def __init__(self, stream: TextIO | None = None, after: float = 1.0) -> None:
        self._stream, self._after = stream or sys.stderr, after
        self._what, self._since, self._shown = "", 0.0, False

    def __call__(self, what: str, count: int, total: int | None) -> None:
        """Tell. The end of a reading ends the line."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._since, self._shown = what, now, False
        done = total is not None and count >= total
        if now - self._since < self._after and not self._shown:
            return
        bar = f"[{'#' * (20 * count // max(total, 1)):<20}] " if total is not None else ""
        of = f" of {total}" if total is not None else ""
        self._stream.write(f"\rreading {what}: {bar}{count}{of} (interrupt to stop)" + ("\n" if done else ""))
        self._stream.flush()
        self._shown = not done


def usual_progress() -> ProgressLine | None:
    """A line where a person looks on: a terminal, or a notebook; None elsewhere."""
    return ProgressLine() if sys.stderr.isatty() or "ipykernel" in sys.modules else None
