"""One Service port on one node, ready to stand beside the same on other nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from ..text import socket_text
from .programmed import Endpoints
from .translation import Backend, Translation, share_text

__all__ = ["Comparison", "compared"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a node does with a Service port. ``shares``: socket -> probability.

    ``same``: whether that is what the API asks for, with equal shares; None when the rules do not tell for sure.
    """

    node: str
    mode: str | None
    port: str
    family: int
    action: str
    endpoints: int
    shares: Mapping[str, Fraction | None]
    masquerade: bool | str | None
    affinity: int | None
    same: bool | None
    says: str


def compared(answer: Translation, wanted: Endpoints | None) -> Comparison:
    """A translation against the endpoints that the API asks for on that node; None: it asks kube-proxy for nothing."""
    have = {(b.address, b.port) for b in answer.backends}
    missing, extra = sorted((wanted or frozenset()) - have), sorted(have - (wanted or frozenset()))
    words = ["kube-proxy is not asked to program this (service-proxy-name, ipMode Proxy)"] if wanted is None else []
    words += ["not programmed here"] if answer.action == "none" and wanted is not None else []
    words += [f"not here: {_list(missing)}"] if missing else []
    words += [f"in no EndpointSlice: {_list(extra)}"] if extra else []
    even = Fraction(1, max(len(answer.backends), 1))
    uneven = [b for b in answer.backends if b.probability not in (None, even)]
    words += [f"uneven shares: {', '.join(map(_share, uneven))} instead of {share_text(even)} each"] if uneven else []
    words += list(answer.unknown)
    same: bool | None = not missing and not extra and (answer.action == "none") == (wanted is None)
    same = same and not uneven
    if answer.partial or answer.unknown or (same and any(b.probability is None for b in answer.backends)):
        same = None
    shares = {socket_text(b.address, b.port): b.probability for b in answer.backends}
    return Comparison(
        answer.node, answer.mode, answer.port, answer.target.family, answer.action, len(have), shares,
        answer.masquerade, answer.affinity, same, "; ".join(words) or "as the EndpointSlices say",
    )  # fmt: skip


def _share(backend: Backend) -> str:
    return f"{share_text(backend.probability)} to {socket_text(backend.address, backend.port)}"


def _list(sockets: list[tuple[str, int]]) -> str:
    return ", ".join(socket_text(*socket) for socket in sockets)
