"""Findings from the façade: facts are read, detectors judge them, and what could not be read is a finding too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..errors import FactError, FactMissing, K8snetError
from ..explain.findings import Finding, in_order
from ..explain.findings.addresses import address_findings
from ..explain.findings.conntrack import flow_findings, usage_findings
from ..explain.findings.drift import RuleLines, drift_finding
from ..explain.findings.facts import API_FEEDS, FEEDS, INSTEAD, POD_FEEDS, Gap, gap_findings, gap_of
from ..explain.findings.modes import mode_findings, node_findings, node_mode_findings
from ..explain.findings.pods import inside_findings, model_findings, resolv_conf_findings, status_findings
from ..explain.findings.services import service_findings
from ..explain.pod_network import veth_of
from ..explain.sandbox import NodeView, find_sandbox
from ..facts import Evidence, FactRef
from ..parse.nft import Ruleset
from ..parse.nft_text import element_text, rule_text
from ..parse.pods import PodValue
from ..render import Proof, printable
from .inside import node_facts, pod_facts
from .names_told import dns_findings
from .resolving import resolv_conf_of
from .settling import settled, with_states
from .tables import rows_frame
from .translating import drift_of
from .ways import between_nodes, heard

if TYPE_CHECKING:
    from .cluster import Cluster
    from .node import Node

__all__ = ["COLUMNS", "finding_of", "findings_frame", "search"]

COLUMNS = "code severity node service port pod subject what means next evidence".split()
_LASTING = ("FACT_MISSING", "FACT_BROKEN", "NOT_CHECKED")
_NAMED = ("ROUTE_ASTRAY", "RP_FILTER_DROPS", "DUPLICATE_ADDRESS", "ENDPOINT_POD_GONE")
"""A node may have several of these, and what tells them apart is in their words, which hold no counts."""


def findings_frame(cluster: Cluster, node: str | None, settle: float) -> pd.DataFrame:
    """The frame of :meth:`Cluster.findings`. ``attrs["checks"]``: how many checks could be done to their end."""
    checks = 0

    def read() -> tuple[Finding, ...]:
        nonlocal checks
        found, checks = search(cluster, node)
        return found

    found, states = settled(cluster, read, _same, settle) if settle else (read(), None)
    frame = rows_frame((_row(one) for one in found), COLUMNS)
    frame = with_states(cluster, frame, states)
    frame.attrs["checks"] = checks
    return frame


def _row(one: Finding) -> list[object]:
    texts = (one.subject, one.what, one.means, one.next)
    named = [one.code, one.severity, one.node, one.service, one.port, one.pod]
    return [*named, *map(printable, texts), Proof(one.evidence)]


def finding_of(row: pd.Series[Any]) -> Finding:
    """The finding in a row of that frame: a value that shows itself."""
    given = {name: None if row[name] is None or pd.isna(row[name]) else str(row[name]) for name in _TEXTS}
    return Finding(str(row["code"]), str(row["what"]), evidence=tuple(row["evidence"]), **given)


_TEXTS = ("node", "service", "pod", "port")


def _same(found: Finding) -> tuple[str | None, ...] | None:
    if found.code in _LASTING:
        return None
    # `what` holds counts, which change between two readings of the same trouble; not so in those of _NAMED
    about = found.what if found.code in _NAMED else ""
    return (found.code, found.node, found.service, found.port, found.pod, about)


def search(cluster: Cluster, node: str | None = None) -> tuple[tuple[Finding, ...], int]:
    """Every finding, the worst first, and how many checks could be done. ``node``: only what is judged of that one.

    Raises NotFound for a node that is not there, FactMissing where the API told of no nodes.
    """
    looking = _Search(cluster)
    if node is not None:
        cluster.node(node)
    else:
        looking.whole()
    nodes = looking.nodes(node)
    for one in nodes:
        looking.on_node(one)
    looking.gaps += _gaps(cluster, [one.name for one in nodes])
    return in_order([*looking.found, *gap_findings(looking.gaps)]), looking.done


class _Search:
    """Runs the checks one by one: what one cannot read leaves a gap, and the others go on."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.found: list[Finding] = []
        self.gaps: list[Gap] = []
        self.done = 0

    def judge(
        self, feeds: str, check: Callable[[], Iterable[Finding]], node: str | None = None, pod: str | None = None
    ) -> None:
        """One check. ``feeds``: what is not judged when it cannot be done."""
        try:
            self.found += check()
        except K8snetError as error:
            self.gaps.append(gap_of(error, feeds, node, pod))
            return
        self.done += 1

    def nodes(self, only: str | None) -> list[Node]:
        """The nodes to look at. Without the API's list there are none to judge."""
        try:
            return [self.cluster.node(name) for name in self.cluster.api.nodes if only in (None, name)]
        except K8snetError as error:
            self.gaps.append(gap_of(error, "every node"))
            return []

    def whole(self) -> None:
        """What is judged of the cluster as one."""
        cluster, api = self.cluster, self.cluster.api
        self.judge(
            "duplicate addresses",
            lambda: address_findings(api.pods.values(), api.services.values(), api.nodes.values()),
        )
        self.judge("every Service", self._services)
        self.judge("pods without a node", lambda: self._statuses(None))
        self.judge("the network model", lambda: model_findings(cluster.network_model()))
        self.judge("whether all nodes work alike", self._modes)
        self.judge("ways between nodes", lambda: between_nodes(cluster))
        for feeds, check, node, pod in dns_findings(cluster):
            self.judge(feeds, check, node, pod)

    def _services(self) -> Iterator[Finding]:
        for key in self.cluster.api.services:  # one by one: a broken object breaks only its own check
            self.judge(f"endpoints of {key}", partial(self._service, key))
        return iter(())

    def _service(self, key: str) -> Iterator[Finding]:
        api = self.cluster.api
        return service_findings(api.services[key], api.endpoints.get(key, ()), tuple(api.nodes), api.is_pod)

    def _modes(self) -> Iterator[Finding]:
        there = [name for name in self.cluster.source.nodes() if name in self.cluster.api.nodes]
        modes = {}
        for name in there:
            try:
                modes[name] = self.cluster.node(name).proxy_mode_evidence
            except K8snetError:
                continue  # told with that node
        return mode_findings(modes)

    def _pods(self) -> list[PodValue]:
        """The pods that can be read; what is wrong with the others is a gap."""
        found = []
        for key in self.cluster.api.pods:
            try:
                found.append(self.cluster.api.pods[key])
            except FactError as error:
                self.gaps.append(gap_of(error, f"pod {key}"))
        return found

    def _statuses(self, node: str | None) -> Iterator[Finding]:
        return chain.from_iterable(status_findings(p) for p in self._pods() if p.node == node)

    def on_node(self, node: Node) -> None:
        """What is judged of one node, and of the pods on it."""
        cluster, name = self.cluster, node.name
        self.judge("the node's status", lambda: node_findings(node.value), name)
        self.judge("pods that do not run", lambda: self._statuses(name), name)
        if not node.has_facts:
            return  # told as a gap
        rules = _Rules(cluster, node)
        self.judge("the mode", lambda: node_mode_findings(name, node.proxy_mode_evidence), name)
        self.judge("drift", rules.drift, name)
        self.judge("the connection table", lambda: usage_findings(name, node.conntrack_usage()), name)
        self.judge("flows", lambda: _flows(node), name)
        self.judge("the inside of its pods", lambda: self._inside(name), name)

    def _inside(self, node: str) -> Iterator[Finding]:
        cluster = self.cluster
        facts = node_facts(cluster, node)
        for pod in [p for p in self._pods() if p.node == node and p.phase == "Running"]:
            self.judge("its inside", partial(self._pod, pod, facts), node, pod.key)
            self.judge(POD_FEEDS["sockets.txt"], partial(heard, cluster, pod), node, pod.key)
            self.judge(POD_FEEDS["resolv.conf"], partial(_resolv_conf, cluster, pod), node, pod.key)
        return iter(())

    def _pod(self, pod: PodValue, node: NodeView | None) -> Iterator[Finding]:
        seen = pod_facts(self.cluster, pod)
        box, veth = find_sandbox(seen, node), veth_of(seen, node)
        if getattr(veth, "reason", "") == "no_interface_data":
            ref = FactRef("addr.json", pod.node, pod.key)
            self.gaps.append(Gap(ref.fact, _why(self.cluster, ref), POD_FEEDS[ref.fact], ref.node, ref.pod))
        return inside_findings(pod, box, veth)


def _resolv_conf(cluster: Cluster, pod: PodValue) -> Iterator[Finding]:
    return resolv_conf_findings(pod, resolv_conf_of(cluster, pod))


def _flows(node: Node) -> Iterator[Finding]:
    flows = node.flows()
    proof: Evidence = flows.attrs["evidence"][0]
    return flow_findings(node.name, flows, proof.ref, proof.command)


class _Rules:
    """A node's rules as lines, read when the first difference needs them."""

    def __init__(self, cluster: Cluster, node: Node) -> None:
        self._cluster, self._node = cluster, node
        self._api: dict[str | None, tuple[Evidence, ...]] = {}

    def drift(self) -> Iterator[Finding]:
        """What differs on the node; that it could not be compared is NOT_CHECKED."""
        for one in drift_of(self._cluster, self._node):
            if one.code == "NOT_CHECKED":
                of = f"drift (IPv{one.family})" if one.family else "drift"
                yield Finding("NOT_CHECKED", f"{of}: {one.says}", one.node, evidence=self._looked_at())
            elif one.code == "MODE_LEFTOVER":
                yield Finding(one.code, one.says, one.node, evidence=self._node.proxy_mode_evidence.evidence)
            else:
                yield drift_finding(one, self._asked(one.service), self._of_family(one.family))

    def _looked_at(self) -> tuple[Evidence, ...]:
        """What tells of the node's rules, and what was not there to tell."""
        source, name = self._cluster.source, self._node.name
        try:
            mode = self._node.proxy_mode_evidence
        except FactError as error:
            ref = FactRef(error.fact, name)
            return (Evidence(ref, source.command(ref), (), error.why),)
        refs = [FactRef(fact, name) for fact in mode.unseen]
        unseen = (Evidence(r, source.command(r), (), source.trouble(r) or "it was not collected") for r in refs)
        return (*mode.evidence, *unseen)

    def _asked(self, service: str | None) -> tuple[Evidence, ...]:
        if service not in self._api:
            known = service is not None and service in self._cluster.api.services
            self._api[service] = self._cluster.service(str(service)).report().evidence if known else ()
        return self._api[service]

    def _of_family(self, family: int | None) -> Iterator[tuple[Evidence, RuleLines]]:
        """The facts that may hold rules of that family; read when the first difference needs them."""
        other = "iptables-" if family == 6 else "ip6tables-"
        return (found for found in self._lines if not found[0].ref.fact.startswith(other))

    @cached_property
    def _lines(self) -> list[tuple[Evidence, RuleLines]]:
        rules, mode = self._node.rules, self._node.proxy_mode
        if mode == "nftables":
            return [self._about("nft.json", _nft_lines(rules.nft))]
        if mode == "ipvs":
            servers = self._cluster.source.read(FactRef("ipvs-save.txt", self._node.name))
            return [self._about("ipvs-save.txt", servers.decode("utf-8", "replace").splitlines())]
        found = []
        for family in (4, 6):
            try:
                save = rules.iptables(family)
            except FactMissing:
                continue
            text = self._cluster.source.read(FactRef(save.fact, self._node.name))
            found.append(self._about(save.fact, text.decode("utf-8", "replace").splitlines()))
        return found

    def _about(self, fact: str, lines: Iterable[str]) -> tuple[Evidence, RuleLines]:
        ref = FactRef(fact, self._node.name)
        return Evidence(ref, self._cluster.source.command(ref)), RuleLines(lines)


def _nft_lines(rules: Ruleset) -> Iterator[str]:
    for family in ("ip", "ip6"):
        table = rules.table(family, "kube-proxy")
        for one in table.sets.values() if table else ():
            yield from (f"{one.name}: {element_text(one, element)}" for element in one.elements())
        for held in table.chains.values() if table else ():
            yield from (f"{held.name}: {rule_text(rule)}" for rule in held.rules)


def _gaps(cluster: Cluster, nodes: Iterable[str]) -> Iterator[Gap]:
    """What was not collected of what findings rest on; also where no check would stumble over it."""
    source = cluster.source
    for resource, feeds in API_FEEDS.items():
        if not source.has(FactRef(resource)):
            yield Gap(resource, _why(cluster, FactRef(resource)), feeds)
    there = source.nodes()
    for node in nodes:
        if node not in there:
            why = _why(cluster, FactRef("node.json", node))
            yield Gap("node.json", why, "its kernel, and all of its pods' inside", node)
            continue
        for fact, feeds in FEEDS.items():
            refs = [FactRef(name, node) for name in (fact, *INSTEAD.get(fact, ()))]
            if not any(source.has(ref) for ref in refs):
                yield Gap(fact, _why(cluster, refs[0]), feeds, node)


def _why(cluster: Cluster, ref: FactRef) -> str:
    """Why a fact is not there, in its source's words."""
    try:
        cluster.source.read(ref)
    except FactError as error:
        return error.why
    except K8snetError as error:
        return str(error)
    return "it was not collected"
