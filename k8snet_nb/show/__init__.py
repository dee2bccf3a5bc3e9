"""What people see and touch: selectors, panels, exercises. Widgets live here and nowhere else."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .exercise import Exercise, Feedback, Solution, exercise
from .panel import Panel, panel
from .select import ItemSelector, NodeSelector, PodSelector, ServiceSelector

if TYPE_CHECKING:
    from .conntrack import conntrack_chart, conntrack_events, conntrack_live
    from .dns import DnsChart, DnsPanel, dns_panel, draw_dns

__all__ = [
    "DnsChart",
    "DnsPanel",
    "Exercise",
    "Feedback",
    "ItemSelector",
    "NodeSelector",
    "Panel",
    "PodSelector",
    "ServiceSelector",
    "Solution",
    "conntrack_chart",
    "conntrack_events",
    "conntrack_live",
    "dns_panel",
    "draw_dns",
    "exercise",
    "panel",
]

_DRAWN = {
    "conntrack": ("conntrack_chart", "conntrack_events", "conntrack_live"),
    "dns": ("DnsChart", "DnsPanel", "dns_panel", "draw_dns"),
}


def __getattr__(name: str) -> Any:
    # matplotlib takes half a second to import: what draws is loaded when it is first named
    for module, names in _DRAWN.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
