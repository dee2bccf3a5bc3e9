"""What ``ip addr``, ``ip link``, ``ip route``, ``ip neigh`` and ``ip rule`` print, from what ``ip -j`` printed.

Pure functions from the entries of a fact to the lines of the tool (iproute2, without ``-d``); tests compare with the
tool. Control characters in names are the caller's to escape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["address_lines", "brief_lines", "link_lines", "neigh_lines", "route_lines", "rule_lines"]

Entry = Mapping[str, Any]
_FOREVER = 0xFFFFFFFF
_NOT_FLAGS = {
    "family", "local", "address", "prefixlen", "metric", "broadcast", "anycast", "scope", "protocol", "label",
    "valid_life_time", "preferred_life_time",
}  # fmt: skip


def full_name(link: Entry) -> str:
    """``eth0@if7``, ``vlan5@eth0``, ``lo``."""
    if "link_index" in link:
        return f"{link['ifname']}@if{link['link_index']}"
    return f"{link['ifname']}@{link['link'] or 'NONE'}" if "link" in link else str(link["ifname"])


def _head(link: Entry, mode: bool, six: bool) -> str:
    # Asked for IPv6 alone, the kernel tells of an interface neither queueing, nor master, nor group.
    words = [f"{link['ifindex']}: {full_name(link)}: <{','.join(link.get('flags', ()))}> mtu {link.get('mtu')}"]
    if not six:
        words += [f"{key} {link[key]}" for key in ("qdisc", "master") if key in link]
    if "operstate" in link:
        words.append(f"state {link['operstate']}")
    if mode:
        words.append("mode DEFAULT")
    if "group" in link and not six:
        words.append(f"group {link['group']}")
    if link.get("txqlen"):
        words.append(f"qlen {link['txqlen']}")
    return " ".join(words) + " " * ("txqlen" not in link or not link["txqlen"])


def _hardware(link: Entry, names: Mapping[int, str]) -> str:
    line = f"    link/{link.get('link_type', 'none')} {link.get('address', '')}"
    if "broadcast" in link:
        line += f" {'peer' if 'POINTOPOINT' in link.get('flags', ()) else 'brd'} {link['broadcast']}"
    return line + _elsewhere(link, names)


def _elsewhere(link: Entry, names: Mapping[int, str]) -> str:
    if "link_netnsid" not in link:
        return ""
    number = link["link_netnsid"]
    return f" link-netns {names[number]}" if number in names else f" link-netnsid {number}"


def _alias(link: Entry) -> list[str]:
    return [f"    alias {link['ifalias']}"] if "ifalias" in link else []


def _other_names(link: Entry) -> list[str]:
    return [f"    altname {name}" for name in link.get("altnames", ())]


def link_lines(links: Iterable[Entry], names: Mapping[int, str]) -> list[str]:
    """``ip link``. ``names``: namespace id -> name. The link mode is not in the fact: DEFAULT is written for all."""
    return [
        line
        for link in links
        for line in (_head(link, True, False), _hardware(link, names), *_alias(link), *_other_names(link))
    ]


def address_lines(links: Iterable[Entry], names: Mapping[int, str], family: str | None = None) -> list[str]:
    """``ip addr``; with ``family`` (``inet``, ``inet6``) as with -4 and -6: interfaces that have such an address."""
    lines: list[str] = []
    for link in links:
        held = [a for a in link.get("addr_info", ()) if a and family in (None, a["family"])]
        if family and not held:
            continue
        # With -4 the tool leaves out the line of the hardware address, but not what it says after that.
        lines.append(_head(link, False, family == "inet6") + (_elsewhere(link, names) if family == "inet" else ""))
        if family is None:
            lines.append(_hardware(link, names))
        if family != "inet6":
            lines += _other_names(link)
        for address in held:
            lines += _address(address)
    return lines


def _ends(address: Entry) -> str:
    peer = f" peer {address['address']}" if "address" in address else ""
    return f"{address['local']}{peer}/{address['prefixlen']}"


def _address(address: Entry) -> list[str]:
    words = [f"    {address['family']} {_ends(address)}"]
    for key, word in (("metric", "metric"), ("broadcast", "brd"), ("anycast", "any"), ("scope", "scope")):
        if key in address:
            words.append(f"{word} {address[key]}")
    words += [key for key, value in address.items() if key not in _NOT_FLAGS and value is True]
    if "protocol" in address:
        words.append(f"proto {address['protocol']}")
    times = [
        "forever" if address.get(key, _FOREVER) == _FOREVER else f"{address[key]}sec"
        for key in ("valid_life_time", "preferred_life_time")
    ]
    label = str(address.get("label", ""))
    return [" ".join(words) + f" {label}", f"       valid_lft {times[0]} preferred_lft {times[1]}"]


def brief_lines(links: Iterable[Entry], what: str, family: str | None = None) -> list[str]:
    """``ip -br addr`` or ``ip -br link``."""
    lines = []
    for link in links:
        start = f"{full_name(link):<16} {link.get('operstate', ''):<14} "
        if what == "link":
            lines.append(f"{start}{link.get('address', '')} <{','.join(link.get('flags', ()))}> ")
            continue
        held = [a for a in link.get("addr_info", ()) if a and family in (None, a["family"])]
        if held or family is None:
            lines.append(start + "".join(f"{_ends(address)} " for address in held))
    return lines


def route_lines(routes: Iterable[Entry]) -> list[str]:
    """``ip route``."""
    lines: list[str] = []
    for route in routes:
        lines.append(_route(route))
        for hop in route.get("nexthops", ()):
            flags = "".join(f"{flag} " for flag in hop.get("flags", ()))
            lines.append(f"\tnexthop {_way(hop)}weight {hop.get('weight', 1)} {flags}")
    return lines


def _way(part: Entry) -> str:
    text = f"nhid {part['nhid']} " if "nhid" in part else ""
    if "gateway" in part:
        text += f"via {part['gateway']} "
    if "via" in part:
        text += f"via {part['via']['family']} {part['via']['host']} "
    return text + (f"dev {part['dev']} " if "dev" in part else "")


def _route(route: Entry) -> str:
    text = "" if route.get("type", "unicast") == "unicast" else f"{route['type']} "
    text += f"{route['dst']} "
    for key in ("from", "tos"):
        if key in route:
            text += f"{key} {route[key]} "
    text += _way(route)
    if route.get("table", "main") != "main":
        text += f"table {route['table']} "
    if route.get("protocol", "boot") != "boot":
        text += f"proto {route['protocol']} "
    if route.get("scope", "global") != "global":
        text += f"scope {route['scope']} "
    for key, word in (("prefsrc", "src"), ("metric", "metric")):
        if key in route:
            text += f"{word} {route[key]} "
    text += "".join(f"{flag} " for flag in route.get("flags", ()))
    for metrics in route.get("metrics", ()):
        text += "".join(f"{key} {value} " for key, value in metrics.items())
    if "expires" in route:
        text += f"expires {route['expires']}sec "
    if "error" in route:
        text += f"error {route['error']} "
    return text + (f"pref {route['pref']}" if "pref" in route else "")


def neigh_lines(entries: Iterable[Entry]) -> list[str]:
    """``ip neigh``."""
    lines = []
    for entry in entries:
        text = f"{entry['dst']} " + (f"dev {entry['dev']} " if "dev" in entry else "")
        text += f"lladdr {entry['lladdr']} " if "lladdr" in entry else ""
        text += "".join(f"{key} " for key in ("router", "proxy", "extern_learn", "offload") if key in entry)
        lines.append(text + "".join(f"{state} " for state in entry.get("state", ())))
    return lines


def rule_lines(rules: Sequence[Entry]) -> list[str]:
    """``ip rule``."""
    return [_rule(rule) for rule in rules]


def _rule(rule: Entry) -> str:
    words = [f"{rule['priority']}:\t" + ("not from" if "not" in rule else "from")]
    for key, word in (("src", ""), ("dst", "to ")):
        if key in rule:
            bits = f"/{rule[key + 'len']}" if key + "len" in rule else ""
            words.append(f"{word}{rule[key]}{bits}")
    if "tos" in rule:
        words.append(f"tos {rule['tos']}")
    if "fwmark" in rule:
        words.append(f"fwmark {rule['fwmark']}" + (f"/{rule['fwmask']}" if "fwmask" in rule else ""))
    words += [f"{key} {rule[key]}" for key in ("iif", "oif") if key in rule]
    if "table" in rule:
        words.append(f"lookup {rule['table']}")
    if "suppress_prefixlen" in rule:
        words.append(f"suppress_prefixlength {rule['suppress_prefixlen']}")
    if "goto" in rule:
        words.append(f"goto {rule['goto']}")
    if "action" in rule:
        words.append(str(rule["action"]))
    return " ".join(words)
