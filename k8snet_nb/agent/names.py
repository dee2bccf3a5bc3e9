"""Names that iproute2 gives to the kernel's numbers. Source: iproute2 lib/rt_names.c, lib/ll_types.c, ip/*.c."""

from __future__ import annotations

import os
from functools import lru_cache

LINK_FLAGS = (
    (1 << 3, "LOOPBACK"), (1 << 1, "BROADCAST"), (1 << 4, "POINTOPOINT"), (1 << 12, "MULTICAST"), (1 << 7, "NOARP"),
    (1 << 9, "ALLMULTI"), (1 << 8, "PROMISC"), (1 << 10, "MASTER"), (1 << 11, "SLAVE"), (1 << 2, "DEBUG"),
    (1 << 15, "DYNAMIC"), (1 << 14, "AUTOMEDIA"), (1 << 13, "PORTSEL"), (1 << 5, "NOTRAILERS"), (1 << 0, "UP"),
    (1 << 16, "LOWER_UP"), (1 << 17, "DORMANT"), (1 << 18, "ECHO"),
)  # fmt: skip
IFF_UP, IFF_RUNNING = 1, 1 << 6
OPERSTATES = ("UNKNOWN", "NOTPRESENT", "DOWN", "LOWERLAYERDOWN", "TESTING", "DORMANT", "UP")
LINK_TYPES = {
    1: "ether", 24: "ieee1394", 32: "infiniband", 512: "ppp", 768: "ipip", 769: "tunnel6", 772: "loopback", 776: "sit",
    778: "gre", 783: "irda", 823: "gre6", 824: "netlink", 65534: "none", 65535: "void",
}  # fmt: skip
ADDRESS_FLAGS = (
    (0x01, "secondary"), (0x02, "nodad"), (0x04, "optimistic"), (0x08, "dadfailed"), (0x10, "home"),
    (0x20, "deprecated"),
    (0x40, "tentative"), (0x80, "permanent"), (0x100, "mngtmpaddr"), (0x200, "noprefixroute"), (0x400, "autojoin"),
    (0x800, "stable-privacy"),
)  # fmt: skip
ADDRESS_PROTOCOLS = {1: "kernel_lo", 2: "kernel_ra", 3: "kernel_ll"}
SCOPES = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
ROUTE_TYPES = (
    "none", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw",
    "nat", "xresolve",
)  # fmt: skip
ROUTE_FLAGS = ((1, "dead"), (4, "onlink"), (2, "pervasive"), (8, "offload"), (64, "trap"), (32, "unresolved"),
               (16, "linkdown"))  # fmt: skip
RULE_ACTIONS = {1: "to_tbl", 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
METRICS = (
    "unspec", "lock", "mtu", "window", "rtt", "rttvar", "ssthresh", "cwnd", "advmss", "reordering", "hoplimit",
    "initcwnd",
    "features", "rto_min", "initrwnd", "quickack", "congctl", "fastopen_no_cookie",
)  # fmt: skip
NEIGHBOUR_STATES = ((0x01, "INCOMPLETE"), (0x02, "REACHABLE"), (0x04, "STALE"), (0x08, "DELAY"), (0x10, "PROBE"),
                    (0x20, "FAILED"), (0x40, "NOARP"), (0x80, "PERMANENT"))  # fmt: skip
_PROTOCOLS = {
    0: "unspec", 1: "redirect", 2: "kernel", 3: "boot", 4: "static", 8: "gated", 9: "ra", 10: "mrt", 11: "zebra",
    12: "bird", 13: "dnrouted", 14: "xorp", 15: "ntk",
    16: "dhcp", 18: "keepalived", 42: "babel", 99: "openr",
    186: "bgp", 187: "isis", 188: "ospf", 189: "rip", 192: "eigrp",
}  # fmt: skip
_TABLES = {0: "unspec", 253: "default", 254: "main", 255: "local"}


@lru_cache(maxsize=None)
def _configured(kind: str) -> dict[int, str]:
    """The node's own names, as its ``ip`` would use them."""
    found: dict[int, str] = {}
    for folder in ("/usr/share/iproute2", "/usr/lib/iproute2", "/etc/iproute2"):
        try:
            with open(os.path.join(folder, kind), errors="replace") as file:
                for line in file:
                    words = line.split("#", 1)[0].split()
                    if len(words) == 2:
                        found[int(words[0], 0)] = words[1]
        except (OSError, ValueError):
            continue
    return found


def route_protocol(number: int) -> str:
    """``kernel``, ``boot``, ``bird`` ... or the number."""
    return _configured("rt_protos").get(number) or _PROTOCOLS.get(number) or str(number)


def table_name(number: int) -> str:
    """``main``, ``local``, ``default``, a configured name, or the number."""
    return _configured("rt_tables").get(number) or _TABLES.get(number) or str(number)


def group_name(number: int) -> str:
    """The name of a group of interfaces, or the number."""
    return _configured("group").get(number) or ("default" if number == 0 else str(number))


def scope_name(number: int) -> str:
    """The name of a scope, or the number."""
    return SCOPES.get(number, str(number))
