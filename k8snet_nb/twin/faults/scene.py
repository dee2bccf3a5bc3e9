"""What a fault is made from: the twin as it stands, and the changes that break it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol, TypeVar

from ...errors import Refused
from ...explain.pod_network import VethPair
from ...parse import iptables, nft
from ...parse.ipvs import VirtualServer
from ...parse.links import Link, Route
from ...parse.pods import PodValue
from ...parse.services import Endpoint

__all__ = ["Change", "Fault", "Make", "Name", "Request", "Scene", "Target", "choose", "tool", "unused"]

Request = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Change:
    """One request to a node (:mod:`..requests`) and the one that takes it back; None: another change's does."""

    node: str
    do: Request
    undo: Request | None


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that is ready to be made. ``symptom``: what somebody notices; ``what``: the truth, in words.

    ``where``: its place as the learner may write it, the usual way first. ``changes`` are made in this order, and taken
    back in the opposite one.
    """

    symptom: str
    what: str
    where: tuple[str, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """A Service's port that clients can call: its cluster IP, and the ready endpoints behind it that are pods."""

    service: str
    port: int
    protocol: str
    address: str
    endpoints: tuple[Endpoint, ...]

    @property
    def text(self) -> str:
        """As a person would say it."""
        return f"Service {self.service}, port {self.port}"


@dataclass(frozen=True, slots=True)
class Name:
    """A Service's full name in DNS, its cluster IP (IPv4), and the addresses behind it."""

    name: str
    address: str
    behind: frozenset[str]


class Scene(Protocol):
    """The twin as it stands. Every method may raise FactMissing or FactBroken."""

    def nodes(self) -> tuple[str, ...]:
        """The nodes that are alive."""
        ...

    def node_ips(self, node: str) -> tuple[str, ...]:
        """A node's addresses by the API."""
        ...

    def mode(self, node: str) -> str | None:
        """Which data plane translates Services there."""
        ...

    def iptables(self, node: str) -> iptables.Ruleset:
        """Its IPv4 rules."""
        ...

    def nft(self, node: str) -> nft.Ruleset:
        """Its nftables ruleset."""
        ...

    def servers(self, node: str) -> tuple[VirtualServer, ...]:
        """Its virtual servers."""
        ...

    def links(self, node: str) -> tuple[Link, ...]:
        """Its interfaces."""
        ...

    def routes(self, node: str) -> tuple[Route, ...]:
        """Its routes."""
        ...

    def pods(self) -> Sequence[PodValue]:
        """Running pods with a network of their own, on nodes that are alive."""
        ...

    def cable(self, pod: str) -> VethPair | None:
        """A pod's interface and its other end on the node."""
        ...

    def targets(self) -> Sequence[Target]:
        """TCP ports of Services with a cluster IP and two endpoints or more, without affinity or local policy."""
        ...

    def names(self) -> Sequence[Name]:
        """Services that have a cluster IP and somebody behind it, by their names in DNS."""
        ...

    def dns_servers(self) -> Sequence[PodValue]:
        """The pods behind the cluster's DNS Service."""
        ...

    def taken(self) -> frozenset[str]:
        """Every address that something in the twin is known to have."""
        ...


Make = Callable[[Scene, Random, str | None], Fault]
"""Makes a fault at a place chosen by chance, on the node of that name if one is given. Raises Refused without any."""


def tool(*argv: str, pod: str | None = None, stdin: str = "") -> Request:
    """The request that runs a tool in the node's network namespace, or a pod's."""
    return {"op": "tool", "pod": pod, "argv": list(argv), "stdin": stdin}


def choose(rng: Random, several: Sequence[T], none: str) -> T:
    """One of them. Raises Refused with ``none`` where there is none."""
    if not several:
        raise Refused(f"this twin has {none}")
    return several[rng.randrange(len(several))]


def unused(address: str, prefix: int, taken: frozenset[str]) -> str:
    """An address of the same network that nothing has, the last one first. Raises Refused when all are taken."""
    network = ipaddress.ip_network(f"{address}/{max(prefix, 24)}", strict=False)
    for number in range(network.num_addresses - 3, 1, -1):
        candidate = str(network.network_address + number)
        if candidate not in taken:
            return candidate
    raise Refused(f"no address of {network} is free")
