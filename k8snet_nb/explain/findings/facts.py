"""What could not be judged, and why: facts that were not collected or cannot be used are findings, never silence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ...errors import FactBroken, FactError, K8snetError
from ...facts import API_RESOURCES, FACTS, Evidence, FactRef
from .finding import Finding

__all__ = ["API_FEEDS", "FEEDS", "INSTEAD", "POD_FEEDS", "Gap", "gap_findings", "gap_of"]

FEEDS: dict[str, str] = {
    "addr.json": "interfaces, veth pairs, the network model",
    "route.json": "routes to pods, the network model",
    "nsid.json": "veth pairs",
    "lsns.json": "network namespaces of pods",
    "processes.json": "network namespaces of pods, whether kube-proxy runs",
    "iptables-save.txt": "what iptables mode has programmed",
    "ip6tables-save.txt": "what iptables mode has programmed for IPv6",
    "nft.json": "what nftables mode has programmed",
    "ipvs-save.txt": "what IPVS mode has programmed",
    "conntrack.txt": "flows",
    "conntrack-stats.txt": "drops",
    "conntrack-count.csv": "the growth of the connection table",
    "sysctl.txt": "the fill of the connection table, timeouts of flows, reverse path filters",
    "kernel-log.txt": "what the kernel logged of a full table",
}
"""Facts of a node that findings rest on, and what of them each feeds."""

POD_FEEDS: dict[str, str] = {
    "addr.json": "the pod's interfaces, its veth pair",
    "resolv.conf": "the pod's resolv.conf",
    "dns.jsonl": "answers of cluster DNS",
    "sockets.txt": "who listens at endpoints",
}
"""The same for a pod's facts."""

API_FEEDS: dict[str, str] = {
    "nodes": "every node",
    "pods": "every pod, who an address is",
    "services": "Services, drift, flows",
    "endpointslices": "endpoints, drift, flows",
    "namespaces": "names in DNS",
    "configmaps": "the cluster's DNS domain",
    "servicecidrs": "flows to Services that are gone",
}
"""The same for what the API is asked for."""

INSTEAD: dict[str, tuple[str, ...]] = {
    "iptables-save.txt": ("iptables-legacy-save.txt",),
    "ip6tables-save.txt": ("ip6tables-legacy-save.txt",),
    "conntrack.txt": ("conntrack.netlink", "conntrack6.txt"),
}
"""Facts that tell the same as another one."""


@dataclass(frozen=True, slots=True)
class Gap:
    """One fact that could not be had: of which node or pod (None: the API), and why; ``feeds``: what is not judged."""

    fact: str
    why: str
    feeds: str
    node: str | None = None
    pod: str | None = None
    broken: bool = False


def gap_of(error: K8snetError, feeds: str, node: str | None = None, pod: str | None = None) -> Gap:
    """The gap that an error leaves: the error's own text, and what could not be judged for it."""
    if not isinstance(error, FactError):
        return Gap("", str(error), feeds, node, pod)
    known = (f"node {node}", "the Kubernetes API", f"pod {pod} on {node}", f"pod {pod}")
    where = "" if error.where in known else f"{error.where}: "
    return Gap(error.fact, f"{where}{error.why}", feeds, node, pod, isinstance(error, FactBroken))


def gap_findings(gaps: Iterable[Gap]) -> Iterator[Finding]:
    """Gaps with the same node and reason in one finding, whose facts and what they feed are listed."""
    groups: dict[tuple[str | None, str, bool, bool], list[Gap]] = {}
    for gap in gaps:
        groups.setdefault((gap.node, gap.why, gap.broken, gap.pod is None), []).append(gap)
    for (node, why, broken, _), several in groups.items():
        facts = list(dict.fromkeys(gap.fact for gap in several if gap.fact))
        feeds = ", ".join(dict.fromkeys(part for gap in several for part in gap.feeds.split(", ")))
        pods = sorted({gap.pod for gap in several if gap.pod})
        of = f" of {pods[0]}" if len(pods) == 1 else f" of {len(pods)} pods ({', '.join(pods[:2])} ...)" if pods else ""
        code = ("FACT_BROKEN" if broken else "FACT_MISSING") if facts else "NOT_CHECKED"
        head = f"{', '.join(facts)}{of}: " if facts else ""
        pod = pods[0] if len(pods) == 1 else None
        proof = tuple(Evidence(FactRef(fact, node, pod), _command(fact, node), (), why) for fact in facts[:3])
        yield Finding(code, f"{head}{why}; not judged: {feeds}", node, pod=pod, evidence=proof)


def _command(fact: str, node: str | None) -> str:
    if node is None and fact in API_RESOURCES:
        return API_RESOURCES[fact]
    return FACTS[fact].command if fact in FACTS else f"cat {fact}"
