"""Drift as findings: each with the API's side and the lines of the node's rules that hold its addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ...facts import Evidence
from ..drift import Drift
from .finding import Finding

__all__ = ["RuleLines", "drift_finding"]

_MOST = 4
_ADDRESS = re.compile(r"[0-9a-fA-F]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*|\d{1,3}(?:\.\d{1,3}){3}")


class RuleLines:
    """Lines of a node's rules by the addresses in them."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._by: dict[str, list[str]] = {}
        for line in lines:
            for address in dict.fromkeys(_ADDRESS.findall(line)):
                self._by.setdefault(address, []).append(line)

    def holding(self, address: str, port: str, *owners: str) -> list[str]:
        """The first lines with that address and port; where some hold one of the ``owners`` too, only those."""
        exact = re.compile(rf"(?<!\d){re.escape(port)}(?!\d)")
        lines = self._by.get(address, [])
        lines = [line for line in lines if exact.search(line)] or lines
        whose = re.compile("|".join(rf"(?<![\w.-]){re.escape(owner)}(?![\w.-])" for owner in owners if owner) or "$")
        return ([line for line in lines if whose.search(line)] or lines)[:_MOST]


def drift_finding(drift: Drift, api: Iterable[Evidence], rules: Iterable[tuple[Evidence, RuleLines]]) -> Finding:
    """One difference. ``api``: what the API asks for; ``rules``: each fact that holds the node's rules, as lines."""
    sockets = [_socket(text) for text in (*drift.extra, *drift.missing)]
    if drift.address or drift.port:
        sockets.insert(0, (drift.address or "", str(drift.port or "")))
    proof = list(api)
    names = sorted({address for address, _ in sockets if address})
    for about, lines in rules if names else ():
        owners = (drift.service or "", drift.address or "")
        quoted = list(dict.fromkeys(line for socket in sockets for line in lines.holding(*socket, *owners)))
        says = drift.says if quoted else f"no line names {', '.join(names[:4])}"
        proof.append(Evidence(about.ref, about.command, tuple(quoted[: 2 * _MOST]), says))
    port = f"{drift.port}/{str(drift.protocol).upper()}" if drift.port else None
    return Finding(drift.code, _words(drift), drift.node, drift.service, None, tuple(proof), port)


def _words(drift: Drift) -> str:
    where = f"{drift.address or 'NodePort'} port {drift.port}/{drift.protocol}: " if drift.port else ""
    more = [f"missing {', '.join(drift.missing)}"] if drift.missing else []
    more += [f"extra {', '.join(drift.extra)}"] if drift.extra else []
    return where + "; ".join([drift.says, *more])


def _socket(text: str) -> tuple[str, str]:
    address, _, port = text.rpartition(":")
    return address.strip("[]"), port
