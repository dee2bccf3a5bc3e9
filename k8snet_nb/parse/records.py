"""Reading facts that are JSON lists of objects, as ``ip -j``, ``bridge -j`` and ``lsns -J`` print them. No I/O.

A fact that is there but is not what its name promises raises FactBroken with the fact, of whom it is, the line or
the entry, and what is wrong. Unknown keys are ignored; a known key of the wrong type is an error, never a guess.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from ..errors import FactBroken
from ..facts import FactRef

__all__ = ["Record", "json_value", "quote", "records"]

_ADVICE = "Collect the fact again, or ask something that needs another fact"


def broken(ref: FactRef, why: str) -> NoReturn:
    """Raise FactBroken for a fact, naming whose it is."""
    raise FactBroken(ref.fact, ref.where, why, _ADVICE)


def json_value(data: bytes, ref: FactRef) -> Any:
    """The JSON value of a fact. Raises FactBroken with line and column for text that is not JSON."""
    try:
        return json.loads(data.decode("utf-8", "surrogateescape"))
    except json.JSONDecodeError as error:
        what = "is empty" if not data.strip() else f"is not JSON: {error.msg}, line {error.lineno}, column {error.colno}"
        broken(ref, what)
    except RecursionError:
        broken(ref, "is nested too deeply to be what its name promises")


def records(data: bytes, ref: FactRef, within: str | None = None) -> tuple[Record, ...]:
    """The list of objects that a fact holds, below the key ``within`` where given.

    iproute2 prints nothing, or ``[]`` or ``[{}]``, for an empty list; all three are an empty list here.
    """
    if within is None and not data.strip():
        return ()
    value = json_value(data, ref)
    if within is not None:
        if not isinstance(value, dict) or within not in value:
            broken(ref, f'has no list "{within}"')
        value = value[within]
    if not isinstance(value, list):
        broken(ref, f"holds {_kind(value)} where a list of objects is expected")
    found = []
    for number, entry in enumerate(value, 1):
        if not isinstance(entry, dict):
            broken(ref, f"entry {number} is {_kind(entry)}, not an object")
        if entry:
            found.append(Record(entry, ref, number))
    return tuple(found)


def quote(raw: Mapping[str, Any], *keys: str) -> str:
    """Some keys of an entry, in the fact's own order and JSON spelling: a line of evidence."""
    return json.dumps({key: value for key, value in raw.items() if key in keys}, ensure_ascii=False)


class Record:
    """One object of a fact; its typed getters raise FactBroken naming entry and key."""

    __slots__ = ("number", "raw", "ref")

    def __init__(self, raw: dict[str, Any], ref: FactRef, number: int) -> None:
        self.raw, self.ref, self.number = raw, ref, number

    def broken(self, why: str) -> NoReturn:
        """Raise FactBroken for this entry."""
        broken(self.ref, f"entry {self.number} {why}")

    def text(self, key: str) -> str:
        """A text that must be there."""
        value = self.raw.get(key)
        if not isinstance(value, str):
            self._wrong(key, "a text")
        return value

    def integer(self, key: str) -> int:
        """A whole number that must be there."""
        value = self.raw.get(key)
        if not isinstance(value, int) or isinstance(value, bool):
            self._wrong(key, "a whole number")
        return value

    def text_or_none(self, key: str) -> str | None:
        """A text, or None where the key is absent or null."""
        return None if self.raw.get(key) is None else self.text(key)

    def integer_or_none(self, key: str) -> int | None:
        """A whole number, or None where the key is absent or null."""
        return None if self.raw.get(key) is None else self.integer(key)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; absent is an empty one."""
        value = self.raw.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self._wrong(key, "a list of texts")
        return tuple(value)

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of whole numbers; absent is an empty one."""
        value = self.raw.get(key, [])
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            self._wrong(key, "a list of whole numbers")
        return tuple(value)

    def children(self, key: str) -> tuple[Record, ...]:
        """A list of objects; absent is an empty one."""
        value = self.raw.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self._wrong(key, "a list of objects")
        return tuple(Record(item, self.ref, self.number) for item in value if item)

    def child(self, key: str) -> Record:
        """An object; absent is an empty one."""
        value = self.raw.get(key, {})
        if not isinstance(value, dict):
            self._wrong(key, "an object")
        return Record(value, self.ref, self.number)

    def _wrong(self, key: str, expected: str) -> NoReturn:
        value: Any = self.raw.get(key)
        self.broken(f'has no "{key}"' if key not in self.raw else f'has {_kind(value)} as "{key}", not {expected}')


def _kind(value: object) -> str:
    if value is None:
        return "null"
    kinds: Sequence[tuple[type, str]] = ((bool, "a boolean"), (dict, "an object"), (list, "a list"), (str, "a text"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "a number")
