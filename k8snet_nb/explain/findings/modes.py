"""Data planes judged: do all nodes work alike, does kube-proxy run, does it say what the rules say?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from shlex import quote

from ...facts import Evidence, FactRef
from ...parse.nodes import NodeValue
from ..proxy_mode import ProxyMode
from .finding import Finding

__all__ = ["mode_findings", "node_findings", "node_mode_findings"]


def mode_findings(modes: Mapping[str, ProxyMode]) -> Iterator[Finding]:
    """Whether all nodes whose mode is known have the same."""
    known = {node: found.mode for node, found in modes.items() if found.mode}
    if len(set(known.values())) > 1:
        what = "; ".join(f"{node} {mode}" for node, mode in known.items())
        proof = tuple(item for node in known for item in modes[node].evidence[:1])
        yield Finding("MIXED_MODES", what, evidence=proof)


def node_mode_findings(node: str, found: ProxyMode) -> Iterator[Finding]:
    """What one node's kube-proxy is up to."""
    if found.running is False and found.found:
        what = f"{' and '.join(found.found)} rules, and no process of kube-proxy on {node}"
        yield Finding("PROXY_NOT_RUNNING", what, node, evidence=found.evidence)
    if found.own_word and found.mode and found.own_word != found.mode:
        what = f"kube-proxy says {found.own_word}; {found.why}"
        yield Finding("PROXY_SAYS_OTHERWISE", what, node, evidence=found.evidence)


def node_findings(node: NodeValue) -> Iterator[Finding]:
    """A node that the API does not call ready."""
    if node.status.split(",")[0] != "Ready":
        command = f"kubectl get node {quote(node.name)} -o wide"
        line = "  ".join((node.name, node.status, *node.ips("InternalIP")))
        yield Finding(
            "NODE_NOT_READY", node.status, node.name, evidence=(Evidence(FactRef("nodes"), command, (line,)),)
        )
