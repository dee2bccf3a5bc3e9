"""How full a connection tracking table is, what that costs, where it is going, and what sets its limit.

Sources: Documentation/networking/nf_conntrack-sysctl.rst of the kernel; kube-proxy's configuration (conntrack
maxPerCore, min); the kernel's slab of tracked connections for their size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..facts import Evidence
from ..parse.conntrack_counters import ConntrackStats, CountSeries, TableFull
from ..parse.conntrack_table import ConntrackTable
from ..render import Report, Shown

__all__ = ["COUNTERS", "ConntrackUsage", "Growth", "KubeProxyLimit", "conntrack_usage", "growth_of", "kube_proxy_limit"]

ENTRY_BYTES = 256 + 128
ENTRY_BYTES_SOURCE = (
    "256 bytes of the kernel's nf_conntrack slab on x86-64 (see /proc/slabinfo) and about 128 for what is attached "
    "(NAT, counters); 8 bytes a bucket"
)

COUNTERS: dict[str, str] = {
    "found": "lookups that found an entry (counted on the rare paths only in new kernels)",
    "invalid": "packets that cannot belong to any connection (out of window, malformed)",
    "insert": "entries added from outside the packet path, as conntrack -I does",
    "insert_failed": "two packets raced to add the same connection and one was dropped (parallel A and AAAA queries)",
    "drop": "packets dropped because no entry could be made: the table was full",
    "early_drop": "entries that were not yet assured and had to go to make room: the table was full or nearly so",
    "error": "packets dropped because tracking them failed (such as ICMP errors about unknown connections)",
    "search_restart": "lookups begun again because the table was resized or changed meanwhile",
    "clash_resolve": "races to add the same connection that ended without a loss",
    "chaintoolong": "entries refused because their bucket's chain was too long: buckets are too few, or an attack",
    "searched": "lookups (old kernels)",
    "new": "entries that were made (old kernels)",
    "ignore": "packets that needed no tracking (old kernels)",
    "delete": "entries that ended (old kernels)",
    "delete_list": "entries moved to the list of those ending (old kernels)",
    "icmp_error": "ICMP errors that could not be tracked (old kernels)",
    "expect_new": "expectations made",
    "expect_create": "expectations created",
    "expect_delete": "expectations ended",
}
"""What each counter of ``conntrack -S`` means."""

_TELLING = ("drop", "early_drop", "insert_failed", "chaintoolong", "error", "invalid")
_MAX_PER_CORE, _AT_LEAST, _AT_MOST = 32768, 131072, 1048576


@dataclass(frozen=True, slots=True)
class Growth:
    """A straight line through the count over time (least squares)."""

    per_second: float
    seconds: float
    samples: int
    time_to_full: float | None
    """Seconds until the maximum at this rate, None when the table does not grow; 0 when it is full."""


@dataclass(frozen=True, slots=True)
class KubeProxyLimit:
    """What kube-proxy sets nf_conntrack_max to when it starts, by its defaults or its configuration."""

    cores: int | None
    value: int | None
    """None when the number of cores is not known."""
    uncapped: int | None
    """The value of versions that do not cap what the cores ask for."""

    def __str__(self) -> str:
        rule = f"{_MAX_PER_CORE:,} a core, at least {_AT_LEAST:,}, new versions at most {_AT_MOST:,}"
        if self.value is None:
            return f"{rule}; how many cores the node has is not known"
        older = f" ({self.uncapped:,} in versions without the cap)" if self.uncapped != self.value else ""
        return f"{self.value:,} for {self.cores} cores{older}: {rule}"


def kube_proxy_limit(
    cores: int | None, *, per_core: int = _MAX_PER_CORE, minimum: int = _AT_LEAST, cap: int = _AT_MOST
) -> KubeProxyLimit:
    """The maximum for a node of so many cores. ``per_core`` and ``minimum`` as in kube-proxy's conntrack settings.

    A ``per_core`` of 0 leaves the node's own value alone: the value is then None.
    """
    if cores is None or per_core == 0:
        return KubeProxyLimit(cores, None, None)
    uncapped = max(per_core * cores, minimum)
    return KubeProxyLimit(cores, max(min(per_core * cores, cap), minimum), uncapped)


def growth_of(series: CountSeries) -> Growth | None:
    """How fast the count grows, and when it reaches the last maximum. None with fewer than two moments."""
    if len(series) < 2 or series.times[-1] <= series.times[0]:
        return None
    times = series.times - series.times.mean()
    rate = float((times * (series.counts - series.counts.mean())).sum() / (times**2).sum())
    left = int(series.maxima[-1]) - int(series.counts[-1])
    full = 0.0 if left <= 0 else left / rate if rate > 0 else None
    return Growth(rate, float(series.times[-1] - series.times[0]), len(series), full)


@dataclass(frozen=True, slots=True, eq=False)
class ConntrackUsage(Shown):
    """Use of one network namespace's table. What the facts do not tell is None.

    ``count``: entries now; ``maximum``: how many it may hold (``nf_conntrack_max``); ``buckets``: of its hash table.
    ``stats``: the counters of ``conntrack -S``; ``series`` and ``growth``: the count over time, where it was recorded;
    ``limit``: what kube-proxy would set; ``protocols`` and ``states``: entries by each; ``full``: the kernel's words
    about a full table. Source: the kernel's ``Documentation/networking/nf_conntrack-sysctl.rst``.
    """

    count: int
    maximum: int | None
    buckets: int | None = None
    stats: ConntrackStats | None = None
    series: CountSeries | None = None
    growth: Growth | None = None
    limit: KubeProxyLimit | None = None
    protocols: Mapping[str, int] | None = None
    states: Mapping[str, int] | None = None
    full: tuple[TableFull, ...] = ()
    entry_bytes: int = ENTRY_BYTES
    entry_bytes_source: str = ENTRY_BYTES_SOURCE
    evidence: tuple[Evidence, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def fraction(self) -> float | None:
        """Count over maximum; None when there is no maximum (0 means no limit)."""
        return self.count / self.maximum if self.maximum else None

    @property
    def headroom(self) -> int | None:
        """Entries that still fit; negative when the maximum was lowered below the count."""
        return self.maximum - self.count if self.maximum else None

    @property
    def chain_length(self) -> float | None:
        """Average entries in a bucket: each connection is there twice, by its original and its reply tuple."""
        return 2 * self.count / self.buckets if self.buckets else None

    @property
    def memory(self) -> int:
        """Bytes of kernel memory that the entries and the buckets take, estimated (see ``entry_bytes_source``)."""
        return self.count * self.entry_bytes + 8 * (self.buckets or 0)

    def _total(self, name: str) -> int | None:
        return self.stats.total(name) if self.stats else None

    @property
    def drops(self) -> int | None:
        """Packets dropped because no entry could be made, since the namespace exists; all CPUs."""
        return self._total("drop")

    @property
    def early_drops(self) -> int | None:
        """Entries thrown out early to make room; all CPUs."""
        return self._total("early_drop")

    @property
    def time_to_full(self) -> float | None:
        """Seconds until the table is full at the growth seen; None when it does not grow or that is not known."""
        return self.growth.time_to_full if self.growth else None

    def report(self) -> Report:
        """The figures, one a row, and what they mean."""
        rows = (*self._level(), *self._counters(), *_shares("protocol", self.protocols), *_shares("state", self.states))
        return Report("Conntrack usage", ("WHAT", "VALUE", "MEANING"), rows, self._notes(), self.evidence)

    def _level(self) -> list[tuple[Any, ...]]:
        maximum = "not known" if self.maximum is None else "no limit" if self.maximum == 0 else f"{self.maximum:,}"
        rows: list[tuple[Any, ...]] = [
            ("entries", f"{self.count:,}", "nf_conntrack_count"),
            ("maximum", maximum, "nf_conntrack_max"),
        ]
        if self.fraction is not None:
            rows.append(("used", f"{self.fraction:.1%}", f"room for {self.headroom:,} more"))
        if self.chain_length is not None:
            meaning = f"entries a bucket on average, {self.buckets:,} buckets, each connection in two"
            rows.append(("chain length", f"{self.chain_length:.3g}", meaning))
        rows.append(("memory", f"{self.memory / 2**20:.1f} MiB", f"estimate: {self.entry_bytes_source}"))
        if self.growth:
            when = "not growing" if self.time_to_full is None else f"full in {duration(self.time_to_full)} at this rate"
            meaning = f"{when}; over {self.growth.seconds:.0f} s, {self.growth.samples} samples"
            rows.append(("growth", f"{self.growth.per_second:+.1f} /s", meaning))
        return rows

    def _counters(self) -> list[tuple[Any, ...]]:
        if self.stats is None:
            return []
        shown = [name for name in self.stats.names if name in _TELLING or self.stats.total(name)]
        return [(name, f"{self.stats.total(name):,}", COUNTERS.get(name, "")) for name in shown]

    def _notes(self) -> tuple[str, ...]:
        notes = []
        if self.full:
            first, last = self.full[0].when or "?", self.full[-1].when or "?"
            lines = "1 line" if len(self.full) == 1 else f"{len(self.full)} lines"
            notes.append(f"The kernel's log has {lines} of a full table, from {first} to {last}.")
            if any(line.netns is None for line in self.full):
                notes.append("This kernel's log does not say whose table was full: it is the whole machine's.")
        if self.drops:
            notes.append(
                f"{self.drops:,} packets were dropped for want of an entry: new connections failed, old ones went on."
            )
        if self.limit:
            notes.append(
                f"kube-proxy sets the maximum when it starts: {self.limit}. So a value written with sysctl -w or in "
                "sysctl.conf is gone when kube-proxy starts again; change conntrack.maxPerCore or conntrack.min in "
                "its configuration."
            )
        return (*notes, *self.notes)


def _shares(what: str, counts: Mapping[str, int] | None) -> list[tuple[Any, ...]]:
    total = sum(counts.values()) if counts else 0
    ranked = sorted((counts or {}).items(), key=lambda item: (-item[1], item[0]))
    return [(f"{what} {name}", f"{count:,}", f"{count / total:.1%} of them") for name, count in ranked]


def duration(seconds: float) -> str:
    """A length of time in words: the two largest units."""
    whole = round(seconds)
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    parts: list[str] = []
    for size, unit in units:
        if whole >= size or (unit == "s" and not parts):
            parts.append(f"{whole // size} {unit}")
            whole %= size
    return " ".join(parts[:2])


def _counts(table: ConntrackTable, column: str) -> dict[str, int]:
    text = table.text(column)
    codes = text.codes[text.codes >= 0]
    counts = np.bincount(codes, minlength=len(text.values))
    return {value: int(count) for value, count in zip(text.values, counts, strict=True) if count}


def conntrack_usage(
    sysctl: Mapping[str, str],
    *,
    table: ConntrackTable | None = None,
    stats: ConntrackStats | None = None,
    series: CountSeries | None = None,
    full: Sequence[TableFull] = (),
    cores: int | None = None,
    evidence: tuple[Evidence, ...] = (),
) -> ConntrackUsage:
    """Usage out of the facts at hand: sysctls (``key -> value``), and whatever else there is.

    Count and maximum come from the sysctls, else from the last sample of ``series``; a count that nobody tells is the
    table's length. Raises LookupError when none of them tells a count.
    """

    def number(key: str) -> int | None:
        value = sysctl.get(f"net.netfilter.{key}", sysctl.get(f"net.{key}"))
        return int(value) if value is not None and value.isdigit() else None

    count, maximum = number("nf_conntrack_count"), number("nf_conntrack_max")
    notes: list[str] = []
    if series is not None and len(series):
        count = int(series.counts[-1]) if count is None else count
        maximum = int(series.maxima[-1]) if maximum is None else maximum
        notes += series.problems
        if int(series.maxima.min()) != int(series.maxima.max()):
            notes.append(f"The maximum changed while watched: {series.maxima.min():,} to {series.maxima.max():,}.")
    if count is None and table is not None:
        count = len(table)
        notes.append("The count is the number of entries that were listed: nf_conntrack_count is not known.")
    if count is None:
        raise LookupError("no fact tells how many connections are tracked: no sysctl, no series, no table")
    return ConntrackUsage(
        count=count,
        maximum=maximum,
        buckets=number("nf_conntrack_buckets"),
        stats=stats,
        series=series,
        growth=growth_of(series) if series is not None else None,
        limit=kube_proxy_limit(cores),
        protocols=_counts(table, "protocol") if table is not None else None,
        states=_counts(table, "state") if table is not None else None,
        full=tuple(full),
        evidence=evidence,
        notes=tuple(notes),
    )
