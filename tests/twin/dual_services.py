"""What the dual-stack recording has: its nodes and networks, and its Services with their ports."""

from __future__ import annotations

from dataclasses import dataclass

NODES = {1: "ipt", 2: "nft"}
OUTSIDE_RANGES = {4: "203.0.113.128/25", 6: "2001:db8:ffff:0:8000::/65"}
"""Halves of the networks from which the twin's clients outside come."""

PODS4, PODS6 = "10.20.0.0/16", "fd00:20::/32"


@dataclass(frozen=True)
class Port:
    """One Service with one port. ``ends``: pods (node, number) that are ready; number 0: the one on the host."""

    name: str
    number: int
    ends: tuple[tuple[int, int], ...]
    protocol: str = "tcp"
    port: int = 80
    target: int = 8080
    node_port: int = 0
    balanced: bool = False
    external: bool = False
    local: bool = False
    internal_local: bool = False
    sticky: bool = False
    guarded: bool = False
    unready: tuple[tuple[int, int], ...] = ()

    def vip(self, family: int) -> str:
        return f"10.96.0.{self.number}" if family == 4 else f"fd00:96::{self.number}"

    def outer(self, family: int) -> str:
        return f"192.168.5.{100 + self.number}" if family == 4 else f"fd00:5::{100 + self.number}"

    def sockets(self, family: int, only: int | None = None) -> list[tuple[str, int]]:
        chosen = [end for end in self.ends if only is None or end[0] == only]
        return [(address(family, *end), self.target) for end in chosen]


SERVICES = (
    Port("web", 10, ((1, 5), (1, 6), (2, 5)), node_port=30080, unready=((2, 6),)),
    Port("talk", 11, ((1, 5), (2, 5)), "udp", 5353, 9000, node_port=30053),
    Port("sticky", 12, ((1, 5), (2, 5), (2, 6)), sticky=True),
    Port("near", 13, ((2, 5), (2, 6)), node_port=30081, balanced=True, local=True),
    Port("guarded", 14, ((1, 6), (2, 6)), node_port=30082, balanced=True, guarded=True),
    Port("host", 15, ((1, 0), (2, 0)), port=9100, target=9100),
    Port("gone", 16, (), node_port=30083),
    Port("gonetoo", 17, (), "udp", 5000),
    Port("outer", 18, ((1, 5), (2, 6)), external=True),
    Port("inner", 19, ((2, 5),), internal_local=True),
    Port("one", 20, ((1, 5),), "udp", 5001, 9001),
)


def address(family: int, node: int, number: int) -> str:
    if number == 0:
        return f"192.168.5.1{node}" if family == 4 else f"fd00:5::1{node}"
    return f"10.20.{node}.{number}" if family == 4 else f"fd00:20:{node}::{number}"
