"""Recordings: written from any source (optionally redacted), and checked."""

from __future__ import annotations

from .check import Checked, Finding, check_recording
from .over_time import Spans
from .recorder import Recorded, record

__all__ = ["Checked", "Finding", "Recorded", "Spans", "check_recording", "record"]
