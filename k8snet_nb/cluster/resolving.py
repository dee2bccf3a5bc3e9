"""Names from the façade: what a pod's resolver asks, what it is told (recorded or asked now), what that is here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from shlex import quote
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from ..errors import FactError, FactMissing, Refused
from ..explain.dns.answers import LiveAnswers, RecordedAnswers, send_through
from ..explain.dns.file import PodResolvConf
from ..explain.dns.names import Identity, NameDirectory, join_answer
from ..explain.dns.path import DnsPath
from ..explain.dns.policy import compare_resolv_conf, expected_resolv_conf
from ..explain.dns.tools import Asker, Difference, compare_tools
from ..explain.names import PAIR, Libc
from ..explain.resolution import Answers, DnsAnswer, resolve
from ..explain.translation import Translation
from ..explain.who import Who
from ..facts import Evidence, FactRef
from ..parse.dns import DnsLog, parse_dns_log
from ..parse.pods import PodValue
from ..parse.resolv_conf import ResolvConf, parse_resolv_conf
from ..text import printable
from .dns_service import cluster_dns, cluster_domain, service_at
from .inside import check_seconds

if TYPE_CHECKING:
    from .cluster import Cluster
    from .pod import Pod

__all__ = [
    "Exchanger",
    "answers_of",
    "checked_libc",
    "checked_name",
    "difference_of",
    "path_of",
    "read_conf",
    "recorded_answers",
    "resolv_conf_of",
    "resolve_in",
]


@runtime_checkable
class Exchanger(Protocol):
    """A source that can send a DNS question from a pod's network namespace: see ``agent.dns_exchange.answer``."""

    def exchange(self, pod: str, request: dict[str, Any]) -> dict[str, Any]: ...


def checked_libc(libc: str) -> Libc:
    """The C library's name as one that is known. Raises Refused."""
    if libc == "glibc":
        return "glibc"
    if libc == "musl":
        return "musl"
    raise Refused(printable(f"{libc!r} is no C library that is known here: glibc or musl"))


def checked_name(name: str) -> str:
    """The name, if a program could mean it. Raises Refused for one with white space or control characters."""
    if any(char.isspace() or not char.isprintable() for char in name.encode("utf-8", "replace").decode()):
        raise Refused(printable(f"{name!r} holds white space or control characters: no name to look up"))
    return name


def _ref(pod: PodValue, fact: str) -> FactRef:
    if pod.node is None:
        raise FactMissing(fact, f"pod {pod.key}", "it is on no node yet")
    return FactRef(fact, pod.node, pod.key)


def read_conf(cluster: Cluster, pod: PodValue) -> tuple[ResolvConf, str, Evidence]:
    """The pod's resolv.conf: as it is read, its text, and the evidence. Raises FactMissing."""
    ref = _ref(pod, "resolv.conf")
    text = cluster.source.read(ref).decode("utf-8", "surrogateescape")
    conf = parse_resolv_conf(text)
    return conf, text, Evidence(ref, cluster.source.command(ref), conf.lines)


def answers_of(
    cluster: Cluster, pod: PodValue, resolv: ResolvConf, seconds: float, ports: dict[str, int] | None = None
) -> Answers:
    """Where answers come from: servers asked now where the source can, else the pod's recorded log.

    A log that was not recorded is one in which no question stands; each answer says why. Raises FactBroken, and
    Refused for a time limit that is none.
    """
    check_seconds(seconds)
    ref = _ref(pod, "dns.jsonl")
    source = cluster.source
    if isinstance(source, Exchanger):
        send = send_through(lambda request: source.exchange(pod.key, request))
        return LiveAnswers(send, resolv, ref, ports=ports, limit=seconds)
    return recorded_answers(cluster, ref)


def recorded_answers(cluster: Cluster, ref: FactRef) -> RecordedAnswers:
    """A pod's recorded log. One that was not recorded holds nothing, and says why."""
    try:
        return RecordedAnswers(parse_dns_log(cluster.source.read(ref)), ref)
    except FactMissing as missing:
        return RecordedAnswers(DnsLog((), ()), ref, f"{ref.fact}: {missing.why}")


def resolve_in(
    cluster: Cluster, pod: PodValue, name: str, libc: str, types: str | Sequence[str], seconds: float
) -> DnsAnswer:
    """Look a name up as a program in the pod does, and join the answer to the cluster."""
    checked_name(name)
    resolv, _, file = read_conf(cluster, pod)
    kinds = (types,) if isinstance(types, str) else tuple(types)
    asked = tuple(kind.upper() for kind in kinds) or PAIR
    answers = answers_of(cluster, pod, resolv, seconds)
    found = resolve(name, resolv, answers, libc=checked_libc(libc), types=asked)
    found = replace(found, evidence=(file, *found.evidence))
    try:
        return join_answer(found, directory_of(cluster, resolv))
    except FactMissing as missing:
        return replace(found, says=(f"Not joined to the cluster: {missing}",))


class _AnyName:
    """Where namespaces are not known, none is said to be missing."""

    def __contains__(self, _name: object) -> bool:
        return True

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


def directory_of(cluster: Cluster, resolv: ResolvConf) -> NameDirectory:
    """Where names and addresses are looked up. Raises FactMissing without the API's Services or EndpointSlices."""
    api = cluster.api
    endpoints = {key: found for key, found in api.endpoints.items() if key is not None}
    try:
        namespaces: Any = frozenset(str(item["metadata"]["name"]) for item in api.items("namespaces"))
    except FactMissing:
        namespaces = _AnyName()
    domain, _ = cluster_domain(cluster, resolv)
    return NameDirectory(api.services, endpoints, namespaces, lambda ip: _who(cluster, ip), domain)


def _who(cluster: Cluster, address: str) -> Identity:
    try:
        return cluster.who(address)
    except FactError as error:
        return Who(address, "unknown", None, f"not looked up: {error}")


def resolv_conf_of(cluster: Cluster, pod: PodValue) -> PodResolvConf:
    """The pod's file beside what the kubelet writes for its spec."""
    conf, text, evidence = read_conf(cluster, pod)
    domain, says = cluster_domain(cluster, conf)
    spec = pod.raw.get("spec") or {}
    # The file of a pod that takes the node's over cannot vouch for itself
    node = node_conf(cluster, pod.node, other_than=pod.key)
    servers = cluster_dns(cluster)
    expected = expected_resolv_conf(spec, pod.namespace, servers or (), domain, node.conf if node else None)
    notes = [says] if servers is not None else [says, "The cluster DNS Service is not known: no API"]
    if node:
        notes.append(node.says)
    found = compare_resolv_conf(expected, conf) if servers is not None else ()
    policy = _policy(pod)
    fields = f"{pod.key}: spec.dnsPolicy {policy}" + (", spec.hostNetwork true" if pod.host_network else "")
    if spec.get("dnsConfig"):
        fields += f", spec.dnsConfig {spec['dnsConfig']}"
    command = f"kubectl get pod --namespace {quote(pod.namespace)} {quote(pod.name)} -o yaml"
    about = Evidence(FactRef("pods"), command, (fields,), expected.why)
    more = (node.evidence,) if node else ()
    return PodResolvConf(pod.key, policy, text, conf, expected, found, tuple(notes), (evidence, about, *more))


def _policy(pod: PodValue) -> str:
    """Its dnsPolicy as written; an API server fills ClusterFirst in where nothing is."""
    return str((pod.raw.get("spec") or {}).get("dnsPolicy") or "ClusterFirst")


@dataclass(frozen=True, slots=True)
class NodeConf:
    """The resolv.conf that a node's kubelet hands on, as a pod has it that takes it over whole."""

    conf: ResolvConf
    says: str
    evidence: Evidence


def node_conf(cluster: Cluster, node: str | None, other_than: str = "") -> NodeConf | None:
    """A node's own resolv.conf, from a pod there whose policy is Default in effect; None when no such pod is known."""
    for pod in cluster.api.pods.values() if node else ():
        takes_over = _policy(pod) == "Default" or (_policy(pod) == "ClusterFirst" and pod.host_network)
        spec = pod.raw.get("spec") or {}
        if pod.node != node or pod.key == other_than or not takes_over or spec.get("dnsConfig"):
            continue
        try:
            conf, _, evidence = read_conf(cluster, pod)
        except FactMissing:
            continue
        says = f"The file that the kubelet of {node} hands on is known from {pod.key}, which takes it over whole"
        return NodeConf(conf, says, replace(evidence, says=says))
    return None


def difference_of(
    cluster: Cluster, pod: PodValue, name: str, libc: str, server: str | None, seconds: float
) -> Difference:
    """The ways to ask for a name beside each other, each with what came of it."""
    checked_name(name)
    resolv, _, file = read_conf(cluster, pod)
    node = node_conf(cluster, pod.node)
    ways = compare_tools(name, resolv, node.conf if node else None, libc=checked_libc(libc), server=server)
    answers = answers_of(cluster, pod, resolv, seconds)
    known = {ways.ways[-1].server} if ways.node_known else set()
    tried: list[Asker] = []
    evidence = [file, *((node.evidence,) if node else ())]
    for way in ways.ways:
        if way.command.startswith("getaddrinfo"):
            answer = resolve(name, resolv, answers, libc=checked_libc(libc))
            tried.append(replace(way, result=_outcome(answer)))
            evidence += answer.evidence
        elif way is ways.ways[-1] and way.server not in known:
            tried.append(way)
        else:
            result, more = _asked_in_turn(way, answers)
            tried.append(replace(way, result=result))
            evidence += more
    notes = (node.says,) if node else ()
    return replace(ways, ways=tuple(tried), notes=notes, evidence=tuple(dict.fromkeys(evidence)))


def _outcome(answer: DnsAnswer) -> str:
    if answer.outcome == "found":
        return f"{answer.name} is {', '.join(record.text for record in answer.records)}"
    return " ".join(filter(None, (answer.outcome, answer.rcode)))


def _asked_in_turn(way: Asker, answers: Answers) -> tuple[str, tuple[Evidence, ...]]:
    """What a tool shows: the first answer with records, else the last reply; it stops where nothing is known."""
    evidence: list[Evidence] = []
    result = ""
    for query in way.queries:
        reply = answers.ask(way.server, query)
        evidence += reply.evidence
        result = f"{query.name} {reply.result}"
        if reply.message is None:
            break
        if reply.message.answers:
            return f"{query.name} is {', '.join(r.text for r in reply.message.answers)}", tuple(evidence)
    return result, tuple(evidence)


def path_of(cluster: Cluster, pod: Pod, name: str, libc: str, seconds: float) -> DnsPath:
    """The way of the pod's questions for a name: tries, server, the translation on its node, who answers."""
    answer = resolve_in(cluster, pod.value, name, libc, PAIR, seconds)
    resolv, _, _ = read_conf(cluster, pod.value)
    server = answer.server or resolv.nameservers[0]
    what, translation, why = _served(cluster, pod, server)
    return DnsPath(pod.key, pod.node, resolv, answer, server, what, translation, why)


def _served(cluster: Cluster, pod: Pod, server: str) -> tuple[str, Translation | None, str]:
    """What a server's address is, its translation on the pod's node, and why there is none."""
    try:
        found = service_at(cluster, server)
        if found is None:
            return cluster.who(server).says, None, "It is no Service's cluster IP: nothing is translated"
    except (FactError, Refused) as error:
        return "not looked up", None, str(error)
    service, port = found
    says, client = f"the cluster IP of Service {service.key}", "node" if pod.host_network else "pod"
    family = 6 if ":" in server else 4
    try:
        return says, cluster.translate(service.key, port, pod.node, "cluster_ip", family, client), ""
    except (FactError, Refused) as error:
        return says, None, f"What becomes of it on the node is not known: {error}"
