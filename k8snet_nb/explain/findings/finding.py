"""One finding: what was found, of what, how it is known, what it means and what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from shlex import quote

from ...facts import Evidence
from ...render import Report, Shown
from .codes import CODES, SEVERITIES

__all__ = ["Finding", "in_order"]


@dataclass(frozen=True, slots=True)
class Finding(Shown):
    """``service`` and ``pod`` are ``namespace/name``; ``what`` says in one sentence what was seen.

    ``port`` is a Service's port by name or number, where the finding is of one.
    """

    code: str
    what: str
    node: str | None = None
    service: str | None = None
    pod: str | None = None
    evidence: tuple[Evidence, ...] = ()
    port: str | None = None

    @property
    def severity(self) -> str:
        """``error``, ``warning``, ``unknown`` (could not be judged) or ``info``."""
        return CODES[self.code].severity

    @property
    def means(self) -> str:
        """What such a finding means, the same for each of its code."""
        return CODES[self.code].means

    @property
    def subject(self) -> str:
        """Of what it is, in words: ``Service default/orphan on node-one``; ``the cluster`` for none in particular."""
        things = (("Service", self.service), ("pod", self.pod), ("node", self.node))
        named = [f"{kind} {name}" for kind, name in things if name]
        if len(named) > 1 and self.node:
            named[-1] = self.node
            return f"{', '.join(named[:-1])} on {self.node}"
        return ", ".join(named) or "the cluster"

    @property
    def next(self) -> str:
        """What to do next: calls of the kit, commands, a lesson; with this finding's names filled in."""
        return CODES[self.code].next.format(
            node=repr(self.node or "NODE"),
            service=repr(self.service or "NAMESPACE/NAME"),
            pod=repr(self.pod or "NAMESPACE/NAME"),
            kubectl_service=_kubectl(self.service),
            kubectl_pod=_kubectl(self.pod),
            kubectl_node=quote(self.node or "NODE"),
        )

    def report(self) -> Report:
        """Code and subject, what was seen, what it means, what to do next, and the evidence."""
        title = f"{self.severity}: {self.code}, {self.subject}"
        notes = (self.what, f"Means: {_ended(self.means)}", f"Next: {_ended(self.next)}")
        return Report(title, notes=notes, evidence=self.evidence)


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith(("?", ".", ")")) else f"{sentence}."


def _kubectl(key: str | None) -> str:
    namespace, _, name = (key or "NAMESPACE/NAME").partition("/")
    return f"--namespace {quote(namespace)} {quote(name)}"


def in_order(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first; then by code, Service, pod, node. What is said twice is kept once."""
    rank = {severity: at for at, severity in enumerate(SEVERITIES)}

    def key(one: Finding) -> tuple[object, ...]:
        return (rank[one.severity], one.code, one.service or "", one.pod or "", one.node or "", one.what)

    return tuple(sorted({key(one): one for one in found}.values(), key=key))
