"""What people see and touch: selectors, panels, exercises. Widgets live here and nowhere else."""

from __future__ import annotations

from .exercise import Exercise, Feedback, Solution, exercise
from .panel import Panel, panel
from .select import ItemSelector, NodeSelector, PodSelector, ServiceSelector

__all__ = [
    "Exercise",
    "Feedback",
    "ItemSelector",
    "NodeSelector",
    "Panel",
    "PodSelector",
    "ServiceSelector",
    "Solution",
    "exercise",
    "panel",
]
