"""A journey, drawn: two nodes side by side, pods on top, the wire below; each place numbered, with the packet on it.

What is drawn is what :class:`~k8snet_nb.explain.journey.values.Journey` says. Made without pyplot, on white for every
theme; colours repeat what borders and words say.
"""

from __future__ import annotations

import base64
import io
import warnings
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from ..explain.journey.values import OUT, Journey, Stop
from ..render import bundle, escape, printable

__all__ = ["JourneyDrawing", "draw_journey"]

# In inches. Okabe and Ito's colours, paled: they differ for colour-blind readers too, and in grey
_INK, _PALE, _POD, _NODE, _CHANGE = "#1b1b1b", "#ffffff", "#d6eaf7", "#f4f1e8", "#fbe0b0"
_WIDE, _BOX, _TALL, _ROW = 4.7, 2.1, 0.74, 0.87
"""As wide as a narrow window's output: there a wider picture would be shrunk until nobody can read it."""
_LEFT, _RIGHT, _LINE = 0.17, 2.43, 0.155
_TITLE, _FRAME, _STRIP = 0.32, 0.3, 0.98
_FITS, _TITLES = 28, 26
_MIDDLE = _WIDE / 2 - _BOX / 2


@dataclass(frozen=True)
class _Band:
    """One way: its stops by column, from the top down, and those between the nodes. ``first``: of the left column."""

    title: str
    left: tuple[tuple[int, Stop], ...]
    right: tuple[tuple[int, Stop], ...]
    between: tuple[tuple[int, Stop], ...]
    out: bool

    @property
    def height(self) -> float:
        """In inches, the title with it."""
        rows = max(len(self.left), len(self.right))
        return _TITLE + _FRAME + rows * _ROW + 0.1 + (_STRIP if self.between else 0.12)


def _bands(journey: Journey) -> list[_Band]:
    """The way out, and the way back where there is one. The client's side is left, the server's right."""
    numbered = list(enumerate(journey.stops, 1))
    bands = []
    for out in (True, False):
        mine = [(n, stop) for n, stop in numbered if (stop.direction == OUT) == out]
        if not mine:
            continue
        cut = _cut_at([stop for _, stop in mine], journey, out)
        first, then = mine[:cut], mine[cut:]
        between = tuple((n, stop) for n, stop in mine if stop.node is None)
        here, there = [tuple((n, s) for n, s in part if s.node is not None) for part in (first, then)]
        words = "The way out" if out else "The way back"
        bands.append(_Band(words, here, there[::-1], between, True) if out
                     else _Band(words, there[::-1], here, between, False))  # fmt: skip
    return bands


def _cut_at(stops: list[Stop], journey: Journey, out: bool) -> int:
    """How many stops are on the side where this way begins."""
    if journey.far == journey.near:
        if not out:
            return 1
        return next((at for at, stop in enumerate(stops, 1) if stop.place == "source"), len(stops))
    begins = journey.near if out else journey.far
    return next((at for at, stop in enumerate(stops) if stop.node != begins), len(stops))


def _figure(journey: Journey) -> Figure:
    bands = _bands(journey)
    tall = sum(band.height for band in bands) + 0.42
    figure = Figure(figsize=(_WIDE, tall), facecolor=_PALE)
    axes = figure.add_axes((0, 0, 1, 1), facecolor=_PALE)
    axes.set(xlim=(0, _WIDE), ylim=(tall, 0))
    axes.set_axis_off()
    top = 0.04
    for band in bands:
        _draw(axes, journey, band, top)
        top += band.height
    for row, words in enumerate(("orange, thick: rewritten here      blue: in a pod", "dashed: not in evidence")):
        _write(axes, 0.1, tall - 0.3 + row * _LINE, words, 8)
    return figure


def _draw(axes: Axes, journey: Journey, band: _Band, top: float) -> None:
    verdict = f": {journey.verdict}" if band.out else ""
    _write(axes, 0.1, top + 0.16, _cut(f"{band.title}{verdict}", 54), 9, bold=True)
    top += _TITLE
    rows = max(len(band.left), len(band.right))
    low = top + _FRAME + rows * _ROW + 0.02
    _frames(axes, journey, band, top, low)
    for x, column in ((_LEFT, band.left), (_RIGHT, band.right)):
        for row, (number, stop) in enumerate(column):
            _box(axes, x, top + _FRAME + row * _ROW, number, stop)
        down = (x == _LEFT) == band.out
        for row in range(len(column) - 1):
            y = top + _FRAME + row * _ROW + _TALL
            ends = (y, y + _ROW - _TALL) if down else (y + _ROW - _TALL, y)
            _arrow(axes, (x + 0.3, ends[0]), (x + 0.3, ends[1]))
    _crossing(axes, band, top + _FRAME, low)


def _crossing(axes: Axes, band: _Band, first: float, low: float) -> None:
    """From one column's lowest box to the other's: over the wire, or on the same node straight across."""
    ends = [first + (len(column) - 1) * _ROW + _TALL for column in (band.left, band.right)]
    if band.between:
        y = low + 0.12
        for number, stop in band.between[:1]:
            _box(axes, _MIDDLE, y, number, stop)
        points = [(_MIDDLE + 0.3, ends[0], y, band.out), (_MIDDLE + _BOX - 0.3, ends[1], y, not band.out)]
        for (x, end, at, leaves), column in zip(points, (band.left, band.right), strict=True):
            if column:
                _arrow(axes, *(((x, end), (x, at)) if leaves else ((x, at), (x, end))))
    elif band.left and band.right:
        _across(axes, ends, band.out)


def _across(axes: Axes, ends: list[float], out: bool) -> None:
    """From the lowest box of one column to that of the other, round the corner where one stands lower."""
    low = max(ends) - _TALL / 2
    points = [(_LEFT + _BOX, low), (_RIGHT, low)]
    if ends[0] > ends[1] + _TALL / 2:
        points = [(_LEFT + _BOX, low), (_RIGHT + 1.2, low), (_RIGHT + 1.2, ends[1])]
    elif ends[1] > ends[0] + _TALL / 2:
        points = [(_LEFT + 1.2, ends[0]), (_LEFT + 1.2, low), (_RIGHT, low)]
    points = points if out else points[::-1]
    axes.plot(*zip(*points, strict=True), color=_INK, linewidth=1.1)
    _arrow(axes, *points[-2:])


def _frames(axes: Axes, journey: Journey, band: _Band, top: float, low: float) -> None:
    translates = f"{journey.near} ({journey.mode or 'no mode'})"
    if journey.far == journey.near:
        _frame(axes, 0.08, _WIDE - 0.08, top, low, translates)
        return
    if band.left:
        _frame(axes, 0.08, _LEFT + _BOX + 0.06, top, low, translates)
    if band.right:
        _frame(axes, _RIGHT - 0.06, _WIDE - 0.08, top, low, str(journey.far))


def _frame(axes: Axes, left: float, right: float, top: float, low: float, title: str) -> None:
    shape = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch((left, top), right - left, low - top, boxstyle=shape, fc=_NODE, ec=_INK, lw=0.8))
    _write(axes, left + 0.1, top + 0.15, _cut(title, _TITLES), 8.5, bold=True)


def _box(axes: Axes, left: float, top: float, number: int, stop: Stop) -> None:
    fill = _CHANGE if stop.changed else _POD if stop.place in ("pod", "server") else _PALE
    style, thick = ("-" if stop.seen else "--"), (1.8 if stop.changed else 0.9)
    shape = "round,pad=0,rounding_size=0.05"
    axes.add_patch(FancyBboxPatch((left, top), _BOX, _TALL, boxstyle=shape, fc=fill, ec=_INK, ls=style, lw=thick))
    lines = (f"{number}  {stop.place}", stop.name, stop.source, f"→ {stop.destination}")
    for row, line in enumerate(lines):
        _write(axes, left + 0.07, top + 0.13 + row * _LINE, _cut(line, _FITS), 8, bold=row == 0)


def _arrow(axes: Axes, begin: tuple[float, float], end: tuple[float, float]) -> None:
    style = {"arrowstyle": "-|>", "color": _INK, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=end, xytext=begin, arrowprops=style)


def _write(axes: Axes, x: float, y: float, text: str, size: float, bold: bool = False) -> None:
    """Text as it is: a name with dollar signs in it is no formula."""
    weight = "bold" if bold else "normal"
    axes.text(x, y, text, fontsize=size, va="center", color=_INK, weight=weight, parse_math=False)


def _cut(text: str, most: int) -> str:
    """At most so many characters, the middle left out: both ends of a name tell it from others."""
    text = printable(text)
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"


class JourneyDrawing:
    """The drawing: ``.figure`` (matplotlib), ``.alt`` and ``.text`` (what is drawn, in words), ``.journey``."""

    def __init__(self, journey: Journey) -> None:
        self.journey = journey

    @property
    def figure(self) -> Figure:
        """A new matplotlib Figure, for saving or changing."""
        return _figure(self.journey)

    @property
    def text(self) -> str:
        """The title, and each stop with what is on the packet: all that is drawn."""
        lines = [self.journey.title]
        for number, stop in enumerate(self.journey.stops, 1):
            marks = [f"{stop.changed} rewritten"] if stop.changed else []
            marks += [] if stop.seen else ["not in evidence"]
            more = f"  ({', '.join(marks)})" if marks else ""
            node = f"{stop.node}, " if stop.node else ""
            lines.append(f"{number:>2} {stop.direction:<4} {node}{stop.where}: {stop.moves}{more}")
        return "\n".join(printable(line) for line in lines)

    @property
    def alt(self) -> str:
        """The drawing in one paragraph, for who does not see it."""
        return "; ".join(line.strip() for line in self.text.splitlines())

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        data = base64.b64encode(_png(self.figure)).decode()
        return bundle(self.text, f'<p><img alt="{escape(self.alt)}" src="data:image/png;base64,{data}"></p>')

    def __str__(self) -> str:
        return self.text


def _png(figure: Figure) -> bytes:
    """The figure as a picture of few colours: a third of the size, where each is stored in a notebook."""
    drawn, small = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that the font lacks is drawn as a box: the text has it
        figure.savefig(drawn, format="png", dpi=100)
    picture = Image.open(drawn).convert("RGB").quantize(64, dither=Image.Dither.NONE)
    picture.save(small, "PNG", optimize=True)
    return small.getvalue()


def draw_journey(journey: Journey) -> JourneyDrawing:
    """Draw what ``cluster.journey`` answered: over two nodes, within one, or as far as the packet came."""
    return JourneyDrawing(journey)
