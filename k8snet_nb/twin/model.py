"""What a twin is made of: values that a plan consists of. Every one of them was validated when it was made.

A recording may come from a stranger. Nothing of it reaches a tool, a file name or the kernel but through these values:
interface names, addresses, numbers and words that were checked against what the kernel and the tools allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = [
    "BRIDGE",
    "FALLBACK_TUNNELS",
    "WIRE",
    "LeftOut",
    "Link",
    "Listener",
    "NodePlan",
    "PodPlan",
    "Route",
    "Space",
    "Step",
    "TwinPlan",
    "fallback_tunnel",
    "own_links",
]

WIRE = "wire"
"""The place between the nodes: a namespace with one bridge, gateways, outside clients, endpoints that are no pods."""

BRIDGE = "wire0"
"""The wire's bridge."""

FALLBACK_TUNNELS = {"ipip": "tunl0", "sit": "sit0", "ip6tnl": "ip6tnl0", "gre": "gre0"}
"""Interfaces that a tunnel module makes by itself in every namespace (ip-sysctl, fb_tunnels_only_for_init_net)."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something of the recording that the twin does not have: where it stands, its text as recorded, and why."""

    node: str | None
    fact: str
    text: str
    why: str


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a tool in one namespace: ``argv``, what it reads, and what of the recording it stands for."""

    argv: tuple[str, ...]
    stdin: str
    says: str


@dataclass(frozen=True, slots=True)
class Link:
    """One interface as it is to be: ``kind`` is a kind that the twin can make, ``loopback``, or ``wire``.

    ``wire``: a veth whose other end is plugged into the wire's bridge. ``veth``: with ``peer`` ("namespace/name" of the
    pod, "" for the node) and ``peer_name`` the other end, which is a Link of that place; the *node's* end makes both.
    ``macvlan`` or ``ipvlan`` with a ``peer``: an interface of that pod, of this name, over ``parent`` here; it is made
    from here and is not one of this namespace's own. ``parent``: the interface that a vlan, macvlan or ipvlan is over.
    ``nsid``: the id under which the other end's namespace is known from here; None: the kernel chooses. ``options``:
    words of ``ip link`` after the kind, all of them validated. ``addresses``: "10.244.18.1/24" or "10.0.0.1 peer
    10.0.0.2/32", and then further words of ``ip addr`` where needed ("brd 10.244.18.255"). ``hairpin``: of a bridge's
    port.
    """

    name: str
    kind: str
    ifindex: int | None
    mac: str | None
    mtu: int
    up: bool
    addresses: tuple[str, ...] = ()
    master: str | None = None
    hairpin: bool = False
    peer: str | None = None
    peer_name: str | None = None
    nsid: int | None = None
    options: tuple[str, ...] = ()
    parent: str | None = None


def fallback_tunnel(link: Link) -> bool:
    """Whether the kernel makes this interface by itself as soon as its kind is known."""
    return FALLBACK_TUNNELS.get(link.kind) == link.name


def own_links(links: Iterable[Link]) -> tuple[Link, ...]:
    """Those that are in this namespace: without the pods' macvlan and ipvlan interfaces that are made from here."""
    return tuple(link for link in links if not (link.kind in ("macvlan", "ipvlan") and link.peer))


@dataclass(frozen=True, slots=True)
class Route:
    """One route, rule, neighbour or fdb entry: the words after ``ip route add`` and the like, all of them validated."""

    family: int
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Space:
    """One network namespace: interfaces in the order of their making, and what is laid upon them.

    ``withdrawn``: routes that the kernel makes with an address, and that were taken away where this was recorded.
    """

    links: tuple[Link, ...]
    routes: tuple[Route, ...] = ()
    rules: tuple[Route, ...] = ()
    neighbours: tuple[Route, ...] = ()
    fdb: tuple[Route, ...] = ()
    withdrawn: tuple[Route, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    """By path below /proc/sys (``net/ipv4/ip_forward``); only ones that belong to a network namespace."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A server to run: ``kind`` is ``http`` (answers with ``says``), ``tcp``, ``udp``, ``sctp`` (echo) or ``dns``.

    ``protocol`` in lower case (tcp, udp, sctp); ``address`` as text: that of the endpoint, never a wildcard.
    """

    protocol: str
    address: str
    port: int
    kind: str
    says: str


@dataclass(frozen=True, slots=True)
class PodPlan:
    """One pod with a network namespace of its own, or on the node's network (``space`` None).

    ``pids``: of its processes as recorded, the sandbox's first; ``cgroup`` its path as recorded; ``netns``: the name
    below /run/netns under which its namespace was bound, or None. ``resolv_conf``: text, "" when not recorded.
    """

    namespace: str
    name: str
    uid: str
    cgroup: str
    pids: tuple[int, ...]
    netns: str | None
    space: Space | None
    listeners: tuple[Listener, ...]
    resolv_conf: str = ""

    @property
    def key(self) -> str:
        """namespace/name."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node: its namespace, its pods, the commands that load its rules.

    ``guest``: it must run in a kernel of its own (IPVS, where this kernel has none). ``stand_in``: nothing was recorded
    of its kernel, it only holds the addresses of the node and its pods, so that packets to them arrive somewhere.
    ``nfacct``: accounting objects that its rules refer to. ``listeners``: servers on the node's own network.
    """

    name: str
    space: Space
    pods: tuple[PodPlan, ...]
    nfacct: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    listeners: tuple[Listener, ...] = ()
    guest: bool = False
    stand_in: bool = False


@dataclass(frozen=True, slots=True)
class TwinPlan:
    """A whole twin. ``wire``: the namespace between the nodes; ``outside``: addresses of clients outside, by family."""

    recording: str
    nodes: tuple[NodePlan, ...]
    wire: Space
    wire_listeners: tuple[Listener, ...]
    outside: Mapping[int, str]
    left_out: tuple[LeftOut, ...] = ()
