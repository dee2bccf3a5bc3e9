"""Settings of a network namespace, from ``sysctl.txt`` and from what the other facts tell. A closed list, numbers only.

Nothing here belongs to the whole machine: each of these keys has a value of its own in every network namespace
(kernel documentation, networking/ip-sysctl, nf_conntrack-sysctl and ipvs-sysctl).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ...facts import FactRef
from .. import words
from ..model import Link
from .facts import Notes, Reader

__all__ = ["NO_ICMP_LIMITS", "node_sysctls", "read_sysctls", "space_sysctls"]

_LINE = re.compile(r"([a-z][a-z0-9_.]{0,99}) = (-?\d{1,10})", re.ASCII)
_CONNTRACK = re.compile(
    r"net\.netfilter\.nf_conntrack_"
    r"(acct|tcp_be_liberal|tcp_loose|tcp_ignore_invalid_rst|tcp_max_retrans|"
    r"(tcp|udp|sctp|icmp|icmpv6|gre|generic)_timeout(_[a-z_]{1,30})?)",
    re.ASCII,
)
_IPVS = frozenset(
    "conntrack conn_reuse_mode expire_nodest_conn expire_quiescent_template sloppy_tcp sloppy_sctp cache_bypass "
    "nat_icmp_send pmtu_disc schedule_icmp ignore_tunneled snat_reroute am_droprate amemthresh drop_entry drop_packet "
    "secure_tcp".split()
)
_KUBE_PROXY_IPVS = {
    "net/ipv4/vs/conntrack": "1",
    "net/ipv4/vs/conn_reuse_mode": "0",
    "net/ipv4/vs/expire_nodest_conn": "1",
    "net/ipv4/vs/expire_quiescent_template": "1",
    "net/ipv4/conf/all/arp_ignore": "1",
    "net/ipv4/conf/all/arp_announce": "2",
}
"""What kube-proxy itself sets in its IPVS mode (pkg/proxy/ipvs/proxier.go), where the recording does not say it."""
_NO_LOCALHOST = re.compile(rb"-A KUBE-SERVICES [^\n]*! -d 127\.0\.0\.0/8[^\n]*-j KUBE-NODEPORTS")
_V4, _V6 = "net/ipv4/conf", "net/ipv6/conf"

NO_ICMP_LIMITS = {"net/ipv4/icmp_ratelimit": "0", "net/ipv4/icmp_ratemask": "0", "net/ipv6/icmp/ratelimit": "0"}
"""Every refusal is told. By default a kernel tells one client a few a second, and of many connections that rules reject
at once most would look as if they had been dropped. Without a type in the mask the whole machine's limit is not asked.
"""


def read_sysctls(reader: Reader, node: str) -> dict[str, int]:
    """The recorded numbers by dotted name; lines of another kind are no settings of ours and are passed over."""
    text = reader.fact(FactRef("sysctl.txt", node), lambda data, _: data.decode("utf-8", "replace")) or ""
    found = (_LINE.fullmatch(line.strip()) for line in text.splitlines()[:5000])
    return {match[1]: int(match[2]) for match in found if match}


def space_sysctls(links: Iterable[Link], ipv6: bool) -> dict[str, str]:
    """What every namespace of the twin gets, so that nothing is taken over from this machine's own settings."""
    names = ["all", "default", *(link.name for link in links if link.kind != "loopback")]
    found = {f"{_V4}/{name}/rp_filter": "0" for name in names}
    off = "0" if ipv6 else "1"
    return {**found, **NO_ICMP_LIMITS, f"{_V6}/all/disable_ipv6": off, f"{_V6}/default/disable_ipv6": off}


def node_sysctls(reader: Reader, notes: Notes, node: str, links: Iterable[Link], v6_routed: bool) -> dict[str, str]:
    """The settings of a node. Forwarding of IPv6 is not recorded: it is on where IPv4's is, or routes of IPv6 are."""
    said = read_sysctls(reader, node)
    found: dict[str, str] = {}
    forward = said.get("net.ipv4.ip_forward")
    if forward is None:
        notes.add(node, "sysctl.txt", "net.ipv4.ip_forward", "not recorded; on, as every node has it that runs pods")
    found["net/ipv4/ip_forward"] = "0" if forward == 0 else "1"
    found[f"{_V6}/all/forwarding"] = "1" if forward != 0 or v6_routed else "0"
    if _has_ipvs(reader, node):
        found |= _KUBE_PROXY_IPVS
    for name, value in said.items():
        path = name.replace(".", "/")
        try:
            ours = name.startswith("net.ipv4.vs.") and name.removeprefix("net.ipv4.vs.") in _IPVS
            if ours or _CONNTRACK.fullmatch(name):
                found[path] = str(words.number(value, 0, 2**31 - 1))
        except ValueError as error:
            notes.add(node, "sysctl.txt", f"{name} = {value}", error)
    if _routes_localnet(reader, node):
        found[f"{_V4}/all/route_localnet"] = "1"
    return _only_present(found, links)


def _only_present(found: Mapping[str, str], links: Iterable[Link]) -> dict[str, str]:
    """Those of an interface only where it is made."""
    names = {link.name for link in links} | {"all", "default"}
    return {path: value for path, value in found.items() if "/conf/" not in path or path.split("/")[3] in names}


def _has_ipvs(reader: Reader, node: str) -> bool:
    return bool((reader.fact(FactRef("ipvs-save.txt", node), lambda data, _: data) or b"").strip())


def _routes_localnet(reader: Reader, node: str) -> bool:
    """kube-proxy's iptables mode sets route_localnet, unless its rules say that NodePorts shun 127.0.0.0/8."""
    facts = ("iptables-save.txt", "iptables-legacy-save.txt")
    texts = [reader.fact(FactRef(fact, node), lambda data, _: data) or b"" for fact in facts]
    return any(b":KUBE-SEP-" in text and not _NO_LOCALHOST.search(text) for text in texts)
