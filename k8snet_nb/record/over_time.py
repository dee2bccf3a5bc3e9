"""Facts that take a while: the fill of the connection table once a second, and its events."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ..errors import AgentError, FactError, SourceError
from ..facts import FactRef
from ..sources.base import Source

__all__ = ["Spans", "collect_over_time", "seconds_of"]

_COUNT = "/proc/sys/net/netfilter/nf_conntrack_count"
_MAXIMUM = "/proc/sys/net/netfilter/nf_conntrack_max"
_HEADING = "unix_time,nf_conntrack_count,nf_conntrack_max"
_EVENTS = ("conntrack", "-E", "-o", "timestamp,id")


@dataclass(frozen=True, slots=True)
class Spans:
    """Seconds to watch the count and the events of the connection table; 0: not at all."""

    series: float = 0.0
    events: float = 0.0


def collect_over_time(source: Source, node: str, spans: Spans) -> Iterator[tuple[str, bytes | None, str | None]]:
    """(fact, content or None, what is to be said against it) of what is wanted, both at the same time."""
    on_node = getattr(source, "on_node", None)
    wanted = [("conntrack-count.csv", _series, spans.series), ("conntrack-events.txt", _events, spans.events)]
    with ThreadPoolExecutor(2, "k8snet record") as pool:
        running = [(fact, pool.submit(make, on_node, node, span)) for fact, make, span in wanted if span > 0]
        for fact, future in running:
            if on_node is None:
                if not source.has(FactRef(fact, node)):  # a recording may hold it already
                    yield fact, None, f"a {source.kind} source cannot be watched"
                continue
            try:
                yield fact, *future.result()
            except (AgentError, FactError) as error:
                yield fact, None, str(error)


def _series(on_node: Any, node: str, span: float) -> tuple[bytes | None, str | None]:
    if on_node is None:
        return None, None
    lines, end = [_HEADING], time.monotonic() + span
    following = time.monotonic()
    while following < end:
        time.sleep(max(0.0, following - time.monotonic()))
        ran = on_node(node, ["cat", _COUNT, _MAXIMUM], 10.0)
        words = ran.out.split()
        if ran.status != 0 or len(words) != 2:
            return None, f"cat {_COUNT}: {ran.err.decode('utf-8', 'replace').strip() or ran.ended}"
        lines.append(f"{time.time():.1f},{words[0].decode()},{words[1].decode()}")
        following += 1.0
    return ("\n".join(lines) + "\n").encode(), None


def _events(on_node: Any, node: str, span: float) -> tuple[bytes | None, str | None]:
    if on_node is None:
        return None, None
    ran = on_node(node, list(_EVENTS), span)
    if ran.ended == "timed_out":  # it never ends by itself: this is how it is meant to
        return ran.out, None
    said = ran.err.decode("utf-8", "replace").strip()
    if ran.ended == "too_much":
        return ran.out[: ran.out.rfind(b"\n") + 1], "cut: more than the agent sends at once"
    return None, f"conntrack -E: exit {ran.status}: {said[:500]}"


def seconds_of(text: str) -> float:
    """``60s``, ``2m`` or ``60`` in seconds. Raises SourceError for anything else."""
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        seconds = float(number) * units[unit]
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 3600:
        raise SourceError(f"{text!r} is no time span: say 60s or 5m, at most an hour")
    return seconds
