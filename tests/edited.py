"""The bundled recording with some of its facts changed or taken away: a source like any other, for tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import k8snet_nb as kn
from k8snet_nb.errors import FactMissing
from k8snet_nb.facts import FactRef
from k8snet_nb.sources.opening import BUNDLED, open_source

__all__ = ["Change", "Edited", "as_json", "cluster", "on_slice", "slice_of", "text"]

Change = Callable[[bytes], bytes] | bytes | None
"""What becomes of a fact: a function of its content, new content, or None when it was never collected."""


class Edited:
    """``changes`` by ``fact`` of the API (``services``), ``node/fact`` (``node-one/nft.json``) or
    ``node/namespace/pod/fact``; the second form is for the node's fact and those of all its pods.
    """

    def __init__(self, changes: Mapping[str, Change]) -> None:
        self._source, self._changes = open_source(BUNDLED), dict(changes)
        self.asked: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def _key(self, ref: FactRef) -> str:
        of_pod = f"{ref.node}/{ref.pod}/{ref.fact}"
        if ref.pod is not None and of_pod in self._changes:
            return of_pod
        return ref.fact if ref.node is None else f"{ref.node}/{ref.fact}"

    def has(self, ref: FactRef) -> bool:
        key = self._key(ref)
        return self._changes[key] is not None if key in self._changes else self._source.has(ref)

    def read(self, ref: FactRef) -> bytes:
        change = self._changes.get(self._key(ref), lambda content: content)
        self.asked.add(self._key(ref))
        if change is None:
            raise FactMissing(ref.fact, ref.where, "it was not collected")
        return change if isinstance(change, bytes) else change(self._source.read(ref))

    def unused(self) -> set[str]:
        """Changes that nothing has asked for: a test with one of these tests nothing."""
        return set(self._changes) - self.asked


def cluster(changes: Mapping[str, Change] | None = None) -> kn.Cluster:
    """The bundled cluster with these changes."""
    return kn.Cluster(Edited(changes or {}))


def as_json(edit: Callable[[Any], Any]) -> Change:
    """A change of a JSON fact: ``edit`` changes the value in place, or gives a new one."""

    def change(content: bytes) -> bytes:
        value = json.loads(content)
        changed = edit(value)
        return json.dumps(value if changed is None else changed).encode()

    return change


def text(edit: Callable[[list[str]], list[str]]) -> Change:
    """A change of a text fact, as its lines; one that changes nothing is a mistake of the test."""

    def change(content: bytes) -> bytes:
        before = content.decode().splitlines()
        after = edit(before)
        assert after != before, "the edit changes nothing"
        return ("\n".join(after) + "\n").encode()

    return change


def on_slice(service: str, edit: Callable[[Any], object]) -> Change:
    """A change of the first EndpointSlice of a Service."""

    def change(listing: Any) -> None:
        edit(slice_of(listing, service))

    return as_json(change)


def slice_of(listing: Any, service: str) -> Any:
    """The first EndpointSlice of a Service (its bare name) in an API List."""
    label = "kubernetes.io/service-name"
    return next(item for item in listing["items"] if item["metadata"]["labels"].get(label) == service)
