"""Which source is meant: the bundled recording, a path, or what K8SNET_SOURCE says."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SourceError
from .base import Source
from .recorded import open_recording

if TYPE_CHECKING:
    from .kube_api import KubeApi

__all__ = ["BUNDLED", "ENVIRONMENT", "open_source"]

ENVIRONMENT = "K8SNET_SOURCE"
BUNDLED = Path(__file__).parent.parent / "data" / "hello-cluster"
"""A real cluster, recorded: three nodes, one for each mode of kube-proxy."""


def open_source(what: str | os.PathLike[str] | None = None) -> Source:
    """The source that ``what`` names; without it K8SNET_SOURCE, without that the bundled recording.

    ``"node"`` is this machine as one node; a folder of that name is opened as ``"./node"``.
    """
    chosen = what if what is not None else os.environ.get(ENVIRONMENT) or BUNDLED
    if chosen == "node":
        from .node import NodeSource

        gc.collect()  # the agents of earlier clusters, of which a cell that is run again has made one each time
        return NodeSource(api=_api_if_any())
    return open_recording(chosen)


def _api_if_any() -> KubeApi | None:
    """The API of the kubeconfig at hand (or of the cluster we run in); None where there is neither."""
    from .kube_api import KubeApi

    try:
        return KubeApi.connect()
    except SourceError:
        return None
