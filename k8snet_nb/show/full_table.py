"""The experiment with a full connection table, by a button: in a small kernel of its own, started for it."""

from __future__ import annotations

import re
from threading import RLock, Thread

import ipywidgets as widgets

from ..parse.conntrack_counters import CountSeries
from ..render import Report, escape, printable
from ..twin.guest.full_table import FullTable, full_table
from .live import LivePane, alert, pane, status_html, told_error
from .usage_chart import stay_words, usage_image
from .view import rendered

__all__ = ["FillPanel", "fill_a_table"]

_CALM = (
    "Nothing has run yet. The button starts a small kernel of its own for this (User-Mode Linux), with a table of its "
    "own. This machine's table is not touched."
)
_PHASES = {
    "unanswered": "datagrams that nobody answers, first",
    "fill": "connections, held open",
    "raised": "connections after the maximum was raised",
}
_PRIORITY = re.compile(r"<\d+>")  # /dev/kmsg and dmesg -r begin a line with it
_STYLE = {"description_width": "9em"}


def _report(table: FullTable) -> Report:
    """What became of the connections, phase by phase."""
    rows = []
    for phase, part in table.frame.groupby("phase", sort=False):
        last, begun = part.iloc[-1], part.iloc[0]
        silent = phase == "unanswered"  # one row for all of them: they fill the table, nobody waits for an answer
        tried = int(last["count"]) if silent else len(part)
        answered = 0 if silent else int(part["answered"].sum())
        rows.append((
            _PHASES.get(str(phase), str(phase)), tried, answered, tried - answered,
            f"{int(last['count'])} of {int(begun['maximum'])}", int(last["drop"]), int(last["early_drop"]),
        ))  # fmt: skip
    headings = ("WHAT", "TRIED", "ANSWERED", "NOT", "TABLE", "DROP", "EARLY DROP")
    notes = [
        f"Connections from before, used again while it was full: {table.old_answered} of {table.old_asked} went on."
    ]
    if table.log:
        many = "1 line" if len(table.log) == 1 else f"{len(table.log)} lines"
        notes.append(f"The kernel's log has {many} of it, such as: {_PRIORITY.sub('', table.log[0].text)}")
    return Report("A full connection table", headings, tuple(rows), tuple(notes))


def _series(table: FullTable) -> CountSeries:
    frame = table.frame
    return CountSeries(frame["seconds"].to_numpy(), frame["count"].to_numpy(), frame["maximum"].to_numpy())


class FillPanel(LivePane):
    """``.layout`` is the widget, ``.start()`` its button, ``.table`` what the last run showed, ``.text`` its words."""

    def __init__(self, maximum: int, connections: int, unanswered: int, raised: int) -> None:
        self.table: FullTable | None = None
        self._lock = RLock()
        self._thread: Thread | None = None
        narrow = widgets.Layout(width="17em")

        def number(name: str, value: int, least: int, most: int) -> widgets.BoundedIntText:
            return widgets.BoundedIntText(value, min=least, max=most, description=name, style=_STYLE, layout=narrow)

        self.maximum = number("Maximum", maximum, 32, 20_000)
        self.connections = number("Connections", connections, 1, 2_000)
        self.unanswered = number("Unanswered first", unanswered, 0, 2_000)
        self.raised = number("Raised to, at last", raised, 0, 20_000)
        self.start_button = widgets.Button(
            description="Fill it",
            tooltip="Start the small kernel and fill its table",
            layout=widgets.Layout(width="auto"),
        )
        self.start_button.on_click(lambda _button: self.start())
        self._status, self._pane = widgets.HTML(status_html("")), widgets.HTML()
        numbers = widgets.HBox(
            [self.maximum, self.connections, self.unanswered, self.raised],
            layout=widgets.Layout(flex_flow="row wrap"),
        )
        self.layout = widgets.VBox([numbers, widgets.HBox([self.start_button, self._status]), self._pane])
        self._show(_CALM, f"<p>{escape(_CALM)}</p>")

    def start(self) -> None:
        """Run it with the numbers of the controls, in a thread of its own; one at a time."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self.start_button.disabled = True
            self._thread = Thread(target=self._run, name="k8snet-fill", daemon=True)
            self._thread.start()

    def wait(self, seconds: float | None = None) -> None:
        """Wait for the end of the run."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        self._status.value = status_html("A kernel is starting, then its table fills: some seconds …")
        try:
            self.table = full_table(
                self.maximum.value, self.connections.value, unanswered=self.unanswered.value, raised=self.raised.value
            )
            text, html = rendered(_report(self.table))
            series = _series(self.table)
            words = stay_words(series)
            self._show(f"{words}\n{text}", f"<p>{usage_image(series, words)}</p><p>{escape(words)}</p>{html}")
            self._status.value = status_html("Done; the small kernel is gone.")
        except Exception as error:  # an exception in a widget's thread would be invisible
            told = told_error(error)
            self._show(told, alert(told))
            self._status.value = status_html("That did not work.")
        finally:
            self.start_button.disabled = False

    def _show(self, text: str, html: str) -> None:
        head = "Fill a connection table"
        with self._lock:
            self._text = printable(f"{head}\n{text}", keep="\n")
            self._html = f"<p><strong>{head}</strong></p>{html}"
            self._pane.value = pane(self._html)


def fill_a_table(maximum: int = 128, connections: int = 160, unanswered: int = 0, raised: int = 256) -> FillPanel:
    """A panel that fills a connection table on purpose: see :func:`k8snet_nb.twin.guest.full_table.full_table`.

    Nothing runs before its button is pressed. It needs no cluster, and a Linux with ``linux.uml``.
    """
    return FillPanel(maximum, connections, unanswered, raised)
