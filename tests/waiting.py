"""Waiting for what happens in another thread or process."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["until"]


def until(happened: Callable[[], object], seconds: float = 30.0) -> None:
    """Go on as soon as this is true; fail where it is not in time."""
    end = time.monotonic() + seconds
    while not happened() and time.monotonic() < end:
        time.sleep(0.01)
    assert happened()
