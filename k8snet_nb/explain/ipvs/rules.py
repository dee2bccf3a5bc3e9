"""The iptables rules around IPVS: what they do with a packet at one hook, as far as it can be decided.

A rule that cannot be decided splits the way: both ways are followed, and only what they agree on is an answer.
Source: iptables(8), and the order of the hooks in the kernel's include/uapi/linux/netfilter_ipv4.h.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...parse.iptables import Rule, Ruleset
from ..iptables.state import State
from ..outcome import Step
from .match import Around

__all__ = ["End", "run_hook"]

MOST_ENDS = 64
MOST_JUMPS = 32
_GO_ON = frozenset(
    """LOG NFLOG ULOG TRACE CONNMARK CONNSECMARK SECMARK CT NOTRACK CLASSIFY TCPMSS TTL HL DSCP TOS SET AUDIT TEE
    RATEEST IDLETIMER CHECKSUM LED""".split()
)
_ENDS = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "reject", "MASQUERADE": "masquerade", "SNAT": "masquerade"}
_OTHER_NAT = frozenset(["DNAT", "REDIRECT", "NETMAP", "TPROXY", "QUEUE", "NFQUEUE"])


@dataclass(frozen=True, slots=True)
class End:
    """One possible end at a hook: ``verdict`` accept, drop, reject, masquerade or elsewhere (another rule took it).

    ``state`` is the packet as it leaves. ``doubts``: the rules on this way that could not be decided, in words.
    """

    verdict: str
    state: State
    steps: tuple[Step, ...] = ()
    doubts: tuple[str, ...] = ()


def run_hook(rules: Ruleset, tables: tuple[str, ...], around: Around, state: State) -> list[End]:
    """All possible ends of the packet at its hook through these tables, in order; one end when all is decided."""
    ends = [End("accept", state)]
    for table in tables:
        if rules.chain(table, around.context.hook) is None:
            continue
        after: list[End] = []
        for end in ends:
            if end.verdict != "accept":
                after.append(end)
                continue
            found = _Walk(rules, table, around).run(end.state)
            after += [replace(one, steps=end.steps + one.steps, doubts=end.doubts + one.doubts) for one in found]
        ends = after
    return ends


@dataclass(frozen=True, slots=True)
class _Way:
    """A place in the rules: a stack of (chain, how many of its candidates are done), and what led there."""

    stack: tuple[tuple[str, int], ...]
    state: State
    steps: tuple[Step, ...] = ()
    doubts: tuple[str, ...] = ()


class _Walk:
    """One table at one hook. A doubt starts a second way from the same place."""

    def __init__(self, rules: Ruleset, table: str, around: Around) -> None:
        self.rules, self.table, self.around = rules, table, around
        self.hook = around.context.hook
        self.ends: list[End] = []

    def run(self, state: State) -> list[End]:
        open_ways = [_Way(((self.hook, 0),), state)]
        while open_ways:
            way = open_ways.pop()
            if len(self.ends) + len(open_ways) >= MOST_ENDS or len(way.stack) > MOST_JUMPS:
                self._end("elsewhere", way, f"{self.table}: chains jump in a circle, or too many rules are undecided")
                break
            open_ways += self._chain(way)
        return self.ends

    def _chain(self, way: _Way) -> list[_Way]:
        """Follows the topmost chain until the way leaves it, splits or ends; gives the ways that are open then."""
        (name, done), below = way.stack[-1], way.stack[:-1]
        chain = self.rules.chain(self.table, name)
        if chain is None:
            self._end("elsewhere", way, f"{self.table}: {name} is no chain of this save and no target known here")
            return []
        candidates = list(chain.candidates(frozenset([way.state.dst]), frozenset([way.state.dport])))
        for place in range(done, len(candidates)):
            rule = candidates[place]
            held = None if rule.problem else self.around.matches(rule, way.state)
            if held is False or (held is None and not rule.problem and (rule.target is None or rule.target in _GO_ON)):
                continue
            after = ((*below, (name, place + 1)), below)[rule.goto]
            if held is None:
                why = rule.problem or "cannot be decided for this packet"
                doubt = f"{self.table} {name}, line {rule.number}: {why}: {rule.line}"
                way = replace(way, doubts=(*way.doubts, doubt))
                other = replace(way, stack=(*below, (name, place + 1)))
                return [other] if rule.problem else [other, *self._apply(rule, name, way, after)]
            if rule.target is not None and rule.target not in _GO_ON:
                return self._apply(rule, name, way, after)
        if chain.policy is not None:
            self._end("drop" if chain.policy == "DROP" else "accept", way)
            return []
        return [replace(way, stack=below)]

    def _apply(self, rule: Rule, chain: str, way: _Way, after: tuple[tuple[str, int], ...]) -> list[_Way]:
        """What a matching rule does: the ways that are open after it. ``after``: the stack if it only lets go on."""
        target, place = str(rule.target), f"{self.table} {chain}, line {rule.number}"
        step = Step(f"{self.table} {chain}", rule.text, _says(rule), self.rules.fact)
        way = replace(way, steps=(*way.steps, step))
        if target == "RETURN":
            if chain != self.hook:
                return [replace(way, stack=after[:-1])]
            self._end("accept", way)
        elif target == "MARK":
            mark = _mark(rule, way.state.mark)
            if mark is not None:
                return [replace(way, stack=after, state=way.state._replace(mark=mark))]
            self._end("elsewhere", way, f"{place}: sets a mark in a way that is not known here: {rule.line}")
        elif target in _ENDS:
            self._end(_ENDS[target], way)
        elif target in _OTHER_NAT:
            self._end("elsewhere", way, f"{place}: {target} takes it elsewhere: {rule.line}")
        else:
            return [replace(way, stack=(*after, (target, 0)))]
        return []

    def _end(self, verdict: str, way: _Way, *doubts: str) -> None:
        self.ends.append(End(verdict, way.state, _kept(way.steps), (*way.doubts, *doubts)))


def _mark(rule: Rule, mark: int) -> int | None:
    """The mark after a MARK rule; None when it is set in a way that is not known here."""
    option = rule.target_option("--set-xmark") or rule.target_option("--set-mark")
    if option is None:
        return None
    value, _, mask = option.value.partition("/")
    return (mark & ~int(mask or "0xffffffff", 0) & 0xFFFFFFFF) ^ int(value, 0)


def _kept(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Without the jumps that led to nothing: a jump is kept when the next step is in the chain it leads to."""
    kept: list[Step] = []
    for step in reversed(steps):
        to = step.says.removeprefix("goes on in ")
        if to == step.says or (kept and kept[-1].place.endswith(" " + to)):
            kept.append(step)
    return tuple(reversed(kept))


def _says(rule: Rule) -> str:
    target = str(rule.target)
    option = rule.target_option("--set-xmark")
    match target:
        case "ACCEPT":
            return "lets it pass"
        case "DROP":
            return "drops it without a word"
        case "REJECT":
            how = rule.target_option("--reject-with")
            return f"rejects it with {how.value if how else 'icmp-port-unreachable'}"
        case "RETURN":
            return "ends this chain"
        case "MARK":
            return f"sets mark {option.value}" if option else "sets a mark"
        case "MASQUERADE":
            return "gives it an address of the node as its source"
        case "SNAT":
            return "gives it another source"
    if target in _OTHER_NAT:
        return f"takes it elsewhere ({target})"
    return f"goes on in {target}"
