"""Connections that were really made, beside what the rules promise: which endpoint answered how often.

Whether counts fit shares is told by Pearson's chi-square statistic, its tail by the Wilson-Hilferty approximation
(good to about 1 % for the sizes at hand): a fit is doubted when chance alone would be so far off less than once in
100,000 times, so that a healthy cluster is practically never accused.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist
from typing import Any

import pandas as pd

from ..render import Report, Shown
from ..text import socket_text
from .translation import Translation, share_text

__all__ = ["Sent", "chance", "chi_square"]

DOUBT = 1e-5


def chi_square(expected: Mapping[str, Fraction], seen: Mapping[str, int]) -> float:
    """Pearson's statistic of counts against shares that add up to 1; inf where something unexpected was seen."""
    total = sum(seen.values())
    if any(not expected.get(name) for name, count in seen.items() if count):
        return math.inf
    return sum(
        float((seen.get(name, 0) - share * total) ** 2 / (share * total)) for name, share in expected.items() if share
    )


def chance(statistic: float, freedom: int) -> float:
    """How probable a statistic at least so large is by chance alone, with that many degrees of freedom."""
    if freedom < 1 or statistic <= 0:
        return 1.0 if math.isfinite(statistic) else 0.0
    if math.isinf(statistic):
        return 0.0
    spread = 2 / (9 * freedom)
    return 1 - NormalDist().cdf(((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread))


@dataclass(frozen=True, slots=True)
class Sent(Shown):
    """Connections made in a twin. ``answers``: one dict a connection (``client.Answer``).

    ``frame``: one row an endpoint that was expected or answered: endpoint pod share expected answered. ``ends`` counts
    how the connections ended. ``fits``: whether what was seen is what the rules say; None: they give no fixed shares.
    """

    client: str
    translation: Translation
    answers: Sequence[Mapping[str, Any]]

    @property
    def ends(self) -> dict[str, int]:
        """How many connections ended how: ok, refused, unreachable, reset, timeout."""
        return dict(Counter(str(answer["end"]) for answer in self.answers))

    @property
    def answered(self) -> dict[str, int]:
        """How often each endpoint (``address:port``) answered."""
        return dict(Counter(socket_text(a["server"], a["port"]) for a in self.answers if a["end"] == "ok"))

    @property
    def shares(self) -> dict[str, Fraction | None]:
        """The endpoints that the rules choose from, with their shares."""
        return {socket_text(b.address, b.port): b.probability for b in self.translation.backends}

    @property
    def frame(self) -> pd.DataFrame:
        """One row an endpoint: endpoint pod share (Fraction or None) expected (number of connections) answered."""
        return pd.DataFrame(self._rows(), columns=["endpoint", "pod", "share", "expected", "answered"])

    def _rows(self) -> list[tuple[str, str | None, Fraction | None, float | None, int]]:
        answered, shares, pods, total = self.answered, self.shares, self._pods(), len(self.answers)
        names = [*shares, *(name for name in answered if name not in shares)]
        return [
            (name, pods.get(name), shares.get(name), _expected(shares.get(name), total), answered.get(name, 0))
            for name in names
        ]

    @property
    def chance(self) -> float | None:
        """How probable so uneven a spread is by chance; None without fixed shares, or where affinity decides."""
        shares = {name: share for name, share in self.shares.items() if share is not None}
        answered = self.answered
        if len(shares) != len(self.shares) or self.translation.affinity is not None or not answered:
            return None
        return chance(chi_square(shares, answered), len(shares) - 1)

    @property
    def fits(self) -> bool | None:
        """Whether every connection ended as the rules say, at the endpoints that they name, as often as they say."""
        if self.translation.action != "dnat":
            wanted = {"reject": {"refused"}, "drop": {"timeout"}, "none": {"timeout", "unreachable", "refused"}}
            return set(self.ends) <= wanted[self.translation.action]
        if set(self.ends) != {"ok"} or not set(self.answered) <= set(self.shares):
            return False
        return None if self.chance is None else self.chance >= DOUBT

    def report(self) -> Report:
        """How they ended, and each endpoint's count beside its share."""
        t = self.translation.target
        ends = ", ".join(f"{count} {end}" for end, count in sorted(self.ends.items()))
        to = f"{socket_text(t.address, t.port)}/{t.protocol}"
        title = f"{len(self.answers)} connections from {self.client} to {to}: {ends}"
        rows = tuple(
            (name, pod, share_text(share), "" if expected is None else f"{expected:g}", answered)
            for name, pod, share, expected, answered in self._rows()
        )
        headings = ("ENDPOINT", "POD", "SHARE BY THE RULES", "EXPECTED", "ANSWERED")
        return Report(title, headings if rows else (), rows, self._notes(), self.translation.evidence)

    def _notes(self) -> tuple[str, ...]:
        notes = []
        if self.chance is not None:
            notes.append(f"So uneven a spread, or more, comes about by chance with probability {self.chance:.2g}")
        if self.translation.affinity is not None:
            notes.append("Session affinity: one client stays with one endpoint, so that counts say nothing of shares")
        peers = sorted({str(answer["peer"]) for answer in self.answers if answer["end"] == "ok"})
        if peers:
            notes.append(f"The endpoints saw the client as {', '.join(peers[:5])}")
        if self.fits is False:
            notes.append("This is not what the rules say. Something else stands in the way, or is missing")
        return tuple(notes)

    def _pods(self) -> dict[str, str | None]:
        known: dict[str, str | None] = {socket_text(b.address, b.port): b.pod for b in self.translation.backends}
        said = {socket_text(a["server"], a["port"]): str(a["pod"]) for a in self.answers if a["end"] == "ok"}
        return {**said, **known}


def _expected(share: Fraction | None, total: int) -> float | None:
    return None if share is None else float(share * total)
