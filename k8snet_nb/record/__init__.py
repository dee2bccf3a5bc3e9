"""Recordings: written from any source (optionally redacted), and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .over_time import Spans
from .recorder import Recorded, record

if TYPE_CHECKING:
    from .check import Checked, Finding, check_recording

__all__ = ["Checked", "Finding", "Recorded", "Spans", "check_recording", "record"]


def __getattr__(name: str) -> Any:
    """Checking loads every parser, and with them pandas; writing a recording does not wait for it."""
    if name in __all__:
        from . import check

        return getattr(check, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
