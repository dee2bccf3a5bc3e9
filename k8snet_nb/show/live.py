"""Mime bundles of live things: canonical text and static html beside the widget itself."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets

from ..errors import K8snetError
from ..render import bundle, escape, printable

__all__ = ["WIDGET_VIEW", "LivePane", "alert", "live_bundle", "pane", "status_html", "told_error"]

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_ONLY_WHEN_RUN = "<p><small>The controls are live once this cell has been run.</small></p>"


def live_bundle(layout: widgets.DOMWidget, text: str, html: str) -> dict[str, Any]:
    """Text and html of the moment, and the widget's view; the widget's own repr never shows."""
    view = layout._repr_mimebundle_() or {}
    extra = {WIDGET_VIEW: view[WIDGET_VIEW]} if WIDGET_VIEW in view else {}
    return bundle(text, html + _ONLY_WHEN_RUN, extra)


class LivePane:
    """What panels share: a ``.layout``, and what it shows at the moment as text and as html."""

    layout: widgets.DOMWidget
    _text: str
    _html: str

    @property
    def text(self) -> str:
        """What it shows now, as text."""
        return self._text

    @property
    def html(self) -> str:
        """The same as html, escaped."""
        return self._html

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return live_bundle(self.layout, self._text, self._html)


# JupyterLab centres tables and sets their cells flush right unless they are a cell's own output. A widget's content is
# a flex item, as wide as its widest table unless it is told that it may be narrower: then text beside it wraps.
_STYLE = (
    "<style>.k8snet-pane.jp-RenderedHTMLCommon table {margin: 0 0 1em}"
    " .k8snet-pane :is(th, td) {text-align: left !important} .k8snet-pane img {max-width: 100%}"
    " .widget-html:has(.k8snet-pane), .widget-html-content:has(> .k8snet-pane) {min-width: 0; max-width: 100%}</style>"
)


def pane(html: str) -> str:
    """Html for an ``HTML`` widget, in the notebook's own style for rendered output (tables, code) in any theme."""
    classes = "jp-RenderedHTMLCommon jp-RenderedHTML k8snet-pane"
    return f'{_STYLE}<div class="{classes}" style="overflow-x: auto">{html}</div>'


def status_html(text: str, html: str | None = None) -> str:
    """One line that screen readers announce when it changes."""
    return f'<span role="status" aria-live="polite">{escape(text) if html is None else html}</span>'


def told_error(error: Exception) -> str:
    """An error in one line: the message of the kit's own errors, type and message of any other."""
    text = str(error)
    return printable(text if isinstance(error, K8snetError) else f"{type(error).__name__}: {text}")


def alert(told: str) -> str:
    """What went wrong, as html that screen readers announce; escaped."""
    return f'<p role="alert">⚠ {escape(told)}</p>'
