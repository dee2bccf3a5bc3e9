"""Drift on a live cluster: API and rules are read moments apart, so a difference counts when it stays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from ..explain.drift import Drift
from ..facts import FactRef
from .tables import drift_frame
from .translating import drift_of

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["settled_drift"]


Place = tuple[object, ...]


def settled_drift(cluster: Cluster, node: str | None, settle: float) -> pd.DataFrame:
    """The frame of :meth:`Cluster.drift`; on a live source with ``state``, and how far apart its readings were.

    What both readings say is ``confirmed``, what only the second says ``settling``; what only the first said was a
    change on its way to the node, and is left out. Of sockets that are missing or too many each counts by itself: a
    difference that both readings have in part is two rows. ``attrs["skew"]``: seconds between the first and the last
    fact of the reading that counts; None where the source does not tell.
    """
    found = _rows(cluster, node)
    if cluster.source.kind not in ("live", "node"):
        return drift_frame(found)
    before: dict[Place, Drift] = {}
    if any(one.code != "NOT_CHECKED" for one in found):
        time.sleep(settle)
        cluster.refresh()
        before = {_place(one): one for one in found}
        found = _rows(cluster, node)
    told = [row for one in found for row in _states(one, before.get(_place(one)))]
    frame = drift_frame([one for one, _ in told])
    frame["state"] = pd.Series([state for _, state in told], index=frame.index, dtype=object)
    frame.attrs["skew"] = _skew(cluster)
    frame.attrs["read"] = {name: cluster.source.time(FactRef(name)) for name in ("services", "endpointslices")}
    return frame


def _rows(cluster: Cluster, node: str | None) -> list[Drift]:
    nodes = [cluster.node(name) for name in ([node] if node else cluster.api.nodes)]
    return [found for one in nodes for found in drift_of(cluster, one)]


def _place(found: Drift) -> Place:
    """What a finding is about; of rules left over by another mode, which one (its words begin with that)."""
    about = found.says.partition(":")[0] if found.code == "MODE_LEFTOVER" else ""
    return (found.code, found.node, found.service, found.entry, found.address, found.port, found.protocol, found.family,
            about)  # fmt: skip


def _states(found: Drift, before: Drift | None) -> Iterator[tuple[Drift, str]]:
    """The finding with its state; in two where only some of its sockets were there before."""
    if found.code == "NOT_CHECKED":
        yield found, "not checked"
        return
    if before is None or (before.missing, before.extra) == (found.missing, found.extra):
        yield found, "settling" if before is None else "confirmed"
        return
    for state, there in (("confirmed", True), ("settling", False)):
        missing, extra = (
            tuple(one for one in now if (one in then) is there)
            for now, then in ((found.missing, before.missing), (found.extra, before.extra))
        )
        if missing or extra:
            yield replace(found, missing=missing, extra=extra), state


def _skew(cluster: Cluster) -> float | None:
    skew = getattr(cluster.source, "skew", None)
    return skew() if skew is not None else None
