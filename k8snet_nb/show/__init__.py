"""What people see and touch: selectors, panels, drawings, exercises. Widgets and charts live here and nowhere else."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .agents import AgentsPanel, live_agents
from .enter import EnterPanel, enter
from .exercise import Exercise, Feedback, Solution, exercise
from .panel import Panel, panel
from .select import ItemSelector, NodeSelector, PodSelector, ServiceSelector

if TYPE_CHECKING:
    from .dns import DnsChart, DnsPanel, dns_panel, draw_dns
    from .wiring import WiringChart, draw_wiring

__all__ = [
    "AgentsPanel",
    "DnsChart",
    "DnsPanel",
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
    "dns_panel",
    "draw_dns",
    "draw_wiring",
    "enter",
    "exercise",
    "live_agents",
    "panel",
]

# matplotlib takes half a second to import: what draws is loaded when it is first named
_DRAWN = {
    "DnsChart": "dns",
    "DnsPanel": "dns",
    "WiringChart": "wiring",
    "dns_panel": "dns",
    "draw_dns": "dns",
    "draw_wiring": "wiring",
}


def __getattr__(name: str) -> Any:
    if name in _DRAWN:
        return getattr(import_module(f".{_DRAWN[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
