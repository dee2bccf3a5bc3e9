"""A drawing of how a pod is connected: its interface, the peer on the node, bridge or host route, the node's uplink.

What is drawn is first put into words (:class:`Wiring`): each box and line stands for something that the kernels said.
The figure is made without pyplot, on white for every theme; the words are its text/plain and its alternative text.
"""

from __future__ import annotations

import base64
import io
import textwrap
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from ..errors import FactMissing
from ..explain.pod_network import NoVethPair, VethPair
from ..facts import Evidence, FactRef
from ..parse.links import Link, Route, route_to
from ..render import bundle, escape, evidence_html, evidence_text, printable

if TYPE_CHECKING:
    from ..cluster import Pod

__all__ = ["Part", "Wiring", "WiringChart", "draw_wiring"]


@dataclass(frozen=True, slots=True)
class Part:
    """One box: ``lines`` describe it, the first is its title. ``tie`` says what joins it to the box before, if any.

    ``wire`` is False, and the line broken, where no pair or port joins them: routing decides, or it is not known.
    """

    lines: tuple[str, ...]
    tie: str = ""
    wire: bool = True


@dataclass(frozen=True, slots=True)
class Wiring:
    """What is drawn: boxes in the pod's network namespace, boxes on the node from the pod outward, and what is missing.

    ``shared``: the pod is in the node's own namespace, so there is one frame instead of two.
    """

    pod: str
    node: str
    inside: tuple[Part, ...] = ()
    outside: tuple[Part, ...] = ()
    shared: bool = False
    note: str = ""
    evidence: tuple[Evidence, ...] = ()

    def text(self) -> str:
        """What is drawn, line by line, with the same words."""
        lines = [] if self.shared else [self.pod, *_told(self.inside)]
        if self.node:
            lines += [self.node, *([f"  holds {self.pod}"] if self.shared else []), *_told(self.outside)]
        elif self.shared:
            lines.append(self.pod)
        return "\n".join(printable(line) for line in [*lines, *([self.note] if self.note else [])])


def _told(parts: Iterable[Part]) -> list[str]:
    lines = []
    for part in parts:
        if part.tie:
            lines.append(f"  {'|' if part.wire else ':'} {part.tie}")
        lines.append("  " + ", ".join(part.lines))
    return lines


def draw_wiring(pod: Pod) -> WiringChart:
    """Draw a pod's connection, from what its and its node's kernel said. Raises FactBroken.

    hostNetwork pods, interfaces without a peer and pods without a namespace are drawn as what they are.
    """
    return WiringChart(_wiring(pod))


def _wiring(pod: Pod) -> Wiring:
    found, box = pod.veth(), pod.sandbox
    if pod.node is None:
        return Wiring(
            f"pod {pod.key}: on no node", "", note="" if isinstance(found, VethPair) else f"No veth pair: {found.text}"
        )
    own = pod.cluster.about_node(pod.node).get("netns") if pod.node in pod.cluster.source.nodes() else None
    node = f"node {pod.node}" + (f", network namespace {own}" if own else "")
    outside, proof = _uplink(pod)
    if isinstance(found, VethPair):
        mine, theirs = _pair_parts(pod, found)
        whole = (*theirs, *outside)
        title = f"pod {pod.key}" + (f", network namespace {box.netns}" if box.netns else "")
        return Wiring(title, node, mine, whole, evidence=(*found.evidence, *proof))
    return _without_pair(pod, found, box.netns, node, (outside, proof))


def _without_pair(
    pod: Pod, found: NoVethPair, netns: int | None, node: str, up: tuple[tuple[Part, ...], tuple[Evidence, ...]]
) -> Wiring:
    uplink, proof = up
    note = f"No veth pair: {found.text}"
    everything = (*found.evidence, *proof)
    if found.reason == "host_network":
        alone = tuple(replace(part, tie="") for part in uplink)  # nothing joins a pod to interfaces that are its own
        return Wiring(f"pod {pod.key} (hostNetwork)", node, (), alone, True, note, everything)
    title = f"pod {pod.key}" + (f", network namespace {netns}" if netns else "")
    inside = (_interface(found.pod_interface),) if found.pod_interface else ()
    parent: tuple[Part, ...] = ()
    if found.parent:
        parent = (Part(_interface(found.parent).lines, f"{found.reason}: no pair", False),)
        if uplink and uplink[0].lines[0] == parent[0].lines[0]:
            uplink = uplink[1:]  # the parent is the uplink: one box is enough
    return Wiring(title, node, inside, (*parent, *uplink), False, note, everything)


def _interface(link: Link, *more: str) -> Part:
    name = f"{link.name} ({link.ifindex})" + (f" {link.kind}" if link.kind else "")
    mac = (f"mac {link.mac}",) if link.mac else ()
    addresses = tuple(str(address) for address in link.addresses if address.scope != "link")
    return Part((name, *addresses, *mac, *more))


def _pointing(link: Link) -> str:
    return f"peer: index {link.peer_ifindex} in id {link.peer_nsid}"


def _pair_parts(pod: Pod, pair: VethPair) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    here, there = pair.pod_interface, pair.node_interface
    mine = _interface(here, _pointing(here), *_default_of(pod))
    side = Part(_interface(there, _pointing(there)).lines, f"{here.kind or 'veth'} pair")
    return (mine,), (side, *_beyond(pod, pair))


def _default_of(pod: Pod) -> tuple[str, ...]:
    """The pod's default route, in its own words."""
    frame = pod.routes()
    found = frame[frame.destination.isin(("0.0.0.0/0", "::/0")) & (frame.type == "unicast") & (frame.table == "main")]
    return tuple(
        f"default via {via}" if via else f"default dev {dev}"
        for via, dev in zip(found.via[:1], found.dev[:1], strict=True)
    )


def _beyond(pod: Pod, pair: VethPair) -> tuple[Part, ...]:
    """Behind the node's side of the pair: the bridge that it is a port of, or the host route that leads to it."""
    links = {link.name: link for link in pod.cluster.node(str(pod.node)).links()}
    name = pair.node_interface.master
    if pair.master or name:
        link = links.get(pair.master or str(name))
        what = "port of the bridge" if pair.master else "port of"
        return (Part(_interface(link).lines if link else (str(name),), what),)
    if pair.route is not None:
        return (Part((f"route to {pair.route.network}", *_words(pair.route)), "routing on the node", False),)
    return (Part(("no bridge, no host route", "seen on the node"), "", False),)


def _words(route: Route) -> tuple[str, ...]:
    return (f"dev {route.dev}", *((f"via {route.via}",) if route.via else ()))


def _uplink(pod: Pod) -> tuple[tuple[Part, ...], tuple[Evidence, ...]]:
    """The interface of the node's default route. Nothing where there is none, or where it was not read."""
    node = pod.cluster.node(str(pod.node))
    try:
        links, routes = {link.name: link for link in node.links()}, node.routes()
    except FactMissing as missing:
        return (Part(("not known", str(missing)), "", False),), ()
    default = route_to("192.0.2.1", routes) or route_to("2001:db8::1", routes)
    if default is None or default.network.prefixlen or default.dev not in links:
        return (Part(("no default route", "on the node"), "", False),), ()
    fact = "route6.json" if default.network.version == 6 else "route.json"
    ref = FactRef(fact, node.name)
    says = f"the node's way out: {default.dev}"
    proof = Evidence(ref, pod.cluster.source.command(ref), (default.line(),), says)
    way = f"default via {default.via}" if default.via else "default"
    return (Part(_interface(links[default.dev], way).lines, "routing on the node", False),), (proof,)


class WiringChart:
    """A pod's wiring: ``.figure`` (a matplotlib Figure), ``.text`` and ``.alt`` (what is drawn, in words)."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring

    @property
    def figure(self) -> Figure:
        """A new matplotlib Figure, for saving or changing."""
        return _figure(self.wiring)

    @property
    def alt(self) -> str:
        """The drawing in one paragraph, for who does not see it."""
        return "; ".join(line.strip(" |:") for line in self.wiring.text().splitlines())

    @property
    def text(self) -> str:
        """What is drawn, line by line, and the evidence."""
        proof = evidence_text(self.wiring.evidence)
        return self.wiring.text() + (f"\n\nHow do we know?\n{proof}" if proof else "")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a glyph that the font lacks is drawn as a box: the text has it
            self.figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
        data = base64.b64encode(buffer.getvalue()).decode()
        image = f'<img alt="{escape(self.alt)}" src="data:image/png;base64,{data}">'
        return bundle(self.text, f"<p>{image}</p>{evidence_html(self.wiring.evidence)}")

    def __str__(self) -> str:
        return self.text


# The drawing, in inches from the lower left corner
_INK, _PALE, _POD, _NODE = "#1b1b1b", "#ffffff", "#e8f1fb", "#f3f0e6"
_BOX, _GAP, _APART, _LINE = 2.12, 0.62, 0.5, 0.17
_FITS = 28
"""So many characters go into a box, in the small print of the drawing."""


def _figure(wiring: Wiring) -> Figure:
    parts = (*wiring.inside, *wiring.outside)
    split = 0 if wiring.shared else max(len(wiring.inside), 1)
    columns = max(split + len(wiring.outside) + wiring.shared, 2)
    left = [_GAP + n * (_BOX + _GAP) + (_APART if split and n >= split and wiring.node else 0) for n in range(columns)]
    tall = max([len(part.lines) for part in parts] or [2]) * _LINE + 0.16
    width = left[-1] + _BOX + _GAP
    note = textwrap.wrap(printable(wiring.note), int(width * 12)) if wiring.note else []
    low = 0.42 + 0.18 * len(note)
    figure = Figure(figsize=(width, low + tall + 0.7), facecolor=_PALE)
    axes = figure.add_axes((0, 0, 1, 1), facecolor=_PALE)
    axes.set(xlim=(0, width), ylim=(0, low + tall + 0.7))
    axes.set_axis_off()
    middle = low + tall / 2
    for begin, end, colour, title in _namespaces(wiring, split, columns):
        _frame(axes, (left[begin] - 0.22, left[end - 1] + _BOX + 0.22), (low - 0.2, low + tall + 0.54), colour, title)
    if wiring.shared:
        here = Part((wiring.pod.removesuffix(" (hostNetwork)"), "in the node's namespace"))
        _box(axes, left[0], middle, here, _POD)
    places = [*left[: len(wiring.inside)], *left[split + wiring.shared :]]
    for n, (part, x) in enumerate(zip(parts, places, strict=False)):
        if part.tie and n:
            _tie(axes, places[n - 1] + _BOX, x, middle, part)
        _box(axes, x, middle, part)
    for row, line in enumerate(reversed(note)):
        _write(axes, left[0] - 0.22, 0.14 + 0.18 * row, line, 9, "left")
    return figure


def _namespaces(wiring: Wiring, split: int, columns: int) -> list[tuple[int, int, str, str]]:
    """The frames: first column, the one after the last, colour, title."""
    pod = [(0, split if wiring.node else columns, _POD, wiring.pod)] if not wiring.shared else []
    return pod + ([(split, columns, _NODE, wiring.node)] if wiring.node else [])


def _frame(axes: Any, across: tuple[float, float], upright: tuple[float, float], colour: str, title: str) -> None:
    (left, right), (low, high) = across, upright
    shape = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch((left, low), right - left, high - low, boxstyle=shape, fc=colour, ec=_INK))
    name, _, space = title.partition(", network namespace ")
    _write(axes, left + 0.1, high - 0.15, _cut(name, int((right - left) * 10.5)), 9, "left", True)
    if space:
        _write(axes, left + 0.1, high - 0.33, f"network namespace {space}", 9, "left")


def _box(axes: Any, left: float, middle: float, part: Part, colour: str = _PALE) -> None:
    tall = len(part.lines) * _LINE + 0.16
    style = "-" if part.lines[0] != "not known" else "--"
    shape = "round,pad=0,rounding_size=0.05"
    patch = FancyBboxPatch((left, middle - tall / 2), _BOX, tall, boxstyle=shape, fc=colour, ec=_INK, ls=style)
    axes.add_patch(patch)
    for row, line in enumerate(part.lines):
        y = middle + tall / 2 - 0.08 - (row + 0.5) * _LINE
        _write(axes, left + _BOX / 2, y, _cut(line, _FITS), 8, "center", row == 0)


def _tie(axes: Any, begin: float, end: float, y: float, part: Part) -> None:
    axes.plot([begin, end], [y, y], color=_INK, linewidth=1.8, linestyle="-" if part.wire else "--")
    words = part.tie.split(" ")
    lines = [" ".join(words[: (len(words) + 1) // 2]), " ".join(words[(len(words) + 1) // 2 :])]
    _write(axes, (begin + end) / 2, y + 0.1, lines[0], 7, "center")
    _write(axes, (begin + end) / 2, y - 0.1, lines[1], 7, "center")


def _write(axes: Any, x: float, y: float, text: str, size: float, align: str, bold: bool = False) -> None:
    """Text as it is: a name with dollar signs in it is no formula."""
    weight = "bold" if bold else "normal"
    axes.text(x, y, text, fontsize=size, ha=align, va="center", color=_INK, weight=weight, parse_math=False)


def _cut(text: str, most: int) -> str:
    """At most so many characters, the middle left out: both ends of a name tell it from others."""
    text = printable(text)
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"
