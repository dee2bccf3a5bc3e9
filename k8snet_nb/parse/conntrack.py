"""Conntrack tables from text: ``conntrack -L`` in its output styles, and ``/proc/net/nf_conntrack``."""

from __future__ import annotations

import ipaddress
import re
from calendar import timegm
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import FactBroken
from .columns import Column, Ints, Number, Text, factorize_bytes
from .conntrack_lines import Layout, NotAnEntry, month_number, read_layout
from .conntrack_save import is_save, to_entries
from .conntrack_table import COLUMNS, NUMBERS, ConntrackTable, Problem, drop_duplicates, told_twice
from .protocols import PROTOCOLS
from .shapes import Chunk, Shape, chunks, numbers

__all__ = ["ConntrackTable", "Problem", "columns_of", "parse_conntrack"]

_SHOWN = re.compile(r"conntrack v\S+ \(conntrack-tools\): (\d+) flow entries have been shown\.")
_FAILED = re.compile(r"conntrack v\S+ \(conntrack-tools\): (.*)")
_MOST_PROBLEMS = 1000
_DOTTED = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}")
_ADVICE = "Collect it with conntrack -L -o extended,id."
_ADDRESSES = ("orig_src", "orig_dst", "reply_src", "reply_dst")


class _Reader:
    """Collects the columns while the text is read piece by piece."""

    def __init__(self, lines: int) -> None:
        self.entry = np.zeros(lines, dtype=np.bool_)
        self.numbers: dict[str, Number] = {}
        self.codes: dict[str, npt.NDArray[np.int32]] = {}
        self.known: dict[str, dict[str, int]] = {}
        self.addresses: dict[bytes, str | None] = {}
        self.problems: list[Problem] = []
        self.unknown: dict[str, int] = {}
        self.announced: int | None = None
        self.last_keys: dict[str, int] = {}
        self.foreign = 0
        self.lines = lines

    def problem(self, line: int | None, why: str, text: str = "") -> None:
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(Problem(line, why, text[:200]))

    def address(self, word: bytes) -> str | None:
        """The address's canonical text, worked out once."""
        if word not in self.addresses:
            self.addresses[word] = _address(word)
        return self.addresses[word]

    def number(self, name: str, rows: Ints, values: npt.NDArray[Any], good: npt.NDArray[np.bool_]) -> None:
        if name not in self.numbers:
            self.numbers[name] = Number(np.zeros(self.lines, NUMBERS[name]), np.zeros(self.lines, dtype=np.bool_))
        column = self.numbers[name]
        column.values[rows] = values
        column.present[rows] = good

    def text(self, name: str, rows: Ints, codes: npt.NDArray[Any], values: list[str | None]) -> None:
        """Codes into this piece's ``values`` become codes into the column's own; None is absent."""
        known = self.known.setdefault(name, {})
        if name not in self.codes:
            self.codes[name] = np.full(self.lines, -1, dtype=np.int32)
        table = [-1 if value is None else known.setdefault(value, len(known)) for value in values]
        self.codes[name][rows] = np.asarray(table, dtype=np.int32)[codes]

    def constant(self, name: str, rows: Ints, value: str) -> None:
        self.text(name, rows, np.zeros(len(rows), dtype=np.intp), [value])

    def columns(self) -> dict[str, Column]:
        """The columns of the lines that are entries."""
        rows = np.flatnonzero(self.entry)
        out: dict[str, Column] = {}
        for name in COLUMNS:
            if name in NUMBERS:
                empty = Number(np.zeros(len(rows), NUMBERS[name]), np.zeros(len(rows), dtype=np.bool_))
                out[name] = self.numbers[name].take(rows) if name in self.numbers else empty
            else:
                codes = self.codes[name][rows] if name in self.codes else np.full(len(rows), -1, dtype=np.int32)
                out[name] = Text(codes, tuple(self.known.get(name, {})))
        return out


def _address(word: bytes) -> str | None:
    """The canonical text of an address; None for what is none."""
    try:
        text = word.decode("ascii")
        return text if _DOTTED.fullmatch(text) else str(ipaddress.ip_address(text))
    except ValueError:
        return None


class _ShapeReader:
    """Reads the lines of one shape into the reader's columns."""

    def __init__(self, reader: _Reader, chunk: Chunk, shape: Shape, layout: Layout) -> None:
        self.reader, self.chunk, self.shape, self.layout = reader, chunk, shape, layout
        self.rows = shape.lines + chunk.first_line
        self.bad = np.zeros(len(self.rows), dtype=np.bool_)

    def read(self) -> None:
        for word, skip in self.layout.keyed:
            empty = self.shape.ends[:, word] - self.shape.starts[:, word] <= skip
            if empty.any():
                self.reject(empty, "left out, the entry is cut or damaged (a value is missing)")
        self.addresses()
        self.protocols()
        for name, (word, skip) in self.layout.values.items():
            if name in NUMBERS:
                self.numbers(name, word, skip)
        if "labels" in self.layout.values:
            self.texts("labels", lambda word: word.decode("utf-8", "replace"))
        if self.layout.state:
            self.reader.constant("state", self.rows, self.layout.state)
        self.reader.constant("flags", self.rows, ",".join(self.layout.flags))
        if "start" in self.layout.times:
            self.times("start", self.layout.times["start"])
        self.reader.entry[self.rows] = ~self.bad
        for key in self.layout.unknown:
            self.reader.unknown.setdefault(key, int(self.rows[0]) + 1)
        last = self.layout.last_key
        self.reader.last_keys[last] = self.reader.last_keys.get(last, 0) + len(self.rows)

    def reject(self, rows: npt.NDArray[np.bool_], why: str) -> None:
        """Leave these lines out, and say so."""
        for row in np.flatnonzero(rows & ~self.bad)[:_MOST_PROBLEMS].tolist():
            self.reader.problem(int(self.rows[row]) + 1, why, self.chunk.line(self.shape, row))
        self.bad |= rows

    def factor(self, word: int, skip: int) -> tuple[Ints, list[bytes]]:
        starts = self.shape.starts[:, word] + skip
        return factorize_bytes(self.chunk.words, self.chunk.data, starts, self.shape.ends[:, word] - starts)

    def texts(self, name: str, read: Callable[[bytes], str | None]) -> tuple[Ints, list[str | None]]:
        codes, words = self.factor(*self.layout.values[name])
        values = [read(word) for word in words]
        self.reader.text(name, self.rows, codes, values)
        return codes, values

    def addresses(self) -> None:
        families: list[npt.NDArray[np.bool_]] = []
        for name in _ADDRESSES:
            codes, values = self.texts(name, self.reader.address)
            self.reject(np.array([value is None for value in values])[codes], f"left out, {name} is no address")
            families.append(np.array([":" in (value or "") for value in values])[codes])
        same = (families[0] == families[1]) & (families[2] == families[3])
        self.reject(~same, "left out, its addresses are of different families")
        self.reader.text("family", self.rows, families[0].astype(np.intp), ["ipv4", "ipv6"])

    def protocols(self) -> None:
        codes, words = self.factor(self.layout.protocol, 0)
        numbers_ = [int(word) if len(word) < 4 else 256 for word in words]
        said = self.layout.protocol_word
        wrong = [n > 255 or (said != "unknown" and PROTOCOLS.get(n, said) != said) for n in numbers_]
        self.reject(np.array(wrong)[codes], "left out, the protocol's number is another one's")
        named = [PROTOCOLS.get(n, said) for n in numbers_]  # /proc says unknown of some that the tools have a name for
        self.reader.text("protocol", self.rows, codes, list(named))
        values = np.array([min(n, 255) for n in numbers_], dtype=np.uint8)[codes]
        self.reader.number("protocol_number", self.rows, values, np.ones(len(self.rows), dtype=np.bool_))

    def numbers(self, name: str, word: int, skip: int) -> None:
        starts, ends = self.shape.starts[:, word] + skip, self.shape.ends[:, word]
        values, good = numbers(self.chunk.data, starts, ends)
        limit = np.iinfo(NUMBERS[name]).max
        good &= values <= limit
        for row in np.flatnonzero(~good & ~self.bad)[:_MOST_PROBLEMS].tolist():
            why = f"{name} is no number of {NUMBERS[name].itemsize * 8} bits, shown as absent"
            text = self.chunk.data[int(starts[row]) : int(ends[row])].decode("utf-8", "replace")
            self.reader.problem(int(self.rows[row]) + 1, why, text)
        self.reader.number(name, self.rows, np.where(good, values, np.uint64(0)).astype(NUMBERS[name]), good)

    def times(self, name: str, word: int) -> None:
        """``[start=Mon Jan  1 00:00:00 2024]``: C's ctime, a second's resolution, without a time zone (read as UTC)."""
        starts, ends = self.shape.starts[:, word], self.shape.ends[:, word + 4]
        codes, words = factorize_bytes(self.chunk.words, self.chunk.data, starts, ends - starts)
        parsed = [_ctime(text.decode("ascii", "replace")) for text in words]
        values = np.array([value or 0 for value in parsed], dtype=np.uint64)[codes]
        good = np.array([value is not None for value in parsed])[codes]
        for row in np.flatnonzero(~good)[:_MOST_PROBLEMS].tolist():
            self.reader.problem(int(self.rows[row]) + 1, "its time cannot be read, shown as absent")
        self.reader.number(name, self.rows, values, good)


def _ctime(text: str) -> int | None:
    """Nanoseconds since 1970 of ``[start=Mon Jan  1 00:00:00 2024]``; None for what is no such time."""
    found = re.fullmatch(r"\[\w+=\w{3} +(\w{3}) +(\d{1,2}) +(\d\d):(\d\d):(\d\d) +(\d{4})\]", text)
    month = month_number(found[1]) if found else None
    if found is None or month is None:
        return None
    seconds = timegm((int(found[6]), month, int(found[2]), int(found[3]), int(found[4]), int(found[5])))
    return seconds * 10**9 if seconds >= 0 else None


def _read_shape(reader: _Reader, chunk: Chunk, shape: Shape, fact: str, where: str) -> None:
    text = chunk.line(shape, 0)
    try:
        layout = read_layout(text.split())
    except NotAnEntry as no:
        _not_entries(reader, chunk, shape, no, fact, where)
    else:
        _ShapeReader(reader, chunk, shape, layout).read()


def _not_entries(reader: _Reader, chunk: Chunk, shape: Shape, no: NotAnEntry, fact: str, where: str) -> None:
    """Lines that are no entries: the tool's own last words, expectations, cut lines, other tools' lines."""
    if no.expectation:
        return
    for row, line in enumerate((shape.lines + chunk.first_line).tolist()):
        text = chunk.line(shape, row)
        if shown := _SHOWN.fullmatch(text):
            reader.announced = (reader.announced or 0) + int(shown[1])
            continue
        if failed := _FAILED.fullmatch(text):
            raise FactBroken(fact, where, f"line {line + 1}: conntrack says {failed[1]!r}", "Collect it again.")
        reader.foreign += not no.cut
        if len(reader.problems) >= _MOST_PROBLEMS:
            continue
        why = f"left out, the entry is cut or damaged ({no})" if no.cut else "left out, no conntrack entry"
        reader.problem(line + 1, why, text)


def _check_last_line(reader: _Reader, data: bytes) -> None:
    """A text that does not end in a line break may be cut anywhere in its last line."""
    if data.endswith(b"\n") or not data:
        return
    line = reader.lines - 1
    if not reader.entry[line]:
        return
    last = data[data.rfind(b"\n") + 1 :].decode("utf-8", "replace")
    key = read_layout(last.split()).last_key
    if reader.last_keys.get(key, 0) <= 1 < sum(reader.last_keys.values()):
        reader.entry[line] = False
        reader.problem(line + 1, "left out, the text ends within this entry", last)
    else:
        reader.problem(line + 1, "the text ends without a line break: this entry's last value may be cut", last)


def _say_unknown(reader: _Reader) -> None:
    for key, line in reader.unknown.items():
        reader.problem(line, f"{key}= is not known to this version and not shown")


def _finish(reader: _Reader, fact: str, where: str) -> ConntrackTable:
    entries = int(reader.entry.sum())
    if not entries and reader.problems:
        first = reader.problems[0]
        raise FactBroken(fact, where, f"no line is a conntrack entry; {first}", _ADVICE)
    lines = np.flatnonzero(reader.entry)
    columns, repeats = drop_duplicates(reader.columns())
    if len(repeats):
        reader.problem(*told_twice(lines[repeats] + 1))
    _say_unknown(reader)
    if reader.announced is not None and reader.announced != entries:
        reader.problem(None, f"conntrack says {reader.announced} entries, the text has {entries}: it is not whole")
    reader.problems.sort(key=lambda problem: problem.line or 0)
    return ConntrackTable(columns, tuple(reader.problems), np.delete(lines, repeats))


def _read(raw: bytes, fact: str, where: str) -> _Reader:
    reader = _Reader(raw.count(b"\n") + (not raw.endswith(b"\n")))
    for chunk in chunks(raw):
        for shape in chunk.shapes():
            _read_shape(reader, chunk, shape, fact, where)
    _check_last_line(reader, raw)
    return reader


def columns_of(raw: bytes, fact: str, where: str) -> tuple[dict[str, Column], Ints, tuple[Problem, ...]]:
    """The columns of the lines that are entries, those lines' numbers from 0, and the problems; repeats stay."""
    reader = _read(raw, fact, where)
    _say_unknown(reader)
    return reader.columns(), np.flatnonzero(reader.entry), tuple(reader.problems)


def parse_conntrack(data: bytes | str, *, fact: str = "conntrack.txt", where: str = "this text") -> ConntrackTable:
    """The table behind ``conntrack -L`` (plain or ``-o save``) or ``/proc/net/nf_conntrack``.

    Lines that are no entries are left out and listed in ``.problems`` with their numbers. Raises FactBroken when the
    text is something else altogether, or when it holds conntrack's own error message. An empty text is an empty table.
    """
    raw = data.encode() if isinstance(data, str) else data
    if b"\0" in raw:
        raise FactBroken(
            fact,
            where,
            f"line {raw[: raw.index(0)].count(10) + 1}: holds zero bytes, this is no text",
            "Collect it again.",
        )
    if raw.lstrip().startswith(b"<"):
        raise FactBroken(fact, where, "line 1: XML is not read", _ADVICE)
    return _finish(_read(to_entries(raw) if is_save(raw) else raw, fact, where), fact, where)
