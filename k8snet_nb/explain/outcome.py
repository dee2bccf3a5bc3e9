"""What a node's rules do with a packet to a Service address: the values that all three data planes answer with.

Each data plane has one evaluator, ``evaluate(rules, packet, view) -> Outcome``. An evaluator follows the rules as
the kernel would; what it cannot decide it names in ``unknown``, and never assumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

__all__ = ["Action", "Choice", "Client", "NodeView", "Outcome", "Packet", "Step", "exact_share"]

Action = Literal["dnat", "reject", "drop", "none"]
Client = Literal["pod", "node", "outside"]


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a connection. ``family`` 4 or 6; ``protocol`` tcp, udp or sctp; ports 0..65535.

    ``src`` None: any address of that kind of client. ``client``: a pod of this node (``pod``), a process of the node
    itself in its own namespace (``node``, enters at OUTPUT), or a packet from elsewhere (``outside``).
    """

    family: int
    protocol: str
    dst: str
    dport: int
    src: str | None = None
    client: Client = "pod"


@dataclass(frozen=True, slots=True)
class NodeView:
    """What an evaluator needs to know of the node beside its rules.

    ``local``: all its own addresses (text); ``primary``: its addresses in the API's list; ``pod_addresses``: those of
    its pods; ``pod_networks``: prefixes of pod addresses (podCIDR or the routes' prefixes), for ``-s`` matches;
    ``pod_interfaces``: those by which pods' packets come in (their bridge, or their veth ends), for ``-i`` matches.
    """

    node: str
    local: frozenset[str] = frozenset()
    primary: frozenset[str] = frozenset()
    pod_addresses: frozenset[str] = frozenset()
    pod_networks: tuple[str, ...] = ()
    pod_interfaces: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that decided: ``place`` such as ``nat KUBE-SERVICES``, ``text`` as printed, ``says`` in words."""

    place: str
    text: str
    says: str
    fact: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One possible end of the packet: an endpoint ``address``:``port`` and its exact chance.

    ``probability`` is a Fraction, or None with the reason in the outcome's ``unknown``. ``weight`` only in IPVS.
    ``masquerade``: True, False, ``"hairpin"`` (only when the client is that endpoint itself) or None (undecided).
    """

    address: str
    port: int
    probability: Fraction | None
    weight: int | None = None
    masquerade: bool | str | None = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the rules do with one packet. ``affinity`` in seconds, None without; ``scheduler`` only in IPVS.

    ``source_ranges``: prefixes that alone may use this entry, empty when all may. ``unknown``: what could not be
    decided, in words, each naming the rule. ``partial``: the rules themselves were only partly readable.
    ``masquerade``: of a packet that is not translated (action ``none``); of a translated one each choice says it.
    """

    action: Action
    choices: tuple[Choice, ...] = ()
    draining: tuple[Choice, ...] = ()
    affinity: int | None = None
    scheduler: str | None = None
    source_ranges: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    unknown: tuple[str, ...] = ()
    partial: bool = False
    masquerade: bool | str | None = False


def exact_share(printed: str) -> Fraction:
    """The fraction 1/k that a printed ``--probability`` stands for, or the printed value itself.

    The kernel keeps 31 bits of it and kube-proxy prints 10 or 11 decimals, so a value within 2^-31 of 1/k is 1/k.
    """
    value = Fraction(printed)
    if value > 0:
        nearest = Fraction(1, max(1, round(1 / value)))
        if abs(value - nearest) <= Fraction(1, 2**31):
            return nearest
    return value
