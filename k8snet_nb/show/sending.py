"""Connections made in a twin while something is watched: one experiment, and what it showed. No widgets."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..cluster.counting import counters, place_for
from ..cluster.events import CountFeed
from ..errors import K8snetError
from ..explain.spread import Sent
from ..render import Report, escape, printable
from .usage_chart import Sample, series_of, stay_words, usage_image
from .view import rendered

if TYPE_CHECKING:
    from ..cluster import Cluster

__all__ = ["Seen", "Wish", "run_wish"]

_EVERY, _SHOWN_FROM = 0.4, 3
"""Seconds between two looks at the table's fill; so many make a curve."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to send, as :meth:`k8snet_nb.Cluster.send` takes it, and which counters to ``watch`` (None: none)."""

    service: str
    port: str | int | None = None
    entry: str = "cluster_ip"
    client: str | None = None
    node: str | None = None
    count: int = 40
    hold: float = 0.0
    watch: str | None = None

    @property
    def words(self) -> str:
        """One sentence."""
        who = {"outside": "a client outside", "node": f"the node {self.node}", None: "a pod", "pod": "a pod"}
        by = "" if self.entry == "cluster_ip" else f" by its {self.entry.replace('_', ' ')}"
        held = f", held open for {self.hold:g} s" if self.hold else ""
        through = f" on {self.node}" if self.node and self.client in (None, "pod") else ""
        through = f" through {self.node}" if self.node and self.client == "outside" else through
        many = "1 connection" if self.count == 1 else f"{self.count:,} connections"
        named = who.get(self.client, self.client)
        return printable(f"{many} from {named}{through} to {self.service}{by}{held}")


@dataclass(frozen=True, slots=True)
class Seen:
    """What an experiment showed: ``counts`` by name are before, while open (None: not looked) and after."""

    sent: Sent
    counts: tuple[tuple[str, int, int | None, int], ...]
    samples: tuple[Sample, ...] = ()

    @property
    def counted(self) -> Report:
        """The counters as a table; empty when nothing was watched."""
        held = any(during is not None for _, _, during, _ in self.counts)
        rows = tuple(
            (name, before, *((during,) if held else ()), after, f"{after - before:+,}")
            for name, before, during, after in self.counts
        )
        headings = ("COUNTED", "BEFORE", *(("WHILE OPEN",) if held else ()), "AFTER", "CHANGE")
        return Report("What the kernel counted", headings, rows)

    @property
    def curve(self) -> str:
        """How full the table was meanwhile, as an ``img`` and in words; "" without enough samples."""
        if len(self.samples) < _SHOWN_FROM:
            return ""
        series = series_of(self.samples)
        words = stay_words(series)
        return usage_image(series, words) + f"<p>{escape(words)}</p>"

    @property
    def parts(self) -> tuple[str, str]:
        """Text and html of all but the chart of the spread."""
        text, html = rendered(self.sent)
        if self.counts:
            more, table = rendered(self.counted)
            text, html = f"{more}\n\n{text}", f"{table}{self.curve}{html}"
        return text, html


def run_wish(cluster: Cluster, wish: Wish, told: Callable[[str], None] = lambda word: None) -> Seen:
    """Send, and read the counters before, in the middle of the holding, and after. Raises what ``send`` raises."""
    service = cluster.service(wish.service)
    where = (wish.client, wish.node, wish.entry)
    place = place_for(cluster, service.key, wish.port, *where)

    def count() -> dict[str, int]:
        return counters(cluster, wish.watch, place) if wish.watch else {}

    before = count()
    told("sending …")
    with ThreadPoolExecutor(1, thread_name_prefix="k8snet-send") as pool:
        sending = pool.submit(
            cluster.send, service.key, wish.port, *where, count=wish.count, timeout=2.0, hold=wish.hold
        )
        samples, during = _meanwhile(cluster, wish, place.node.name, sending, count)
        sent = sending.result()
    cluster.refresh()
    after = count()
    names = list(dict.fromkeys([*before, *after]))
    counts = tuple((name, before.get(name, 0), during.get(name), after.get(name, 0)) for name in names)
    return Seen(sent, counts, tuple(samples))


def _meanwhile(
    cluster: Cluster, wish: Wish, node: str, sending: Future[Sent], count: Callable[[], dict[str, int]]
) -> tuple[list[Sample], dict[str, int]]:
    """Samples of the table's fill while the connections are open, and the counters in the middle of that time."""
    samples: list[Sample] = []
    during: dict[str, int] = {}
    if not (wish.hold and wish.watch):
        return samples, during
    feed, begun = CountFeed(cluster, node), time.monotonic()
    while not sending.done():
        try:
            if wish.watch == "conntrack":
                samples.append(feed.sample())
            if not during and time.monotonic() - begun > wish.hold / 2:
                during = count()
        except K8snetError:  # what cannot be read meanwhile is missing from the curve; sending tells its own trouble
            pass
        time.sleep(_EVERY)
    return samples, during
