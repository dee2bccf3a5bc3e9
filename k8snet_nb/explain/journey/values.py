"""A journey: one connection from a client through a Service to a server, place by place, and the answer's way back.

The values. What is known of both ends and of both nodes goes in as :class:`Trip`; :mod:`.way` makes the stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ...errors import NotFound
from ...facts import Evidence
from ...render import Report, Shown, evidence_text
from ...text import socket_text
from ..entry import Target
from ..outcome import Outcome, Step
from ..pod_network import NoVethPair, VethPair
from ..sandbox import NodeView, PodView
from ..translation import share_text
from ..walk import End

__all__ = ["BACK", "OUT", "Ground", "Journey", "Party", "Stop", "Tracked", "Trip", "socket_of"]

OUT, BACK = "out", "back"
"""Which way a packet goes: the client's first one out, the answer back."""


@dataclass(frozen=True, slots=True)
class Stop(Shown):
    """One place on the way. ``node`` None: between nodes.

    ``place`` is one of pod, process, veth, bridge, gateway, translation, forwarding, source, leaving, wire, arriving,
    delivery, rules, server, memory; ``name`` the interface, chain or table there. ``source`` and ``destination`` are
    the packet's when it goes on from here, ``changed`` which of them this place rewrites (empty: neither). ``seen``
    False: no fact shows this place, ``says`` tells what is missing.
    """

    direction: str
    node: str | None
    place: str
    name: str
    source: str
    destination: str
    says: str
    evidence: tuple[Evidence, ...] = ()
    seen: bool = True
    changed: str = ""

    @property
    def where(self) -> str:
        """What kind of place, and its name: ``veth veth5255f3bf``."""
        return f"{self.place} {self.name}".strip()

    @property
    def moves(self) -> str:
        """The packet's source and destination as it goes on."""
        return f"{self.source} > {self.destination}"

    def report(self) -> Report:
        """This place alone, with the lines that show it open to be read."""
        title = f"{self.node + ', ' if self.node else ''}{self.where} ({self.direction}): {self.says}"
        changed = f"; rewritten here: {self.changed}" if self.changed else ""
        notes = (f"On the packet: {self.moves}{changed}", *(() if self.seen else ("Not in evidence",)))
        return Report(title, notes=notes, block=evidence_text(self.evidence))


@dataclass(frozen=True, slots=True)
class Journey(Shown):
    """The answer: ``stops`` in order, first those of the way out, then those of the way back.

    ``near`` is the client's node, whose rules (``mode``) translate; ``far`` the server's, which may be the same, None
    where the end is on no node of the cluster. ``chance``: the share of new connections that go to this server.
    ``connection`` True: a connection that conntrack really held, its ports are in the stops; False: none was there.
    """

    service: str
    client: str
    server: str
    near: str
    far: str | None
    mode: str | None
    target: Target
    chance: Fraction | None
    verdict: str
    stops: tuple[Stop, ...]
    connection: bool
    not_evaluated: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def port(self) -> str:
        """The Service's port as kubectl spells it."""
        return str(self.target.service_port)

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """All of it, in the order of the stops."""
        return tuple(item for stop in self.stops for item in stop.evidence)

    def stop(self, number: int) -> Stop:
        """The stop of that number, from 1 as the table and the drawing count them. Raises NotFound."""
        if not 1 <= number <= len(self.stops):
            raise NotFound(f"no stop {number}: they are numbered from 1 to {len(self.stops)}")
        return self.stops[number - 1]

    @property
    def title(self) -> str:
        """From where, through what, to where, and how it ends."""
        called = f"{self.service} ({socket_of(self.target.address, self.target.port)}/{self.target.protocol})"
        chance = "" if self.chance == 1 else f", {share_text(self.chance)} of new connections"
        end = f" -> {self.server}{chance}" if self.server else ""
        return f"{self.client} -> {called}{end}, translated by {self.near} ({self.mode or 'no mode'}): {self.verdict}"

    def report(self) -> Report:
        """One row a stop, numbered; what was not seen, not evaluated and not decided; the evidence by stop."""
        rows = tuple(
            (
                f"{number} {stop.direction}",
                f"{stop.node}: {stop.where}" if stop.node else stop.where,
                stop.moves,
                stop.says,
            )
            for number, stop in enumerate(self.stops, 1)
        )
        notes = [self.ports_note]
        unseen = [number for number, stop in enumerate(self.stops, 1) if not stop.seen]
        if unseen:
            notes.append(f"Not in evidence: {', '.join(map(str, unseen))}")
        notes += [f"Not evaluated: {what}" for what in self.not_evaluated]
        notes += [f"Not decided: {what}" for what in self.unknown]
        headings = ("STOP", "PLACE", "SOURCE > DESTINATION", "WHAT HAPPENS")
        return Report(self.title, headings, rows, tuple(note for note in notes if note), self._numbered())

    @property
    def ports_note(self) -> str:
        """Whose connection this is: one that was tracked, or none in particular."""
        if self.connection:
            return "The client's port is that of a connection which conntrack held; its entries are quoted"
        return "No such connection was in the conntrack tables: the addresses are those that rules and routes give"

    def _numbered(self) -> tuple[Evidence, ...]:
        """The evidence with the number of its stop before what it says."""
        found = []
        for number, stop in enumerate(self.stops, 1):
            for item in stop.evidence:
                says = f"stop {number}: {item.says or stop.says}"
                found.append(Evidence(item.ref, item.command, item.lines, says, item.notes))
        return tuple(found)


def socket_of(address: str, port: int | None) -> str:
    """``10.0.0.1:80``, ``[fd00::1]:80``, or the address alone."""
    if port is None:
        return address
    return socket_text(address, port)


@dataclass(frozen=True, slots=True)
class Tracked:
    """A conntrack entry of this connection on one node: the client's port, and the address and port that answers go to.

    ``replied``: whether an answer was seen (the entry is not UNREPLIED).
    """

    evidence: Evidence
    client_port: int | None
    answered_to: str
    answered_port: int | None
    replied: bool = True


@dataclass(frozen=True, slots=True)
class Party:
    """One end. ``view`` and ``pair`` None: it is a process in its node's own network namespace, or not a pod.

    ``listening``: the line of ``ss`` with the socket that waits there; None when none was seen. ``sockets``: whether
    its sockets were read at all.
    """

    words: str
    address: str
    port: int | None = None
    view: PodView | None = None
    pair: VethPair | NoVethPair | None = None
    listening: Evidence | None = None
    sockets: bool = False


@dataclass(frozen=True, slots=True)
class Ground:
    """What is known of one node: its kernel's facts, its ``ips`` in the API, what its rules do with this packet.

    ``forwarding``: its line of net.ipv4.ip_forward, None where not known; ``rules_trouble``: why its rules are not.
    """

    name: str
    ips: tuple[str, ...]
    facts: NodeView | None
    mode: str | None = None
    outcome: Outcome | None = None
    rules_fact: str | None = None
    rules_trouble: str = ""
    forwarding: str | None = None
    tracked: Tracked | None = None
    ipvs: Evidence | None = None


@dataclass(frozen=True, slots=True)
class Trip:
    """All that goes into a journey. ``steps`` are those of the translation on ``near``, ``end`` the end chosen.

    ``others``: addresses of the ends that were not chosen. ``far`` is None on the same node, and for an end on no node.
    """

    service: str
    target: Target
    client: Party
    server: Party
    near: Ground
    far: Ground | None
    end: End
    steps: tuple[Step, ...]
    others: tuple[str, ...] = ()
    same_node: bool = False
    not_evaluated: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
