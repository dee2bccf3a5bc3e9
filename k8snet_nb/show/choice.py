"""What a selector lists and which one is chosen: plain values, no widgets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..render import printable

__all__ = ["CAP", "Choice", "Item"]

CAP = 200
"""At most so many options go to the browser at once."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to choose: ``key`` opens it, ``detail`` helps to tell it from others, ``namespace`` groups it."""

    key: str
    namespace: str | None = None
    detail: str = ""

    @property
    def label(self) -> str:
        """One line to show."""
        return printable(f"{self.key}  ·  {self.detail}" if self.detail else self.key)


class Choice:
    """The items, a namespace, a filter text, and what is chosen under them.

    The *wanted* key is the one that somebody picked. It is chosen as long as it matches; under a filter that hides it
    the first match stands in, and loosening the filter brings it back. A wanted key that the cluster does not have
    is ``missing``: then nothing is chosen until somebody picks again.
    """

    def __init__(self, items: Iterable[Item], wanted: str | None = None) -> None:
        self.namespace: str | None = None
        self.text = ""
        self.wanted = wanted
        self.load(items)

    def load(self, items: Iterable[Item]) -> None:
        """Take new items, sorted by key. Namespace, filter and what was wanted stay."""
        self._items = sorted(items, key=lambda item: item.key)
        self._by_key = {item.key: item for item in self._items}
        self._haystack = [f"{item.key} {item.detail}".lower() for item in self._items]
        self._match()
        if self.wanted is None and self.matches:
            self.wanted = self.matches[0].key

    @property
    def namespaces(self) -> list[str]:
        """The namespaces that hold something, sorted."""
        return sorted({item.namespace for item in self._items if item.namespace is not None})

    @property
    def missing(self) -> str | None:
        """The wanted key, when the cluster does not have it."""
        return self.wanted if self.wanted is not None and self.wanted not in self._by_key else None

    @property
    def chosen(self) -> str | None:
        """The key that is chosen now; None when nothing matches or what was wanted is missing."""
        if not self.matches or self.missing is not None:
            return None
        if self.wanted in self._matched_keys:
            return self.wanted
        return self.matches[0].key

    @property
    def shown(self) -> list[Item]:
        """The matches that are listed: at most :data:`CAP`, the chosen one always among them."""
        head = self.matches[:CAP]
        chosen = self.chosen
        if chosen is not None and all(item.key != chosen for item in head):
            head = [self._by_key[chosen], *head[: CAP - 1]]
        return head

    def narrow(self, namespace: str | None, text: str) -> None:
        """Keep one namespace (None: all) and the items that hold every word of the text, in any case."""
        self.namespace, self.text = namespace, text
        self._match()

    def pick(self, key: str) -> None:
        """Want this key from now on."""
        self.wanted = key

    def step(self, by: int) -> None:
        """Want the match that is ``by`` places on (back when negative), at most the last or first one."""
        keys = [item.key for item in self.matches]
        if keys:
            at = keys.index(self.chosen) + by if self.chosen in keys else 0
            self.pick(keys[max(0, min(at, len(keys) - 1))])

    def _match(self) -> None:
        words = self.text.lower().split()
        self.matches = [
            item
            for item, hay in zip(self._items, self._haystack, strict=True)
            if (self.namespace is None or item.namespace == self.namespace) and all(word in hay for word in words)
        ]
        self._matched_keys = {item.key for item in self.matches}
