"""What becomes of a connection to a Service on one node: the rules' outcome, joined with pods and EndpointSlices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import get_args

from ..facts import Evidence, FactRef
from ..parse.services import Endpoint, ServiceValue
from ..render import Report, Shown
from ..text import socket_text
from .entry import Target
from .outcome import Action, Choice, Client, Outcome, Step

__all__ = ["CLIENTS", "Backend", "Branch", "Branches", "Translation", "join_translation", "share_text"]

Masquerade = bool | str | None
CLIENTS: tuple[Client, ...] = get_args(Client)


@dataclass(frozen=True, slots=True)
class Backend:
    """One endpoint that a connection may get. ``probability``: a Fraction, None where the scheduler gives no fixed one.

    ``address`` (text) and ``port`` are where the packet is sent. ``pod`` is ``namespace/name``, None for an endpoint
    that is no pod (or gone), ``node`` the node's name, as far as it is known; ``weight`` only in IPVS.
    ``masquerade``: True, False, ``"hairpin"`` (only when the client is that endpoint itself), None: undecided.
    """

    address: str
    port: int
    probability: Fraction | None
    weight: int | None
    pod: str | None
    node: str | None
    masquerade: Masquerade


@dataclass(frozen=True, slots=True)
class Branch:
    """The same entry for another kind of client: what is done, and among how many endpoints."""

    client: str
    action: Action
    backends: tuple[Backend, ...]
    masquerade: Masquerade
    unknown: tuple[str, ...] = ()


class Branches(Mapping[str, Branch]):
    """A branch for ``pod``, ``node`` and ``outside``, each worked out when it is first asked for."""

    def __init__(self, make: Callable[[str], Branch]) -> None:
        self._make = make
        self._made: dict[str, Branch] = {}

    def __getitem__(self, client: str) -> Branch:
        if client not in CLIENTS:
            raise KeyError(client)
        if client not in self._made:
            self._made[client] = self._make(client)
        return self._made[client]

    def __iter__(self) -> Iterator[str]:
        return iter(CLIENTS)

    def __len__(self) -> int:
        return len(CLIENTS)


@dataclass(frozen=True, slots=True)
class Translation(Shown):
    """One Service port, entered one way, on one node, for one kind of client.

    ``mode``: the data plane whose rules decided, None when no Service is programmed; ``action``: ``dnat``,
    ``reject``, ``drop`` or ``none`` (nothing here translates it). ``backends`` may be chosen, ``draining`` servers get
    no new connections (IPVS weight 0). ``masquerade``: as in Backend, over all of them. ``affinity`` in seconds.
    ``scheduler``: IPVS's word, such as ``rr``. ``by_client``: the same for ``pod``, ``node`` and ``outside``.
    ``steps``: what decided, in order; ``evidence``: the lines of the rules that did. ``unknown``: what could not be
    decided; ``partial``: rules missing.
    """

    service: str
    port: str
    node: str
    target: Target
    client: str
    mode: str | None
    why_mode: str
    action: Action
    backends: tuple[Backend, ...]
    draining: tuple[Backend, ...]
    masquerade: Masquerade
    affinity: int | None
    scheduler: str | None
    source_ranges: tuple[str, ...]
    internal_policy: str
    external_policy: str
    by_client: Mapping[str, Branch]
    steps: tuple[Step, ...]
    evidence: tuple[Evidence, ...]
    unknown: tuple[str, ...]
    partial: bool

    def report(self) -> Report:
        """The endpoints with their shares, what else is known, each client's branch, and the rules that decided."""
        t = self.target
        by = f"by {t.entry.replace('_', ' ')} {socket_text(t.address, t.port)}/{t.protocol}"
        where = f"on {self.node} ({self.mode or 'no mode'}), from {_client_words(self.client)}"
        title = f"{self.service} port {self.port}, {by}, {where}: {_ACTIONS[self.action]}"
        rows = tuple(
            (
                share_text(b.probability),
                socket_text(b.address, b.port),
                b.pod,
                b.node,
                _masquerade_text(b.masquerade),
                b.weight,
            )
            for b in self.backends
        )
        rows += tuple(("draining", socket_text(b.address, b.port), b.pod, b.node, "", b.weight) for b in self.draining)
        headings = ("SHARE", "ENDPOINT", "POD", "NODE", "MASQUERADED", "WEIGHT")
        columns = 6 if any(row[5] is not None for row in rows) else 5  # weights are IPVS's alone
        shown = tuple(row[:columns] for row in rows)
        return Report(title, headings[:columns] if rows else (), shown, self._notes(), self.evidence)

    def _notes(self) -> tuple[str, ...]:
        notes = [f"Mode: {self.why_mode}"]
        if self.scheduler:
            notes.append(f"Scheduler: {self.scheduler}")
        if self.affinity is not None:
            notes.append(
                f"Session affinity: a client stays with its endpoint for {self.affinity} s after its last connection"
            )
        if self.source_ranges:
            notes.append(f"Only sources in {', '.join(self.source_ranges)} may use this entry")
        policies = f"internalTrafficPolicy {self.internal_policy}, externalTrafficPolicy {self.external_policy}"
        notes.append(f"Policies: {policies}")
        for branch in self.by_client.values():
            among = f" among {len(branch.backends)}" if branch.action == "dnat" else ""
            masked = _masquerade_text(branch.masquerade)
            notes.append(f"From {_client_words(branch.client)}: {branch.action}{among}, masqueraded: {masked}")
        notes += [f"Not decided: {why}" for why in self.unknown]
        if self.partial:
            notes.append("The rules were only partly readable: this answer is partial")
        return tuple(notes)


_ACTIONS = {
    "dnat": "translated to one of these",
    "reject": "rejected (the client is told at once)",
    "drop": "dropped without a word (the client waits)",
    "none": "not translated here",
}


def _client_words(client: str) -> str:
    return {"pod": "a pod of this node", "node": "the node itself", "outside": "outside"}.get(client, client)


def share_text(share: Fraction | None) -> str:
    """A probability as a fraction and in percent: ``1/4 (25%)``."""
    if share is None:
        return "no fixed share"
    percent = float(share * 100)
    return f"{share} ({percent:.4g}%)" if share.denominator != 1 else f"{percent:.0f}%"


def _masquerade_text(masquerade: Masquerade) -> str:
    if masquerade is None:
        return "not decided"
    return {True: "yes", False: "no", "hairpin": "only by itself"}.get(masquerade, str(masquerade))


def join_translation(
    service: ServiceValue,
    target: Target,
    node: str,
    client: str,
    mode: str | None,
    why_mode: str,
    outcome_for: Callable[[str], Outcome],
    endpoints: tuple[Endpoint, ...],
    holder: Callable[[str], tuple[str, str | None] | None],
    command: Callable[[FactRef], str],
) -> Translation:
    """Join the outcome for ``client`` (and, when asked for, that for each kind of client) with the API.

    ``holder`` names the pod at an address and its node; ``endpoints`` are the Service's, for those that are no pods.
    """
    known = {(e.address, e.port): e for e in endpoints}

    def backend(choice: Choice) -> Backend:
        endpoint, at = known.get((choice.address, choice.port)), holder(choice.address)
        pod = at[0] if at else None
        where = at[1] if at else (endpoint.node if endpoint else None)
        return Backend(choice.address, choice.port, choice.probability, choice.weight, pod, where, choice.masquerade)

    def branch(kind: str) -> Branch:
        outcome = outcome_for(kind)
        return Branch(kind, outcome.action, tuple(map(backend, outcome.choices)), _overall(outcome), outcome.unknown)

    mine = outcome_for(client)
    return Translation(
        service=service.key,
        port=target.service_port.name or str(target.service_port.port),
        node=node,
        target=target,
        client=client,
        mode=mode,
        why_mode=why_mode,
        action=mine.action,
        backends=tuple(map(backend, mine.choices)),
        draining=tuple(map(backend, mine.draining)),
        masquerade=_overall(mine),
        affinity=mine.affinity,
        scheduler=mine.scheduler,
        source_ranges=mine.source_ranges,
        internal_policy=service.internal_policy,
        external_policy=service.external_policy,
        by_client=Branches(branch),
        steps=mine.steps,
        evidence=steps_as_evidence(mine.steps, node, command),
        unknown=mine.unknown,
        partial=mine.partial,
    )


def _overall(outcome: Outcome) -> Masquerade:
    """One word for all endpoints: what they agree on; None where they do not."""
    said = {choice.masquerade for choice in outcome.choices}
    if not said:
        return outcome.masquerade
    if said == {False, "hairpin"}:  # an endpoint on another node cannot be the client
        return "hairpin"
    return said.pop() if len(said) == 1 else None


def steps_as_evidence(steps: tuple[Step, ...], node: str, command: Callable[[FactRef], str]) -> tuple[Evidence, ...]:
    """Steps grouped by the fact that they are quoted from, in their order."""
    facts = dict.fromkeys(step.fact for step in steps)
    found = []
    for fact in facts:
        ref = FactRef(fact, node)
        quoted = [step for step in steps if step.fact == fact]
        lines, notes = tuple(step.text for step in quoted), tuple(step.says for step in quoted)
        found.append(Evidence(ref, command(ref), lines, notes=notes))
    return tuple(found)
