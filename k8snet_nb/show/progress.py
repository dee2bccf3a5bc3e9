"""A bar in the notebook for a reading that takes long.

A button could not stop it: a click reaches Python when the cell has ended. The kernel's own interrupt does, and loses
nothing: pages and nodes that are read are kept, and the next question goes on from there.
"""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets
from IPython.display import display

from ..render import printable
from .live import live_bundle, status_html

__all__ = ["ProgressBar"]

_HINT = "to stop: Kernel, Interrupt (■). What is read is kept"


class ProgressBar:
    """Shows itself at its first word, says how far each reading is, and goes away at its end."""

    def __init__(self) -> None:
        self.bar = widgets.IntProgress(description="progress", style={"description_width": "0"})
        self._label = widgets.HTML()
        self.layout = widgets.HBox([self.bar, self._label], layout=widgets.Layout(display="none"))
        self._text, self._placed = "", False

    @property
    def text(self) -> str:
        """What it says now."""
        return self._text

    def __call__(self, what: str, count: int, total: int | None) -> None:
        """Show how much of what is there; ``total`` None: nobody knows of how much."""
        done = total is not None and count >= total
        self._text = printable(f"{what}: {count}" + ("" if total is None else f" of {total}"))
        self.bar.max, self.bar.value = (total or 1), (count if total is not None else 1)
        self.bar.bar_style = "info" if total is not None else ""
        self._label.value = status_html(self._text if done else f"{self._text} ({_HINT})")
        self.layout.layout.display = "none" if done else ""
        if not self._placed:
            self._placed = True
            display(self)  # type: ignore[no-untyped-call]

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return live_bundle(self.layout, self._text, f"<p>{status_html(self._text)}</p>")
