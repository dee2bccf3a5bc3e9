"""The one catalogue of what can be found: stable code, severity, what it means, what to do next.

A code never changes its meaning. ``next`` may hold ``{node}``, ``{service}``, ``{pod}`` (as Python spells them) and
``{kubectl_service}``, ``{kubectl_pod}`` (as kubectl takes them: ``--namespace NS NAME``), ``{kubectl_node}``.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..drift import CODES as DRIFT

__all__ = ["CODES", "SEVERITIES", "Code"]

SEVERITIES = ("error", "warning", "unknown", "info")
"""In the order in which findings are listed. ``unknown``: it could not be judged, which is neither good nor bad."""


@dataclass(frozen=True, slots=True)
class Code:
    """One entry of the catalogue."""

    severity: str
    means: str
    next: str


_TRANSLATE = "cluster.translate({service}, node={node}) shows what that node does with it (lesson 09); "
_PROXY = "then look at kube-proxy there: kubectl --namespace kube-system get pods -o wide | grep kube-proxy, its logs"
_DRIFT_NEXT = {
    "SERVICE_NOT_PROGRAMMED": _TRANSLATE + _PROXY,
    "SERVICE_GONE": "cluster.node({node}).chains() and .chain(NAME) show the rules (lesson 06); " + _PROXY,
    "WRONG_PORT": _TRANSLATE + _PROXY,
    "ENDPOINT_MISSING": _TRANSLATE + _PROXY,
    "ENDPOINT_STALE": _TRANSLATE + _PROXY,
    "ENDPOINT_RETIRING": "Look again in a moment: kube-proxy takes it out when it is gone; if it stays, see its logs",
    "MODE_LEFTOVER": "Read cluster.node({node}).proxy_mode_evidence; kube-proxy --cleanup on the node (or a reboot) "
    "takes rules of other modes away",
    "NOT_FOLLOWED": _TRANSLATE + "its notes name the rule that could not be followed",
}
_CONNTRACK = (
    "cluster.node({node}).conntrack_usage() has the figures, .top_talkers() who holds the entries (lesson 05); "
)
_LIMIT = _CONNTRACK + "the limit is kube-proxy's conntrack.maxPerCore and conntrack.min"
_FLOWS = "flows = cluster.node({node}).flows(); flows[flows.verdict == 'VERDICT'] (lesson 05)"
_ENDPOINTS = "kubectl describe service {kubectl_service}; cluster.service({service}).endpoints() (lesson 02); "
_DNS = (
    "cluster.dns_replicas() asks each CoreDNS pod (lesson 07); kubectl --namespace kube-system logs -l k8s-app=kube-dns"
)
_INSIDE = "cluster.pod({pod}).sandbox says what was looked at (lesson 03); kubectl describe pod {kubectl_pod}"
_MODEL = "cluster.network_model() tells the rule and every exception (lesson 00)"
_RECORD = "Collect it: k8snet record --agents (rights: docs/live.md); cluster.node({node}).facts() lists what there is"


def _of_drift(code: str) -> Code:
    severity, means = DRIFT[code]
    return Code(severity, means[0].upper() + means[1:], _DRIFT_NEXT[code])


CODES: dict[str, Code] = {
    **{code: _of_drift(code) for code in _DRIFT_NEXT},
    "STALE_FLOW": Code(
        "error",
        "Packets of a UDP or SCTP client still go to what is no endpoint any more: each one keeps the entry alive",
        _FLOWS.replace("VERDICT", "stale") + "; on the node: conntrack -D with the client's address ends them",
    ),
    "EXPIRING_FLOW": Code(
        "info",
        "A UDP or SCTP entry leads to what is no endpoint any more, but nobody has sent anything for a while",
        _FLOWS.replace("VERDICT", "expiring") + "; it ends by itself at its timeout",
    ),
    "DRAINING_FLOW": Code(
        "info",
        "Connections go on to what gets no new ones any more: they end when their client or the pod ends them",
        _FLOWS.replace("VERDICT", "draining"),
    ),
    "UNTRANSLATED_FLOW": Code(
        "warning",
        "Packets to a Service's address passed this node without being translated: nothing behind it got them",
        _FLOWS.replace("VERDICT", "untranslated") + "; then cluster.drift({node})",
    ),
    "UNREPLIED_FLOW": Code(
        "info",
        "Packets to a Service or a pod had no answer yet: just sent, dropped on the way, or nobody listens",
        _FLOWS.replace("VERDICT", "unreplied") + "; cluster.walk(client, address, protocol, port) follows one",
    ),
    "CONNTRACK_FULL": Code("error", "The connection table is full: packets of new connections are dropped", _LIMIT),
    "CONNTRACK_PRESSURE": Code(
        "warning", "The connection table is nearly full: new connections will fail soon", _LIMIT
    ),
    "CONNTRACK_GROWING": Code(
        "warning", "At the rate that was seen the connection table is full within the hour", _LIMIT
    ),
    "CONNTRACK_DROPS": Code(
        "error",
        "The kernel dropped packets because no entry could be made: new connections failed, old ones went on. The "
        "counter runs since the node's network namespace exists and does not say when",
        _LIMIT + "; read the counter again later: does it still rise?",
    ),
    "CONNTRACK_EARLY_DROP": Code(
        "warning", "Entries were thrown out before their time to make room: the table was full or nearly so", _LIMIT
    ),
    "CONNTRACK_INSERT_FAILED": Code(
        "warning",
        "Two packets raced to add the same connection and one was dropped: parallel A and AAAA queries do that, and "
        "the client waits for its resolver's time-out (5 s)",
        _CONNTRACK + "options single-request-reopen or a NodeLocal DNSCache avoid it (lesson 07)",
    ),
    "CONNTRACK_CHAIN_TOO_LONG": Code(
        "warning",
        "Entries were refused because their bucket's chain was too long: too few buckets, or an attack",
        _CONNTRACK + "net.netfilter.nf_conntrack_buckets",
    ),
    "CONNTRACK_FULL_LOGGED": Code(
        "warning", "The kernel's log says that a connection table was full and packets were dropped", _LIMIT
    ),
    "SERVICE_NO_ENDPOINTS": Code(
        "warning",
        "Nothing is behind this Service: connections are refused, a headless one's name has no address. So it is with "
        "a Service that was scaled to nothing on purpose, or whose selector matches no pod",
        _ENDPOINTS + "compare its selector with kubectl get pods --show-labels",
    ),
    "SERVICE_NONE_READY": Code(
        "error",
        "Pods are behind this Service, but none is ready: connections are refused",
        _ENDPOINTS + "kubectl describe the pods: why does their readiness probe fail?",
    ),
    "SERVICE_ONLY_TERMINATING": Code(
        "warning",
        "Only endpoints that are ending serve this Service (KEP-1669): when they are gone, connections are refused",
        _ENDPOINTS + "is the rollout stuck?",
    ),
    "SERVICE_PORT_NO_ENDPOINTS": Code(
        "error",
        "This port of the Service has no endpoint while others have: its targetPort names no port of the pods",
        _ENDPOINTS + "compare targetPort with the names of the containers' ports",
    ),
    "SERVICE_LOCAL_NONE": Code(
        "info",
        "With traffic policy Local a node without an endpoint of its own serves nobody by that way; meant so for "
        "externalTrafficPolicy (load balancers ask the health check port), often not for internalTrafficPolicy",
        "cluster.compare({service}) shows every node side by side (lesson 09)",
    ),
    "LOAD_BALANCER_PENDING": Code(
        "warning",
        "A Service of type LoadBalancer has no address yet: nobody gave it one",
        "kubectl describe service {kubectl_service}: its events; is there a load balancer controller?",
    ),
    "ENDPOINT_POD_GONE": Code(
        "warning",
        "An EndpointSlice names a pod that the API does not have, or another one of the same name",
        _ENDPOINTS + "slices follow pods within seconds; one that stays was written by hand",
    ),
    "DNS_DISAGREE": Code("error", "The cluster's DNS servers answer the same question differently", _DNS),
    "DNS_SILENT": Code("error", "A server of the cluster's DNS did not answer: clients wait for their time-out", _DNS),
    "DNS_WRONG_ANSWER": Code(
        "error",
        "Cluster DNS gave another answer than the API's Services and EndpointSlices ask for",
        _DNS + "; an answer may be older than the API's objects: ask again",
    ),
    "RESOLV_CONF_DIFFERS": Code(
        "warning",
        "The pod's resolv.conf is not what the kubelet writes for its dnsPolicy and dnsConfig",
        "cluster.pod({pod}).resolv_conf() shows both (lesson 07)",
    ),
    "POD_NO_NAMESPACE": Code(
        "error", "The API says Running, and its node has no process or no network namespace of it", _INSIDE
    ),
    "POD_UNPLUGGED": Code(
        "error",
        "The pod's interface leads to nothing on its node: no packet reaches it",
        "cluster.pod({pod}).veth() says what was looked at, kn.draw_wiring(cluster.pod({pod})) draws it (lesson 04)",
    ),
    "MTU_MISMATCH": Code(
        "error",
        "The two ends of a pod's cable differ in MTU: what is longer than the smaller one vanishes, and nobody is told",
        "cluster.pod({pod}).veth() names both ends, .interfaces() and the node's show the sizes (lesson 04); "
        "ip -s link counts what was dropped",
    ),
    "ENDPOINT_NOT_LISTENING": Code(
        "warning",
        "A ready endpoint has no socket that listens at its address and port: connections there are refused. A proxy "
        "that takes them over inside the pod may listen elsewhere",
        "cluster.pod({pod}).run(['ss', '-tuln']) asks again; why does its readiness probe not see it? "
        "kubectl describe pod {kubectl_pod}",
    ),
    "ROUTE_ASTRAY": Code(
        "error",
        "A node's route to the pods of another node leads to what is not that node",
        "cluster.node({node}).routes(), cluster.who(GATEWAY); routes to pods are the CNI's, or the cloud's: its logs",
    ),
    "RP_FILTER_DROPS": Code(
        "error",
        "Packets come in by another interface than the one they would be answered by, and the node drops such packets "
        "(rp_filter 1, RFC 3704)",
        "cluster.node(NAME).routes() on both nodes; nstat -az TcpExtIPReversePathFilter counts them; make both ways "
        "the same, or set net.ipv4.conf.*.rp_filter to 2 (loose) on {node}",
    ),
    "POD_NOT_RUNNING": Code(
        "info",
        "The pod does not run yet: it has no address and no network namespace",
        "kubectl describe pod {kubectl_pod}",
    ),
    "NODE_NOT_READY": Code(
        "warning",
        "The API does not call this node ready: endpoints there are taken out of Services",
        "kubectl describe node {kubectl_node}",
    ),
    "DUPLICATE_ADDRESS": Code(
        "error",
        "One address has several owners: which one gets a packet depends on where it is sent from",
        "cluster.who(ADDRESS) lists them with the evidence (lesson 01)",
    ),
    "MODEL_POD_ADDRESS": Code(
        "error", "A pod's own interfaces do not have the address that the API gives for it", _MODEL
    ),
    "MODEL_POD_TO_POD": Code(
        "error", "Pods do not reach pods as the Kubernetes network model asks: without NAT, by a route", _MODEL
    ),
    "MODEL_NODE_TO_POD": Code(
        "warning",
        "Traffic between a node and a pod is translated, which the Kubernetes network model rules out",
        _MODEL,
    ),
    "MIXED_MODES": Code(
        "warning",
        "Nodes translate Services in different modes: that works, and each mode has its own way of failing. Mostly a "
        "change that was not finished",
        "cluster.compare('NAMESPACE/NAME') shows one Service in every mode (lesson 09)",
    ),
    "PROXY_NOT_RUNNING": Code(
        "error",
        "Rules for Services are there, but no kube-proxy runs to renew them: they no longer follow the API",
        "cluster.node({node}).proxy_mode_evidence; kubectl --namespace kube-system get pods -o wide | grep kube-proxy",
    ),
    "PROXY_SAYS_OTHERWISE": Code(
        "warning",
        "kube-proxy says that it works in another mode than the one whose rules translate",
        "cluster.node({node}).proxy_mode_evidence; restart kube-proxy there when its configuration was changed",
    ),
    "FACT_MISSING": Code("unknown", "A fact was not collected: what it tells is not judged", _RECORD),
    "FACT_BROKEN": Code("unknown", "A fact is there, but cannot be used: what it tells is not judged", _RECORD),
    "NOT_CHECKED": Code("unknown", "This could not be judged, for the reason given", _RECORD),
}
"""Every code. Those of :data:`k8snet_nb.explain.drift.CODES` keep their severity, save NOT_CHECKED: it is unknown."""
