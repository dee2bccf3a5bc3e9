"""A translation, drawn: client -> address and port -> where the rules find it -> endpoints with shares, pods, nodes.

Figures are made without pyplot (they may be drawn in any thread) and carry their content as text.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..explain.translation import Backend, Translation, share_text
from ..explain.waypoints import waypoints
from ..render import bundle, escape, printable, text_table
from ..text import socket_text

__all__ = ["TranslationDrawing", "draw_translation"]

ROWS = 20
"""At most so many endpoints are drawn; the rest is counted by node."""
NODES = 10
"""At most so many nodes are drawn."""
_INK, _PALE, _SOFT = "#1b1b1b", "#ffffff", "#5f6b7a"
_FILLS = ("#dbe9f6", "#fdebd0", "#e2f0d9", "#eadcf4", "#f6dce2")
_STOP = "#f8d0cc"
_CHARACTER = 0.76  # about the width of one, of 130 for the whole drawing
_ENDS = {
    "reject": "rejected\nthe client is told at once",
    "drop": "dropped\nno answer: the client waits",
    "none": "not translated\nthe packet goes on as it is",
}


@dataclass(frozen=True)
class _Row:
    """One line of the endpoints' column; ``node`` None: a line that only counts."""

    text: str
    node: str | None


def _short(text: str, most: int) -> str:
    shown = printable(text)
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"


def _client(answer: Translation) -> str:
    words = {"pod": f"a pod of {answer.node}", "node": f"{answer.node} itself", "outside": "a client outside"}
    return words.get(answer.client, answer.client)


def _groups(answer: Translation) -> list[tuple[str, list[Backend]]]:
    found: dict[str, list[Backend]] = {}
    for backend in answer.backends:
        found.setdefault(backend.node or "no node", []).append(backend)
    return sorted(found.items())


def _rows(answer: Translation) -> list[_Row]:
    """Endpoints by node, at most :data:`ROWS` of them, shared out evenly among the nodes."""
    groups = _groups(answer)
    drawn = groups[:NODES]
    each = max(1, ROWS // max(1, len(drawn)))
    rows: list[_Row] = []
    for node, backends in drawn:
        shown = backends if len(answer.backends) <= ROWS else backends[:each]
        rows += [_Row(_line(backend), node) for backend in shown]
        if len(backends) > len(shown):
            total = _total(backends[len(shown) :])
            rows.append(_Row(f"and {len(backends) - len(shown)} more{total}", node))
    rest = [backend for _, backends in groups[NODES:] for backend in backends]
    if rest:
        rows.append(_Row(f"and {len(rest)} more on {len(groups) - NODES} other nodes{_total(rest)}", None))
    rows += [_Row(f"draining: {socket_text(b.address, b.port)}", b.node) for b in answer.draining[:4]]
    return rows


def _line(backend: Backend) -> str:
    share = "" if backend.probability is None else f"{backend.probability}  "
    weight = "" if backend.weight in (None, 1) else f"  weight {backend.weight}"
    pod = f"  {_short(backend.pod, 36)}" if backend.pod else ""
    return f"{share}{socket_text(backend.address, backend.port)}{pod}{weight}"


def _total(backends: list[Backend]) -> str:
    shares = [backend.probability for backend in backends]
    if any(share is None for share in shares):
        return ""
    return f", together {share_text(sum((s for s in shares if s is not None), Fraction(0)))}"


def _source_words(answer: Translation) -> str:
    words = {True: "source: masqueraded", False: "source: kept", "hairpin": "source: kept, unless a pod calls itself"}
    return words.get(answer.masquerade, "source: not decided") if answer.masquerade is not None else "source: differs"


def _figure(answer: Translation) -> Figure:
    rows = _rows(answer)
    ways = [_short(way, 40) for way in waypoints(answer)] or ["no rule for it"]
    lines = max(len(rows) + len({row.node for row in rows}) + 1, len(ways) * 2, 4)
    figure = Figure(figsize=(11.2, 0.8 + 0.27 * lines), facecolor=_PALE)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), facecolor=_PALE)
    axes.set(xlim=(0, 130), ylim=(lines + 2.2, 0))
    axes.set_axis_off()
    middle = lines / 2 + 1.6
    target, mode = answer.target, answer.mode or "no mode"
    title = f"{answer.service} port {answer.port} on {answer.node} ({mode}), by {target.entry.replace('_', ' ')}"
    _text(axes, 1, 0.8, printable(title), weight="bold")
    socket = f"{socket_text(target.address, target.port)}/{target.protocol}"
    client_end = _box(axes, 1, middle, _client(answer), _FILLS[1])
    address_at = max(client_end + 4, 20)
    address_end = _box(axes, address_at, middle, socket, _FILLS[3])
    _arrow(axes, client_end, middle, address_at - 0.6, middle)
    ways_at = max(address_end + 5, 44)
    ways_end, last = _ways(axes, ways, ways_at, middle)
    _arrow(axes, address_end, middle, ways_at - 0.6, middle - (len(ways) - 1))
    ends_at = max(ways_end + 5, 76)
    if answer.action == "dnat":
        _endpoints(axes, rows, ends_at, ways_end, last, middle)
        notes = [_source_words(answer)]
        if answer.affinity is not None:
            notes.append(f"a client stays for {answer.affinity} s")
        _text(axes, ends_at, 0.8, "; ".join(notes), color=_SOFT)
    else:
        _box(axes, ends_at, last, _ENDS[answer.action], _STOP if answer.action != "none" else _PALE)
        _arrow(axes, ways_end, last, ends_at - 0.6, last)
    return figure


def _ways(axes: Axes, ways: list[str], x: float, middle: float) -> tuple[float, float]:
    """The places one below the other: where the last one's box ends, and its height."""
    start = end = middle - (len(ways) - 1)
    right = x
    for place, way in enumerate(ways):
        end = start + 2 * place
        right = _box(axes, x, end, way, _FILLS[0])
        if place:
            _arrow(axes, x + 6, end - 1.4, x + 6, end - 0.6)
    return right, end


def _endpoints(axes: Axes, rows: list[_Row], x: float, from_x: float, from_y: float, middle: float) -> None:
    nodes = list(dict.fromkeys(row.node for row in rows))
    y = max(1.8, middle - (len(rows) + len(nodes)) / 2 + 0.5)
    for place, node in enumerate(nodes):
        mine = [row for row in rows if row.node == node]
        _text(axes, x, y, printable(node or ""), weight="bold", color=_SOFT)
        top = y
        for row in mine:
            y += 1
            _box(axes, x, y, row.text, _FILLS[2] if place % 2 == 0 else _FILLS[4], pad=0.18)
        _arrow(axes, from_x, from_y, x - 0.7, (top + y) / 2)
        y += 1


def _text(axes: Axes, x: float, y: float, words: str, **style: Any) -> None:
    # names are names: a `$` in one starts no formula
    axes.text(x, y, words, fontsize=8.5, va="center", parse_math=False, **({"color": _INK} | style))


def _box(axes: Axes, x: float, y: float, words: str, fill: str, pad: float = 0.35) -> float:
    """Words in a box that begins at ``x``; gives about where it ends."""
    frame = {"boxstyle": f"round,pad={pad}", "facecolor": fill, "edgecolor": _SOFT, "linewidth": 0.8}
    _text(axes, x, y, words, bbox=frame)
    widest = max(len(line) + 0.4 * sum(letter.isupper() for letter in line) for line in words.split("\n"))
    return x + _CHARACTER * widest + 0.8


def _arrow(axes: Axes, x: float, y: float, to_x: float, to_y: float) -> None:
    style = {"arrowstyle": "->", "color": _SOFT, "linewidth": 1.2}
    axes.annotate("", xy=(to_x, to_y), xytext=(x, y), arrowprops=style)


class TranslationDrawing:
    """The drawing: ``.figure`` (matplotlib), ``.alt`` in words, ``.text`` with every endpoint."""

    def __init__(self, answer: Translation) -> None:
        self.translation = answer

    @property
    def figure(self) -> Figure:
        """A new matplotlib Figure, for saving or changing."""
        return _figure(self.translation)

    @property
    def alt(self) -> str:
        """The drawing in words."""
        answer = self.translation
        target = answer.target
        by = f"{socket_text(target.address, target.port)}/{target.protocol}"
        way = " -> ".join([_client(answer), by, *waypoints(answer)])
        many = len(answer.backends)
        ends = f"{many} endpoint{'s' if many != 1 else ''}"
        end = ends if answer.action == "dnat" else _ENDS[answer.action].replace("\n", ", ")
        return printable(f"{answer.service} on {answer.node}: {way} -> {end}")

    @property
    def text(self) -> str:
        """The way in one line, then the endpoints with their shares."""
        rows = [
            (share_text(b.probability), socket_text(b.address, b.port), b.pod, b.node)
            for b in self.translation.backends
        ]
        table = text_table(rows, ("SHARE", "ENDPOINT", "POD", "NODE")) if rows else ""
        return "\n".join(part for part in (self.alt, table) if part)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=90)
        data = base64.b64encode(buffer.getvalue()).decode()
        return bundle(self.text, f'<img alt="{escape(self.alt)}" src="data:image/png;base64,{data}">')


def draw_translation(translation: Translation) -> TranslationDrawing:
    """Draw what ``cluster.translate`` answered; readable for one endpoint and for sixty."""
    return TranslationDrawing(translation)
