"""Panels: a selector above what a function says about the chosen thing, redrawn in place."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Any

import ipywidgets as widgets

from ..render import escape, printable
from .live import LivePane, alert, pane, told_error
from .select import ItemSelector
from .view import rendered

__all__ = ["Panel", "panel"]


class Panel(LivePane):
    """A selector and a view of what it chose. ``.layout`` is the widget, ``.selector`` the selector."""

    def __init__(self, selector: ItemSelector[Any], view: Callable[[Any], object], title: str = "") -> None:
        self.selector = selector
        self._view, self._title = view, title
        self._lock = RLock()
        self._pane = widgets.HTML()
        self.layout = widgets.VBox([selector.layout, self._pane])
        self.redraw()
        selector.on_change(lambda _value: self.redraw())

    def redraw(self) -> None:
        """Ask the view again and show its answer; what goes wrong is shown in its place."""
        with self._lock:
            state = self.selector.state
            text, html = self._answer()
            title = printable(self._title)
            self._text = "\n".join(part for part in (title, state, text) if part)
            head = f"<strong>{escape(title)}</strong><br>" if title else ""
            self._html = f"<p>{head}{escape(state)}</p>{html}"
            self._pane.value = pane(self._html)

    def _answer(self) -> tuple[str, str]:
        if self.selector.key is None:
            return "", ""
        try:
            return rendered(self._view(self.selector.value))
        except Exception as error:  # an exception in a widget's callback would be invisible
            told = told_error(error)
            return told, alert(told)


def panel(selector: ItemSelector[Any], view: Callable[[Any], object], title: str = "") -> Panel:
    """Show ``view(chosen)`` under a selector, redrawn in place whenever another one is chosen.

    The view gives a text, a DataFrame, a value that renders itself, or a list of those.
    """
    return Panel(selector, view, title)
