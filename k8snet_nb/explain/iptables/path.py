"""What a node's iptables rules do with a packet: :func:`evaluate`.

The walk is made once with every undecidable rule taken as not matching, and again for each of them taken as matching:
those that would change the end are named in ``unknown``, the others do not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from ...errors import FactBroken
from ...parse.ipset import IpSet
from ...parse.iptables import Ruleset
from ..outcome import Action, Choice, NodeView, Outcome, Packet
from .match import Context
from .state import Source, State
from .walk import Asked, Lost, States, Walk

__all__ = ["evaluate"]

MAX_WORLDS = 40
SAMPLE = 64


@dataclass(frozen=True, slots=True)
class _Ends:
    """Where one kind of source ends: the comparable part of an outcome."""

    action: Action
    choices: tuple[Choice, ...] = ()
    affinity: int | None = None
    masquerade: bool | str | None = False
    lost: Fraction = Fraction(0)
    passed: Fraction = Fraction(0)

    @property
    def targets(self) -> frozenset[tuple[str, int, Fraction | None]]:
        return frozenset((c.address, c.port, c.probability) for c in self.choices)


@dataclass(frozen=True, slots=True)
class _World:
    """One walk, summed up. ``notes``: what depends on the source address."""

    ends: _Ends
    ranges: tuple[str, ...]
    notes: tuple[str, ...]
    walk: Walk


def evaluate(rules: Ruleset, packet: Packet, view: NodeView, *, ipsets: Mapping[str, IpSet] | None = None) -> Outcome:
    """Take the first packet of a connection through the rules of a node.

    ``ipsets``: the parsed sets that ``-m set`` refers to; without them such matches are undecided. The client is
    taken to come for the first time (``-m recent`` remembers nobody). Raises FactBroken when chains jump in a
    circle, naming the line, and ValueError when the packet is of the other family.
    """
    if packet.family != rules.family:
        raise ValueError(f"an IPv{packet.family} packet does not meet the rules of IPv{rules.family}")
    source = Source(packet, view, _cluster_prefixes(rules))
    worlds: dict[frozenset[int], _World] = {}
    asked: dict[int, Asked] = {}
    cut_short = _explore(frozenset(), rules, packet, view, source, ipsets, worlds, asked)
    base = worlds[frozenset()]
    unknown = [str(problem) for problem in rules.problems[:3]]
    if not view.local:
        unknown.append("the node's own addresses are not known: the packet is taken as one that it forwards")
    unknown += base.notes
    unknown += [_named(one, "") for one in asked.values() if one.decisive]
    differing = [(assume, world) for assume, world in worlds.items() if assume and _differs(world, base)]
    for assume, world in differing:
        unknown += [_named(asked[n], _difference(world, base)) for n in sorted(assume) if not asked[n].decisive]
    if cut_short:
        unknown.append(f"more than {MAX_WORLDS} rules could not be decided; the rest of them was not looked at")
    ends = _blur(base.ends, [world.ends for _, world in differing])
    return Outcome(
        action=ends.action,
        choices=ends.choices,
        affinity=ends.affinity,
        source_ranges=base.ranges,
        steps=tuple(base.walk.steps.values()),
        unknown=tuple(dict.fromkeys(unknown)),
        partial=rules.partial,
        masquerade=ends.masquerade if ends.action == "none" else False,
    )


def _explore(
    assume: frozenset[int],
    rules: Ruleset,
    packet: Packet,
    view: NodeView,
    source: Source,
    ipsets: Mapping[str, IpSet] | None,
    worlds: dict[frozenset[int], _World],
    asked: dict[int, Asked],
) -> bool:
    """Walk once, then once more for each undecided rule that this walk met first; True when there were too many."""
    walk = Walk(rules, Context(packet, view, source, ipsets), assume)
    try:
        delivered = walk.run()
    except ValueError as error:
        raise FactBroken(rules.fact, rules.where, f"a rule holds a value that cannot be read: {error}") from error
    worlds[assume] = _sum_up(walk, delivered, packet)
    fresh = [number for number in walk.asked if number not in asked]
    asked.update({number: walk.asked[number] for number in fresh})
    for number in fresh:
        if walk.asked[number].decisive:
            continue
        if len(worlds) >= MAX_WORLDS:
            return True
        if _explore(assume | {number}, rules, packet, view, source, ipsets, worlds, asked):
            return True
    return False


def _cluster_prefixes(rules: Ruleset) -> frozenset[str]:
    """The pods' prefixes as kube-proxy knows them (--cluster-cidr): whoever is not in them is masqueraded."""
    portals = rules.chain("nat", "KUBE-SERVICES")
    lines = [rules.line(number) for number in portals.numbers[:SAMPLE]] if portals else []
    chains = (rules.chain("nat", line.rpartition(" -j ")[2]) for line in lines)
    lines += [rules.line(chain.numbers[0]) for chain in chains if chain and chain.numbers]
    found: set[str] = set()
    for line in lines:
        _, negated, rest = line.partition(" ! -s ")
        if negated and rest.endswith("-j KUBE-MARK-MASQ"):
            found.add(rest.partition(" ")[0])
    return frozenset(found)


def _sum_up(walk: Walk, delivered: States, packet: Packet) -> _World:
    """Put the ends of one walk together: in general, and for each prefix of sources that fares otherwise."""
    prefixes = dict.fromkeys(
        state.inside for state in [*delivered, *(lost.state for lost in walk.lost)] if state.inside is not None
    )
    general = _ends(*_of_source(None, delivered, walk.lost))
    special = {prefix: _ends(*_of_source(prefix, delivered, walk.lost)) for prefix in prefixes}
    ranges = dict.fromkeys(walk.ranges)
    notes: list[str] = []
    if general.action != "dnat":
        allowed = {prefix: ends for prefix, ends in special.items() if ends.action == "dnat"}
        if allowed:
            ranges |= dict.fromkeys(allowed)
            notes += _other_ranges(allowed)
            general = next(iter(allowed.values()))
            special = {}
    choices = []
    for choice in general.choices:
        own = special.get(f"{choice.address}/{32 if packet.family == 4 else 128}")
        hairpin = own is not None and any(
            c.address == choice.address and c.port == choice.port and c.masquerade for c in own.choices
        )
        choices.append(_with(choice, "hairpin") if hairpin and choice.masquerade is False else choice)
    ends = _Ends(general.action, tuple(choices), general.affinity, general.masquerade, general.lost, general.passed)
    notes += _source_notes(general, special)
    notes += _mixture(ends)
    return _World(ends, tuple(ranges), tuple(notes), walk)


def _of_source(prefix: str | None, delivered: States, lost: list[Lost]) -> tuple[States, list[Lost]]:
    """The ends that a source in ``prefix`` meets; None: one in no special prefix."""

    def meets(state: State) -> bool:
        return state.inside == prefix or (state.inside is None and prefix not in state.outside)

    return {s: c for s, c in delivered.items() if meets(s)}, [end for end in lost if meets(end.state)]


def _ends(delivered: States, lost: list[Lost]) -> _Ends:
    translated: dict[tuple[str, int], list[tuple[State, Fraction]]] = {}
    for state, chance in delivered.items():
        if state.dnat:
            translated.setdefault((state.dst, state.dport), []).append((state, chance))
    if translated:
        choices = tuple(
            Choice(
                address, port, sum((c for _, c in ways), Fraction(0)), masquerade=_one({s.masquerade for s, _ in ways})
            )
            for (address, port), ways in translated.items()
        )
        seconds = [s.affinity for ways in translated.values() for s, _ in ways if s.affinity is not None]
        passed = sum((c for s, c in delivered.items() if not s.dnat), Fraction(0))
        gone = sum((end.chance for end in lost), Fraction(0))
        return _Ends("dnat", choices, max(seconds, default=None), False, gone, passed)
    if delivered:
        gone = sum((end.chance for end in lost), Fraction(0))
        return _Ends("none", masquerade=_one({s.masquerade for s in delivered}), lost=gone)
    kinds = {end.kind for end in lost}
    return _Ends("reject" if kinds == {"reject"} else "drop")


def _one(values: set[bool]) -> bool | None:
    return values.pop() if len(values) == 1 else None


def _with(choice: Choice, masquerade: bool | str | None) -> Choice:
    return Choice(choice.address, choice.port, choice.probability, choice.weight, masquerade)


def _other_ranges(allowed: dict[str, _Ends]) -> list[str]:
    first = next(iter(allowed.values()))
    return [
        f"sources in {prefix} get other endpoints than those in {next(iter(allowed))}"
        for prefix, ends in allowed.items()
        if ends.targets != first.targets
    ]


def _source_notes(general: _Ends, special: dict[str, _Ends]) -> list[str]:
    """What certain sources meet that is different in more than the masquerading of their own endpoint."""
    notes = []
    for prefix, ends in special.items():
        if (ends.action, ends.targets) != (general.action, general.targets):
            notes.append(f"a source in {prefix} ends otherwise: {_words(ends)}")
        elif ends.masquerade != general.masquerade:
            notes.append(f"a source in {prefix} is {'' if ends.masquerade else 'not '}masqueraded")
        else:
            own = prefix.partition("/")[0]
            usual = {(c.address, c.port): c.masquerade for c in general.choices}
            if any(c.masquerade != usual[c.address, c.port] and c.address != own for c in ends.choices):
                notes.append(f"a source in {prefix} is masqueraded otherwise")
    return notes


def _mixture(ends: _Ends) -> list[str]:
    notes = []
    if ends.action != "drop" and ends.action != "reject" and ends.lost:
        notes.append(
            f"{ends.lost} of the packets are dropped or rejected by a rule that works by chance or by endpoint"
        )
    if ends.passed:
        notes.append(f"{ends.passed} of the packets pass untranslated: no rule of the ladder takes them")
    return notes


def _words(ends: _Ends) -> str:
    if ends.action != "dnat":
        words = {"drop": "dropped", "reject": "rejected", "none": "not translated"}[ends.action]
        return words + (", masqueraded" if ends.masquerade else "")
    targets = ", ".join(f"{c.address}:{c.port}" for c in ends.choices[:5])
    return f"translated to {targets}{' ...' if len(ends.choices) > 5 else ''}"


def _differs(world: _World, base: _World) -> bool:
    return (world.ends, world.ranges) != (base.ends, base.ranges)


def _difference(world: _World, base: _World) -> str:
    if _words(world.ends) != _words(base.ends):
        return f"; if it matches, the packet is {_words(world.ends)}"
    return "; if it matches, shares, masquerading or affinity change"


def _named(asked: Asked, what_if: str) -> str:
    text = asked.rule.text if len(asked.rule.text) <= 300 else asked.rule.text[:300] + "..."
    return f"{asked.table} {asked.rule.chain}, line {asked.rule.number}: `{text}`: {asked.why}{what_if}"


def _blur(base: _Ends, others: list[_Ends]) -> _Ends:
    """The base's action, with every endpoint that some undecided rule may lead to; what is not sure becomes None."""
    if base.action != "dnat":
        sure = {base.masquerade} | {ends.masquerade for ends in others if ends.action == base.action}
        return _Ends(base.action, masquerade=base.masquerade if len(sure) == 1 else None)
    if not others:
        return base
    choices = {(c.address, c.port): c for c in base.choices}
    masquerade = {key: {c.masquerade} for key, c in choices.items()}
    for ends in others:
        if ends.action != "dnat":
            continue
        theirs = {(c.address, c.port): c for c in ends.choices}
        for key in [*choices, *theirs]:
            mine, other = choices.get(key), theirs.get(key)
            if mine is None or other is None or mine.probability != other.probability:
                choices[key] = Choice(*key, None, masquerade=(mine or other).masquerade)  # type: ignore[union-attr]
            if other is not None:
                masquerade.setdefault(key, set()).add(other.masquerade)
    blurred = tuple(_with(c, c.masquerade if len(masquerade[k]) == 1 else None) for k, c in choices.items())
    return _Ends(base.action, blurred, base.affinity, base.masquerade)
