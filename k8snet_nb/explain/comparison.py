"""One Service port on one node, ready to stand beside the same on other nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from .programmed import Endpoints
from .translation import Translation

__all__ = ["Comparison", "compared"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a node does with a Service port. ``shares``: socket -> probability; ``same``: as the API asks for."""

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


def compared(answer: Translation, wanted: Endpoints) -> Comparison:
    """A translation against the endpoints that the API asks for on that node."""
    have = {(b.address, b.port) for b in answer.backends}
    missing, extra = sorted(wanted - have), sorted(have - wanted)
    words = [f"not here: {_list(missing)}"] if missing else []
    words += [f"in no EndpointSlice: {_list(extra)}"] if extra else []
    words += list(answer.unknown)
    shares = {_socket(b.address, b.port): b.probability for b in answer.backends}
    return Comparison(
        answer.node, answer.mode, answer.port, answer.target.family, answer.action, len(have), shares,
        answer.masquerade, answer.affinity, not missing and not extra, "; ".join(words) or "as the EndpointSlices say",
    )  # fmt: skip


def _socket(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _list(sockets: list[tuple[str, int]]) -> str:
    return ", ".join(_socket(*socket) for socket in sockets)
