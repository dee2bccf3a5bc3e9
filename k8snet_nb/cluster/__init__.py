"""The façade: Cluster, and the Node, Pod and Service that it hands out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cluster import Cluster
    from .node import Node
    from .pod import Pod
    from .service import Service

__all__ = ["Cluster", "Node", "Pod", "Service"]


def __getattr__(name: str) -> Any:
    """Loaded when first named: they need pandas, and the command's arguments, which are in this room too, do not."""
    if name in __all__:
        return getattr(import_module(f".{name.lower()}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
