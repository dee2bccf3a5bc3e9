"""What people see and touch: selectors, panels, exercises. Widgets live here and nowhere else."""

from __future__ import annotations

from .enter import EnterPanel, enter
from .exercise import Exercise, Feedback, Solution, exercise
from .panel import Panel, panel
from .select import ItemSelector, NodeSelector, PodSelector, ServiceSelector
from .wiring import WiringChart, draw_wiring

__all__ = [
    "EnterPanel",
    "Exercise",
    "Feedback",
    "ItemSelector",
    "NodeSelector",
    "Panel",
    "PodSelector",
    "ServiceSelector",
    "Solution",
    "WiringChart",
    "draw_wiring",
    "enter",
    "exercise",
    "panel",
]
