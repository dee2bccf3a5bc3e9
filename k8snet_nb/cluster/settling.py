"""Judging a live cluster: API and kernels are read moments apart, so a difference counts when it stays."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from ..explain.drift import Drift
from ..facts import FactRef
from .tables import drift_frame
from .translating import drift_of

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["settled", "settled_drift", "with_states"]

T = TypeVar("T")


def settled(
    cluster: Cluster, read: Callable[[], Sequence[T]], same: Callable[[T], Hashable | None], seconds: float
) -> tuple[Sequence[T], list[str] | None]:
    """What ``read`` finds, and on a live source the state of each: ``confirmed``, ``settling`` or ``not checked``.

    ``same`` gives what two readings have in common of one difference; None for what tells of no difference. What only
    the first reading had was a change on its way to the node, and is left out.
    """
    found = read()
    if cluster.source.kind not in ("live", "node"):
        return found, None
    confirmed: set[Hashable | None] = set()
    if any(same(one) is not None for one in found):
        time.sleep(seconds)
        cluster.refresh()
        confirmed = {same(one) for one in found}
        found = read()
    keys = [same(one) for one in found]
    return found, ["not checked" if k is None else "confirmed" if k in confirmed else "settling" for k in keys]


def with_states(cluster: Cluster, frame: pd.DataFrame, states: list[str] | None) -> pd.DataFrame:
    """The frame with the column ``state`` and, in ``attrs``, when its facts were read; as it is without states."""
    if states is not None:
        frame["state"] = pd.Series(states, index=frame.index, dtype=object)
        frame.attrs["skew"] = _skew(cluster)
        frame.attrs["read"] = {name: cluster.source.time(FactRef(name)) for name in ("services", "endpointslices")}
    return frame


def settled_drift(cluster: Cluster, node: str | None, settle: float) -> pd.DataFrame:
    """The frame of :meth:`Cluster.drift`; on a live source with ``state``, and how far apart its readings were.

    A difference that both readings have is ``confirmed``, one that only the second has ``settling``.
    ``attrs["skew"]``: seconds between the first and the last fact of the reading that counts; None where the source
    does not tell.
    """
    found, states = settled(cluster, lambda: _rows(cluster, node), _same, settle)
    return with_states(cluster, drift_frame(found), states)


def _rows(cluster: Cluster, node: str | None) -> list[Drift]:
    nodes = [cluster.node(name) for name in ([node] if node else cluster.api.nodes)]
    return [found for one in nodes for found in drift_of(cluster, one)]


def _same(found: Drift) -> tuple[object, ...] | None:
    if found.code == "NOT_CHECKED":
        return None
    return (found.code, found.node, found.service, found.entry, found.address, found.port, found.protocol, found.family,
            found.missing, found.extra)  # fmt: skip


def _skew(cluster: Cluster) -> float | None:
    skew = getattr(cluster.source, "skew", None)
    return skew() if skew is not None else None
