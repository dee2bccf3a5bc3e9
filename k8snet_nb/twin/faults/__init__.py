"""Faults that a running twin can be given, and be mended of: real ones, in the kernel, for learners to find."""

from __future__ import annotations

from .catalogue import FAULTS, Kind
from .journal import Broken, Journal, Verdict
from .scene import Name, Scene, Target

__all__ = ["FAULTS", "Broken", "Journal", "Kind", "Name", "Scene", "Target", "Verdict"]
