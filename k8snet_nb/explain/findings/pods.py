"""Pods judged from the inside: a network namespace, a cable that leads somewhere, the file that names are found by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from shlex import quote

from ...facts import Evidence, FactRef
from ...parse.pods import PodValue
from ..dns.file import PodResolvConf
from ..model import Rule
from ..pod_network import NoVethPair, VethPair
from ..sandbox import Sandbox
from .finding import Finding
from .paths import mtu_findings

__all__ = ["inside_findings", "model_findings", "resolv_conf_findings", "status_findings"]

_LOST = ("no_process", "ambiguous_namespace")
_UNPLUGGED = ("peer_elsewhere", "only_loopback")
_UNKNOWN = ("denied", "undecided")
_RULES = ("MODEL_POD_ADDRESS", "MODEL_POD_TO_POD", "MODEL_NODE_TO_POD")


def status_findings(pod: PodValue) -> Iterator[Finding]:
    """A pod that has not begun to run. Finished ones are as they should be."""
    if pod.phase != "Pending":
        return
    where = f"on {pod.node}" if pod.node else "on no node yet"
    command = f"kubectl get pod --namespace {quote(pod.namespace)} {quote(pod.name)} -o wide"
    line = f"{pod.name}  {pod.ready}  {pod.status}  {', '.join(pod.ips) or '<none>'}  {pod.node or '<none>'}"
    proof = Evidence(FactRef("pods"), command, (line,))
    yield Finding("POD_NOT_RUNNING", f"{pod.status}, {where}", pod.node, pod=pod.key, evidence=(proof,))


def inside_findings(pod: PodValue, sandbox: Sandbox, veth: VethPair | NoVethPair) -> Iterator[Finding]:
    """What a running pod's node knows of its inside."""
    if pod.phase != "Running":
        return
    if sandbox.netns is None and sandbox.reason in _LOST:
        yield Finding("POD_NO_NAMESPACE", sandbox.text, pod.node, pod=pod.key, evidence=_seen(pod, sandbox.evidence))
    elif sandbox.reason in _UNKNOWN:
        yield Finding("NOT_CHECKED", sandbox.text, pod.node, pod=pod.key, evidence=sandbox.evidence)
    elif isinstance(veth, NoVethPair) and veth.reason in _UNPLUGGED:
        yield Finding("POD_UNPLUGGED", veth.text, pod.node, pod=pod.key, evidence=veth.evidence)
    elif isinstance(veth, NoVethPair) and veth.reason in _UNKNOWN:
        yield Finding("NOT_CHECKED", veth.text, pod.node, pod=pod.key, evidence=veth.evidence)
    elif isinstance(veth, VethPair):
        yield from mtu_findings(pod.key, pod.node, veth)


def _seen(pod: PodValue, evidence: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
    """What says that it runs, and what does not show it."""
    command = f"kubectl get pod --namespace {quote(pod.namespace)} {quote(pod.name)} -o wide"
    api = Evidence(FactRef("pods"), command, (f"{pod.name}  {pod.ready}  {pod.status}  {pod.node}",), f"uid {pod.uid}")
    processes = FactRef("processes.json", pod.node)
    return (api, *(evidence or (Evidence(processes, "lsns -t net; ls -l /proc/*/ns/net", (), "no process of it"),)))


def resolv_conf_findings(pod: PodValue, found: PodResolvConf) -> Iterator[Finding]:
    """How a pod's file differs from what the kubelet writes."""
    if found.differences:
        what = "; ".join(found.differences)
        yield Finding("RESOLV_CONF_DIFFERS", what, pod.node, pod=pod.key, evidence=found.evidence)


def model_findings(rules: Sequence[Rule]) -> Iterator[Finding]:
    """The rules of the network model that do not hold. The first, an address of its own, is judged with all owners."""
    for code, rule in zip(_RULES, rules[1:], strict=True):
        if rule.verdict == "violated":
            more = f" ... and {len(rule.exceptions) - 3} more" if len(rule.exceptions) > 3 else ""
            what = f"{rule.rule}: {'; '.join(rule.exceptions[:3])}{more}"
            yield Finding(code, what, evidence=rule.evidence)
        elif rule.verdict == "not seen":
            why = f" ({'; '.join(rule.unknown[:3])})" if rule.unknown else ""
            yield Finding("NOT_CHECKED", f"{rule.rule}: nothing was seen that could tell{why}", evidence=rule.evidence)
