"""What people see and touch: selectors, panels, exercises. Widgets live here and nowhere else."""

from __future__ import annotations

from .chains import ChainBrowser, chain_browser
from .exercise import Exercise, Feedback, Solution, exercise
from .panel import Panel, panel
from .select import ItemSelector, NodeSelector, PodSelector, ServiceSelector
from .translation import TranslationDrawing, draw_translation

__all__ = [
    "ChainBrowser",
    "Exercise",
    "Feedback",
    "ItemSelector",
    "NodeSelector",
    "Panel",
    "PodSelector",
    "ServiceSelector",
    "Solution",
    "TranslationDrawing",
    "chain_browser",
    "draw_translation",
    "exercise",
    "panel",
]
