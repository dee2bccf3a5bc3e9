"""The catalogue of facts: every raw input has one name here, and one command that a person would type for it.

A *fact* is what the Kubernetes API or a node's kernel said, unparsed. Its name is the name of its file in a
recording. Adding a fact is adding an entry here, a parser in ``parse``, and a recorded sample.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["API_RESOURCES", "FACTS", "Evidence", "Fact", "FactRef"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One entry of the catalogue: file name, the command to show, and whether a node, a pod or both have it."""

    file: str
    command: str
    node: bool = True
    pod: bool = False


FACTS: dict[str, Fact] = {
    fact.file: fact
    for fact in (
        Fact("addr.json", "ip -d -j addr", pod=True),
        Fact("route.json", "ip -d -j route show table all", pod=True),
        Fact("route6.json", "ip -d -j -6 route show table all", pod=True),
        Fact("rule.json", "ip -j rule", pod=True),
        Fact("neigh.json", "ip -j neigh", pod=True),
        Fact("nsid.json", "ip -j netns list-id", pod=True),
        Fact("lsns.json", "lsns -t net -J -o NS,NETNSID,NPROCS,PID,NSFS,COMMAND"),
        Fact("fdb.json", "bridge -j fdb"),
        Fact("processes.json", "for every /proc/PID: ns/net, cgroup, cmdline"),
        Fact("sockets.txt", "ss -tunap", pod=True),
        Fact("iptables-save.txt", "iptables-save -c"),
        Fact("ip6tables-save.txt", "ip6tables-save -c"),
        Fact("iptables-legacy-save.txt", "iptables-legacy-save -c"),
        Fact("ip6tables-legacy-save.txt", "ip6tables-legacy-save -c"),
        Fact("nft.json", "nft -j list ruleset"),
        Fact("ipset.txt", "ipset save"),
        Fact("ipvs-save.txt", "ipvsadm -Sn"),
        Fact("ipvs.txt", "ipvsadm -Ln"),
        Fact("ipvs-stats.txt", "ipvsadm -Ln --stats --exact"),
        Fact("ipvs-connections.txt", "ipvsadm -Lnc"),
        Fact("conntrack.txt", "conntrack -L -o extended,id", pod=True),
        Fact("conntrack6.txt", "conntrack -L -f ipv6 -o extended,id", pod=True),
        Fact("conntrack-stats.txt", "conntrack -S"),
        Fact("conntrack-events.txt", "conntrack -E -o timestamp,id"),
        Fact("conntrack-count.csv", "sysctl -n net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max"),
        Fact("sysctl.txt", "sysctl net.netfilter net.ipv4.ip_forward net.ipv4.vs"),
        Fact("kernel-log.txt", "dmesg -T | grep conntrack"),
        Fact("pod.json", "for every /proc/PID whose cgroup names the pod: ns/net", node=False, pod=True),
        Fact("resolv.conf", "cat /proc/{pid}/root/etc/resolv.conf", node=False, pod=True),
        Fact("dns.jsonl", "dig NAME TYPE @SERVER", node=False, pod=True),
    )
}
"""All facts of nodes and pods, by file name."""

API_RESOURCES: dict[str, str] = {
    "version": "kubectl version -o json",
    "nodes": "kubectl get nodes -o json",
    "pods": "kubectl get pods --all-namespaces -o json",
    "services": "kubectl get services --all-namespaces -o json",
    "endpointslices": "kubectl get endpointslices --all-namespaces -o json",
    "namespaces": "kubectl get namespaces -o json",
    "configmaps": "kubectl get configmaps --namespace kube-system -o json",
    "networkpolicies": "kubectl get networkpolicies --all-namespaces -o json",
    "servicecidrs": "kubectl get servicecidrs -o json",
}
"""What the API is asked for: resource name -> the command that a person would type."""


@dataclass(frozen=True, slots=True)
class FactRef:
    """Which fact of which node or pod. ``node`` None: the API. ``pod`` is ``namespace/name``."""

    fact: str
    node: str | None = None
    pod: str | None = None

    @property
    def where(self) -> str:
        """Of what it is a fact, in words."""
        if self.node is None:
            return "the Kubernetes API"
        return f"pod {self.pod} on {self.node}" if self.pod else f"node {self.node}"

    @property
    def place(self) -> str:
        """Where its command runs: your machine, the node, or the pod's network namespace."""
        if self.node is None:
            return "your machine"
        if self.pod and self.fact not in ("pod.json", "resolv.conf"):
            return f"node {self.node}, in the network namespace of pod {self.pod}"
        return f"node {self.node}"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why an answer is what it is: a fact, the command that shows it, and the lines of it that decided.

    ``lines`` hold what the fact says; where that is JSON, in the short form that people read (as ``ip -brief`` and
    ``kubectl get`` have it). ``says`` is what they say about the question at hand.
    """

    ref: FactRef
    command: str
    lines: tuple[str, ...] = ()
    says: str = ""

    def text_lines(self) -> list[str]:
        """The prompt with the place, the lines, and what they say; each is to be shown as one line."""
        head = f"[{self.ref.place}]$ {self.command}"
        return [head, *(f"    {line}" for line in self.lines), *([f"  -> {self.says}"] if self.says else [])]
