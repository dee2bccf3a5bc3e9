"""Who answered how often, drawn beside what the rules promise. Made without pyplot: it may be drawn in any thread."""

from __future__ import annotations

import base64
import io
from typing import Any

from matplotlib.figure import Figure

from ..explain.spread import Sent
from ..explain.translation import share_text
from ..render import bundle, escape, printable
from .view import rendered

__all__ = ["SpreadChart", "draw_spread"]

ROWS = 20
"""At most so many endpoints are drawn."""
_INK, _PALE, _BAR, _MARK = "#1b1b1b", "#ffffff", "#7fb1dd", "#b3261e"
_NAME = 52


def _rows(sent: Sent) -> list[tuple[str, int, float | None]]:
    """Endpoint with its pod, how often it answered, how often it should have on average."""
    frame = sent.frame.head(ROWS).to_dict("records")
    return [(_label(row), int(row["answered"]), row["expected"]) for row in frame]


def _label(row: dict[Any, Any]) -> str:
    pod = row["pod"] if isinstance(row["pod"], str) else ""
    text = printable("\n".join(part for part in (str(row["endpoint"]), pod.rpartition("/")[2]) if part), keep="\n")
    return text if len(text) <= _NAME else f"{text[: _NAME - 1]}…"


def spread_figure(sent: Sent) -> Figure:
    """A bar an endpoint with how often it answered, and a mark where its share of all connections lies."""
    rows = _rows(sent)
    figure = Figure(figsize=(7.6, 0.9 + 0.42 * max(len(rows), 1)), facecolor=_PALE, layout="constrained")
    axes = figure.add_subplot(facecolor=_PALE)
    places = range(len(rows))
    bars = axes.barh(places, [answered for _, answered, _ in rows], height=0.62, color=_BAR, label="answered")
    axes.bar_label(bars, [f"{answered:,}" for _, answered, _ in rows], padding=3, fontsize=8, color=_INK)
    marked = [(place, expected) for place, (_, _, expected) in enumerate(rows) if expected is not None]
    if marked:
        axes.vlines(
            [expected for _, expected in marked],
            [place - 0.42 for place, _ in marked],
            [place + 0.42 for place, _ in marked],
            color=_MARK, linewidth=2, label="share by the rules",
        )  # fmt: skip
    axes.set_yticks(list(places), [label for label, _, _ in rows], fontsize=8, parse_math=False)
    axes.set(xlabel="connections", xlim=(0, 1.15 * max([1.0, *(a for _, a, _ in rows), *(e for _, e in marked)])))
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    if rows:
        figure.legend(loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    return figure


class SpreadChart:
    """What was sent, drawn: ``.figure`` (matplotlib), ``.alt`` in words, ``.text`` with every endpoint."""

    def __init__(self, sent: Sent) -> None:
        self.sent = sent

    @property
    def figure(self) -> Figure:
        """A new matplotlib Figure, for saving or changing."""
        return spread_figure(self.sent)

    @property
    def alt(self) -> str:
        """The chart in words."""
        total = len(self.sent.answers)
        shares = self.sent.frame
        parts = [
            f"{row['endpoint']} {row['answered']}" + (f" (share {share_text(row['share'])})" if row["share"] else "")
            for row in shares.head(ROWS).to_dict("records")
        ]
        rest = f"; and {len(shares) - ROWS} more endpoints" if len(shares) > ROWS else ""
        return printable(f"Of {total:,} connections answered: {', '.join(parts) or 'none'}{rest}")

    @property
    def text(self) -> str:
        """How the connections ended, each endpoint's count and share, what to make of it."""
        return rendered(self.sent)[0]

    @property
    def image(self) -> str:
        """The chart as an ``img`` with its words."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=96)
        data = base64.b64encode(buffer.getvalue()).decode()
        return f'<img alt="{escape(self.alt)}" src="data:image/png;base64,{data}">'

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        image = self.image if self.sent.translation.action == "dnat" else ""
        return bundle(self.text, image + rendered(self.sent)[1])


def draw_spread(sent: Sent) -> SpreadChart:
    """Draw what ``cluster.send`` brought: a bar an endpoint, and a mark at its share by the rules."""
    return SpreadChart(sent)
