"""Conntrack events from the façade: as recorded, or as a kernel tells them now."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import FactMissing, Refused
from ..facts import Evidence, FactRef
from ..parse.conntrack_counters import CountSeries, parse_count_series
from ..parse.conntrack_events import ConntrackEvents, decode_events, parse_events
from .inside import check_seconds
from .tracking import Kernel, kernel_of

if TYPE_CHECKING:
    from ..sources.agents import Watching
    from .cluster import Cluster

__all__ = ["CountFeed", "EventFeed", "FeedEnded", "node_events"]

Row = tuple[str, str, str]
_FACT = "conntrack-events.txt"


class FeedEnded(Refused):
    """A recording has been replayed to its end."""


def node_events(cluster: Cluster, node: str, seconds: float) -> ConntrackEvents:
    """The recorded events, or those of the next seconds. Raises FactMissing with the reason."""
    ref = FactRef(_FACT, node)
    kernel = kernel_of(cluster)
    if kernel is None:
        text = cluster.source.read(ref)
        events = parse_events(text, where=ref.where)
        lines = tuple(line.decode("utf-8", "replace") for line in text.split(b"\n")[:3] if line)
        says = f"{len(events):,} events; the first {len(lines)} are quoted"
    else:
        events, dropped = _listen(kernel, ref, check_seconds(seconds))
        lines = ()
        says = f"{len(events):,} events in {seconds:g} s, read from the kernel by netlink"
        says += f"; the kernel dropped events {dropped:,} times" if dropped else ""
    return events.told_by(Evidence(ref, cluster.source.command(ref), lines, says))


def _listen(kernel: Kernel, ref: FactRef, seconds: float) -> tuple[ConntrackEvents, int]:
    watching = kernel.watch(ref)
    pieces: list[bytes] = []
    times: list[float | None] = []
    dropped = 0
    try:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
            more, moments, lost = watching.take()
            pieces += more
            times += moments
            dropped += lost
    finally:
        watching.close()
    return decode_events(pieces, times), dropped


def _rows(frame: pd.DataFrame) -> list[Row]:
    """Time, event and flow in words: one line an event."""
    return [(_clock(event["time"]), event["event"], _flow(event)) for event in frame.to_dict("records")]


def _clock(moment: Any) -> str:
    return "-" if pd.isna(moment) else datetime.fromtimestamp(float(moment), UTC).strftime("%H:%M:%S.%f")[:-3]


def _flow(event: Any) -> str:
    def end(address: str, port: str) -> str:
        text = f"[{event[address]}]" if ":" in event[address] else event[address]
        return text if pd.isna(event[port]) else f"{text}:{event[port]}"

    state = "" if pd.isna(event["state"]) else f" {event['state']}"
    answers = "" if "UNREPLIED" not in event["flags"] else ", none yet"
    there = f"{end('orig_src', 'orig_sport')} to {end('orig_dst', 'orig_dport')}"
    return f"{event['protocol']}{state} {there}, answers from {end('reply_src', 'reply_sport')}{answers}"


class EventFeed:
    """What an event list reads: rows (time in UTC, event, flow) since the last time, and how often some were lost.

    On a recording it replays the recorded events second by second, and ends with FeedEnded. Close it.
    """

    def __init__(self, cluster: Cluster, node: str) -> None:
        self._cluster, self._ref, self._lock = cluster, FactRef(_FACT, node), Lock()
        self._watching: Watching | None = None
        self._recorded: list[pd.DataFrame] | None = None
        self.replays = kernel_of(cluster) is None

    def read(self) -> tuple[list[Row], int]:
        """Raises FactMissing (not recorded, not loaded, not permitted), AgentError or FeedEnded."""
        if self.replays:
            return self._replay(), 0
        with self._lock:
            if self._watching is None:
                kernel = kernel_of(self._cluster)
                self._watching = kernel.watch(self._ref) if kernel else None
            watching = self._watching
        if watching is None:
            raise AssertionError
        try:
            pieces, times, dropped = watching.take()
        except Exception:
            self.close()  # the next attempt listens anew
            raise
        return _rows(decode_events(pieces, times).frame) if pieces else [], dropped

    def _replay(self) -> list[Row]:
        if self._recorded is None:
            frame = node_events(self._cluster, self._ref.node or "", 0).frame
            seconds = frame["time"].astype("float64").fillna(0).floordiv(1)
            self._recorded = [part for _, part in frame.groupby(seconds)]
        if not self._recorded:
            raise FeedEnded("the recorded events end here")
        return _rows(self._recorded.pop(0))

    def close(self) -> None:
        """Stop listening; reading again begins anew."""
        with self._lock:
            watching, self._watching, self._recorded = self._watching, None, None
        if watching is not None:
            watching.close()


class CountFeed:
    """What a live chart samples: (seconds since 1970, count, maximum) now, or the next of the recorded ones."""

    def __init__(self, cluster: Cluster, node: str) -> None:
        self._cluster, self._ref = cluster, FactRef("conntrack-count.csv", node)
        self.replays = kernel_of(cluster) is None
        self._at = 0

    def series(self) -> CountSeries:
        """All that the source has now. Raises FactMissing or FactBroken."""
        source = self._cluster.source
        read = getattr(source, "read_now", source.read)  # a source that keeps facts would tell the first one for ever
        return parse_count_series(read(self._ref), where=self._ref.where)

    def sample(self) -> tuple[float, int, int]:
        """Raises FactMissing (not recorded, not loaded), AgentError, or FeedEnded at the recording's end."""
        series = self.series()
        at = self._at if self.replays else len(series) - 1
        if at >= len(series):
            raise FeedEnded("the recorded minute ends here" if len(series) else "nothing was recorded")
        self._at += 1
        if at < 0:
            raise FactMissing(self._ref.fact, self._ref.where, "it holds no sample")
        return float(series.times[at]), int(series.counts[at]), int(series.maxima[at])

    def close(self) -> None:
        """Begin anew next time."""
        self._at = 0
