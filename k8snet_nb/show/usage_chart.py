"""Charts of a conntrack table's use: count against maximum. Made without pyplot: they may be drawn in any thread."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..explain.usage import ConntrackUsage, duration, growth_of
from ..parse.conntrack_counters import CountSeries
from ..render import bundle, escape, html_table, text_table

__all__ = [
    "Sample",
    "UsageChart",
    "series_of",
    "stay_words",
    "usage_chart",
    "usage_figure",
    "usage_image",
    "usage_words",
]

Sample = tuple[float, int, int]
"""Seconds since 1970, count, maximum."""
_ROWS_AS_TEXT = 12
_PALE = "#ffffff"
_SMALL = 0.2


def usage_figure(series: CountSeries) -> Figure:
    """Count and maximum over time, seconds since the first sample; white background for every theme."""
    if len(series) == 1:
        return _bar(int(series.counts[0]), int(series.maxima[0]))
    peak, maximum = int(series.counts.max(initial=0)), int(series.maxima.max(initial=0))
    if len(series) and peak < _SMALL * maximum:  # a line along the bottom says little: the count by itself beside it
        figure = Figure(figsize=(9, 3), facecolor=_PALE, layout="constrained")
        whole, alone = figure.subplots(1, 2)
        _lines(alone, series, maximum=False)
    else:
        figure = Figure(figsize=(7, 3), facecolor=_PALE, layout="constrained")
        whole = figure.add_subplot()
    _lines(whole, series, maximum=True)
    return figure


def _lines(axes: Axes, series: CountSeries, maximum: bool) -> None:
    begin = series.times[0] if len(series) else 0.0
    axes.set_facecolor(_PALE)
    axes.plot(series.times - begin, series.counts, label="nf_conntrack_count")
    if maximum:
        axes.plot(series.times - begin, series.maxima, linestyle="--", color="tab:red", label="nf_conntrack_max")
    axes.set(xlabel="seconds", ylabel="entries", ylim=(0, None), title="" if maximum else "the count alone")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.legend(loc="center right" if maximum else "upper left")
    axes.grid(alpha=0.3)


def _bar(count: int, maximum: int) -> Figure:
    """One moment: the count as a bar, the maximum as the line that it may not pass."""
    figure = Figure(figsize=(7, 1.4), facecolor=_PALE, layout="constrained")
    axes = figure.add_subplot(facecolor=_PALE)
    bars = axes.barh(["nf_conntrack_count"], [count])
    axes.bar_label(bars, [f"{count:,}"], padding=3)
    if maximum:
        axes.axvline(maximum, linestyle="--", color="tab:red", label=f"nf_conntrack_max {maximum:,}")
        axes.legend(loc="upper center")
    axes.set(xlabel="entries", xlim=(0, 1.05 * max(count, maximum, 1)))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    return figure


def usage_words(series: CountSeries) -> str:
    """The chart in one or two sentences: what a reader who does not see it needs."""
    if not len(series):
        return "No samples."
    first, last, maximum = int(series.counts[0]), int(series.counts[-1]), int(series.maxima[-1])
    seconds = float(series.times[-1] - series.times[0])
    share = f" ({last / maximum:.1%})" if maximum else ""
    if len(series) == 1:
        return f"{last:,} entries now; the maximum is {maximum:,}{share}." if maximum else f"{last:,} entries now."
    words = f"{first:,} entries at first, {last:,} after {seconds:.0f} s, {int(series.counts.max()):,} at most;"
    words += f" the maximum is {maximum:,}{share}."
    growth = growth_of(series)
    if growth and growth.time_to_full:
        words += f" At {growth.per_second:+.1f} entries a second it would be full in {duration(growth.time_to_full)}."
    return words


def stay_words(series: CountSeries) -> str:
    """The same for an experiment that has an end: what grew so will not go on growing."""
    first, most, last = int(series.counts[0]), int(series.counts.max()), int(series.counts[-1])
    entries = "1 entry" if first == 1 else f"{first:,} entries"
    seconds = float(series.times[-1] - series.times[0])
    maxima = ", then ".join(dict.fromkeys(f"{int(maximum):,}" for maximum in series.maxima))
    return f"{entries} at first, {most:,} at most, {last:,} after {seconds:.1f} s; the maximum is {maxima}."


def _numbers(series: CountSeries) -> list[tuple[str, str, str]]:
    """The plotted numbers, thinned to a dozen rows: the first, the last, evenly between, and the highest."""
    count = len(series)
    if not count:
        return []
    shown = min(count, _ROWS_AS_TEXT)
    even = {round(i * (count - 1) / max(shown - 1, 1)) for i in range(shown)}
    rows = sorted(even | {int(series.counts.argmax())})
    begin = series.times[0]
    return [(f"{series.times[i] - begin:.0f}", str(series.counts[i]), str(series.maxima[i])) for i in rows]


_HEADINGS = ("SECONDS", "COUNT", "MAXIMUM")


def usage_image(series: CountSeries, words: str | None = None) -> str:
    """The figure as an ``img`` with its description (or other ``words``) for those who do not see it."""
    buffer = io.BytesIO()
    usage_figure(series).savefig(buffer, format="png", dpi=100)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{escape(words or usage_words(series))}" src="data:image/png;base64,{data}">'


class UsageChart:
    """A chart of count against maximum: ``.figure``, ``.alt`` (in words) and ``.text`` (the numbers)."""

    def __init__(self, series: CountSeries) -> None:
        self.series = series

    @property
    def figure(self) -> Figure:
        """A new matplotlib Figure, for saving or changing."""
        return usage_figure(self.series)

    @property
    def alt(self) -> str:
        """The chart in words."""
        return usage_words(self.series)

    @property
    def text(self) -> str:
        """The words and the plotted numbers."""
        return f"{self.alt}\n{text_table(_numbers(self.series), _HEADINGS)}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        table = html_table(_numbers(self.series), _HEADINGS)
        words = f"<p>{escape(self.alt)}</p><details><summary>The numbers</summary>{table}</details>"
        return bundle(self.text, usage_image(self.series) + words)


def usage_chart(usage: ConntrackUsage | CountSeries) -> UsageChart:
    """The chart of a recorded or sampled series. A usage without one is shown as the one moment that it is."""
    if isinstance(usage, CountSeries):
        return UsageChart(usage)
    return UsageChart(usage.series if usage.series is not None else series_of([(0.0, usage.count, usage.maximum or 0)]))


def series_of(samples: Sequence[Sample]) -> CountSeries:
    columns = list(zip(*samples, strict=True)) or [(), (), ()]
    return CountSeries(
        np.array(columns[0], dtype=np.float64),
        np.array(columns[1], dtype=np.int64),
        np.array(columns[2], dtype=np.int64),
    )
