"""What people see and touch: selectors, panels, exercises. Widgets live here and nowhere else."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .agents import AgentsPanel, live_agents
from .chains import ChainBrowser, chain_browser
from .enter import EnterPanel, enter
from .exercise import Exercise, Feedback, Solution, exercise
from .find_fault import FaultHunt, find_fault
from .investigate import investigate
from .panel import Panel, panel
from .select import ItemSelector, NodeSelector, PodSelector, ServiceSelector

if TYPE_CHECKING:
    from .conntrack import conntrack_chart, conntrack_events, conntrack_live
    from .dns import DnsChart, DnsPanel, dns_panel, draw_dns
    from .full_table import FillPanel, fill_a_table
    from .journey import JourneyDrawing, draw_journey
    from .spread import SpreadChart, draw_spread
    from .translation import TranslationDrawing, draw_translation
    from .trying import TryIt, try_it
    from .wiring import WiringChart, draw_wiring

__all__ = [
    "AgentsPanel",
    "ChainBrowser",
    "DnsChart",
    "DnsPanel",
    "EnterPanel",
    "Exercise",
    "FaultHunt",
    "Feedback",
    "FillPanel",
    "ItemSelector",
    "JourneyDrawing",
    "NodeSelector",
    "Panel",
    "PodSelector",
    "ServiceSelector",
    "Solution",
    "SpreadChart",
    "TranslationDrawing",
    "TryIt",
    "WiringChart",
    "chain_browser",
    "conntrack_chart",
    "conntrack_events",
    "conntrack_live",
    "dns_panel",
    "draw_dns",
    "draw_journey",
    "draw_spread",
    "draw_translation",
    "draw_wiring",
    "enter",
    "exercise",
    "fill_a_table",
    "find_fault",
    "investigate",
    "live_agents",
    "panel",
    "try_it",
]

# matplotlib takes half a second to import: what draws is loaded when something of it is first named
_DRAWING = ("conntrack", "dns", "full_table", "journey", "spread", "translation", "trying", "wiring")


def __getattr__(name: str) -> Any:
    if name in __all__:
        rooms = (import_module(f".{module}", __name__) for module in _DRAWING)
        return next(getattr(room, name) for room in rooms if name in room.__all__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
