"""A packet's way through the rules of one node, and on to where it ends: joined from rules, routes and the API."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ..facts import Evidence
from ..render import Report, Shown
from ..text import socket_text
from .outcome import Step
from .translation import share_text

__all__ = ["End", "Hop", "Walk", "verdict_of"]


@dataclass(frozen=True, slots=True)
class Hop:
    """One place on the way: ``node``, what happens there, and the line that says so (empty when none does)."""

    node: str
    place: str
    says: str
    line: str = ""


@dataclass(frozen=True, slots=True)
class End:
    """One place where the packet may end. ``verdict``: delivered, unanswered (it comes there, but its answer goes past
    a node that had translated it), rejected, dropped, leaves, no route, unknown.

    ``who`` says whose address it is; ``chance`` is the share of new connections that end here, None when undecided.
    ``doubt``: what was not known on the last part of the way, empty when all was.
    """

    address: str
    port: int
    who: str
    node: str | None
    chance: Fraction | None
    masquerade: bool | str | None
    verdict: str
    why: str = ""
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Walk(Shown):
    """The answer. ``verdict`` sums the ends up; it says ``unless ...`` when something on the way was not evaluated,
    and ``as far as can be told`` when a rule could not be decided.

    ``hops`` in order (none for a packet that never leaves its pod); ``ends`` with their chances; ``not_evaluated``:
    policies, programs and hooks that are there, or cannot be seen, and were not judged; ``unknown``: rules that could
    not be decided, each named.
    """

    source: str
    destination: str
    node: str
    mode: str | None
    verdict: str
    hops: tuple[Hop, ...]
    ends: tuple[End, ...]
    steps: tuple[Step, ...]
    evidence: tuple[Evidence, ...]
    not_evaluated: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def report(self) -> Report:
        """Hop by hop, then the ends."""
        met = f"met first by the rules of {self.node} ({self.mode or 'no mode'})" if self.hops else "inside the pod"
        title = f"{self.source} -> {self.destination}, {met}: {self.verdict}"
        rows = [(hop.node, hop.place, hop.says) for hop in self.hops]
        for end in self.ends:
            chance = "" if end.chance == 1 else f"{share_text(end.chance)}: "
            socket = socket_text(end.address, end.port)
            says = f"{chance}{end.verdict} at {socket}, {end.who}" + (f" ({end.why})" if end.why else "")
            rows.append((end.node or "", "end", says))
        notes = [f"Not evaluated: {what}" for what in self.not_evaluated] + [
            f"Not decided: {what}" for what in self.unknown
        ]
        return Report(title, ("NODE", "WHERE", "WHAT HAPPENS"), tuple(rows), tuple(notes), self.evidence)


def verdict_of(ends: tuple[End, ...], not_evaluated: tuple[str, ...], unknown: tuple[str, ...]) -> str:
    """One line for all ends: their verdicts, and what could change them."""
    words = list(dict.fromkeys(end.verdict for end in ends))
    if not words:
        return "unknown"
    verdict = words[0] if len(words) == 1 else "depends: " + ", ".join(words)
    if not_evaluated:
        verdict += f" unless {not_evaluated[0]}"
    elif unknown:
        verdict += f", as far as can be told: {unknown[0]}"
    rest = max(len(not_evaluated) + len(unknown) - 1, 0)
    return f"{verdict} (and {rest} more)" if rest else verdict
