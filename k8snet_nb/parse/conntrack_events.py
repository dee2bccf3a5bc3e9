"""What happened to the conntrack table: NEW, UPDATE and DESTROY, from ``conntrack -E`` or from netlink."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ..errors import FactBroken
from ..facts import Evidence
from ..render import Report, Shown
from .conntrack import columns_of
from .conntrack_netlink import decode_pieces
from .conntrack_table import COLUMNS, ConntrackTable, Problem

__all__ = ["ConntrackEvents", "decode_events", "parse_events"]

_LINE = re.compile(r"(?:\[(?P<time>\d{1,12}\.\d{1,9})\]\s*)?\[(?P<event>NEW|UPDATE|DESTROY)\]\s+(?P<entry>.*)")
_FIRST = 10
_SHOWN = (
    "time",
    "event",
    "protocol",
    "state",
    "orig_src",
    "orig_sport",
    "orig_dst",
    "orig_dport",
    "reply_src",
    "flags",
)
_DELETE, _NEW_FLAGS = 0x102, 0x600


@dataclass(frozen=True, slots=True, eq=False)
class ConntrackEvents(Shown):
    """Events in the order in which the kernel told them."""

    frame: pd.DataFrame
    """time (seconds since 1970, NA where not told), event, then the conntrack columns."""
    problems: tuple[Problem, ...] = ()
    evidence: tuple[Evidence, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    def told_by(self, *evidence: Evidence) -> ConntrackEvents:
        """The same events, and how we know them."""
        return replace(self, evidence=evidence)

    def report(self) -> Report:
        """How many of each kind, and the first ones."""
        kinds = self.frame["event"].value_counts()
        counts = ", ".join(f"{kinds.get(kind, 0):,} {kind}" for kind in ("NEW", "UPDATE", "DESTROY"))
        head = self.frame.head(_FIRST)[list(_SHOWN)].astype(object)
        rows = tuple(tuple(None if pd.isna(cell) else cell for cell in row) for row in head.itertuples(index=False))
        more = f"; the first {_FIRST} shown" if len(self) > _FIRST else ""
        headings = tuple(name.upper().replace("_", "-") for name in _SHOWN)
        problems = tuple(f"note: {problem}" for problem in self.problems)
        return Report(f"{len(self):,} conntrack events: {counts}{more}", headings, rows, problems, self.evidence)


def _frame(times: list[float | None], events: list[str], table: ConntrackTable) -> pd.DataFrame:
    head = {
        "time": pd.Series(times, dtype="Float64"),
        "event": pd.Series(events, dtype="str"),
    }
    return pd.concat([pd.DataFrame(head), table.frame[list(COLUMNS)]], axis=1)


def parse_events(data: bytes | str, *, fact: str = "conntrack-events.txt", where: str = "this text") -> ConntrackEvents:
    """``conntrack -E`` in its plain output styles, with or without ``-o timestamp``.

    Lines that are no events are left out and said. Raises FactBroken when none is one.
    """
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    matches = [_LINE.match(line) for line in text.split("\n")]
    entries = "\n".join(match["entry"] if match else "" for match in matches)
    columns, lines, problems = columns_of(entries.encode(), fact, where)
    found = list(problems)
    for number, (line, match) in enumerate(zip(text.split("\n"), matches, strict=True), 1):
        if match is None and line.strip() and not line.startswith("conntrack v"):
            found.append(Problem(number, "left out, no conntrack event", line[:200]))
    kept = [match for match in (matches[line] for line in lines.tolist()) if match is not None]
    if not kept and found:
        raise FactBroken(fact, where, f"no line is a conntrack event; {found[0]}", "Collect it with conntrack -E.")
    times = [float(match["time"]) if match["time"] else None for match in kept]
    table = ConntrackTable(columns)
    return ConntrackEvents(_frame(times, [match["event"] for match in kept], table), tuple(found))


def decode_events(pieces: Iterable[bytes], times: Iterable[float | None] = ()) -> ConntrackEvents:
    """Events from raw netlink messages, one datagram a piece; ``times`` says when each piece came."""
    messages = [piece for piece in pieces if piece]
    moments = list(times) or [None] * len(messages)
    columns, kinds, _ = decode_pieces(messages, "conntrack events (netlink)", "this stream")
    counts = [len(decode_pieces([piece])[1]) for piece in messages]
    flags = (kinds >> np.uint32(16)).tolist()
    types = (kinds & np.uint32(0xFFFF)).tolist()
    events = [
        "DESTROY" if kind == _DELETE else "NEW" if flag & _NEW_FLAGS else "UPDATE"
        for kind, flag in zip(types, flags, strict=True)
    ]
    spread = [moment for moment, count in zip(moments, counts, strict=True) for _ in range(count)]
    return ConntrackEvents(_frame(spread, events, ConntrackTable(columns)))
