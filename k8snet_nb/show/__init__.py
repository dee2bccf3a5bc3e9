"""What people see and touch: selectors, panels, exercises. Widgets live here and nowhere else."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .agents import AgentsPanel, live_agents
from .chains import ChainBrowser, chain_browser
from .enter import EnterPanel, enter
from .exercise import Exercise, Feedback, Solution, exercise
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
    from .try_it import TryIt, try_it
    from .wiring import WiringChart, draw_wiring

__all__ = [
    "AgentsPanel",
    "ChainBrowser",
    "DnsChart",
    "DnsPanel",
    "EnterPanel",
    "Exercise",
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
    "investigate",
    "live_agents",
    "panel",
    "try_it",
]

# matplotlib takes half a second to import: what draws is loaded when it is first named
_DRAWN = {
    "DnsChart": "dns",
    "DnsPanel": "dns",
    "FillPanel": "full_table",
    "JourneyDrawing": "journey",
    "SpreadChart": "spread",
    "TranslationDrawing": "translation",
    "TryIt": "try_it",
    "WiringChart": "wiring",
    "dns_panel": "dns",
    "draw_dns": "dns",
    "draw_journey": "journey",
    "draw_spread": "spread",
    "draw_translation": "translation",
    "draw_wiring": "wiring",
    "conntrack_chart": "conntrack",
    "conntrack_events": "conntrack",
    "conntrack_live": "conntrack",
    "fill_a_table": "full_table",
    "try_it": "try_it",
}


def __getattr__(name: str) -> Any:
    if name in _DRAWN:
        return getattr(import_module(f".{_DRAWN[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
