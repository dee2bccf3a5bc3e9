"""The same question to each CoreDNS pod and to the Service's address, by UDP and TCP: do they agree, do all answer?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...facts import Evidence
from ...parse.dns import Record
from ...render import Report, Shown
from ..names import Query
from ..resolution import Answers, Reply

__all__ = ["Replica", "ReplicaComparison", "compare_replicas"]


@dataclass(frozen=True, slots=True)
class Replica:
    """One server asked over one transport. ``who``: ``Service kube-system/kube-dns`` or a pod's ``namespace/name``."""

    server: str
    who: str
    transport: str
    reply: Reply

    @property
    def said(self) -> tuple[str, frozenset[tuple[str, str, str]]] | None:
        """What is compared: the code and the records, without TTL (each replica's cache counts down on its own)."""
        message = self.reply.message
        if message is None or message.truncated:
            return None  # of a truncated reply it is not known what else it would hold
        return message.rcode, frozenset((r.name.lower(), r.type, r.text.lower()) for r in message.answers)


@dataclass(frozen=True, slots=True)
class ReplicaComparison(Shown):
    """``verdict``: ``agree``, ``disagree``, ``silence`` (some do not answer) or ``not compared`` (fewer than two did).

    ``unknown`` are those that were not asked when the recording was made: no judgement on them.
    """

    query: Query
    rows: tuple[Replica, ...]
    verdict: str
    findings: tuple[str, ...]
    unknown: tuple[str, ...]
    evidence: tuple[Evidence, ...] = ()

    def report(self) -> Report:
        """One row for each server and transport; disagreement, silence and what was not asked as notes."""
        rows = tuple((r.server, r.who, r.transport, r.reply.result, r.reply.ms, _records(r)) for r in self.rows)
        notes = (*self.findings, *(f"Not asked: {what}" for what in self.unknown))
        headings = ("SERVER", "WHO", "BY", "RESULT", "MS", "RECORDS")
        return Report(f"{self.query}: {self.verdict}", headings, rows, notes, self.evidence)


def _records(row: Replica) -> tuple[str, ...]:
    answers: Sequence[Record] = row.reply.message.answers if row.reply.message else ()
    return tuple(sorted(f"{record.type} {record.text}" for record in answers))


def compare_replicas(
    query: Query, vip: str, replicas: Mapping[str, str], answers: Answers, service: str = "the Service"
) -> ReplicaComparison:
    """Ask ``vip`` by UDP and TCP and each replica by UDP. ``replicas``: address -> the pod's ``namespace/name``.

    Addresses of the records count as a set: CoreDNS shuffles them on purpose (plugin ``loadbalance``).
    """
    wanted = [
        (vip, service, "udp"),
        (vip, service, "tcp"),
        *((ip, pod, "udp") for ip, pod in replicas.items()),
    ]
    rows = tuple(Replica(server, who, by, answers.ask(server, query, by)) for server, who, by in wanted)
    unknown = tuple(
        f"{row.who} ({row.server}) by {row.transport}" for row in rows if row.reply.status == "not recorded"
    )
    silent = [row for row in rows if row.reply.status in ("silent", "unreachable")]
    groups: dict[object, list[Replica]] = {}
    for row in rows:
        if row.said is not None:
            groups.setdefault(row.said, []).append(row)
    findings = [f"{row.who} ({row.server}) by {row.transport}: {row.reply.result}" for row in silent]
    if len(groups) > 1:
        findings += [f"{', '.join(_name(r) for r in same)}: {_told(same[0])}" for same in groups.values()]
    findings += [f"{_name(row)}: truncated, not compared" for row in rows if row.reply.message and row.said is None]
    answered = sum(len(same) for same in groups.values())
    verdict = "disagree" if len(groups) > 1 else "silence" if silent else "agree" if answered > 1 else "not compared"
    evidence = tuple(item for row in rows for item in row.reply.evidence)
    return ReplicaComparison(query, rows, verdict, tuple(findings), unknown, evidence)


def _name(row: Replica) -> str:
    return f"{row.who} ({row.server}) by {row.transport}"


def _told(row: Replica) -> str:
    code = row.reply.message.rcode if row.reply.message else ""
    return f"{code} {', '.join(_records(row))}".strip()
