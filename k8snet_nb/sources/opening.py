"""Which source is meant: the bundled recording, a path, or what K8SNET_SOURCE says."""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SourceError
from .base import Source
from .progress import Progress, usual_progress
from .recorded import open_recording

if TYPE_CHECKING:
    from .kube_api import KubeApi
    from .live import LiveSource

__all__ = ["BUNDLED", "ENVIRONMENT", "open_live", "open_source"]

ENVIRONMENT = "K8SNET_SOURCE"
BUNDLED = Path(__file__).parent.parent / "data" / "hello-cluster"
"""A real cluster, recorded: three nodes, one for each mode of kube-proxy."""


def open_source(what: str | os.PathLike[str] | None = None) -> Source:
    """The source that ``what`` names; without it K8SNET_SOURCE, without that the bundled recording.

    ``"node"`` is this machine as one node, ``"live"`` the cluster of the current kubeconfig context, API only,
    ``"twin"`` the running twin (``"twin:NAME"`` where there are several); a folder of such a name is opened as
    ``"./node"``.
    """
    chosen = what if what is not None else os.environ.get(ENVIRONMENT) or BUNDLED
    if chosen == "live":
        return open_live()
    if chosen == "twin" or (isinstance(chosen, str) and chosen.startswith("twin:")):
        from .twin import TwinSource

        return TwinSource(str(chosen).partition(":")[2] or None)
    if chosen == "node":
        from .node import NodeSource

        gc.collect()  # the agents of earlier clusters, of which a cell that is run again has made one each time
        return NodeSource(api=_api_if_any())
    return open_recording(chosen)


def open_live(
    context: str | None = None,
    agents: bool | Sequence[str] = False,
    progress: Progress | None = None,
    **settings: Any,
) -> LiveSource:
    """The cluster of a kubeconfig context, or of the pod that we run in.

    ``agents``: True for all nodes that can have one, or the names of some; False reads the API only and creates
    nothing. ``settings``: see :class:`.agent_manifest.AgentSettings`. Raises SourceError.
    """
    from .agent_manifest import AgentSettings
    from .kube_api import KubeApi
    from .live import LiveSource

    known = {field.name for field in fields(AgentSettings)}
    for name in settings:
        if name not in known:
            raise SourceError(f"no setting {name!r} of a live source; there are: {', '.join(sorted(known))}")
    api = KubeApi.connect(context)
    api.progress = progress or usual_progress()
    source = LiveSource(api, AgentSettings(**{k: v for k, v in settings.items() if v is not None}))
    if agents is not False:
        source.start_agents(None if agents is True else list(agents))
    return source


def _api_if_any() -> KubeApi | None:
    """The API of the kubeconfig at hand (or of the cluster we run in); None where there is neither."""
    from .kube_api import KubeApi

    try:
        return KubeApi.connect()
    except SourceError:
        return None
