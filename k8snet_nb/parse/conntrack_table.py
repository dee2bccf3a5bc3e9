"""The conntrack table as columns: one value for text and netlink alike."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .. import render
from ..facts import Evidence
from ..text import socket_text
from .columns import Column, Number, Text, duplicated

__all__ = ["COLUMNS", "NUMBERS", "ConntrackTable", "Problem", "absent", "drop_duplicates", "joined", "told_twice"]

NUMBERS: dict[str, np.dtype[Any]] = {
    "timeout": np.dtype(np.uint32),
    "orig_sport": np.dtype(np.uint16),
    "orig_dport": np.dtype(np.uint16),
    "reply_sport": np.dtype(np.uint16),
    "reply_dport": np.dtype(np.uint16),
    "mark": np.dtype(np.uint32),
    "id": np.dtype(np.uint32),
    "orig_packets": np.dtype(np.uint64),
    "orig_bytes": np.dtype(np.uint64),
    "reply_packets": np.dtype(np.uint64),
    "reply_bytes": np.dtype(np.uint64),
    "icmp_type": np.dtype(np.uint8),
    "icmp_code": np.dtype(np.uint8),
    "icmp_id": np.dtype(np.uint16),
    "zone": np.dtype(np.uint16),
    "orig_zone": np.dtype(np.uint16),
    "reply_zone": np.dtype(np.uint16),
    "start": np.dtype(np.uint64),
    "protocol_number": np.dtype(np.uint8),
}
"""Columns that hold numbers, as wide as the kernel's own fields."""

COLUMNS: tuple[str, ...] = (
    "family", "protocol", "state", "timeout", "orig_src", "orig_dst", "orig_sport", "orig_dport",
    "reply_src", "reply_dst", "reply_sport", "reply_dport", "flags", "mark", "id",
    "orig_packets", "orig_bytes", "reply_packets", "reply_bytes", "icmp_type", "icmp_code", "icmp_id",
    "zone", "labels", "start", "orig_zone", "reply_zone", "protocol_number",
)  # fmt: skip
"""All columns, in the order of :attr:`ConntrackTable.frame`."""

_KEY = ("family", "protocol_number", "orig_src", "orig_dst", "orig_sport", "orig_dport", "icmp_type", "icmp_code",
        "icmp_id", "zone", "orig_zone")  # fmt: skip
_SHOWN = ("PROTOCOL", "STATE", "TIMEOUT", "ORIGINAL", "REPLY", "FLAGS")
_TUPLE = ("src", "sport", "dst", "dport")
_FIRST_ROWS = 10


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in the fact that the table does not show, or not fully."""

    line: int | None
    """Line number from 1, None where it is about the whole."""
    why: str
    text: str = ""

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line is not None else ""
        return f"{where}{self.why}" + (f": {render.printable(self.text)}" if self.text else "")


def absent(name: str, rows: int) -> Column:
    """A column of nothing."""
    if name in NUMBERS:
        return Number(np.zeros(rows, dtype=NUMBERS[name]), np.zeros(rows, dtype=np.bool_))
    return Text(np.full(rows, -1, dtype=np.int32), ())


class ConntrackTable:
    """The entries of one network namespace's connection tracking table, in the order in which the kernel told them.

    ``columns`` holds them compactly, ``frame`` as a DataFrame. GRE's keys stand where other protocols have ports.
    ``flags`` is a comma-separated list of UNREPLIED, ASSURED, OFFLOAD, HW_OFFLOAD (as ``conntrack -L`` prints them:
    of the last three only the strongest), empty where none is set. ``zone`` is a zone for both directions,
    ``orig_zone`` and ``reply_zone`` one for a single direction; NA is the default zone 0. ``start`` is UTC.
    ``protocol`` is the tools' word, ``unknown`` for what they have none: see ``protocol_number``.

    ``problems`` says what was left out or could not be read. Expectations are left out on purpose. ``lines`` are the
    entries' line numbers in the text, from 0; None when they came from netlink.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        problems: tuple[Problem, ...] = (),
        lines: npt.NDArray[np.intp] | None = None,
        evidence: tuple[Evidence, ...] = (),
    ) -> None:
        self.columns = {name: columns[name] for name in COLUMNS}
        self.problems, self.lines, self.evidence = problems, lines, evidence

    def __len__(self) -> int:
        return len(self.text("protocol").codes)

    def text(self, name: str) -> Text:
        """A column of text."""
        column = self.columns[name]
        if not isinstance(column, Text):
            raise TypeError(f"{name} is a column of numbers")
        return column

    def number(self, name: str) -> Number:
        """A column of numbers."""
        column = self.columns[name]
        if not isinstance(column, Number):
            raise TypeError(f"{name} is a column of text")
        return column

    def take(self, rows: Any) -> ConntrackTable:
        """Some of the entries (indices or a mask), with the same problems."""
        columns = {name: column.take(rows) for name, column in self.columns.items()}
        return ConntrackTable(columns, self.problems, None if self.lines is None else self.lines[rows], self.evidence)

    def told_by(self, *evidence: Evidence) -> ConntrackTable:
        """The same entries, and how we know them."""
        return ConntrackTable(self.columns, self.problems, self.lines, evidence)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The entries as a DataFrame, one row an entry: text columns, Int64 numbers, NA where absent."""
        data = {name: _start_times(self.number(name)) if name == "start" else column.series()
                for name, column in self.columns.items()}  # fmt: skip
        return pd.DataFrame(data, columns=list(COLUMNS), copy=False)

    def where(
        self,
        *,
        destination: str | None = None,
        source: str | None = None,
        port: int | None = None,
        protocol: str | None = None,
        state: str | None = None,
        reply_source: str | None = None,
    ) -> ConntrackTable:
        """The entries that match all that is given, as ``conntrack -L`` filters with -d, -s, --dport, -p, --state, -r.

        ``destination`` and ``source`` are those of the original direction (the Service's address, not the pod's),
        ``reply_source`` is who answers; each an address or a network such as ``10.32.0.0/24``. ``port`` is the
        original destination port.
        """
        keep = np.ones(len(self), dtype=np.bool_)
        addresses = (("orig_dst", destination), ("orig_src", source), ("reply_src", reply_source))
        for name, wanted in addresses:
            if wanted is not None:
                keep &= self.text(name).matches(_in_network(self.text(name).values, wanted))
        if port is not None:
            keep &= self.number("orig_dport").equals(port)
        if protocol is not None:
            keep &= self.text("protocol").equals(protocol.lower())
        if state is not None:
            keep &= self.text("state").equals(state.upper())
        return self.take(np.flatnonzero(keep))

    def tuples(self, row: int = 0) -> render.Report:
        """One entry's two tuples, one below the other: what the client sent, and what answers look like."""
        entry = self.take(np.array([row])).frame.iloc[0]
        headings = ("", "SOURCE", "PORT", "DESTINATION", "PORT")
        rows = tuple(
            (name, *(None if pd.isna(entry[f"{side}_{part}"]) else entry[f"{side}_{part}"] for part in _TUPLE))
            for name, side in (("original", "orig"), ("reply", "reply"))
        )
        return render.Report("", headings, rows)

    def _rows(self) -> list[list[Any]]:
        head = self.take(np.arange(min(len(self), _FIRST_ROWS))).frame
        entries = head.astype(object).where(head.notna(), None).to_dict("records")
        return [
            [e["protocol"], e["state"], e["timeout"], _way(e, "orig"), _way(e, "reply"), e["flags"]] for e in entries
        ]

    def _words(self) -> str:
        entries = "1 entry" if len(self) == 1 else f"{len(self):,} entries"
        more = f", the first {_FIRST_ROWS} shown" if len(self) > _FIRST_ROWS else ""
        return f"conntrack table: {entries}{more}"

    def __repr__(self) -> str:
        parts = [self._words()]
        if len(self):
            parts.append(render.text_table(self._rows(), _SHOWN, missing="-"))
        parts += [f"note: {render.printable(problem)}" for problem in self.problems[:_FIRST_ROWS]]
        if len(self.problems) > _FIRST_ROWS:
            parts.append(f"note: {len(self.problems) - _FIRST_ROWS} more, see .problems")
        if self.evidence:
            parts += ["", "How do we know?", render.evidence_text(self.evidence)]
        return "\n".join(parts)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        table = render.html_table(self._rows(), _SHOWN, missing="-", caption=self._words())
        notes = "".join(f"<li>{render.escape(problem)}</li>" for problem in self.problems[:_FIRST_ROWS])
        known = render.evidence_html(self.evidence)
        return render.bundle(repr(self), table + (f"<ul>{notes}</ul>" if notes else "") + known)


def joined(tables: Sequence[ConntrackTable]) -> ConntrackTable:
    """The entries of several texts one after the other, with all their problems; they have no line numbers."""
    columns: dict[str, Column] = {}
    for name in COLUMNS:
        if name in NUMBERS:
            numbers = [table.number(name) for table in tables]
            values = np.concatenate([number.values for number in numbers])
            columns[name] = Number(values, np.concatenate([number.present for number in numbers]))
        else:
            known: dict[str, int] = {}
            codes = [
                np.array([*(known.setdefault(value, len(known)) for value in text.values), -1])[text.codes]
                for text in (table.text(name) for table in tables)
            ]
            columns[name] = Text(np.concatenate(codes).astype(np.int32), tuple(known))
    problems = tuple(problem for table in tables for problem in table.problems)
    return ConntrackTable(columns, problems, None, tuple(each for table in tables for each in table.evidence))


def _way(entry: Mapping[Any, Any], side: str) -> str:
    """One tuple of an entry in a few words: from where, to where."""

    def end(address: str, port: int | None) -> str:
        if port is None:
            return address
        return socket_text(address, port)

    source, sport, destination, dport = (entry[f"{side}_{part}"] for part in _TUPLE)
    return f"{end(source, sport)} > {end(destination, dport)}"


def _in_network(values: Sequence[str], wanted: str) -> list[bool]:
    """For each address whether it is the one wanted, or in the network wanted."""
    network = ipaddress.ip_network(wanted, strict=False)
    if network.num_addresses == 1:
        return [value == str(network.network_address) for value in values]
    return [ipaddress.ip_address(value) in network for value in values]


def _start_times(start: Number) -> pd.Series[Any]:
    """Nanoseconds since 1970 as UTC times."""
    times = np.where(start.present, start.values.astype(np.int64), np.iinfo(np.int64).min).view("datetime64[ns]")
    return pd.Series(times).dt.tz_localize("UTC")


def drop_duplicates(columns: Mapping[str, Column]) -> tuple[dict[str, Column], npt.NDArray[np.intp]]:
    """The columns without entries that repeat an earlier one's original tuple and zone, and the rows left out.

    The kernel hands its table out bucket by bucket: when it changes meanwhile, an entry may be told twice.
    """
    repeats = duplicated([columns[name] for name in _KEY])
    rows = np.flatnonzero(repeats)
    if not len(rows):
        return dict(columns), rows
    return {name: column.take(~repeats) for name, column in columns.items()}, rows


def told_twice(lines: npt.NDArray[np.intp]) -> tuple[int, str]:
    """The problem that these lines (or messages), counted from 1, repeat entries: its first line, and in words."""
    first = ", ".join(str(line) for line in lines[:5].tolist()) + (", ..." if len(lines) > 5 else "")
    what = "entry is" if len(lines) == 1 else "entries are"
    why = f"{len(lines)} {what} told twice, once left out: the table changed while it was read ({first})"
    return int(lines[0]), why
