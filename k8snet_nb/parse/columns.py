"""Columns of what comes by the hundred thousand: numbers with gaps, and text of few distinct values.

A :class:`Text` column holds each distinct text once and a code per row, so that half a million flows need no more
than some thousand strings. Both kinds of column become pandas columns only when somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["Column", "Number", "Text", "duplicated", "factorize_bytes", "gather_words"]

U64 = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]

_MULTIPLIERS = np.random.default_rng().integers(1 << 62, 1 << 63, size=64, dtype=np.uint64) | np.uint64(1)
_LONGEST = 8 * len(_MULTIPLIERS)


@dataclass(frozen=True, slots=True, eq=False)
class Number:
    """Unsigned integers of one width; ``present`` False where the fact says nothing."""

    values: npt.NDArray[Any]
    present: Bools

    def take(self, rows: Any) -> Number:
        """The same column for some rows (indices or a mask)."""
        return Number(self.values[rows], self.present[rows])

    def series(self) -> pd.Series[Any]:
        """As nullable Int64 (UInt64 where a value needs it), NA where absent."""
        wide = self.values.dtype == np.uint64 and bool((self.values > np.uint64(2**63 - 1)).any())
        values = self.values.astype(np.uint64 if wide else np.int64)
        return pd.Series(pd.arrays.IntegerArray(values, ~self.present))

    def equals(self, value: int) -> Bools:
        """Where the number is this one; an absent number equals nothing."""
        return np.asarray((self.values == value) & self.present)


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """Text by code: row i says ``values[codes[i]]``; code -1 where the fact says nothing."""

    codes: npt.NDArray[np.int32]
    values: tuple[str, ...]

    def take(self, rows: Any) -> Text:
        """The same column for some rows (indices or a mask)."""
        return Text(self.codes[rows], self.values)

    def series(self) -> pd.Series[Any]:
        """As pandas text, NA where absent."""
        return pd.Series(pd.array(list(self.values), dtype="str").take(self.codes, allow_fill=True))

    def matches(self, wanted: Sequence[bool] | Bools) -> Bools:
        """Where the row's value is one of those for which ``wanted`` (one bool a value) holds."""
        table = np.append(np.asarray(wanted, dtype=np.bool_), False)
        return np.asarray(table[self.codes])

    def equals(self, value: str) -> Bools:
        """Where the text is exactly this one."""
        return self.matches([known == value for known in self.values])


Column = Number | Text


def gather_words(words: U64, starts: Ints, lengths: Ints, count: int) -> U64:
    """The first ``8 * count`` bytes at each start as little-endian words (shape (rows, count)), zero past the length.

    ``words`` is the eight-byte word that begins at every byte of a buffer (see ``shapes.word_view``).
    """
    out = np.empty((len(starts), count), dtype=np.uint64)
    for i in range(count):
        left = np.clip(lengths - 8 * i, 0, 8).astype(np.uint64)
        keep = np.where(left == 8, ~np.uint64(0), (np.uint64(1) << (left * np.uint64(8))) - np.uint64(1))
        out[:, i] = words[starts + 8 * i * (left > 0)] & keep
    return out


def _by_rows(rows: U64) -> tuple[Ints, Ints]:
    """Exact codes and first rows of equal rows, by sorting: the fallback when hashes collide."""
    _, first, codes = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return codes.reshape(-1).astype(np.intp), first.astype(np.intp)


def factorize_rows(rows: U64) -> tuple[Ints, Ints]:
    """Equal rows of words get equal codes; also the index of the first row of each code. Exact, whatever the input."""
    mixed = rows @ _MULTIPLIERS[: rows.shape[1]]
    mixed ^= mixed >> np.uint64(29)
    codes, distinct = pd.factorize(mixed)
    first = np.empty(len(distinct), dtype=np.intp)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    if not np.array_equal(rows, rows[first[codes]]):
        return _by_rows(rows)
    return codes.astype(np.intp), first


def factorize_bytes(words: U64, data: bytes, starts: Ints, lengths: Ints) -> tuple[Ints, list[bytes]]:
    """Codes of the byte strings at ``starts`` of ``lengths``, and the distinct strings."""
    if not len(starts):
        return np.empty(0, dtype=np.intp), []
    longest = int(lengths.max())
    if longest > _LONGEST:  # nothing honest is that long; be right rather than fast
        codes, distinct = pd.factorize(
            np.array([data[s : s + n] for s, n in zip(starts.tolist(), lengths.tolist(), strict=True)], dtype=object)
        )
        return codes.astype(np.intp), [bytes(value) for value in distinct]
    codes, first = factorize_rows(gather_words(words, starts, lengths, max(1, -(-longest // 8))))
    return codes, [data[s : s + n] for s, n in zip(starts[first].tolist(), lengths[first].tolist(), strict=True)]


def duplicated(keys: Sequence[Column]) -> Bools:
    """Which rows repeat an earlier row in all the given columns; absent equals absent."""
    rows = len(keys[0].codes if isinstance(keys[0], Text) else keys[0].values)
    mixed = np.zeros(rows, dtype=np.uint64)
    parts: list[npt.NDArray[Any]] = []
    for multiplier, key in zip(_MULTIPLIERS, keys, strict=False):
        if isinstance(key, Text):
            part = key.codes.astype(np.int64)
        else:
            part = np.where(key.present, key.values.astype(np.int64), -1)
        parts.append(part)
        mixed ^= part.view(np.uint64) * multiplier
        mixed = (mixed << np.uint64(7)) | (mixed >> np.uint64(57))
    suspects = np.flatnonzero(pd.Series(mixed).duplicated(keep=False))
    repeats = np.zeros(rows, dtype=np.bool_)
    if len(suspects):
        exact = pd.DataFrame({i: part[suspects] for i, part in enumerate(parts)}).duplicated()
        repeats[suspects[exact.to_numpy()]] = True
    return repeats
