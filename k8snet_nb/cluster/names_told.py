"""What cluster DNS told pods, for judging: as recorded, or asked now where questions can be sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from ..errors import K8snetError
from ..explain.dns.answers import RecordedAnswers, dig_command
from ..explain.findings import Finding
from ..explain.findings.facts import POD_FEEDS
from ..explain.findings.names import Told, answer_findings, replica_findings
from ..explain.names import Query
from ..facts import Evidence, FactRef
from ..parse.dns import Ask
from ..parse.pods import PodValue
from ..parse.resolv_conf import ResolvConf
from .dns_replicas import replicas_of
from .dns_service import dns_service
from .resolving import Exchanger, directory_of, recorded_answers

if TYPE_CHECKING:
    from .cluster import Cluster

__all__ = ["dns_findings"]

Check = tuple[str, Callable[[], Iterable[Finding]], str | None, str | None]
"""What is judged, the check, and the node and the pod that it is about."""

_SECONDS = 10.0
_AGREE = "whether the DNS servers agree"


def dns_findings(cluster: Cluster) -> Iterator[Check]:
    """The checks of cluster DNS: servers against each other, and their answers against the API."""
    if isinstance(cluster.source, Exchanger):
        yield _AGREE, lambda: _compared(cluster, None), None, None
        return
    logs = _Logs(cluster)
    yield _AGREE, logs.compared, None, None
    yield POD_FEEDS["dns.jsonl"], logs.judged, None, None
    for pod in logs.pods():
        yield POD_FEEDS["dns.jsonl"], partial(logs.readable, pod), pod.node, pod.key


def _compared(cluster: Cluster, pod: str | None) -> Iterator[Finding]:
    """The servers side by side, and what they said against the API."""
    found = replicas_of(cluster, None, pod, _SECONDS)
    yield from replica_findings(found, dns_service(cluster).key)
    told = [
        Told(
            found.query.name,
            found.query.type,
            row.server,
            row.who,
            row.reply.message,
            row.reply.why,
            row.reply.evidence,
        )
        for row in found.rows
        if row.reply.message is not None
    ]
    yield from answer_findings(told, directory_of(cluster, ResolvConf()))


class _Logs:
    """The recorded questions of all pods."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._read: dict[str, RecordedAnswers] = {}

    def pods(self) -> list[PodValue]:
        """Pods on nodes that can be read, as far as the API tells them."""
        try:
            pods = list(self._cluster.api.pods.values())
        except K8snetError:
            return []  # told by who asks for the pods themselves
        there = self._cluster.source.nodes()
        return [pod for pod in pods if pod.node in there and pod.phase == "Running" and not pod.host_network]

    def _recorded(self) -> list[RecordedAnswers]:
        has = self._cluster.source.has
        return [self._of(pod) for pod in self.pods() if has(FactRef("dns.jsonl", pod.node, pod.key))]

    def _of(self, pod: PodValue) -> RecordedAnswers:
        if pod.key not in self._read:
            self._read[pod.key] = recorded_answers(self._cluster, FactRef("dns.jsonl", pod.node, pod.key))
        return self._read[pod.key]

    def compared(self) -> Iterator[Finding]:
        """Each pod's questions to several servers; the same comparison of several pods counts once."""
        seen: set[tuple[object, ...]] = set()
        several: list[RecordedAnswers | None] = [*self._recorded()]
        for answers in several or [None]:
            found = replicas_of(self._cluster, None, answers.ref.pod if answers else None, _SECONDS, answers)
            key = (found.query, found.verdict, found.findings)
            if key not in seen:
                seen.add(key)
                yield from replica_findings(found, dns_service(self._cluster).key)

    def judged(self) -> Iterator[Finding]:
        """Answers of the cluster's DNS servers, against the API."""
        servers = _servers(self._cluster)
        told = [
            _told(ask, answers.ref)
            for answers in self._recorded()
            for ask in answers.log.asks
            if ask.server in servers and not ask.problem
        ]
        return answer_findings(told, directory_of(self._cluster, ResolvConf()))

    def readable(self, pod: PodValue) -> tuple[Finding, ...]:
        """Raises FactMissing without a log, FactBroken for one that cannot be read whole."""
        ref = FactRef("dns.jsonl", pod.node, pod.key)
        self._cluster.source.read(ref)
        log = self._of(pod).log
        broken = [str(problem) for problem in log.problems]
        broken += [f"line {ask.line}: {ask.problem}" for ask in log.asks if ask.problem]
        if not broken:
            return ()
        proof = Evidence(ref, self._cluster.source.command(ref), tuple(broken[:3]))
        return (Finding("FACT_BROKEN", f"dns.jsonl: {broken[0]}", pod.node, pod=pod.key, evidence=(proof,)),)


def _servers(cluster: Cluster) -> frozenset[str]:
    """The Service's addresses and its endpoints': who speaks for the cluster."""
    service = dns_service(cluster)
    endpoints = cluster.api.endpoints.get(service.key, ())
    return frozenset((*service.cluster_ips, *(endpoint.address for endpoint in endpoints)))


def _told(ask: Ask, ref: FactRef) -> Told:
    command = dig_command(Query(ask.name, ask.type), ask.server, ask.transport)
    says = "; ".join([ask.message.rcode, *map(str, ask.message.answers)]) if ask.message else ask.error or "no answer"
    proof = Evidence(ref, command, (ask.raw,), says)
    return Told(ask.name, ask.type, ask.server, ref.pod or "", ask.message, ask.error or "", (proof,))
