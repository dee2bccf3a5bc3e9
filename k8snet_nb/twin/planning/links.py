"""Recorded interfaces (``ip -d -j addr``) as the links that a twin makes: kinds, options and addresses, validated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any

from ...parse import links as parsed
from .. import words
from ..model import FALLBACK_TUNNELS, Link
from .facts import Notes

__all__ = ["MOST_ADDRESSES", "MOST_LINKS", "Roles", "plan_links"]

MOST_LINKS, MOST_ADDRESSES = 4096, 20_000
"""How many interfaces a namespace, and addresses an interface, may have in a twin."""


@dataclass(frozen=True, slots=True)
class Roles:
    """What is known of a namespace's interfaces beside its own facts.

    ``wires``: those that are plugged into the wire. ``pairs``: name -> (the other place's key, the name there), where
    the key is a pod's "namespace/name" or "" for the node. ``parents``: of a pod's macvlan or ipvlan, on the node.
    """

    wires: frozenset[str] = frozenset()
    pairs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)


def plan_links(links: Sequence[parsed.Link], roles: Roles, notes: Notes, node: str, pod: str = "") -> tuple[Link, ...]:
    """The interfaces of one namespace, in the order of their making: parents first, else by index."""
    made: list[Link] = []
    names: set[str] = set()
    indices: set[int] = set()
    for link in links[:MOST_LINKS]:
        try:
            one = _plan_link(link, roles, notes, node)
            if one.name in names or one.ifindex in indices:
                raise ValueError("a second interface of this name or index")
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            notes.add(node, "addr.json", f"{pod} {link.line()}".strip(), error)
            continue
        names.add(one.name)
        indices.add(one.ifindex or 0)
        made.append(one)
    if len(links) > MOST_LINKS:
        notes.add(node, "addr.json", pod, f"{len(links) - MOST_LINKS:,} further interfaces")
    return _ordered(_with_masters(made, notes, node), notes, node)


def _plan_link(link: parsed.Link, roles: Roles, notes: Notes, node: str) -> Link:
    name = words.interface_name(link.name)
    kind, options = _kind(link, roles)
    if link.kind == "netkit":
        notes.add(node, "addr.json", link.line(), "a netkit pair, made as a veth pair")
    peer, peer_name = roles.pairs.get(name, (None, None))
    slave = (link.raw.get("linkinfo") or {}).get("info_slave_data") or {}
    return Link(
        name=name,
        kind=kind,
        ifindex=words.number(link.ifindex, 1, 2**31 - 1),
        mac=words.mac(link.mac) if link.link_type == "ether" else None,
        mtu=words.number(link.mtu, 68, 2**31 - 1 if kind == "loopback" else 65535),
        up="UP" in link.flags,
        addresses=_addresses(link, notes, node),
        master=words.interface_name(link.master) if link.master else None,
        hairpin=slave.get("hairpin") is True,
        peer=peer,
        peer_name=peer_name,
        nsid=None if link.peer_nsid is None else words.number(link.peer_nsid, 0, 2**31 - 1),
        options=options,
        parent=roles.parents.get(name) or (words.interface_name(link.peer_name) if kind == "vlan" else None),
    )


def _kind(link: parsed.Link, roles: Roles) -> tuple[str, tuple[str, ...]]:
    """The kind to make, and its options."""
    if "LOOPBACK" in link.flags:
        if link.name != "lo":
            raise ValueError("a loopback of another name")
        return "loopback", ()
    if link.name in roles.wires:
        return "wire", ()
    data = (link.raw.get("linkinfo") or {}).get("info_data") or {}
    if link.kind in ("veth", "netkit"):
        if link.name not in roles.pairs:
            raise ValueError(f"a {link.kind} whose other end is not known")
        return "veth", ()
    if link.kind in ("macvlan", "ipvlan"):
        if link.name not in roles.parents:
            raise ValueError(f"a {link.kind} whose parent is not known, or of the node itself")
        return link.kind, ("mode", _one_of(data.get("mode"), _MODES[link.kind]))
    if link.kind is None or link.kind not in _OPTIONS:
        raise ValueError(f"{link.kind or 'hardware'}: a kind of interface that a twin does not make")
    return link.kind, () if FALLBACK_TUNNELS.get(link.kind) == link.name else _OPTIONS[link.kind](data)


_MODES = {"macvlan": ("private", "vepa", "bridge", "passthru"), "ipvlan": ("l2", "l3", "l3s")}


def _one_of(said: object, allowed: Sequence[str]) -> str:
    if said not in allowed:
        raise ValueError(f"{said!r:.60} is none of {', '.join(allowed)}")
    return str(said)


def _bridge(data: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs from a new bridge's settings. No spanning tree: a twin has no loops, and waiting serves nobody."""
    text = ("vlan_filtering", "1") if words.number(data.get("vlan_filtering", 0), 0, 1) else ()
    return text if words.number(data.get("mcast_snooping", 1), 0, 1) else (*text, "mcast_snooping", "0")


def _vxlan(data: Mapping[str, Any]) -> tuple[str, ...]:
    external = data.get("external") is True
    options = ["external"] if external else ["id", str(words.number(data["id"], 0, 2**24 - 1))]
    for key, family in (("local", 4), ("local6", 6), ("remote", 4), ("remote6", 6)):
        if data.get(key):
            options += [key.removesuffix("6"), words.on_link(data[key], family)]
    if data.get("group") or data.get("group6"):
        raise ValueError("a VXLAN with a multicast group, which the wire does not carry")
    if data.get("link"):
        options += ["dev", words.interface_name(data["link"])]
    options += ["dstport", str(words.number(data.get("port", 8472), 1, 65535))]
    options.append("learning" if data.get("learning") is True else "nolearning")
    flags = (("proxy", "proxy"), ("rsc", "rsc"), ("l2miss", "l2miss"), ("l3miss", "l3miss"), ("gbp", "gbp"))
    return (*options, *(word for key, word in flags if data.get(key) is True))


def _tunnel(family: int) -> Callable[[Mapping[str, Any]], tuple[str, ...]]:
    def options(data: Mapping[str, Any]) -> tuple[str, ...]:
        if data.get("external") is True:
            return ("external",)
        found: list[str] = []
        for key in ("local", "remote"):
            if data.get(key) not in (None, "", "any"):
                found += [key, words.on_link(data[key], family)]
        if data.get("link"):
            found += ["dev", words.interface_name(data["link"])]
        if type(data.get("ttl")) is int and data["ttl"]:
            found += ["ttl", str(words.number(data["ttl"], 1, 255))]
        elif data.get("pmtudisc") is False:
            found.append("nopmtudisc")
        return tuple(found)

    return options


def _gre(data: Mapping[str, Any]) -> tuple[str, ...]:
    keyed = [key for key in ("ikey", "okey", "iseq", "oseq", "icsum", "ocsum") if data.get(key)]
    if keyed:
        raise ValueError(f"a GRE tunnel with {', '.join(keyed)}, which a twin does not make")
    return _tunnel(4)(data)


def _vlan(data: Mapping[str, Any]) -> tuple[str, ...]:
    tag = _one_of(data.get("protocol", "802.1Q"), ("802.1Q", "802.1ad"))
    return ("protocol", tag, "id", str(words.number(data["id"], 0, 4094)))


_OPTIONS: Mapping[str, Callable[[Mapping[str, Any]], tuple[str, ...]]] = {
    "bridge": _bridge,
    "dummy": lambda _: (),
    "vxlan": _vxlan,
    "vlan": _vlan,
    "ipip": _tunnel(4),
    "sit": _tunnel(4),
    "gre": _gre,
    "ip6tnl": _tunnel(6),
}


def _addresses(link: parsed.Link, notes: Notes, node: str) -> tuple[str, ...]:
    found: dict[str, None] = {}
    said = [item for item in link.raw.get("addr_info") or () if item]
    for item in said[:MOST_ADDRESSES]:
        try:
            found[_address(item, link)] = None
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            notes.add(node, "addr.json", f"{link.name} {item.get('local')}/{item.get('prefixlen')}", error)
    if len(said) > MOST_ADDRESSES:
        notes.add(node, "addr.json", link.name, f"{len(said) - MOST_ADDRESSES:,} further addresses")
    return tuple(found)


def _address(item: Mapping[str, Any], link: parsed.Link) -> str:
    family = 6 if item.get("family") == "inet6" else 4
    length, text = item["prefixlen"], words.prefix(item["local"], item["prefixlen"], family)
    if item.get("address"):
        text = f"{words.on_link(item['local'], family)} peer {words.prefix(item['address'], length, family)}"
    more: list[str] = []
    if item.get("broadcast"):
        more += ["brd", words.address(item["broadcast"], 4)]
    scope = words.scope(item.get("scope", "global"))
    if family == 4 and scope != "global" and not ip_address(item["local"]).is_loopback:
        more += ["scope", scope]
    if item.get("label") not in (None, link.name):
        label = words.interface_name(item["label"])
        if not label.startswith(link.name):
            raise ValueError(f"a label ({label}) that does not begin with the interface's name")
        more += ["label", label]
    if item.get("metric"):
        more += ["metric", str(words.number(item["metric"], 1, 2**32 - 1))]
    if item.get("noprefixroute") is True:
        more.append("noprefixroute")
    if family == 6 and item.get("deprecated") is True:
        more += ["preferred_lft", "0"]
    return " ".join((text, *more))


def _with_masters(made: list[Link], notes: Notes, node: str) -> list[Link]:
    """A port stays one only of a bridge that is made."""
    bridges = {link.name for link in made if link.kind == "bridge"}
    found = []
    for link in made:
        if link.master is not None and link.master not in bridges:
            notes.add(node, "addr.json", link.name, f"its master {link.master} is not made, or is no bridge")
            link = replace(link, master=None, hairpin=False)
        found.append(link)
    return found


def _below(link: Link) -> str | None:
    """The interface of the same namespace that must be there first."""
    if link.kind == "vlan":
        return link.parent
    return link.options[link.options.index("dev") + 1] if "dev" in link.options else None


def _ordered(made: list[Link], notes: Notes, node: str) -> tuple[Link, ...]:
    """Each after what it stands on; one that stands on nothing that is made is left out."""
    there: set[str] = set()
    found: list[Link] = []
    waiting = made
    while waiting:
        before = len(found)
        for link in waiting:
            if _below(link) is None or _below(link) in there:
                found.append(link)
                there.add(link.name)
        waiting = [link for link in waiting if link.name not in there]
        if len(found) == before:
            for link in waiting:
                notes.add(node, "addr.json", link.name, f"it stands on {_below(link)}, which is not made")
            break
    return tuple(found)
