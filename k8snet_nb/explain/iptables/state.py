"""What the iptables evaluator carries along: the packet as it is now, and what is known of its source address."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from ..outcome import NodeView, Packet

__all__ = ["Net", "Source", "State", "covers", "net", "number", "overlaps"]

Net = tuple[int, int]
"""A prefix as (address, mask), both whole numbers of 32 or 128 bits."""


@lru_cache(maxsize=65536)
def net(text: str) -> Net:
    """``10.244.0.0/16`` or ``10.244.3.4`` as numbers. ValueError when it is no prefix."""
    network = ip_network(text, strict=False)
    return int(network.network_address), int(network.netmask)


@lru_cache(maxsize=65536)
def number(address: str) -> int:
    """An address as a number."""
    return int(ip_address(address))


def covers(outer: Net, inner: Net) -> bool:
    """All of ``inner`` is in ``outer``."""
    return inner[1] & outer[1] == outer[1] and inner[0] & outer[1] == outer[0]


def overlaps(one: Net, other: Net) -> bool:
    """Some address is in both."""
    mask = one[1] & other[1]
    return one[0] & mask == other[0] & mask


class State(NamedTuple):
    """One way that the packet may be at some point of its walk.

    ``inside``: the source lies in this prefix (text), a condition that a ``-s`` made; ``outside``: and in none of
    these. ``affinity``: seconds for which a client that ended here comes back.
    """

    dst: str
    dport: int
    mark: int = 0
    connmark: int = 0
    dnat: bool = False
    untracked: bool = False
    masquerade: bool = False
    affinity: int | None = None
    inside: str | None = None
    outside: frozenset[str] = frozenset()


@dataclass
class Source:
    """Which addresses the packet's source may have: one, or those of a kind of client on this node.

    ``cluster``: prefixes that the rules themselves take for the pods' (whoever is not in them is masqueraded).
    """

    packet: Packet
    view: NodeView
    cluster: frozenset[str] = frozenset()
    _known: list[Net] = field(init=False)
    _pods: list[Net] = field(init=False)
    _inside: list[Net] = field(init=False)

    def __post_init__(self) -> None:
        family = self.packet.family
        self._pods = [net(p) for p in self.view.pod_networks if (":" in p) == (family == 6)]
        self._inside = self._pods + [net(p) for p in self.cluster if (":" in p) == (family == 6)]
        addresses = [net(a) for a in self.view.pod_addresses if (":" in a) == (family == 6)]
        if self.packet.src is not None:
            self._known = [net(self.packet.src)]
        elif self.packet.client == "node":
            self._known = [net(a) for a in self._node_addresses()]
        elif self.packet.client == "pod":
            self._known = addresses or self._pods
        else:
            self._known = []

    def _node_addresses(self) -> list[str]:
        """The source that the node's routing picks: to itself by loopback it is the destination, else a primary one."""
        packet, view = self.packet, self.view
        if packet.dst in view.local or ip_address(packet.dst).is_loopback:
            return [packet.dst]
        for group in (view.primary, view.local):
            found = [a for a in group if (":" in a) == (packet.family == 6) and not ip_address(a).is_loopback]
            if found := [a for a in found if not ip_address(a).is_link_local]:
                return found
        return []

    def within(self, prefix: str, state: State) -> bool | None:
        """Whether the source lies in a prefix; None: some of these clients do and some do not, or it is not known."""
        wanted = net(prefix)
        if state.inside is not None and self.packet.src is None:
            inner = net(state.inside)
            if covers(wanted, inner):
                return True
            if not overlaps(wanted, inner):
                return False
        if any(covers(net(other), wanted) for other in state.outside):
            return False
        if self.packet.src is None and self.packet.client == "pod" and _is_host(prefix):
            return None if not self._known or any(overlaps(wanted, known) for known in self._known) else False
        if self._known:
            hits = [covers(wanted, known) for known in self._known]
            if all(hits):
                return True
            possible = any(hits) or any(covers(known, wanted) for known in self._known)
            return None if possible else False
        if self.packet.client == "outside" and any(covers(pods, wanted) for pods in self._inside):
            return False  # what comes from elsewhere does not come from the cluster's pods
        if ip_network(prefix, strict=False).is_loopback:
            return False
        return None


def _is_host(prefix: str) -> bool:
    _, _, length = prefix.partition("/")
    return not length or length == ("128" if ":" in prefix else "32")
