"""The entries of JSON facts with typed getters: a known key of the wrong type is an error, never a guess. No I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from ..facts import FactRef
from .facts_json import broken, json_list

__all__ = ["Record", "json_object", "quote", "records"]


def records(data: bytes, ref: FactRef, within: str | None = None) -> tuple[Record, ...]:
    """The objects of a fact that is a JSON list, or of the list below the key ``within``. Raises FactBroken."""
    if within is not None:
        value = json_object(data, ref)
        if within not in value:
            raise broken(ref, f'has no list "{within}"')
        data = json.dumps(value[within]).encode()
    return tuple(Record(entry, ref, number) for number, entry in enumerate(json_list(data, ref), 1))


def json_object(data: bytes, ref: FactRef) -> dict[str, Any]:
    """The JSON object that a fact is. Raises FactBroken."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise broken(ref, f"not JSON ({error}; {len(data):,} bytes)") from error
    if not isinstance(value, dict):
        raise broken(ref, f"a JSON {type(value).__name__}, not an object")
    return value


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
        raise broken(self.ref, f"entry {self.number} {why}")

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

    def _wrong(self, key: str, expected: str) -> NoReturn:
        value: Any = self.raw.get(key)
        self.broken(f'has no "{key}"' if key not in self.raw else f'has {_kind(value)} as "{key}", not {expected}')


def _kind(value: object) -> str:
    if value is None:
        return "null"
    kinds: Sequence[tuple[type, str]] = ((bool, "a boolean"), (dict, "an object"), (list, "a list"), (str, "a text"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "a number")
