"""Cluster DNS judged: do its servers agree, do they answer, and do they say what the API says?"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...facts import Evidence
from ...parse.dns import Message
from ...parse.services import ServiceValue
from ..dns.names import NameDirectory, cluster_name
from ..dns.replicas import ReplicaComparison
from .finding import Finding

__all__ = ["Told", "answer_findings", "replica_findings"]

_SETTLED = ("NOERROR", "NXDOMAIN")


@dataclass(frozen=True, slots=True)
class Told:
    """What a server of the cluster's DNS told a pod. ``message`` None: it did not answer, ``why`` says how."""

    name: str
    type: str
    server: str
    pod: str
    message: Message | None
    why: str
    evidence: tuple[Evidence, ...]


def replica_findings(found: ReplicaComparison, service: str) -> Iterator[Finding]:
    """Disagreement and silence among the servers; what could not be compared."""
    what = f"{found.query}: {'; '.join(found.findings)}"
    if found.verdict == "disagree":
        yield Finding("DNS_DISAGREE", what, service=service, evidence=found.evidence)
    elif found.verdict == "silence":
        yield Finding("DNS_SILENT", what, service=service, evidence=found.evidence)
    elif found.verdict == "not compared":
        why = "; ".join((*found.findings, *(f"not asked: {who}" for who in found.unknown)))
        what = f"DNS servers not compared by {found.query}: {why}"
        yield Finding("NOT_CHECKED", what, service=service, evidence=found.evidence)


def answer_findings(told: Iterable[Told], directory: NameDirectory) -> Iterator[Finding]:
    """Answers about Services that are not what the API asks for; the same one told to several pods counts once."""
    groups: dict[tuple[str, str, str], list[Told]] = {}
    for one in told:
        wrong = _wrong(one, directory)
        if wrong:
            groups.setdefault((one.name, one.type, wrong), []).append(one)
    for (name, kind, wrong), several in groups.items():
        servers = ", ".join(sorted({one.server for one in several}))
        pods = sorted({one.pod for one in several})
        asked = f"{pods[0]} and {len(pods) - 1} more pods" if len(pods) > 1 else pods[0]
        silent = all(one.message is None for one in several)
        code = "DNS_SILENT" if silent else "DNS_WRONG_ANSWER"
        what = f"{name} {kind}, asked by {asked} at {servers}: {wrong}"
        service = cluster_name(name, directory.domain).key
        evidence = tuple(item for one in several[:3] for item in one.evidence)
        yield Finding(code, what, service=service, pod=pods[0], evidence=evidence)


def _wrong(told: Told, directory: NameDirectory) -> str:
    """What is wrong with an answer about a Service's addresses; empty for a right one and for other questions."""
    meant = cluster_name(told.name, directory.domain)
    if meant.kind != "service" or meant.key is None or told.type not in ("A", "AAAA"):
        return ""
    if told.message is None:
        return told.why or "no answer"
    if told.message.truncated:
        return ""
    if told.message.rcode not in _SETTLED:
        return f"{told.message.rcode} instead of an answer"
    service = directory.services.get(meant.key)
    if service is not None and service.type == "ExternalName":
        return ""  # an alias of a name that is not the cluster's
    wanted = _addresses(service, meant.key, told.type, directory)
    got = {str(ipaddress.ip_address(r.text)) for r in told.message.answers if r.type == told.type}
    if got == wanted and not (service is not None and wanted and told.message.rcode == "NXDOMAIN"):
        return ""
    api = f"the API says {', '.join(sorted(wanted)) or 'none'}" if service else "the API has no such Service"
    return f"{told.message.rcode} {', '.join(sorted(got)) or 'without an address'}; {api}"


def _addresses(service: ServiceValue | None, key: str, kind: str, directory: NameDirectory) -> set[str]:
    if service is None:
        return set()
    if service.headless:
        endpoints = directory.endpoints.get(key, ())
        found = {e.address for e in endpoints if e.ready or service.publish_not_ready}
    else:
        found = set(service.cluster_ips)
    return {address for address in found if (":" in address) == (kind == "AAAA")}
