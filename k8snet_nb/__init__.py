"""See how Kubernetes networking works: on a recorded cluster or a live one, with the evidence for every answer.

::

    import k8snet_nb as kn

    cluster = kn.open()                 # the bundled recording, or what K8SNET_SOURCE names
    cluster.pods()                      # a DataFrame, as `kubectl get pods -o wide`
    cluster.who("10.244.3.4")           # what an address is, and how we know
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from . import errors
from .errors import K8snetError
from .render import as_kubectl
from .sources.opening import ENVIRONMENT, open_live, open_source
from .sources.progress import Progress, WhenSlow

if TYPE_CHECKING:
    from .cluster import Cluster, Node, Pod, Service
    from .show import (
        NodeSelector,
        PodSelector,
        ServiceSelector,
        chain_browser,
        conntrack_chart,
        conntrack_events,
        conntrack_live,
        dns_panel,
        draw_dns,
        draw_journey,
        draw_spread,
        draw_translation,
        draw_wiring,
        live_agents,
    )
    from .show.enter import enter
    from .show.exercise import exercise
    from .show.find_fault import find_fault
    from .show.full_table import fill_a_table
    from .show.investigate import investigate
    from .show.panel import panel
    from .show.trying import try_it

__version__ = "0.1.0"

__all__ = [
    "Cluster",
    "K8snetError",
    "Node",
    "NodeSelector",
    "Pod",
    "PodSelector",
    "Service",
    "ServiceSelector",
    "as_kubectl",
    "chain_browser",
    "conntrack_chart",
    "conntrack_events",
    "conntrack_live",
    "dns_panel",
    "draw_dns",
    "draw_journey",
    "draw_spread",
    "draw_translation",
    "draw_wiring",
    "enter",
    "errors",
    "exercise",
    "fill_a_table",
    "find_fault",
    "investigate",
    "live_agents",
    "open",
    "panel",
    "try_it",
]

# pandas and widgets take seconds to import, and `k8snet twin` or a script needs neither: loaded when first named.
_TABLES = ("Cluster", "Node", "Pod", "Service")


def open(source: str | os.PathLike[str] | None = None, **live: Any) -> Cluster:  # noqa: A001 - reads as it should
    """Open a cluster: the bundled recording, or any recording of format 1 (folder, .tar.gz, .tar.xz, .zip).

    ``"live"`` is the cluster of the current kubeconfig context. Alone it only reads the API. With it go ``context``
    (another one), ``agents`` (True: on all nodes; or names), ``namespace`` and ``image`` for them, ``progress``; see
    :func:`k8snet_nb.sources.opening.open_live`. ``"node"`` is this machine as one node.

    Without an argument the environment variable K8SNET_SOURCE decides, without that the bundled recording does.
    Raises NotARecording, UnknownFormat, UnsafeRecording or SourceError. Facts are read when their answer is asked for.
    """
    from .cluster import Cluster

    if (source if source is not None else os.environ.get(ENVIRONMENT)) == "live":
        return Cluster(open_live(**{"progress": _notebook_progress(), **live}))
    if not live:
        return Cluster(open_source(source))
    raise errors.SourceError(f'{", ".join(live)}: only for open("live", ...), not for {source!r}')


def _notebook_progress() -> WhenSlow | None:
    """A bar in a notebook; None elsewhere."""
    if "ipykernel" not in sys.modules:
        return None

    def bar() -> Progress:
        from .show.progress import ProgressBar

        return ProgressBar()

    return WhenSlow(bar)


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import cluster, show

        return getattr(cluster if name in _TABLES else show, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
