"""A conntrack table's use, once or live, and a bounded list of what happens to it.

What is sampled is handed in as a function, so that the panels do not know where the numbers come from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from threading import Event, RLock, Thread
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from ..cluster.events import CountFeed, EventFeed, FeedEnded
from ..parse.conntrack_counters import CountSeries
from ..render import escape, html_table, text_table
from .live import live_bundle, pane, status_html, told_error
from .usage_chart import Sample, UsageChart, series_of, usage_chart, usage_image, usage_words

if TYPE_CHECKING:
    from ..cluster import Node

__all__ = [
    "EventList", "LiveChart", "UsageChart", "conntrack_chart", "conntrack_events", "conntrack_live", "usage_chart",
]  # fmt: skip

_MOST_SAMPLES = 3600


class _Ticker:
    """Calls a function at an interval in a thread of its own, until stopped; survives what the function raises."""

    def __init__(self, tick: Callable[[], None], interval: float) -> None:
        self._tick, self._interval = tick, interval
        self._stop, self._run = Event(), Event()
        self._thread: Thread | None = None

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive() and not self._stop.is_set()

    @property
    def running(self) -> bool:
        return self.alive and self._run.is_set()

    def start(self) -> None:
        self._run.set()
        if not self.alive:
            self._stop = Event()  # a thread that was told to stop keeps its own
            self._thread = Thread(target=self._loop, args=(self._stop,), name="k8snet-live", daemon=True)
            self._thread.start()

    def pause(self) -> None:
        self._run.clear()

    def stop(self, timeout: float = 5.0) -> None:
        self._stop.set()
        self._run.set()
        if self._thread is not None:
            self._thread.join(timeout)
        self._run.clear()

    def end(self) -> None:
        """Stop from within: the thread ends after this tick."""
        self._stop.set()
        self._run.clear()

    def _loop(self, stop: Event) -> None:
        while not stop.is_set():
            self._run.wait()
            if not stop.is_set():
                self._tick()
                stop.wait(self._interval)


class _Live:
    """Start, pause and stop around a pane that is redrawn in place; ends when its widget is closed."""

    def __init__(self, interval: float, finish: Callable[[], None] | None = None) -> None:
        self._finish, self.ended = finish or (lambda: None), ""
        self._lock = RLock()
        self._pane, self._status = widgets.HTML(), widgets.HTML()
        self._ticker = _Ticker(self._safely, interval)
        self.error: str | None = None
        buttons = []
        for name, action in (("Start", self.start), ("Pause", self.pause), ("Stop", self.stop)):
            button = widgets.Button(description=name, tooltip=f"{name} sampling")
            button.on_click(lambda _button, action=action: action())
            buttons.append(button)
        self.layout = widgets.VBox([widgets.HBox(buttons), self._status, self._pane])
        self.layout.observe(self._closed, names="comm")
        self._say()

    @property
    def running(self) -> bool:
        """Whether it samples now."""
        return self._ticker.running

    def start(self) -> None:
        """Sample from now on; goes on after a pause."""
        self.ended = ""
        self._ticker.start()
        self._say()

    def pause(self) -> None:
        """Keep what there is, sample no more until started."""
        self._ticker.pause()
        self._say()

    def stop(self) -> None:
        """End the thread. What was sampled stays."""
        self._ticker.stop()
        self._finish()
        self._say()

    def close(self) -> None:
        """Stop, and close the widget."""
        self.layout.close()
        self.stop()

    def _closed(self, change: Any) -> None:
        if change["new"] is None:  # the panel is gone, in the browser or by close()
            self._ticker.stop(0)
            self._finish()

    def _say(self) -> None:
        state = "running" if self.running else "paused" if self._ticker.alive else "stopped"
        words = self.ended or (state if self.error is None else f"{state}; the last attempt failed: {self.error}")
        self._status.value = status_html(words)

    def _safely(self) -> None:
        """One sample; what goes wrong is shown, and the next attempt may be better."""
        try:
            self._step()
            self.error = None
        except FeedEnded as end:
            self._ticker.end()
            self._finish()
            self.ended = f"stopped: {told_error(end)}"
        except Exception as error:  # seen by nobody in a thread
            self.error = told_error(error)
        self._say()

    def _step(self) -> None:
        raise NotImplementedError


class LiveChart(_Live):
    """Count against maximum, once a second. ``sample`` gives (seconds since 1970, count, maximum)."""

    def __init__(
        self,
        sample: Callable[[], Sample],
        interval: float = 1.0,
        most: int = _MOST_SAMPLES,
        title: str = "Conntrack",
        finish: Callable[[], None] | None = None,
    ) -> None:
        self._sample, self.title = sample, title
        self._samples: deque[Sample] = deque(maxlen=most)
        super().__init__(interval, finish)
        self._draw()

    @property
    def series(self) -> CountSeries:
        """What was sampled so far: the last hour at most."""
        with self._lock:
            return series_of(list(self._samples))

    @property
    def chart(self) -> UsageChart:
        """The chart of the moment."""
        return UsageChart(self.series)

    def _step(self) -> None:
        taken = self._sample()
        with self._lock:
            self._samples.append(taken)
        self._draw()

    def _draw(self) -> None:
        series = self.series
        words = f"<p>{escape(self.title)}: {escape(usage_words(series))}</p>"
        self._pane.value = pane((usage_image(series) if len(series) else "") + words)

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return live_bundle(self.layout, f"{self.title}: {self.chart.text}", self._pane.value)


class EventList(_Live):
    """The last events of a table. ``read`` gives rows (time, event, flow) that came since, and how many were lost.

    At most ``most`` rows are kept; ``total`` counts all, ``dropped`` how often the kernel said that some were lost.
    """

    def __init__(
        self,
        read: Callable[[], tuple[Iterable[Sequence[Any]], int]],
        headings: Sequence[str] = ("TIME", "EVENT", "FLOW"),
        interval: float = 1.0,
        most: int = 200,
        show: int = 20,
        title: str = "Conntrack events",
        finish: Callable[[], None] | None = None,
    ) -> None:
        self._read, self._headings, self._show, self.title = read, tuple(headings), show, title
        self.rows: deque[tuple[Any, ...]] = deque(maxlen=most)
        self.total = self.dropped = 0
        super().__init__(interval, finish)
        self._draw()

    @property
    def text(self) -> str:
        """The newest events, and what is not among them."""
        with self._lock:
            return "\n".join([text_table(self._newest(), self._headings, missing="-"), self._summary()])

    def _newest(self) -> list[tuple[Any, ...]]:
        return list(self.rows)[-self._show :]

    def _summary(self) -> str:
        words = f"{self.title}: {self.total:,} events, the last {min(self._show, len(self.rows)):,} shown."
        if self.dropped:
            words += f" The kernel dropped events {self.dropped:,} times: they came faster than they were read."
        return words

    def _step(self) -> None:
        rows, dropped = self._read()
        with self._lock:
            for row in rows:
                self.rows.append(tuple(row))
                self.total += 1
            self.dropped += dropped
        self._draw()

    def _draw(self) -> None:
        with self._lock:
            table = html_table(self._newest(), self._headings, missing="-")
            self._pane.value = pane(f"<p>{escape(self._summary())}</p>{table}")

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return live_bundle(self.layout, self.text, self._pane.value)


def conntrack_chart(node: Node) -> UsageChart:
    """Count against maximum: the series that there is, else the moment as a bar. Raises FactMissing or FactBroken."""
    return usage_chart(node.conntrack_usage())


def conntrack_live(node: Node, interval: float = 1.0) -> LiveChart:
    """Count against maximum, once a second: start, pause, stop. On a recording it replays the recorded series."""
    feed = CountFeed(node.cluster, node.name)
    whose = f"replay of what was recorded on {node.name}" if feed.replays else f"{node.name}, live"
    return LiveChart(feed.sample, interval, title=f"Conntrack, {whose}", finish=feed.close)


def conntrack_events(node: Node, interval: float = 1.0) -> EventList:
    """What happens to a node's table: start, pause, stop. On a recording it replays the recorded events."""
    feed = EventFeed(node.cluster, node.name)
    whose = f"replay of what was recorded on {node.name}" if feed.replays else f"{node.name}, live"
    return EventList(feed.read, interval=interval, title=f"Conntrack events, {whose}", finish=feed.close)
