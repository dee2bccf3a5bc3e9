"""How an IPVS scheduler shares new connections among real servers: exact shares where the rules alone decide them.

Source: the kernel's net/netfilter/ipvs/ip_vs_*.c and ipvsadm(8). Shares are those of the long run; the first few
connections of a round go in the order of the round.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ...parse.ipvs import RealServer, VirtualServer

__all__ = ["Shares", "share"]

_WHY = {
    "lc": "the server with the fewest connections is chosen",
    "wlc": "the server with the fewest connections for its weight is chosen",
    "sed": "the server with the shortest expected delay (connections for its weight) is chosen",
    "nq": "an idle server is chosen, else the one with the shortest expected delay",
    "lblc": "the virtual address keeps its server until that one is overloaded",
    "lblcr": "the virtual address keeps its set of servers until they are overloaded",
    "sh": "the client's address decides by a hash",
    "dh": "the virtual address decides by a hash: all of its connections have the same server",
    "mh": "the client's address decides by Maglev hashing",
    "fo": "the server with the highest weight gets all, and several have it: their order in the kernel decides",
    "ovf": "the server with the highest weight is filled first: its active connections decide",
    "twos": "of two servers chosen at random the one with fewer connections is taken",
}
_HASHING = ("sh", "dh", "mh")


@dataclass(frozen=True, slots=True)
class Shares:
    """``usable`` servers with their share (None each when it is not decided by the rules), ``draining`` ones, and why.

    ``says`` explains the shares; ``unknown`` is why they are not known, empty otherwise.
    """

    usable: tuple[tuple[RealServer, Fraction | None], ...]
    draining: tuple[RealServer, ...]
    says: str
    unknown: str = ""


def share(virtual: VirtualServer) -> Shares:
    """The shares of one virtual server. Weight 0 is draining: no new connections, whatever the scheduler."""
    usable = tuple(server for server in virtual.servers if server.weight > 0)
    draining = tuple(server for server in virtual.servers if server.weight <= 0)
    name = virtual.scheduler
    if name == "rr":
        return _given(usable, [Fraction(1)] * len(usable), draining, "rr: in turn, equal shares whatever the weights")
    if name == "wrr":
        weights = [Fraction(server.weight) for server in usable]
        return _given(usable, weights, draining, "wrr: in turn, in proportion to the weights")
    if name == "fo" and usable:
        most = max(server.weight for server in usable)
        if [server.weight for server in usable].count(most) == 1:
            chosen = [Fraction(server.weight == most) for server in usable]
            return _given(usable, chosen, draining, "fo: all go to the server with the highest weight")
    if len(usable) == 1 and not (draining and name in _HASHING):
        return _given(usable, [Fraction(1)], draining, f"{name}: one server alone takes new connections")
    why = _WHY.get(name, "this scheduler is not known here")
    if draining and name in _HASHING:
        why += "; clients that hash to a draining server may be refused"
    unknown = f"scheduler {name} of {virtual.name}: {why}, so the rules give no fixed shares" if usable else ""
    return Shares(tuple((server, None) for server in usable), draining, f"{name}: {why}", unknown)


def _given(
    usable: tuple[RealServer, ...], parts: list[Fraction], draining: tuple[RealServer, ...], says: str
) -> Shares:
    whole = sum(parts, Fraction(0))
    return Shares(tuple((server, part / whole) for server, part in zip(usable, parts, strict=True)), draining, says)
