"""Conntrack events of a namespace for as long as somebody listens: one listener, many answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from .collect import Collector, Target
from .conntrack import Events

__all__ = ["watch"]

_BATCH_SECONDS = 0.25
_BATCH_BYTES = 1 << 20


def watch(header: dict[str, Any], seconds: float) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Answers with ``more``: first one that says that it listens, then one whenever there is something to tell.

    ``pieces`` lists when each datagram came (seconds since 1970) and its size in the payload, ``dropped`` how often the
    kernel has said, since the last answer, that events were lost. Moves its thread. Raises Missing.
    """
    Collector().enter(Target(header.get("target") or {}))
    events = Events()
    try:
        yield _answer([], 0), b""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pieces = _batch(events)
            if pieces or events.dropped:
                lost, events.dropped = events.dropped, 0
                yield _answer([(moment, len(data)) for moment, data in pieces], lost), b"".join(d for _, d in pieces)
    finally:
        events.close()


def _answer(pieces: list[tuple[float, int]], dropped: int) -> dict[str, Any]:
    return {"more": True, "pieces": pieces, "dropped": dropped}


def _batch(events: Events) -> list[tuple[float, bytes]]:
    """What comes within a moment: bounded, so that nothing grows when nobody reads."""
    pieces: list[tuple[float, bytes]] = []
    size, until = 0, time.monotonic() + _BATCH_SECONDS
    while size < _BATCH_BYTES and (left := until - time.monotonic()) > 0:
        data = events.read(left)
        if data:
            pieces.append((time.time(), data))
            size += len(data)
    return pieces
