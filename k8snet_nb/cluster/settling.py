"""Drift on a live cluster: API and rules are read moments apart, so a difference counts when it stays."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pandas as pd

from ..explain.drift import Drift
from ..facts import FactRef
from .tables import drift_frame
from .translating import drift_of

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["settled_drift"]


def settled_drift(cluster: Cluster, node: str | None, settle: float) -> pd.DataFrame:
    """The frame of :meth:`Cluster.drift`; on a live source with ``state``, and how far apart its readings were.

    A difference that both readings have is ``confirmed``, one that only the second has ``settling``; what only the
    first had was a change on its way to the node, and is left out. ``attrs["skew"]``: seconds between the first and
    the last fact of the reading that counts; None where the source does not tell.
    """
    first = _rows(cluster, node)
    if cluster.source.kind not in ("live", "node"):
        return drift_frame(first)
    confirmed: set[tuple[object, ...]] = set()
    if any(found.code != "NOT_CHECKED" for found in first):
        time.sleep(settle)
        cluster.refresh()
        confirmed = {_same(found) for found in first}
        first = _rows(cluster, node)
    frame = drift_frame(first)
    states = [_state(found, confirmed) for found in first]
    frame["state"] = pd.Series(states, index=frame.index, dtype=object)
    frame.attrs["skew"] = _skew(cluster)
    frame.attrs["read"] = {name: cluster.source.time(FactRef(name)) for name in ("services", "endpointslices")}
    return frame


def _rows(cluster: Cluster, node: str | None) -> list[Drift]:
    nodes = [cluster.node(name) for name in ([node] if node else cluster.api.nodes)]
    return [found for one in nodes for found in drift_of(cluster, one)]


def _same(found: Drift) -> tuple[object, ...]:
    return (found.code, found.node, found.service, found.entry, found.address, found.port, found.protocol, found.family,
            found.missing, found.extra)  # fmt: skip


def _state(found: Drift, confirmed: set[tuple[object, ...]]) -> str:
    if found.code == "NOT_CHECKED":
        return "not checked"
    return "confirmed" if _same(found) in confirmed else "settling"


def _skew(cluster: Cluster) -> float | None:
    skew = getattr(cluster.source, "skew", None)
    return skew() if skew is not None else None
