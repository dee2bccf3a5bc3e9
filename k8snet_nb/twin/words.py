"""Words that may reach a tool: each function takes what a recording says, and returns it checked or raises ValueError.

Interface names follow the kernel's rule (dev_valid_name, net/core/dev.c), further narrowed to letters, digits and
``._@:-``, and never begin with ``-``, which a tool would take for an option.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

__all__ = ["address", "api_name", "cgroup_path", "fwmark", "host_prefix", "interface_name", "mac", "mark", "netns_name"]
__all__ += ["network", "number", "on_link", "prefix", "protocol", "scope", "table", "uid"]

_INTERFACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@:-]{0,14}", re.ASCII)
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.ASCII)
_CGROUP = re.compile(r"(/[A-Za-z0-9_.:@\\-]{1,255})+", re.ASCII)
_BOUND = re.compile(r"(?:/var)?/run/netns/([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})", re.ASCII)
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_RESERVED = ("all", "default")  # names of folders below /proc/sys/net/ipv4/conf that are no interface's

_SCOPES = ("global", "site", "link", "host", "nowhere")
_PROTOCOLS = frozenset(
    "redirect kernel boot static gated ra mrt zebra bird babel dhcp keepalived openr bgp isis ospf rip eigrp".split()
)
_TABLES = {"default": 253, "main": 254, "local": 255}


def interface_name(said: object) -> str:
    """An interface's name: 1 to 15 bytes."""
    if not isinstance(said, str) or not _INTERFACE.fullmatch(said) or said in _RESERVED:
        raise ValueError(f"{said!r:.60} is no interface name that the twin takes")
    return said


def mac(said: object) -> str:
    """A unicast Ethernet address, lower case."""
    text = said.lower() if isinstance(said, str) else ""
    if not _MAC.fullmatch(text) or int(text[:2], 16) & 1 or text == "00:00:00:00:00:00":
        raise ValueError(f"{said!r:.60} is no unicast Ethernet address")
    return text


def number(said: object, low: int, high: int) -> int:
    """A whole number within bounds, both included; decimal text is taken as one."""
    if isinstance(said, str) and said.isascii() and said.isdecimal() and len(said) < 12:
        said = int(said)
    if not isinstance(said, int) or isinstance(said, bool) or not low <= said <= high:
        raise ValueError(f"{said!r:.60} is no number from {low} to {high}")
    return said


def address(said: object, family: int | None = None) -> str:
    """An IP address in canonical spelling, without a zone."""
    return str(_address(said, family))


def _address(said: object, family: int | None = None) -> IPv4Address | IPv6Address:
    if not isinstance(said, str):
        raise ValueError(f"{said!r:.60} is no address")
    ip = ip_address(said)
    if isinstance(ip, IPv6Address) and ip.scope_id is not None:
        raise ValueError(f"{said!r:.60} has a zone")
    if family is not None and ip.version != family:
        raise ValueError(f"{said!r:.60} is no IPv{family} address")
    return ip


def on_link(said: object, family: int | None = None) -> str:
    """An address that a host can have: not unspecified, not multicast."""
    ip = _address(said, family)
    if ip.is_unspecified or ip.is_multicast:
        raise ValueError(f"{ip} is no address that a host can have")
    return str(ip)


def prefix(said: object, length: object, family: int | None = None) -> str:
    """An interface's address with its prefix length, ``10.244.18.1/24``."""
    ip = ip_address(on_link(said, family))
    return f"{ip}/{number(length, 0, ip.max_prefixlen)}"


def host_prefix(said: str) -> str:
    """The address alone, as a /32 or /128."""
    ip = ip_address(said)
    return f"{ip}/{ip.max_prefixlen}"


def network(said: object, family: int | None = None) -> IPv4Network | IPv6Network:
    """A destination; host bits must be zero."""
    if not isinstance(said, str) or "%" in said:
        raise ValueError(f"{said!r:.60} is no network")
    net = ip_network(said)
    if family is not None and net.version != family:
        raise ValueError(f"{said!r:.60} is no IPv{family} network")
    return net


def table(said: object) -> str:
    """A routing table: its number, or one of the three names that every system has."""
    if said in _TABLES:
        return str(said)
    return str(number(said, 1, 2**32 - 1))


def protocol(said: object) -> str:
    """Who made a route: a name that iproute2 knows everywhere, or a number."""
    return str(said) if said in _PROTOCOLS else str(number(said, 0, 255))


def scope(said: object) -> str:
    """The scope of a route or an address: a name, or a number."""
    return str(said) if said in _SCOPES else str(number(said, 0, 255))


def fwmark(said: object, mask: object = None) -> str:
    """A firewall mark, with its mask if there is one: ``0x4000/0x4000``."""
    return mark(said) if mask is None else f"{mark(said)}/{mark(mask)}"


def mark(said: object) -> str:
    """One 32-bit mark, as text or number, in hexadecimal."""
    if isinstance(said, str) and re.fullmatch(r"0x[0-9a-f]{1,8}", said, re.ASCII):
        return said
    return f"{number(said, 0, 2**32 - 1):#x}"


def api_name(said: object) -> str:
    """A name of the API (RFC 1123 subdomain), at most 253 characters."""
    if not isinstance(said, str) or len(said) > 253 or not _NAME.fullmatch(said):
        raise ValueError(f"{said!r:.60} is no name that the API allows")
    return said


def uid(said: object) -> str:
    """A UUID as the API writes it."""
    if not isinstance(said, str) or not _UID.fullmatch(said):
        raise ValueError(f"{said!r:.60} is no uid of the API")
    return said


def cgroup_path(said: object) -> str:
    """A cgroup path as /proc/PID/cgroup shows it: one line of plain characters, never climbing but at its start."""
    if not isinstance(said, str) or len(said) > 2000 or not _CGROUP.fullmatch(said):
        raise ValueError(f"{said!r:.60} is no cgroup path that the twin takes")
    if ".." in re.sub(r"^(/\.\.)+", "", said).split("/"):
        raise ValueError(f"{said!r:.60} climbs")
    return said


def netns_name(said: object) -> str:
    """The name of a namespace that is bound below /run/netns, from that path."""
    found = _BOUND.fullmatch(said) if isinstance(said, str) else None
    if found is None:
        raise ValueError(f"{said!r:.60} is no name below /run/netns")
    return found.group(1)
