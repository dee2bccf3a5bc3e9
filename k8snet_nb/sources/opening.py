"""Which source is meant: the bundled recording, a path, or what K8SNET_SOURCE says."""

from __future__ import annotations

import os
from pathlib import Path

from .base import Source
from .node import NodeSource
from .recorded import open_recording

__all__ = ["BUNDLED", "ENVIRONMENT", "open_source"]

ENVIRONMENT = "K8SNET_SOURCE"
BUNDLED = Path(__file__).parent.parent / "data" / "hello-cluster"
"""A real cluster, recorded: three nodes, one for each mode of kube-proxy."""


def open_source(what: str | os.PathLike[str] | None = None) -> Source:
    """The source that ``what`` names: a path, or ``node`` for this machine.

    Without it K8SNET_SOURCE, without that the bundled recording.
    """
    chosen = what if what is not None else os.environ.get(ENVIRONMENT) or BUNDLED
    if chosen == "node":
        return NodeSource()
    return open_recording(chosen)
