"""A lesson's live part: connections really made in a twin, beside what the rules promise and what the kernel counts.

On any other source it is one calm line, and on a recording a button that brings a twin up.
"""

from __future__ import annotations

from threading import RLock, Thread
from typing import TYPE_CHECKING

import ipywidgets as widgets

from ..cluster.counting import COUNTERS
from ..cluster.sending import Changeable
from ..errors import NotFound
from ..render import escape, printable
from .callers import called, clients
from .exercise import as_html
from .live import LivePane, alert, pane, status_html, told_error
from .sending import Seen, Wish, run_wish
from .spread import SpreadChart
from .twin_offer import ONLY_READ, TwinOffer

if TYPE_CHECKING:
    from ..cluster import Cluster

__all__ = ["TryIt", "try_it"]

_MOST, _LONGEST = 2_000, 60
_STYLE = {"description_width": "6.5em"}


class TryIt(LivePane):
    """``.layout`` is the widget, ``.send()`` its button, ``.seen`` what came of it, ``.text`` what the panel says.

    On a twin the first sending is made at once and waited for, so that a lesson's next cells find its traces.
    """

    def __init__(self, cluster: Cluster, wish: Wish) -> None:
        self.wish = wish
        self.seen: Seen | None = None
        self._lock = RLock()
        self._thread: Thread | None = None
        self._cluster: Cluster | None = cluster if isinstance(cluster.source, Changeable) else None
        self._offer = TwinOffer(cluster, self._use)
        self._status, self._pane = widgets.HTML(status_html("")), widgets.HTML()
        self._controls = widgets.VBox()
        offer = [] if self._cluster else [self._offer.layout]
        self.layout = widgets.VBox([self._controls, self._pane, *offer])
        self._use(self._cluster)

    def send(self) -> None:
        """Send what the controls say, in a thread of its own; one sending at a time."""
        with self._lock:
            if self._cluster is None or None in (self.service.value, self.client.value):
                return
            if self._thread is not None and self._thread.is_alive():
                return
            self._thread = Thread(target=self._send, args=(self._cluster, self._chosen()), daemon=True)
            self._thread.start()

    def wait(self, seconds: float | None = None) -> None:
        """Wait for the end of the sending."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _use(self, cluster: Cluster | None) -> None:
        """Work in this twin from now on; None: there is none any more."""
        self._cluster = cluster
        if cluster is None:
            self._controls.children = ()
            self._show(f"Try it: {self.wish.words}.", ONLY_READ, f"<p>{as_html(ONLY_READ)}</p>")
            return
        missing = self._build(cluster)
        self._show(f"Try it: {self.wish.words}.", missing, f"<p>{escape(missing)}</p>")
        if not missing:
            self.send()
        self.wait(30 + self.wish.hold)

    def _build(self, cluster: Cluster) -> str:
        """The controls; what of the wish this cluster does not have, in words, "" when it has all."""
        wide = widgets.Layout(width="auto", max_width="46em")
        what, who = called(cluster, self.wish), clients(cluster, self.wish)
        self.client = widgets.Dropdown(description="Client", options=who.options, value=who.chosen, layout=wide)
        self.service = widgets.Dropdown(description="Service", options=what.options, value=what.chosen, layout=wide)
        narrow = widgets.Layout(width="14em")
        self.count = widgets.BoundedIntText(self.wish.count, min=1, max=_MOST, description="Connections", layout=narrow)
        self.hold = widgets.BoundedIntText(
            int(self.wish.hold), min=0, max=_LONGEST, description="Seconds open", layout=narrow
        )
        for control in (self.client, self.service, self.count, self.hold):
            control.style = _STYLE
        self.hold.style = {"description_width": "7.5em"}
        self.send_button = widgets.Button(
            description="Send", tooltip="Make these connections in the twin", layout=widgets.Layout(width="auto")
        )
        self.send_button.on_click(lambda _button: self.send())
        numbers = [self.count, *([self.hold] if self.wish.hold else [])]
        foot = widgets.HBox(
            [self.send_button, self._status], layout=widgets.Layout(margin="0 0 0 7em", flex_flow="row wrap")
        )
        self._controls.children = (
            self.client, self.service, widgets.HBox(numbers, layout=widgets.Layout(flex_flow="row wrap")), foot,
        )  # fmt: skip
        return " ".join(part for part in (what.missing, who.missing) if part)

    def _chosen(self) -> Wish:
        service, port, entry = self.service.value
        client, node = self.client.value
        return Wish(service, port, entry, client, node, self.count.value, float(self.hold.value), self.wish.watch)

    def _send(self, cluster: Cluster, wish: Wish) -> None:
        self.send_button.disabled = True
        try:
            self.seen = run_wish(cluster, wish, self._say)
            text, html = self.seen.parts
            chart = SpreadChart(self.seen.sent)
            image = f"<p>{chart.image}</p>" if self.seen.sent.translation.action == "dnat" else ""
            self._show(f"{wish.words}.", text, f"{image}{html}")
            self._say(_short(self.seen))
        except Exception as error:  # an exception in a widget's thread would be invisible
            told = told_error(error)
            self._show(f"{wish.words}.", told, alert(told))
            self._say("That did not work.")
        finally:
            self.send_button.disabled = False

    def _say(self, word: str) -> None:
        self._status.value = status_html(word)

    def _show(self, head: str, text: str, html: str) -> None:
        with self._lock:
            self._text = "\n".join(part for part in (head, text) if part)
            self._html = f"<p><strong>{escape(head)}</strong></p>{html}"
            self._pane.value = pane(self._html)


def _short(seen: Seen) -> str:
    ends = ", ".join(f"{count:,} {end}" for end, count in sorted(seen.sent.ends.items()))
    fits = {True: "as the rules say", False: "not what the rules say", None: "at endpoints that the rules name"}
    return f"{len(seen.sent.answers):,} connections: {ends}; {fits[seen.sent.fits]}."


def try_it(
    cluster: Cluster,
    service: str,
    port: str | int | None = None,
    *,
    client: str | None = None,
    node: str | None = None,
    entry: str = "cluster_ip",
    count: int = 40,
    hold: float = 0,
    watch: str | None = None,
) -> TryIt:
    """A panel that makes real connections in a twin: who answered, beside the shares that the rules give.

    Arguments as for :meth:`k8snet_nb.Cluster.send`; ``watch`` names counters that are read before and after, see
    :data:`k8snet_nb.cluster.counting.COUNTERS`. On a twin it sends once at once. Raises NotFound.
    """
    if watch is not None and watch not in COUNTERS:
        raise NotFound(f"no counters {printable(watch)}: there are {', '.join(COUNTERS)}")
    return TryIt(cluster, Wish(service, port, entry, client, node, count, float(hold), watch))
