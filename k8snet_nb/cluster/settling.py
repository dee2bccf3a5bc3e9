"""Judging a live cluster: API and kernels are read moments apart, so a difference counts when it stays."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
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


def _whole(found: T, before: T | None) -> Iterable[tuple[T, str]]:
    return [(found, "settling" if before is None else "confirmed")]


def settled(
    cluster: Cluster,
    read: Callable[[], Sequence[T]],
    place: Callable[[T], Hashable | None],
    seconds: float,
    states: Callable[[T, T | None], Iterable[tuple[T, str]]] = _whole,
) -> tuple[Sequence[T], list[str] | None]:
    """What ``read`` finds, and on a live source the state of each: ``confirmed``, ``settling`` or ``not checked``.

    ``place`` gives what two readings have in common of one difference; None for what tells of no difference. ``states``
    splits one whose parts differ in that. What only the first reading had was a change on its way to the node, and is
    left out.
    """
    found = read()
    if cluster.source.kind not in ("live", "node"):
        return found, None
    before: dict[Hashable | None, T] = {}
    if any(place(one) is not None for one in found):
        time.sleep(seconds)
        cluster.refresh()
        before = {place(one): one for one in found}
        found = read()
    told = [
        row
        for one in found
        for row in ([(one, "not checked")] if place(one) is None else states(one, before.get(place(one))))
    ]
    return [one for one, _ in told], [state for _, state in told]


def with_states(cluster: Cluster, frame: pd.DataFrame, states: list[str] | None) -> pd.DataFrame:
    """The frame with the column ``state`` and, in ``attrs``, when its facts were read; as it is without states."""
    if states is not None:
        frame["state"] = pd.Series(states, index=frame.index, dtype=object)
        frame.attrs["skew"] = _skew(cluster)
        frame.attrs["read"] = {name: cluster.source.time(FactRef(name)) for name in ("services", "endpointslices")}
    return frame


def settled_drift(cluster: Cluster, node: str | None, settle: float) -> pd.DataFrame:
    """The frame of :meth:`Cluster.drift`; on a live source with ``state``, and how far apart its readings were.

    What both readings say is ``confirmed``, what only the second says ``settling``. Of sockets that are missing or too
    many each counts by itself: a difference that both readings have in part is two rows. ``attrs["skew"]``: seconds
    between the first and the last fact of the reading that counts; None where the source does not tell.
    """
    found, states = settled(cluster, lambda: _rows(cluster, node), _place, settle, _by_socket)
    return with_states(cluster, drift_frame(found), states)


def _rows(cluster: Cluster, node: str | None) -> list[Drift]:
    nodes = [cluster.node(name) for name in ([node] if node else cluster.api.nodes)]
    return [found for one in nodes for found in drift_of(cluster, one)]


def _place(found: Drift) -> Hashable | None:
    """What a finding is about; of rules left over by another mode, which one (its words begin with that)."""
    if found.code == "NOT_CHECKED":
        return None
    about = found.says.partition(":")[0] if found.code == "MODE_LEFTOVER" else ""
    return (found.code, found.node, found.service, found.entry, found.address, found.port, found.protocol, found.family,
            about)  # fmt: skip


def _by_socket(found: Drift, before: Drift | None) -> Iterator[tuple[Drift, str]]:
    """The finding with its state; in two where only some of its sockets were there before."""
    if before is None or (before.missing, before.extra) == (found.missing, found.extra):
        yield from _whole(found, before)
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
