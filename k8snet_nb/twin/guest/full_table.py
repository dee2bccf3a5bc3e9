"""What happens when a connection table is full: tried out in a guest's kernel, never in this machine's.

nf_conntrack_max cannot be lowered for one network namespace (Documentation/networking/nf_conntrack-sysctl.rst), and
lowering it for a whole machine cuts off everybody on it. A guest has a kernel of its own, thrown away afterwards.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ...errors import GuestError
from ...explain.usage import ConntrackUsage, conntrack_usage
from ...parse.conntrack_counters import TableFull, parse_count_series, parse_stats, parse_sysctl, parse_table_full
from .guest import Guest
from .modules import TRACKING
from .requests import read_line

__all__ = ["FullTable", "full_table"]

_LEAST, _MOST, _MOST_TRIED = 32, 20_000, 2_000
_PATIENCE = 0.2
_BUCKETS = 512  # the least that a kernel takes: early_drop looks only into some buckets, and is to find something


@dataclass(frozen=True, slots=True, eq=False)
class FullTable:
    """What a kernel did whose connection table was filled.

    ``frame``: one row a connection in order, with ``seconds`` since the first, ``phase`` (``unanswered``, ``fill``,
    ``raised``), ``answered``, ``took`` (seconds), ``count`` and ``maximum`` after it, ``drop`` and ``early_drop`` so
    far (all CPUs). ``log``: the kernel's lines about the full table. ``before`` and ``after``: how full it was.
    ``old_asked``, ``old_answered``: connections that had found room and were used again while it was full.
    """

    frame: pd.DataFrame
    log: tuple[TableFull, ...]
    before: ConntrackUsage
    after: ConntrackUsage
    old_asked: int
    old_answered: int


def full_table(
    maximum: int = 128,
    connections: int = 160,
    *,
    unanswered: int = 0,
    raised: int = 0,
    timeout: float = 120.0,
) -> FullTable:
    """Fill the connection table of a guest that is started for it: a table of ``maximum``, and so many connections.

    ``unanswered`` datagrams that nobody answers come first: their entries are what a full table gives up early. With
    ``raised`` the maximum is set to that at the end, and five connections more are tried. Takes some seconds, and a
    fifth of one for each connection that finds no room. Raises GuestError where no guest can be started, ValueError for
    numbers out of range.
    """
    _check("maximum", maximum, _LEAST, _MOST)
    _check("connections", connections, 1, _MOST_TRIED)
    _check("unanswered", unanswered, 0, _MOST_TRIED)
    _check("raised", raised, 0, _MOST)
    wanted = {
        "maximum": maximum,
        "connections": connections,
        "unanswered": unanswered,
        "raised": raised,
        "patience": _PATIENCE,
        "buckets": _BUCKETS,
    }
    server = "twin.guest.fill_table:serve"
    with (
        Guest(TRACKING, server=server, config=wanted, lines=1, timeout=timeout) as guest,
        guest.connect() as connection,
    ):
        connection.settimeout(timeout)
        try:
            line = read_line(connection)
        except TimeoutError:
            raise GuestError(f"the guest has filled no table in {timeout:g} s. Ask for fewer connections") from None
        if not line.endswith(b"\n"):
            raise GuestError(
                f"the guest could not fill its table. Its console says:\n{guest.console()[-2000:].strip()}"
            )
    return _told(json.loads(line))


def _check(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}: it must be from {least} to {most}")


def _told(found: dict[str, Any]) -> FullTable:
    log = parse_table_full(found["log"])
    samples = "".join(f"{row['time']:.6f},{row['count']},{row['maximum']}\n" for row in found["rows"])
    series = parse_count_series("unix_time,nf_conntrack_count,nf_conntrack_max\n" + samples)
    stats = [parse_stats(row["stats"]) for row in found["rows"]]
    frame = pd.DataFrame(
        {
            "seconds": series.times - series.times[0],
            "phase": [row["phase"] for row in found["rows"]],
            "answered": [row["answered"] for row in found["rows"]],
            "took": [row["took"] for row in found["rows"]],
            "count": series.counts,
            "maximum": series.maxima,
            "drop": [one.total("drop") for one in stats],
            "early_drop": [one.total("early_drop") for one in stats],
        }
    )
    before, after = (
        conntrack_usage(parse_sysctl(found[when]["sysctl"]), stats=parse_stats(found[when]["stats"]), full=lines)
        for when, lines in (("before", ()), ("after", log))
    )
    old = found["old"]
    return FullTable(frame, log, before, after, old["asked"], old["answered"])
