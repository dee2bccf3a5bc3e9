"""What pods, Services and other namespaced objects of the façade have in common."""

from __future__ import annotations

from typing import Protocol

from ..render import Shown
from ..text import printable

__all__ = ["Named"]


class _Value(Protocol):
    @property
    def namespace(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def uid(self) -> str: ...


class Named(Shown):
    """An object with a namespace, a name and a uid; equal to another lookup of the same object."""

    def __init__(self, value: _Value) -> None:
        self._named = value

    @property
    def namespace(self) -> str:
        """Its Kubernetes namespace."""
        return self._named.namespace

    @property
    def name(self) -> str:
        """Its name."""
        return self._named.name

    @property
    def uid(self) -> str:
        """Its uid: what tells it from a namesake of another time."""
        return self._named.uid

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and (other.key, other.uid) == (self.key, self.uid)

    def __hash__(self) -> int:
        return hash((self.key, self.uid))

    def __repr__(self) -> str:
        return printable(f"<{type(self).__name__} {self.key}>")
