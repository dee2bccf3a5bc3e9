"""A pod's network namespace where no process of it is left: by the node's own links, and the name it is bound to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["BOUND_FACTS", "bound_target"]

BOUND_FACTS = ("addr.json", "route.json", "neigh.json", "fdb.json", "lsns.json")
"""The facts of the node that :func:`bound_target` reads."""


def bound_target(ips: Iterable[str], facts: Mapping[str, bytes | None]) -> dict[str, Any] | None:
    """``path`` and ``inode`` of the one bound namespace behind the interface that leads to an address; else None.

    The interface is the device of a route to that address alone, or the bridge's port behind which its neighbour's MAC
    address is; the namespace is the one that the interface's ``link_netnsid`` names.
    """
    told = {name: json.loads(data) if data else [] for name, data in facts.items()}
    links = {str(link["ifname"]): link for link in told["addr.json"]}
    spaces = told["lsns.json"]["namespaces"] if told["lsns.json"] else []
    for ip in ips:
        devices = [str(route.get("dev")) for route in told["route.json"] if route.get("dst") == ip]
        for device in devices or _ports(ip, told):
            number = links.get(device, {}).get("link_netnsid")
            found = [s for s in spaces if number is not None and s["netnsid"] == str(number) and s["nsfs"]]
            if len(found) == 1:
                return {"path": str(found[0]["nsfs"]).split("\n")[0], "inode": found[0]["ns"]}
    return None


def _ports(ip: str, told: Mapping[str, Any]) -> list[str]:
    """The ports of the bridge on which an address's neighbour is, by the forwarding table."""
    return [
        str(entry["ifname"])
        for near in told["neigh.json"]
        if near.get("dst") == ip and near.get("lladdr")
        for entry in told["fdb.json"]
        if entry.get("mac") == near["lladdr"] and entry.get("master") == near.get("dev")
        if entry.get("state") != "permanent"  # the port's own address
    ]
