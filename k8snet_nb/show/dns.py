"""The way of a DNS query drawn: the pod, what it tries in order, the server's address, the node's translation, CoreDNS.

Figures are made without pyplot (they may be drawn in any thread), on white for every theme; each carries its content as
text.
"""

from __future__ import annotations

import base64
import io
import warnings
from threading import RLock
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from ..explain.dns.path import DnsPath, Tried
from ..explain.translation import share_text
from ..render import bundle, escape, printable
from .live import LivePane, alert, pane, told_error
from .select import PodSelector

if TYPE_CHECKING:
    from ..cluster import Cluster, Pod

__all__ = ["DnsChart", "DnsPanel", "dns_figure", "dns_panel", "draw_dns"]

_WIDTH, _ROW, _LEAST = 11.0, 0.62, 2.6
"""Inches: width, height of one try, height at least."""
_POD, _ARROW, _SERVER, _ANSWERS = (1, 18), (19, 57), (58, 77), (83, 100)
_POINTS, _LONGEST, _INSIDE = 8.2, 58, 26
"""Letters: their size, and how many of a name on an arrow and of a line in a box are shown."""
_DARK, _GOOD, _BAD, _DIM = "#222222", "#1a7f37", "#b42318", "#666666"


def dns_figure(path: DnsPath) -> Figure:
    """Pod, tries and results as arrows in order, the server's address, the endpoints that the node chooses from."""
    tries = path.tries
    height = max(_LEAST, 0.5 + _ROW * len(tries), 0.5 + 0.75 * _answers(path))
    figure = Figure(figsize=(_WIDTH, height), facecolor="white", layout="constrained")
    axes = figure.add_subplot(facecolor="white")
    axes.set(xlim=(0, 101), ylim=(0, 100))
    axes.axis("off")
    conf = path.resolv
    search = [f" {domain}" for domain in conf.search[:6]]
    more = [" …"] if len(conf.search) > 6 else []
    about = [*_wrapped(f"pod {path.pod}", _INSIDE), f"on {path.node}", ""]
    about += ["search", *search, *more] if conf.search else ["no search list"]
    _box(axes, _POD, (4, 96), [*about, f"ndots {conf.ndots}", *(f"nameserver {server}" for server in conf.nameservers)])
    _box(axes, _SERVER, (4, 96), _server(path))
    for number, tried in enumerate(tries, 1):
        _try(axes, number, tried, 100 - 100 * (number - 0.5) / len(tries))
    if not tries:
        _text(axes, sum(_ARROW) / 2, 50, path.outcome, ha="center", color=_DIM)
    _endpoints(axes, path)
    return figure


def _answers(path: DnsPath) -> int:
    return min(len(path.translation.backends), 8) if path.translation else 0


def _server(path: DnsPath) -> list[str]:
    t = path.translation
    lines = [path.server, *_wrapped(path.what, _INSIDE)]
    if t is not None:
        lines += ["", f"on {t.node}:", f"{t.mode or 'no mode'}, {t.action}"]
    elif path.why:
        lines += ["", *_wrapped(path.why, _INSIDE)[:8]]
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in printable(text).split(" "):
        fits = len(lines[-1]) + len(word) < width
        lines[-1:] = [f"{lines[-1]} {word}".strip()] if fits or not lines[-1] else [lines[-1], word]
    return lines


def _text(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    # parse_math: a $ in a name is a $
    axes.text(
        x, y, printable(text), **{"fontsize": _POINTS, "color": _DARK, "va": "center", "parse_math": False, **style}
    )


def _box(axes: Axes, x: tuple[float, float], y: tuple[float, float], lines: list[str]) -> None:
    low, high = (x[0], y[0]), (x[1] - x[0], y[1] - y[0])
    axes.add_patch(
        FancyBboxPatch(low, *high, boxstyle="round,pad=0,rounding_size=1", facecolor="#f4f6f8", edgecolor=_DARK)
    )
    text = "\n".join(_cut(line, _INSIDE) for line in lines)
    axes.text(x[0] + 0.8, sum(y) / 2, text, fontsize=_POINTS, va="center", parse_math=False, linespacing=1.4)


def _cut(text: str, most: int) -> str:
    shown = printable(text)
    return shown if len(shown) <= most else f"{shown[: most // 2 - 1]}…{shown[-(most - most // 2) :]}"


def _mark(tried: Tried) -> tuple[str, str]:
    if tried.found:
        return "✔", _GOOD
    told = [result for _, result in tried.results]
    if any(result.startswith(("not recorded", "truncated")) for result in told):
        return "?", _DIM
    return "✘", _BAD


def _results(tried: Tried) -> str:
    """The results by type; said once where the types agree."""
    if len({result for _, result in tried.results}) == 1:
        return f"{' and '.join(kind for kind, _ in tried.results)}: {tried.results[0][1]}"
    return "; ".join(f"{kind}: {result}" for kind, result in tried.results)


def _try(axes: Axes, number: int, tried: Tried, y: float) -> None:
    mark, color = _mark(tried)
    arrow = {"arrowstyle": "->", "color": color, "linestyle": "-" if tried.found else "--"}
    axes.annotate("", (_ARROW[1], y), (_ARROW[0], y), arrowprops=arrow)
    style: dict[str, Any] = {"ha": "center", "textcoords": "offset points", "fontsize": _POINTS, "parse_math": False}
    middle = sum(_ARROW) / 2
    results = _cut(_results(tried), 64)
    name = printable(f"{number}. {_cut(tried.name, _LONGEST)}")
    axes.annotate(name, (middle, y), (0, 4), va="bottom", color=_DARK, **style)
    axes.annotate(f"{mark} {results}", (middle, y), (0, -4), va="top", color=color, **style)


def _endpoints(axes: Axes, path: DnsPath) -> None:
    count = _answers(path)
    if path.translation is None or not count:
        return
    step = 100 / count
    for number, backend in enumerate(path.translation.backends[:count]):
        y = 100 - step * (number + 0.5)
        half = min(step / 2 - 3, 24)
        namespace, _, name = (backend.pod or "no pod").rpartition("/")
        lines = [
            namespace,
            *_pieces(name),
            f"{backend.address}:{backend.port}",
            f"on {backend.node or 'an unknown node'}",
        ]
        _box(axes, _ANSWERS, (y - half, y + half), [line for line in lines if line])
        axes.annotate("", (_ANSWERS[0], y), (_SERVER[1], 50), arrowprops={"arrowstyle": "->", "color": _DARK})
        share = share_text(backend.probability).split(" ")[0]
        middle = (_SERVER[1] + _ANSWERS[0]) / 2
        _text(
            axes, middle, (50 + y) / 2, share, ha="center", bbox={"facecolor": "white", "edgecolor": "none", "pad": 1}
        )
    rest = len(path.translation.backends) - count
    if rest:
        _text(axes, _ANSWERS[0], 0, f"and {rest} more")


def _pieces(name: str) -> list[str]:
    return [name[at : at + _INSIDE] for at in range(0, len(name), _INSIDE)][:2]


class DnsChart:
    """The drawing of one look-up: ``.path`` (the answer), ``.figure``, ``.alt`` (in words), ``.text`` (all of it)."""

    def __init__(self, path: DnsPath) -> None:
        self.path = path

    @property
    def figure(self) -> Figure:
        """A new matplotlib Figure, for saving or changing."""
        return dns_figure(self.path)

    @property
    def alt(self) -> str:
        """The drawing in words."""
        path = self.path
        tries = "; ".join(
            f"try {number} is {tried.name} with " + ", ".join(f"{kind} {result}" for kind, result in tried.results)
            for number, tried in enumerate(path.tries, 1)
        )
        t = path.translation
        to = f" {t.node} ({t.mode}) hands it to " + _among(path) if t and t.backends else ""
        return printable(
            f"{path.pod} looks up {path.answer.asked}: {tries or 'nothing is asked'}. "
            f"The server {path.server} is {path.what}.{to} In the end: {path.outcome}."
        )

    @property
    def text(self) -> str:
        """The steps as a table, and the end."""
        report = self.path.report()
        return type(report)(report.title, report.headings, report.rows, report.notes).text()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return bundle(self.text, self.html())

    def html(self) -> str:
        """The image with its words, and the steps with their evidence below."""
        return (
            f'<img alt="{escape(self.alt)}" src="data:image/png;base64,{_png(self.figure)}">{self.path.report().html()}'
        )


def _among(path: DnsPath) -> str:
    backends = path.translation.backends if path.translation else ()
    return " or ".join(f"{b.pod or 'no pod'} at {b.address}" for b in backends) + "."


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that the font lacks is drawn as a box: the text has the name
        figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return base64.b64encode(buffer.getvalue()).decode()


def draw_dns(pod: Pod, name: str, libc: str = "glibc", seconds: float = 30.0) -> DnsChart:
    """Draw how a name is looked up from a pod: the tries with their results, the server, who answers.

    Live, the servers are asked now. Raises FactMissing without the pod's resolv.conf.
    """
    return DnsChart(pod.dns_path(name, libc, seconds))


class DnsPanel(LivePane):
    """A pod, a name and a C library to choose, and the drawing below. ``.text`` is what it says now."""

    def __init__(self, cluster: Cluster, pod: str | None = None, name: str = "kubernetes.default") -> None:
        self.selector = PodSelector(cluster, value=pod)
        self._lock = RLock()
        wide, style = widgets.Layout(width="auto", max_width="46em"), {"description_width": "6.5em"}
        self.name = widgets.Text(
            value=name, description="Name", placeholder="a name, then Enter", layout=wide, style=style,
            continuous_update=False,
        )  # fmt: skip
        self.libc = widgets.Dropdown(
            options=[("glibc (Debian, Ubuntu)", "glibc"), ("musl (Alpine)", "musl")],
            description="C library", layout=wide, style=style,
        )  # fmt: skip
        self._pane = widgets.HTML()
        self.layout = widgets.VBox([self.selector.layout, self.name, self.libc, self._pane])
        self.redraw()
        self.selector.on_change(lambda _value: self.redraw())
        self.name.observe(lambda _change: self.redraw(), names="value")
        self.libc.observe(lambda _change: self.redraw(), names="value")

    def redraw(self) -> None:
        """Look the name up and draw the way; what goes wrong is shown in its place."""
        with self._lock:
            pod, asked = self.selector.state, f"name {self.name.value.strip() or 'none'}, {self.libc.value}"
            text, html = self._answer()
            self._text = f"{pod}\n{printable(asked)}\n{text}".rstrip()
            self._html = f"<p>{escape(pod)}</p><p>{escape(asked)}</p>{html}"
            self._pane.value = pane(self._html)

    def _answer(self) -> tuple[str, str]:
        name = self.name.value.strip()
        if self.selector.key is None or not name:
            return "", ""
        try:
            pod = self.selector.value
            chart = draw_dns(pod, name, str(self.libc.value)) if pod else None
            return (chart.text, chart.html()) if chart else ("", "")
        except Exception as error:  # an exception in a widget's callback would be invisible
            told = told_error(error)
            return told, alert(told)


def dns_panel(cluster: Cluster, pod: str | None = None, name: str = "kubernetes.default") -> DnsPanel:
    """Choose a pod, a name and a C library; see what is asked, what is answered, and by whom."""
    return DnsPanel(cluster, pod, name)
