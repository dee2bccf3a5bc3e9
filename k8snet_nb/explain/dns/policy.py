"""Which resolv.conf the kubelet writes for a pod: dnsPolicy, dnsConfig, hostNetwork; held against the recorded one.

Source: kubernetes.io/docs/concepts/services-networking/dns-pod-service and the kubelet's pkg/kubelet/network/dns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...parse.resolv_conf import ResolvConf, parse_resolv_conf

__all__ = ["LINK_LOCAL", "ExpectedResolvConf", "compare_resolv_conf", "expected_resolv_conf"]

LINK_LOCAL = "169.254."
"""NodeLocal DNSCache listens on a link-local address, 169.254.20.10 by default."""

MAX_SEARCHES, MAX_SEARCH_CHARS, MAX_SERVERS = 32, 2048, 3
"""What the kubelet writes at most (validation since Kubernetes 1.26)."""


@dataclass(frozen=True, slots=True)
class ExpectedResolvConf:
    """The file that the kubelet would write: ``text``, and ``conf`` as it is read.

    ``why`` says by which rule; ``unknown`` what could not be told, such as the node's own resolv.conf; ``effective`` is
    the policy that really works (ClusterFirst on the host network is Default; ``unknown``: no policy of Kubernetes).
    """

    effective: str
    text: str
    conf: ResolvConf
    why: str
    unknown: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Parts:
    servers: list[str]
    search: list[str]
    options: dict[str, str | None]


def expected_resolv_conf(
    spec: Mapping[str, Any],
    namespace: str,
    cluster_dns: Sequence[str],
    domain: str = "cluster.local",
    node: ResolvConf | None = None,
) -> ExpectedResolvConf:
    """What the kubelet writes for a pod with this ``spec`` (of the API) in ``namespace``.

    ``cluster_dns``: the kubelet's clusterDNS addresses, as a rule the cluster IP of kube-system/kube-dns. ``node``: the
    node's own resolv.conf (the kubelet's ``resolvConf``), None when it is not known.
    """
    policy, host = str(spec.get("dnsPolicy") or "ClusterFirst"), spec.get("hostNetwork") is True
    effective, why = _effective(policy, host, bool(cluster_dns))
    unknown: list[str] = []
    if effective == "unknown":
        unknown.append(f"what dnsPolicy {policy} means")
    if effective == "ClusterFirst":
        searches = [f"{namespace}.svc.{domain}", f"svc.{domain}", domain]
        parts = _Parts(list(cluster_dns), [*searches, *(node.search if node else ())], {"ndots": "5"})
        if node is None:
            unknown.append("the node's own search domains, which follow the cluster's")
    elif effective == "Default":
        parts = _of_node(node)
        if node is None:
            unknown.append("the node's resolv.conf, which is taken over whole")
    else:
        parts = _Parts([], [], {})
    _add(parts, spec.get("dnsConfig") or {})
    notes = _limit(parts)
    text = _text(parts)
    return ExpectedResolvConf(effective, text, parse_resolv_conf(text), why, tuple(unknown), notes)


def _effective(policy: str, host: bool, has_dns: bool) -> tuple[str, str]:
    if policy == "None":
        return "None", "dnsPolicy None: only what dnsConfig says"
    if policy == "Default":
        return "Default", "dnsPolicy Default: the node's resolv.conf"
    if policy not in ("ClusterFirst", "ClusterFirstWithHostNet"):
        known = "ClusterFirst, ClusterFirstWithHostNet, Default, None"
        return (
            "unknown",
            f"dnsPolicy {policy} is an unknown policy, none of {known}: what the kubelet writes is not known",
        )
    if policy == "ClusterFirst" and host:
        return (
            "Default",
            "ClusterFirst on the host network works as Default: it takes ClusterFirstWithHostNet to change that",
        )
    if not has_dns:
        return (
            "Default",
            f"dnsPolicy {policy}, but the kubelet has no clusterDNS: the node's resolv.conf (event MissingClusterDNS)",
        )
    return "ClusterFirst", f"dnsPolicy {policy}: cluster DNS, the cluster's search domains, ndots 5"


def _of_node(node: ResolvConf | None) -> _Parts:
    if node is None:
        return _Parts([], [], {})
    words = [word for line in node.quote("options") for word in line.split()[1:]]
    options = {name: value if colon else None for name, colon, value in (word.partition(":") for word in words)}
    servers = [] if node.server_default else [*node.nameservers, *node.unused_nameservers]
    return _Parts(servers, list(node.search), options)


def _add(parts: _Parts, config: Mapping[str, Any]) -> None:
    """DnsConfig adds servers and search domains that are not there yet; an option of the same name wins."""
    parts.servers = _unique([*parts.servers, *(config.get("nameservers") or ())])
    parts.search = _unique([*parts.search, *(config.get("searches") or ())])
    for option in config.get("options") or ():
        value = option.get("value")
        parts.options[str(option.get("name"))] = None if value in (None, "") else str(value)


def _unique(items: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(str(item) for item in items))


def _limit(parts: _Parts) -> tuple[str, ...]:
    notes: list[str] = []
    if len(parts.servers) > MAX_SERVERS:
        notes.append(
            f"the kubelet writes {MAX_SERVERS} name servers and leaves out {', '.join(parts.servers[MAX_SERVERS:])}"
        )
        parts.servers = parts.servers[:MAX_SERVERS]
    kept = parts.search[:MAX_SEARCHES]
    while kept and len(" ".join(kept)) > MAX_SEARCH_CHARS:
        kept.pop()
    if len(kept) < len(parts.search):
        left = ", ".join(parts.search[len(kept) :])
        notes.append(
            f"the kubelet writes at most {MAX_SEARCHES} search domains and {MAX_SEARCH_CHARS} letters: without {left}"
        )
        parts.search = kept
    return tuple(notes)


def _text(parts: _Parts) -> str:
    options = [name if value is None else f"{name}:{value}" for name, value in parts.options.items()]
    lines = [f"search {' '.join(parts.search)}"] if parts.search else []
    lines += [f"nameserver {server}" for server in parts.servers]
    lines += [f"options {' '.join(options)}"] if options else []
    return "\n".join(lines) + "\n" if lines else ""


def compare_resolv_conf(expected: ExpectedResolvConf, recorded: ResolvConf) -> tuple[str, ...]:
    """How the recorded file differs from the expected one; empty when it does not, as far as that can be told.

    Where the node's file is not known, more search domains after the expected ones are no difference, and a file taken
    over whole cannot be judged, nor can one of an unknown policy.
    """
    if expected.effective in ("Default", "unknown") and expected.unknown:
        return ()
    found: list[str] = []
    mine, theirs = expected.conf, recorded
    if (mine.nameservers, mine.server_default) != (theirs.nameservers, theirs.server_default):
        local = any(server.startswith(LINK_LOCAL) for server in theirs.nameservers)
        hint = " (a link-local address is NodeLocal DNSCache, on the pod's own node)" if local else ""
        found.append(f"name servers are {_list(theirs.nameservers)}{hint}, expected {_list(mine.nameservers)}")
    search = theirs.search[: len(mine.search)] if expected.unknown else theirs.search
    if search != mine.search:
        found.append(f"search list is {_list(theirs.search)}, expected {_list(mine.search)}")
    numbers = [(name, getattr(mine, name), getattr(theirs, name)) for name in ("ndots", "timeout", "attempts")]
    found += [f"{name} is {is_}, expected {should}" for name, should, is_ in numbers if is_ != should]
    if set(mine.flags) != set(theirs.flags):
        found.append(f"options are {_list(theirs.flags)}, expected {_list(mine.flags)}")
    return tuple(found)


def _list(items: Sequence[str]) -> str:
    return " ".join(items) or "none"
