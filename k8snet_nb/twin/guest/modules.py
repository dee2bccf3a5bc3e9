"""Modules of a guest's kernel: which ones a node needs, and in which order they can be loaded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["MODULES", "NODE", "TRACKING", "modules_in_order"]

MODULES = Path("/usr/lib/uml/modules")
"""Where Debian's package has them, one folder a kernel version."""

TRACKING = ("ipv6", "veth", "nf_conntrack", "nf_conntrack_netlink", "iptable_filter", "ip6table_filter", "xt_conntrack")
"""Enough for a table of connections, and to read it."""

_LINKS = "ipv6 veth bridge br_netfilter dummy vxlan unix_diag udp_diag af_packet_diag nfnetlink_acct"
_TABLES = "iptable_filter iptable_nat iptable_mangle iptable_raw ip6table_filter ip6table_nat ip6table_mangle"
_MATCHES = """
    xt_addrtype xt_comment xt_connmark xt_conntrack xt_CT xt_length xt_limit xt_LOG xt_mark xt_MASQUERADE xt_multiport
    xt_nat xt_nfacct xt_physdev xt_recent xt_REDIRECT xt_set xt_state xt_statistic xt_tcpmss xt_TCPMSS xt_tcpudp xt_u32
    ipt_REJECT ip6t_REJECT ip6t_rt xt_ipvs nf_log_syslog
"""
_SETS = """
    bitmap_ip bitmap_port hash_ip hash_ipport hash_ipportip hash_ipportnet hash_net hash_netport hash_netnet list_set
"""
_SCHEDULERS = "rr wrr lc wlc lblc lblcr dh sh mh sed nq fo ovf"

NODE = (
    *_LINKS.split(),
    "nf_conntrack_netlink",
    *_TABLES.split(),
    "ip6table_raw",
    *_MATCHES.split(),
    "ip_set",
    *(f"ip_set_{kind}" for kind in _SETS.split()),
    "ip_vs",
    *(f"ip_vs_{scheduler}" for scheduler in _SCHEDULERS.split()),
)
"""What a node with kube-proxy in IPVS mode may have: loaded beforehand, so that no rule makes the kernel load more."""


def modules_in_order(names: Iterable[str]) -> list[str]:
    """Files of the named modules with all that they need, in the order in which they can be loaded.

    A name that no file has is built into the kernel, or not of this kernel: it is left out.
    """
    table = max(MODULES.glob("*/modules.dep"))
    needs: dict[str, list[str]] = {}
    path_of: dict[str, str] = {}
    for line in table.read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
        path_of[Path(path).name.split(".")[0].replace("-", "_")] = path
    ordered: dict[str, None] = {}
    for name in names:
        if name in path_of:
            # modules.dep lists the nearest need first, so its reverse is an order of loading
            ordered.update(dict.fromkeys([*reversed(needs[path_of[name]]), path_of[name]]))
    return [str(table.parent / path) for path in ordered]
