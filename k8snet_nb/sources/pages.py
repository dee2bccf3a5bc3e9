"""Pages of a List joined as text, managedFields cut out: nothing is parsed twice, and nothing written anew.

API servers write ``kind``, ``apiVersion``, ``metadata`` and last ``items``. A page of another form is parsed instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..parse.api import collector_paused

__all__ = ["Page", "joined", "read_page"]

_HEAD = re.compile(
    r'\s*\{\s*"kind"\s*:\s*("\w+")\s*,\s*"apiVersion"\s*:\s*("[\w./]+")\s*,\s*"metadata"\s*:\s*(\{[^{}]*\})\s*,'
    r'\s*"items"\s*:\s*\['
)
_MANAGED = '"managedFields"'
_COLON, _AFTER = re.compile(r"\s*:\s*"), re.compile(r"\s*,\s*")
_decoder = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Page:
    """``items`` is the text between the brackets, ``meta`` the List's metadata, ``head`` its other fields."""

    head: Mapping[str, Any]
    meta: Mapping[str, Any]
    items: str

    @property
    def token(self) -> str:
        """What asks for the next page; "" on the last one."""
        return str(self.meta.get("continue") or "")


def read_page(body: bytes) -> Page:
    """Take a page apart. Raises ValueError for what is no List."""
    text = body.decode("utf-8", "surrogateescape")
    found, end = _HEAD.match(text), text.rstrip()
    if found is None or not end.endswith("}") or not end[:-1].rstrip().endswith("]"):
        return _parsed(text)
    items = text[found.end() : end.rindex("]")]
    head = {"kind": json.loads(found[1]), "apiVersion": json.loads(found[2])}
    return Page(head, json.loads(found[3]), _without_managed(items))


def _parsed(text: str) -> Page:
    with collector_paused():
        whole = json.loads(text)
    if not isinstance(whole, dict) or not isinstance(whole.get("items") or [], list):
        raise ValueError("not a List")
    items, meta = whole.pop("items", None) or [], whole.pop("metadata", None) or {}
    for item in items:
        if isinstance(item, dict) and isinstance(item.get("metadata"), dict):
            item["metadata"].pop("managedFields", None)
    return Page(whole, meta, json.dumps(items)[1:-1])


def _without_managed(text: str) -> str:
    """Cut every managedFields out, with the comma after or before it. Raises ValueError where its value is broken."""
    parts, position, at = [], 0, text.find(_MANAGED)
    while at >= 0:
        colon = _COLON.match(text, at + len(_MANAGED))
        if colon is None:  # a value; inside of a text, as in last-applied-configuration, its quotes are escaped
            at = text.find(_MANAGED, at + 1)
            continue
        _, end = _decoder.raw_decode(text, colon.end())
        after = _AFTER.match(text, end)
        before = text[position:at]
        parts.append(before if after else before.rstrip().removesuffix(","))
        position = after.end() if after else end
        at = text.find(_MANAGED, position)
    return "".join([*parts, text[position:]])


def joined(pages: list[Page]) -> bytes:
    """One List of all pages; its metadata is the last page's."""
    first, meta = pages[0], {k: v for k, v in pages[-1].meta.items() if k not in ("continue", "remainingItemCount")}
    head = json.dumps({**first.head, "metadata": meta})[:-1]
    items = ",\n".join(page.items for page in pages if page.items.strip())
    return f'{head}, "items": [{items}]}}\n'.encode("utf-8", "surrogateescape")
