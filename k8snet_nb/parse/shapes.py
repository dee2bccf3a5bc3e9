"""Text of many similar lines, cut into words, and lines of one shape brought together.

Half a million conntrack lines have some dozen shapes: the same sequence of words, flags and ``key=`` with other
values. One careful look at one line of each shape says what each position means; the values of all lines of that
shape are then read a column at a time. Equal shapes are compared exactly, never by hash alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .columns import U64, Ints, factorize_rows, gather_words

__all__ = ["Chunk", "Shape", "chunks", "numbers", "word_view"]

_PADDING = b" " * 16
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"0" * 9)
_ONES = np.uint64(0x0101010101010101)
_HIGHS = np.uint64(0x8080808080808080)
_EQUALS = np.uint64(0x3D3D3D3D3D3D3D3D)
_ZEROS = np.uint64(0x3030303030303030)
_ALL = ~np.uint64(0)
_NUMBER = np.uint64(1)  # no text begins with this byte and then seven zeros: such bytes are separators
_STEP = 8_000_000


def word_view(data: bytes) -> U64:
    """The little-endian eight-byte word that begins at each byte; ``data`` needs seven bytes of padding to be whole."""
    return np.ndarray((max(len(data) - 7, 0),), dtype="<u8", buffer=data, strides=(1,))


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """Lines with the same sequence of words and keys."""

    lines: Ints
    """Which lines of the chunk."""
    starts: Ints
    """(lines, words): where each word begins in the chunk."""
    ends: Ints
    """(lines, words): one past each word's last byte."""


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """A piece of the text with whole lines."""

    data: bytes
    words: U64
    first_line: int
    """Number of its first line in the text, from 0."""
    line_count: int

    def line(self, shape: Shape, row: int) -> str:
        """The line behind a row of a shape, as text."""
        return self.data[int(shape.starts[row, 0]) : int(shape.ends[row, -1])].decode("utf-8", "replace")

    def shapes(self) -> Iterator[Shape]:
        """The lines by shape; blank lines belong to none."""
        starts, ends, first = self._tokens()
        if not len(starts):
            return
        per_line = np.diff(first)
        kinds = _kinds(self.words, word_view(self.data.translate(_DIGITS_TO_ZERO)), starts, ends)
        for count in np.unique(per_line[per_line > 0]).tolist():
            lines = np.flatnonzero(per_line == count)
            tokens = first[lines][:, None] + np.arange(count)
            codes, _ = factorize_rows(_rows(kinds[tokens]))
            order = np.argsort(codes, kind="stable")
            for part in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
                yield Shape(lines[part], starts[tokens[part]], ends[tokens[part]])

    def _tokens(self) -> tuple[Ints, Ints, Ints]:
        """Where words begin and end, and the index of each line's first word (with one past the last)."""
        text = np.frombuffer(self.data, dtype=np.uint8)
        solid = np.zeros(len(text) + 1, dtype=np.int8)
        solid[1:] = text > 32
        edges = np.flatnonzero(solid[1:] != solid[:-1])
        starts, ends = edges[0::2], edges[1::2]
        breaks = np.flatnonzero(text == 10)
        first = np.concatenate(([0], np.searchsorted(starts, breaks), [len(starts)]))
        return starts, ends, first.astype(np.intp)


def _rows(kinds: U64) -> U64:
    """Kinds of a line's words, folded to one row of at most 64 words, two lines equal only if all kinds are."""
    rows, count, width = kinds.shape
    flat = kinds.reshape(rows, count * width)
    if flat.shape[1] <= 64:
        return flat
    codes = [factorize_rows(flat[:, i : i + 64])[0] for i in range(0, flat.shape[1], 64)]
    return _rows(np.stack(codes, axis=1).astype(np.uint64)[:, :, None])


def _up_to_equals(word: U64) -> tuple[U64, npt.NDArray[np.bool_]]:
    """A mask over the bytes up to the first ``=`` of each word, and whether there is one."""
    differs = word ^ _EQUALS
    found = (differs - _ONES) & ~differs & _HIGHS
    lowest = found & (~found + np.uint64(1))
    return np.where(found != 0, lowest | (lowest - np.uint64(1)), _ALL), found != 0


def _kinds(words: U64, plain: U64, starts: Ints, ends: Ints) -> U64:
    """What kind of word each is, (words, 2): its ``key=``, "a number", or its first 16 bytes with digits made alike."""
    lengths = ends - starts
    pair = gather_words(words, starts, lengths, 2)
    low_mask, low_has = _up_to_equals(pair[:, 0])
    high_mask, high_has = _up_to_equals(pair[:, 1])
    keyed = low_has | high_has
    kinds = np.empty((len(starts), 2), dtype=np.uint64)
    kinds[:, 0] = pair[:, 0] & low_mask
    kinds[:, 1] = np.where(low_has, np.uint64(0), pair[:, 1] & high_mask)
    others = np.flatnonzero(~keyed)
    bare = gather_words(plain, starts[others], lengths[others], 2)
    short = np.minimum(lengths[others], 8).astype(np.uint64)
    zeros = np.where(short == 8, _ZEROS, _ZEROS & ((np.uint64(1) << (short * np.uint64(8))) - np.uint64(1)))
    digits = (bare[:, 0] == zeros) & (lengths[others] <= 8)
    rest = lengths[others] - 8
    long_zeros = np.where(
        rest >= 8,
        _ZEROS,
        _ZEROS & ((np.uint64(1) << (np.clip(rest, 0, 7).astype(np.uint64) * np.uint64(8))) - np.uint64(1)),
    )
    digits |= (bare[:, 0] == zeros) & (rest > 0) & (rest <= 8) & (bare[:, 1] == long_zeros)
    kinds[others, 0] = np.where(digits, _NUMBER, bare[:, 0])
    kinds[others, 1] = np.where(digits, np.uint64(0), bare[:, 1])
    return kinds


def chunks(data: bytes, step: int = _STEP) -> Iterator[Chunk]:
    """The text in pieces of about ``step`` bytes, cut at line ends, so that memory stays bounded."""
    begin, line = 0, 0
    while begin < len(data):
        end = len(data) if begin + step >= len(data) else data.rfind(b"\n", begin, begin + step) + 1
        if end <= begin:  # one line longer than a piece
            end = (data.find(b"\n", begin) + 1) or len(data)
        piece = data[begin:end]
        count = piece.count(b"\n") + (not piece.endswith(b"\n"))
        padded = piece + _PADDING
        yield Chunk(padded, word_view(padded), line, count)
        begin, line = end, line + count


def numbers(data: bytes, starts: Ints, ends: Ints) -> tuple[U64, npt.NDArray[np.bool_]]:
    """Decimal (or ``0x`` hexadecimal) numbers below 2**64, and where the text is none; those rows are 0."""
    text = np.frombuffer(data, dtype=np.uint8)
    lengths = ends - starts
    good = (lengths > 0) & (lengths <= 19)
    values = np.zeros(len(starts), dtype=np.uint64)
    for i in range(int(lengths[good].max(initial=0))):
        here = i < lengths
        digit = text[np.where(here, starts + i, starts)] - np.uint8(48)
        good &= ~here | (digit <= 9)
        values = np.where(here, values * np.uint64(10) + digit, values)
    for row in np.flatnonzero(~good).tolist():
        word = data[int(starts[row]) : int(ends[row])]
        value = _slow_number(word)
        values[row], good[row] = (value, True) if value is not None else (0, False)
    return values, good


def _slow_number(word: bytes) -> int | None:
    """One number the careful way: 20 digits, or hexadecimal."""
    text = word.decode("ascii", "replace")
    try:
        value = int(text, 16) if text.startswith("0x") else int(text, 10) if text.isdigit() and len(text) < 40 else -1
    except ValueError:
        return None
    return value if 0 <= value < 2**64 else None
