"""The walk of one packet through the hooks, tables and chains, all chances at once.

At every point the walk holds the *states* that the packet may be in, each with its exact chance: a rule of a
``statistic`` ladder splits a state, DNAT changes it, a verdict ends it. Chains are followed as the kernel does
(net/ipv4/netfilter/ip_tables.c): jump comes back, goto comes back to the caller's caller, the end of a built-in chain
is its policy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from ...errors import FactBroken
from ...parse.iptables import Chain, Ruleset
from ...parse.iptables_rule import Rule
from ..outcome import Step
from .match import Context, Fork, is_local, rule_chance, test_match
from .says import rule_words
from .state import State
from .targets import CHANGES, TERMINAL, UNKNOWN_TARGETS

__all__ = ["Asked", "Lost", "States", "Walk"]

States = dict[State, Fraction]
MAX_DEPTH = 64
MAX_TESTS = 200_000
MAX_CHAINS = 20_000
_ORDER = ("raw", "mangle", "nat", "filter", "security")


@dataclass(frozen=True, slots=True)
class Asked:
    """A rule that could not be decided: in which table, and why."""

    table: str
    rule: Rule
    why: str
    decisive: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """A state that ends before it is delivered; ``rule`` None when a policy ended it."""

    kind: str
    state: State
    chance: Fraction


@dataclass
class Walk:
    """One walk. ``assume``: lines of undecided rules that are taken as matching, all others as not matching."""

    rules: Ruleset
    context: Context
    assume: frozenset[int] = frozenset()
    asked: dict[int, Asked] = field(default_factory=dict)
    lost: list[Lost] = field(default_factory=list)
    steps: dict[int, Step] = field(default_factory=dict)
    ranges: dict[str, None] = field(default_factory=dict)
    _accepted: States = field(default_factory=dict)
    _tests: int = 0
    _chains: int = 0

    def run(self) -> States:
        """The states in which the packet is delivered, with their chances."""
        packet = self.context.packet
        states: States = {State(packet.dst, packet.dport): Fraction(1)}
        if packet.client == "node":
            states = self._hook("POSTROUTING", self._hook("OUTPUT", states))
            states, local = self._split_local(states)
            return _merge(states, self._hook("INPUT", self._hook("PREROUTING", local, skip_nat=True), skip_nat=True))
        states, local = self._split_local(self._hook("PREROUTING", states))
        return _merge(self._hook("POSTROUTING", self._hook("FORWARD", states)), self._hook("INPUT", local))

    def _split_local(self, states: States) -> tuple[States, States]:
        """Those that go on to other machines or pods, and those for the node itself."""
        away: States = {}
        local: States = {}
        for state, chance in states.items():
            (local if is_local(self.context, state.dst) else away)[state] = chance
        return away, local

    def _hook(self, hook: str, states: States, *, skip_nat: bool = False) -> States:
        self.context.hook = hook
        for table in _ORDER if hook != "INPUT" else ("raw", "mangle", "filter", "security", "nat"):
            chain = self.rules.chain(table, hook)
            if chain is None or not states or (table == "nat" and skip_nat):
                continue
            passing = {s: c for s, c in states.items() if not (table == "nat" and s.untracked)}
            aside = {s: c for s, c in states.items() if s not in passing}
            self._accepted = {}
            rest = self._chain(table, chain, passing, ())
            states = _merge(self._policy(table, chain, rest), self._accepted, aside)
        return states

    def _policy(self, table: str, chain: Chain, states: States) -> States:
        if chain.policy in (None, "ACCEPT") or not states:
            return states
        head = self.rules.tables[table].head(chain.name)
        says = f"no rule of {chain.name} ended it: its policy does"
        self.steps.setdefault(-len(self.steps) - 1, Step(f"{table} {chain.name}", head, says, self.rules.fact))
        self.lost += [Lost("drop", state, chance) for state, chance in states.items()]
        return {}

    def _chain(self, table: str, chain: Chain, states: States, path: tuple[str, ...]) -> States:
        """Walk a chain; returns what comes back out of it."""
        remaining, returned = dict(states), dict[State, Fraction]()
        destinations = frozenset(s.dst for s in states), frozenset(s.dport for s in states)
        for rule in chain.candidates(*destinations):
            if not remaining:
                break
            if chain.name.startswith("KUBE-FW-") and (option := _source_range(rule)):
                self.ranges.setdefault(option)
            matched, remaining = self._split(table, rule, remaining)
            if matched:
                self._apply(table, rule, matched, remaining, returned, (*path, chain.name))
        return _merge(remaining, returned)

    def _split(self, table: str, rule: Rule, states: States) -> tuple[States, States]:
        """The states that a rule matches, and the others."""
        matched: States = {}
        missed: States = {}
        if rule.problem is not None:
            self.asked[rule.number] = Asked(table, rule, f"this line cannot be read ({rule.problem})", decisive=True)
            return matched, states
        for state, chance in states.items():
            self._test(table, rule, state, chance, matched, missed)
        return matched, missed

    def _test(self, table: str, rule: Rule, state: State, chance: Fraction, matched: States, missed: States) -> None:
        self._tests += 1
        if self._tests > MAX_TESTS:
            raise self._endless(rule)
        share, forks, unknown = Fraction(1), list[Fork](), list[str]()
        for match in rule.matches:
            verdict = test_match(self.context, state, match)
            if verdict is True:
                continue
            if verdict is False:
                _add(missed, state, chance)
                return
            if verdict is None:
                unknown.append(match.module)
            elif isinstance(verdict, Fork):
                forks.append(verdict)
            else:
                share *= verdict
        if unknown or len(forks) > 1:
            why = f"whether it matches cannot be told (-m {', -m '.join(unknown or ['several sources'])})"
            self.asked[rule.number] = Asked(table, rule, why)
            if rule.number not in self.assume:
                _add(missed, state, chance)
                return
        hit, others = _fork(state, forks[0]) if len(forks) == 1 else (state, None)
        if others is not None:
            _add(missed, others, chance)
        _add(matched, hit, chance * share)
        if share != 1:
            _add(missed, hit, chance * (1 - share))

    def _apply(
        self, table: str, rule: Rule, matched: States, remaining: States, returned: States, path: tuple[str, ...]
    ) -> None:
        target = rule.target
        if target is None:
            _into(remaining, matched)
        elif target == "RETURN":
            self._step(table, rule)
            _into(returned, matched)
        elif target == "ACCEPT":
            self._step(table, rule)
            _into(self._accepted, matched)
        elif target in ("DROP", "REJECT"):
            self._step(table, rule)
            self.lost += [Lost(target.lower(), state, chance) for state, chance in matched.items()]
        elif target in CHANGES:
            self._change(table, rule, matched, self._accepted if target in TERMINAL else remaining, CHANGES[target])
        elif (chain := self.rules.chain(table, target)) is not None:
            self._jump(table, rule, chain, matched, returned if rule.goto else remaining, path)
        else:
            if target in UNKNOWN_TARGETS:
                self.asked[rule.number] = Asked(
                    table, rule, f"what {target} does with it cannot be told", decisive=True
                )
            _into(remaining, matched)

    def _change(
        self,
        table: str,
        rule: Rule,
        matched: States,
        to: States,
        change: Callable[[Context, Rule, State], State | None],
    ) -> None:
        changed = {state: change(self.context, rule, state) for state in matched}
        if any(new != old for old, new in changed.items()):
            self._step(table, rule)
        for old, new in changed.items():
            if new is None:
                why = f"what {rule.target} does with it cannot be told"
                self.asked[rule.number] = Asked(table, rule, why, decisive=True)
            _add(to, new or old, matched[old])

    def _jump(self, table: str, rule: Rule, chain: Chain, matched: States, to: States, path: tuple[str, ...]) -> None:
        if chain.name in path or len(path) > MAX_DEPTH:
            way = " -> ".join((*path[-6:], chain.name))
            why = f"line {rule.number}: chains jump in a circle or too deep ({way}): `{rule.line[:200]}`"
            raise FactBroken(self.rules.fact, self.rules.where, why, "No kernel accepts such rules: record them again")
        self._chains += 1
        if self._chains > MAX_CHAINS:
            raise self._endless(rule)
        known = len(self.steps)
        fresh = rule.number not in self.steps
        self._step(table, rule)
        lost, accepted = len(self.lost), dict(self._accepted)
        back = self._chain(table, chain, matched, path)
        idle = back == matched and len(self.lost) == lost and self._accepted == accepted
        if fresh and idle and len(self.steps) == known + 1:
            del self.steps[rule.number]
        _into(to, back)

    def _endless(self, rule: Rule) -> FactBroken:
        why = f"line {rule.number}: the chains branch so often that the walk does not come to an end"
        return FactBroken(self.rules.fact, self.rules.where, why)

    def _step(self, table: str, rule: Rule) -> None:
        if rule.number not in self.steps:
            place = f"{table} {rule.chain}"
            self.steps[rule.number] = Step(place, rule.text, rule_words(rule, rule_chance(rule)), self.rules.fact)


def _source_range(rule: Rule) -> str | None:
    options = (option for match in rule.matches if match.module == "ip" for option in match.options)
    return next((option.value for option in options if option.name == "-s" and not option.negated), None)


def _fork(state: State, fork: Fork) -> tuple[State, State]:
    """The state of the sources that match, and of those that do not."""
    within = state._replace(inside=fork.prefix)
    without = state._replace(outside=state.outside | {fork.prefix})
    return (without, within) if fork.negated else (within, without)


def _add(states: States, state: State, chance: Fraction) -> None:
    states[state] = states[state] + chance if state in states else chance


def _into(states: States, more: States) -> None:
    for state, chance in more.items():
        _add(states, state, chance)


def _merge(*groups: States) -> States:
    merged: States = {}
    for group in groups:
        _into(merged, group)
    return merged
