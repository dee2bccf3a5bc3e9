"""How far a long reading is: a line on a terminal, or another view. Quick ones stay silent."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

__all__ = ["Progress", "ProgressLine", "WhenSlow", "usual_progress"]

Progress = Callable[[str, int, "int | None"], None]
"""Told what is being read, how much of it is there, and of how much (None: not known)."""
_WIDTH = 20


class WhenSlow:
    """Hands on what it is told to a view, which is made at the first reading that takes longer than a moment."""

    def __init__(self, make: Callable[[], Progress], after: float = 1.0) -> None:
        self._make, self._after = make, after
        self._view: Progress | None = None
        self._what, self._since, self._shown = "", 0.0, False

    def __call__(self, what: str, count: int, total: int | None) -> None:
        """Tell. A reading that is shown is told to its end."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._since, self._shown = what, now, False
        if now - self._since >= self._after or self._shown:
            self._view = self._view or self._make()
            self._view(what, count, total)
            self._shown = True
        if total is not None and count >= total:
            self._what = ""


class ProgressLine:
    """Rewrites one line of a terminal; the end of a reading ends it."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr

    def __call__(self, what: str, count: int, total: int | None) -> None:
        """Write the line."""
        done = total is not None and count >= total
        bar = "" if total is None else f"[{'#' * (_WIDTH * min(count, total) // max(total, 1)):<{_WIDTH}}] "
        of = "" if total is None else f" of {total}"
        hint = "" if done else " (Ctrl-C stops; what is read is kept)"
        self._stream.write(f"\r\x1b[K{what}: {bar}{count}{of}{hint}" + ("\n" if done else ""))
        self._stream.flush()


def usual_progress() -> Progress | None:
    """A line where a person looks on, at a terminal; None elsewhere."""
    return WhenSlow(ProgressLine) if sys.stderr.isatty() else None
