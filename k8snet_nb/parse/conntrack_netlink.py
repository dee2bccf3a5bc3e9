"""Conntrack tables from the kernel's own messages (ctnetlink), decoded a column at a time.

Messages that hold the same attributes have the same layout. One message of each layout is taken apart; whatever has
the same attribute headers at the same places is read at those offsets, all messages at once. Layouts are compared
header by header, so that nothing is read as what it is not.

Sources: linux/netlink.h, linux/netfilter/nfnetlink_conntrack.h; libnetfilter_conntrack for how states are called.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import FactBroken
from .columns import Column, Ints, Number, Text, factorize_rows
from .conntrack_attributes import FLAGS, OFFLOADS, STATES, Field, fields
from .conntrack_table import COLUMNS, NUMBERS, ConntrackTable, Problem, drop_duplicates, told_twice
from .protocols import FAMILIES, protocol_name

__all__ = ["decode", "decode_pieces"]

_NEW, _DELETE = 0x100, 0x102
_ERROR, _DONE = 2, 3
_INTERRUPTED = 0x10
_HEADER = 16
_ADDRESSES = ("orig_src", "orig_dst", "reply_src", "reply_dst")
_SEEN_REPLY, _ASSURED = 1 << 1, 1 << 2
_ADVICE = "Read the table again."


class _Addresses(Sequence[str]):
    """Addresses as text, worked out when first asked for: half a million flows are decoded faster than spelled."""

    def __init__(self, four: npt.NDArray[np.uint32], six: npt.NDArray[np.uint64]) -> None:
        self._four, self._six = four, six
        self._texts: tuple[str, ...] = ()

    def _all(self) -> tuple[str, ...]:
        if not self._texts and len(self):
            four, six = self._four.astype(">u4").tobytes(), self._six.astype(">u8").tobytes()
            self._texts = tuple(
                ["%d.%d.%d.%d" % quad for quad in struct.iter_unpack("4B", four)]  # noqa: UP031 (much the fastest)
                + [str(ipaddress.IPv6Address(six[i : i + 16])) for i in range(0, len(six), 16)]
            )
        return self._texts

    def __len__(self) -> int:
        return len(self._four) + len(self._six)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        return self._all()[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Columns of one piece of the dump: raw numbers, addresses as high and low words."""

    family: npt.NDArray[np.uint8]
    kinds: npt.NDArray[np.uint32]
    """Type and flags of each message, as in its header."""
    numbers: dict[str, Number]


def _walk(words: npt.NDArray[Any], fact: str, where: str) -> Ints:
    """Where messages begin (in 4-byte words), by following their lengths one by one."""
    at, found, lengths = 0, [], words
    while at < len(words):
        length = int(lengths[at])
        if length < _HEADER or at + (length + 3) // 4 > len(words):
            raise FactBroken(fact, where, f"byte {4 * at}: a message of {length} bytes is cut", _ADVICE)
        found.append(at)
        at += (length + 3) // 4
    return np.array(found, dtype=np.intp)


def _messages(words: npt.NDArray[Any], fact: str, where: str) -> Ints:
    """Where messages begin (in 4-byte words). All carry the request's number: found at once, then checked."""
    if len(words) < 4:
        return _walk(words, fact, where)
    begins = np.flatnonzero(words[2:] == words[2])
    begins = begins[begins + 4 <= len(words)]
    ends = begins + (words[begins].astype(np.intp) + 3) // 4
    if np.array_equal(ends, np.append(begins[1:], len(words))):
        return begins
    return _walk(words, fact, where)


class _Decoder:
    """Reads one piece (whole messages) into columns."""

    def __init__(self, data: bytes | bytearray | memoryview, order: str, begins: Ints) -> None:
        self.raw = np.frombuffer(data, dtype=np.uint8)
        self.words = np.frombuffer(data, dtype=f"{order}u4")
        self.big = np.frombuffer(data, dtype=">u4")
        self.big16 = np.frombuffer(data, dtype=">u2")
        self.order, self.begins = order, begins
        self.numbers: dict[str, Number] = {}

    def piece(self) -> _Piece:
        lengths = self.words[self.begins]
        for length in np.unique(lengths).tolist():
            self.same_length(np.flatnonzero(lengths == length), length)
        family = self.raw[self.begins * 4 + _HEADER]
        return _Piece(family, self.words[self.begins + 1], self.numbers)

    def same_length(self, rows: Ints, length: int) -> None:
        """Messages of one length, layout by layout."""
        while len(rows):
            begin = int(self.begins[rows[0]])
            message = self.raw[begin * 4 : begin * 4 + length].tobytes()
            headers, found = fields(message, self.order)
            same = np.ones(len(rows), dtype=np.bool_)
            for header in headers:
                same &= self.words[self.begins[rows] + header // 4] == self.words[begin + header // 4]
            for field in found:
                self.read(field, rows[same])
            rows = rows[~same]

    def read(self, field: Field, rows: Ints) -> None:
        at = self.begins[rows] + field.offset // 4
        if field.size == 16:  # IPv6: two columns of 64 bits beside the one of 32
            name = field.column.removesuffix(":6")
            self.put(name + ":high", rows, np.uint64, self.wide(at))
            self.put(name + ":low", rows, np.uint64, self.wide(at + 2))
        elif field.size == 8:
            self.put(field.column, rows, np.uint64, self.wide(at))
        elif field.size == 4:
            self.put(field.column, rows, np.uint32, self.big[at])
        elif field.size == 2:
            self.put(field.column, rows, np.uint16, self.big16[at * 2])
        else:
            self.put(field.column, rows, np.uint8, self.raw[at * 4])

    def wide(self, at: Ints) -> npt.NDArray[np.uint64]:
        return np.asarray((self.big[at].astype(np.uint64) << np.uint64(32)) | self.big[at + 1])

    def put(self, name: str, rows: Ints, dtype: Any, values: npt.NDArray[Any]) -> None:
        if name not in self.numbers:
            count = len(self.begins)
            self.numbers[name] = Number(np.zeros(count, dtype=NUMBERS.get(name, dtype)), np.zeros(count, np.bool_))
        self.numbers[name].values[rows] = values
        self.numbers[name].present[rows] = True


def _control(words: npt.NDArray[Any], begins: Ints, fact: str, where: str) -> tuple[Ints, bool]:
    """The messages that are entries, and whether the end of the dump is among the others. Raises on an error."""
    kinds = words[begins + 1] & 0xFFFF
    entries = (kinds == _NEW) | (kinds == _DELETE)
    done = False
    for begin in begins[~entries].tolist():
        kind = int(words[begin + 1]) & 0xFFFF
        status = int(words[begin + 4].astype(np.int32)) if words[begin] > _HEADER else 0
        if kind in (_ERROR, _DONE) and status:
            why = f"the kernel broke the dump off with error {-status}"
            raise FactBroken(fact, where, why, _ADVICE)
        if kind not in (_ERROR, _DONE):
            raise FactBroken(fact, where, f"byte {4 * begin}: a message of type {kind:#x}, not of conntrack", _ADVICE)
        done |= kind == _DONE
    return begins[entries], done


def decode_pieces(
    pieces: Iterable[bytes | bytearray | memoryview], fact: str = "conntrack.bin", where: str = "this dump"
) -> tuple[dict[str, Column], npt.NDArray[np.uint32], bool]:
    """The columns of all entries in the order of the messages, their headers' type and flags, and whether it ended.

    Each piece holds whole messages. Raises FactBroken when it holds anything but conntrack messages, or cut ones.
    """
    parts: list[_Piece] = []
    done = False
    for data in pieces:
        if len(data) % 4:
            raise FactBroken(fact, where, f"{len(data)} bytes are no whole messages", _ADVICE)
        order = ">" if bytes(data[4:6]) in (b"\x01\x00", b"\x00\x03", b"\x00\x02") else "<"
        words = np.frombuffer(data, dtype=f"{order}u4")
        begins, ended = _control(words, _messages(words, fact, where), fact, where)
        done |= ended
        try:
            parts.append(_Decoder(data, order, begins).piece())
        except ValueError as error:
            raise FactBroken(fact, where, str(error), _ADVICE) from error
    try:
        columns = _Joined(parts).columns()
    except ValueError as error:
        raise FactBroken(fact, where, str(error), _ADVICE) from error
    return columns, np.concatenate([p.kinds for p in parts] or [np.empty(0, np.uint32)]), done


class _Joined:
    """The pieces as one table."""

    def __init__(self, parts: list[_Piece]) -> None:
        self.parts = parts
        self.rows = sum(len(part.family) for part in parts)

    def number(self, name: str, dtype: Any) -> Number:
        """One column of all pieces, at once dropped from them: memory is needed only once."""
        values, present = np.zeros(self.rows, dtype=dtype), np.zeros(self.rows, dtype=np.bool_)
        at = 0
        for part in self.parts:
            end = at + len(part.family)
            if (column := part.numbers.pop(name, None)) is not None:
                values[at:end], present[at:end] = column.values, column.present
            at = end
        return Number(values, present)

    def columns(self) -> dict[str, Column]:
        protocol = self.number("protocol_number", np.uint8)
        out: dict[str, Column] = {"protocol_number": protocol, **self.addresses()}
        out.update({name: self.number(name, dtype) for name, dtype in NUMBERS.items() if name not in out})
        out["protocol"] = _named(protocol, [protocol_name(number) for number in range(256)])
        out["family"] = self.family()
        out["state"] = self.state(protocol)
        out["flags"] = _flags(self.number("status", np.uint32))
        out["labels"] = self.labels()
        return {name: out[name] for name in COLUMNS}

    def family(self) -> Text:
        number = np.concatenate([part.family for part in self.parts] or [np.empty(0, np.uint8)])
        return _named(
            Number(number, np.ones(self.rows, np.bool_)), [FAMILIES.get(n, f"family-{n}") for n in range(256)]
        )

    def state(self, protocol: Number) -> Text:
        """States by protocol: the attribute's number means another thing in each."""
        names: list[str] = []
        codes = np.full(self.rows, -1, dtype=np.int32)
        for number, known in STATES.items():
            state = self.number(f"state:{number}", np.uint8)
            here = state.present & (protocol.values == number)
            table = np.array([len(names) + i for i in range(256)], dtype=np.int32)
            names += [known[i] if i < len(known) else f"STATE_{i}" for i in range(256)]
            codes[here] = table[state.values[here]]
        return _compact(codes, names)

    def labels(self) -> Text:
        """Label bits that are set, by number: their names are the machine's own (connlabel.conf)."""
        high, low = self.number("labels:high", np.uint64), self.number("labels:low", np.uint64)
        codes, first = factorize_rows(np.stack([high.values, low.values], axis=1))
        texts = [_bits(int(high.values[row]), int(low.values[row])) for row in first.tolist()]
        table = np.array([-1 if not text else i for i, text in enumerate(texts)], dtype=np.int32)
        chosen = table[codes] if len(table) else np.empty(0, np.int32)
        return Text(np.where(high.present, chosen, -1).astype(np.int32), tuple(texts))

    def addresses(self) -> dict[str, Column]:
        """The four address columns over one list of distinct addresses."""
        four = [self.number(name, np.uint32) for name in _ADDRESSES]
        codes4, distinct4 = pd.factorize(np.concatenate([column.values for column in four]))
        codes = codes4.astype(np.int32).reshape(4, self.rows)
        high = [self.number(f"{name}:high", np.uint64) for name in _ADDRESSES]
        low = [self.number(f"{name}:low", np.uint64) for name in _ADDRESSES]
        six = np.empty((0, 2), dtype=np.uint64)
        if any(column.present.any() for column in high):
            pairs = np.stack(
                [np.concatenate([c.values for c in high]), np.concatenate([c.values for c in low])], axis=1
            )
            codes6, first6 = factorize_rows(pairs)
            six = pairs[first6]
            codes6 = codes6.reshape(4, self.rows)
            for i, column in enumerate(high):
                codes[i][column.present] = codes6[i][column.present] + len(distinct4)
        values = _Addresses(np.asarray(distinct4, dtype=np.uint32), six)
        if not all((four[i].present | high[i].present).all() for i in range(4)):
            raise ValueError("an entry has no addresses in one of its tuples")
        return {name: Text(codes[i], values) for i, name in enumerate(_ADDRESSES)}


def _compact(codes: npt.NDArray[np.int32], names: Sequence[str]) -> Text:
    """Only the names that occur."""
    used = np.unique(codes[codes >= 0])
    table = np.full(len(names) + 1, -1, dtype=np.int32)
    table[used] = np.arange(len(used), dtype=np.int32)
    return Text(table[codes], tuple(names[code] for code in used.tolist()))


def _named(number: Number, names: Sequence[str]) -> Text:
    return _compact(np.where(number.present, number.values.astype(np.int32), -1).astype(np.int32), names)


def _flags(status: Number) -> Text:
    """The tool's words for the status bits: UNREPLIED, and the strongest of the other three."""
    bits = status.values
    strongest = np.zeros(len(bits), dtype=np.int32)
    for rank, bit in enumerate((_ASSURED, *OFFLOADS), 1):
        strongest[(bits & bit) != 0] = rank
    codes = strongest + 4 * ((bits & _SEEN_REPLY) == 0)
    return _compact(np.where(status.present, codes, -1).astype(np.int32), FLAGS)


def _bits(high: int, low: int) -> str:
    """The numbers of the bits set in a 128-bit label field, which is little-endian here."""
    words = [int.from_bytes(part.to_bytes(8, "big"), "little") for part in (high, low)]
    return ",".join(str(64 * i + bit) for i, word in enumerate(words) for bit in range(64) if word >> bit & 1)


def decode(
    pieces: bytes | Iterable[bytes | bytearray | memoryview],
    *,
    fact: str = "conntrack (netlink)",
    where: str = "this dump",
    whole: bool = True,
) -> ConntrackTable:
    """The table behind a ctnetlink dump: the same columns as from ``conntrack -L -o extended,id``.

    ``pieces`` are the answers to one IPCTNL_MSG_CT_GET dump request, each of whole messages. ``problems`` says when
    the kernel interrupted the dump, told entries twice, or did not end it (``whole`` False: no end is expected).
    """
    parts = (pieces,) if isinstance(pieces, bytes | bytearray | memoryview) else pieces
    columns, kinds, done = decode_pieces(parts, fact, where)
    problems = []
    if len(kinds) and bool(((kinds >> np.uint32(16)) & np.uint32(_INTERRUPTED)).any()):
        problems.append(
            Problem(None, "the kernel says that the table changed while it was read: entries may be missing")
        )
    if whole and not done:
        problems.append(Problem(None, "the dump has no end: entries are missing"))
    columns, repeats = drop_duplicates(columns)
    if len(repeats):
        message, why = told_twice(repeats + 1)
        problems.append(Problem(message, why))
    return ConntrackTable(columns, tuple(problems))
