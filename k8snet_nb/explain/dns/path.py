"""The way of a DNS query: from the pod through its search list to the server's address, and to who answers there."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts import Evidence
from ...parse.resolv_conf import ResolvConf
from ...render import Report, Shown
from ..resolution import DnsAnswer
from ..translation import Translation, share_text

__all__ = ["DnsPath", "Tried"]


@dataclass(frozen=True, slots=True)
class Tried:
    """One name that was tried: all its questions together. ``results`` are by type, in the order of asking."""

    name: str
    via: str
    results: tuple[tuple[str, str], ...]
    found: bool


@dataclass(frozen=True, slots=True)
class DnsPath(Shown):
    """``server`` is the address that decided (else the first of resolv.conf), ``what`` says what that address is.

    ``translation`` is what the pod's node does with it; None when nothing translates, or that is not known: ``why``.
    """

    pod: str
    node: str | None
    resolv: ResolvConf
    answer: DnsAnswer
    server: str
    what: str
    translation: Translation | None
    why: str

    @property
    def tries(self) -> tuple[Tried, ...]:
        """The names tried, in order."""
        found: list[Tried] = []
        for name in dict.fromkeys(each.query.name for each in self.answer.queries):
            mine = [each for each in self.answer.queries if each.query.name == name]
            results = {each.query.type: each.result for each in mine}  # of several attempts the last counts
            here = self.answer.outcome == "found" and name == self.answer.name
            found.append(Tried(name, mine[0].query.via, tuple(results.items()), here))
        return tuple(found)

    @property
    def outcome(self) -> str:
        """The end in a few words."""
        answer = self.answer
        words = " ".join(filter(None, (answer.outcome, answer.rcode if answer.outcome != "found" else "")))
        records = ", ".join(f"{record.type} {record.text}" for record in answer.records)
        return f"{words}: {records}" if records else words

    def report(self) -> Report:
        """One row a step: the tries, the server's address, what the node makes of it."""
        rows = [
            (f"try {number}", tried.name, "; ".join(f"{kind}: {result}" for kind, result in tried.results))
            for number, tried in enumerate(self.tries, 1)
        ]
        rows.append(("server", self.server, self.what))
        if self.translation is not None:
            t = self.translation
            rows.append(("on the node", t.node, f"{t.mode or 'no mode'}: {t.action}"))
            rows += [
                ("or at" if number else "answers at", f"{b.address} port {b.port}", _who(b.pod, b.node, b.probability))
                for number, b in enumerate(t.backends)
            ]
        notes = [f"{self.pod} asks for {self.answer.asked}: {self.outcome}", *([self.why] if self.why else [])]
        return Report("", ("STEP", "WHAT", "RESULT"), tuple(rows), tuple(notes), self.evidence)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """That of the answer, then that of the translation."""
        return (*self.answer.evidence, *(self.translation.evidence if self.translation else ()))


def _who(pod: str | None, node: str | None, probability: object) -> str:
    share = share_text(probability)  # type: ignore[arg-type]
    return f"{pod or 'no pod'} on {node or 'a node that is not known'}, share {share}"
