"""One way of one packet through a node's nftables rules, hook by hook, as the kernel runs them (nft(8)).

Base chains run by priority at each hook. ``accept`` ends the base chain, not the hook; ``drop`` and ``reject`` end all.
Only chains of type nat rewrite addresses, each direction once a connection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ...errors import FactBroken
from ...parse.nft import Chain, Element, NftSet, Rule, Ruleset
from ...parse.nft_expr import Problems, statement
from ...parse.nft_text import rule_text
from .lookup import Lookups
from .source import Sources, canonical
from .tree import End, Guide
from .values import MISMATCH, UNKNOWN, State, number

__all__ = ["Mark", "Run"]

DEEPEST = 64
_FINAL = frozenset(("accept", "drop", "reject"))
_HARMLESS = frozenset(("counter", "log", "ct helper", "ct timeout", "ct expectation", "flow", "continue", "nftrace"))
_DOUBTFUL = frozenset(
    ("limit", "quota", "ct count", "xt", "queue", "tproxy", "synproxy", "dup", "fwd", "socket", "meter")
)


class Mark(NamedTuple):
    """Something that decided on the way: a rule, or an element of a map (then ``owner`` is the map)."""

    rule: Rule | None
    owner: NftSet | None = None
    element: Element | None = None
    chain: Chain | None = None


@dataclass
class Run:
    """Runs one way; ``notes`` gathers what could not be decided, ``marks`` what decided."""

    rules: Ruleset
    state: State
    lookups: Lookups
    notes: dict[str, None]
    marks: list[Mark] = field(default_factory=list)
    blind: dict[tuple[str, str], set[int]] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        rules: Ruleset,
        state: State,
        sources: Sources,
        guide: Guide,
        cache: dict[int, NftSet],
        notes: dict[str, None],
    ) -> Run:
        """A run with its own look-ups."""
        return cls(rules, state, Lookups(rules, state, sources, guide, cache), notes)

    def go(self) -> End:
        """Follow the packet from where it enters to where it ends."""
        state = self.state
        verdict = self._hook("output" if state.packet.client == "node" else "prerouting")
        if verdict is None:
            local = state.is_local(state.address)
            if state.packet.client == "node":
                verdict = self._hook("postrouting") or (self._loop_back() if local else None)
            else:
                verdict = self._hook("input") if local else self._hook("forward") or self._hook("postrouting")
        if verdict is not None:
            return End("reject" if verdict == "reject" else "drop")
        return End("dnat", state.address, state.port) if state.dnat else End("none")

    def _loop_back(self) -> str | None:
        self.state.loopback = True
        return self._hook("prerouting", nat=False) or self._hook("input", nat=False)

    def _hook(self, hook: str, nat: bool = True) -> str | None:
        """``drop`` or ``reject``, or None when the packet goes on."""
        state = self.state
        state.hook = hook
        family = "ip6" if state.packet.family == 6 else "ip"
        for chain in self.rules.base_chains(family, hook):
            if chain.type == "nat":
                done = state.dnat if hook in ("prerouting", "output") else state.snat
                if not nat or done or not state.tracked:
                    continue
            verdict = self._chain(chain, 0) or chain.policy
            if verdict not in ("accept", "return"):
                if verdict == chain.policy and not self._last_ended(chain):
                    self.marks.append(Mark(None, chain=chain))
                return "reject" if verdict == "reject" else "drop"
        return None

    def _last_ended(self, chain: Chain) -> bool:
        return bool(
            self.marks and (rule := self.marks[-1].rule) and any(p.keys() & {"drop", "reject"} for p in rule.expr)
        )

    def _chain(self, chain: Chain, depth: int) -> str | None:
        """accept, drop or reject; None when the chain ended or returned."""
        for rule in chain.rules:
            before = len(self.marks)
            verdict = self._rule(rule)
            if verdict is None:
                continue
            kind, body = verdict
            if kind in _FINAL:
                return kind
            if kind == "return":
                return None
            if kind in ("jump", "goto"):
                entered = len(self.marks)
                result = self._chain(self._target(rule, body["target"], depth), depth + 1)
                if result is None and len(self.marks) == entered:
                    del self.marks[before:]  # went in and out again: it decided nothing
                if result is not None or kind == "goto":
                    return result
        return None

    def _target(self, rule: Rule, name: str, depth: int) -> Chain:
        table = self.rules.table(rule.family, rule.table)
        chain = table.chains.get(name) if table else None
        where, place = self.state.view.node or "this node", f"{rule.family} {rule.table}, chain {rule.chain}"
        if chain is None:
            raise FactBroken("nft.json", where, f"no chain {name!r}, where {place} jumps: {rule_text(rule)}")
        if depth > DEEPEST:
            raise FactBroken("nft.json", where, f"chains jump in a circle at {place}: {rule_text(rule)}")
        return chain

    def _rule(self, rule: Rule) -> tuple[str, Any] | None:
        """Run one rule; its verdict, or None to go on with the next."""
        doubts, verdict = list[str](), None
        for i, part in enumerate(rule.expr):
            kind, body = next(iter(part.items()))
            if kind == "match":
                answer = self.lookups.match(body, rule)
                if answer is False:
                    return None
                if answer is None:
                    doubts.append(statement(part, Problems()))
            elif kind in _HARMLESS or (kind == "xt" and body and body.get("name") == "comment"):
                continue
            elif kind in _DOUBTFUL:
                over = isinstance(body, dict) and body.get("inv")
                if kind in ("limit", "quota", "ct count") and not over and not doubts:
                    self._assumed(rule, i)
                    continue
                doubts.append(statement(part, Problems()))
            elif not doubts:
                verdict = self._do(kind, body, rule)
                if verdict is not None:
                    break
        if doubts:
            self._doubt(rule, doubts)
            return None
        return None if verdict is None or verdict[0] == "continue" else verdict

    def _assumed(self, rule: Rule, at: int) -> None:
        if any(part.keys().isdisjoint(_HARMLESS) for part in rule.expr[at + 1 :]):
            self.notes[f"{_place(rule)}: taken as within its limit: {rule_text(rule)}"] = None

    def _doubt(self, rule: Rule, doubts: list[str]) -> None:
        guarded = [p for p in rule.expr if p.keys().isdisjoint(_HARMLESS | {"match", "limit", "quota", "ct count"})]
        guarded = [p for p in guarded if (p.get("xt") or {}).get("type") != "match"]
        if not guarded:
            return
        table = self.rules.table(rule.family, rule.table)
        if table is not None and table.compat:
            self.blind.setdefault((rule.family, rule.table), set()).add(rule.handle or 0)
            return
        does = " ".join(statement(part, Problems()) for part in guarded)
        self.notes[
            f"{_place(rule)}: not decided whether {' and '.join(doubts)}, which guards {does}: {rule_text(rule)}"
        ] = None

    def _do(self, kind: str, body: Any, rule: Rule) -> tuple[str, Any] | None:
        """Run one statement. None: go on in the rule; ``("continue", None)``: the rule ends without a verdict."""
        if kind in ("accept", "drop", "reject", "return", "jump", "goto"):
            self.marks.append(Mark(rule))
            return kind, body
        action = _ACTIONS.get(kind)
        if action is None:
            self.notes[f"{_place(rule)}: not understood: {rule_text(rule)}"] = None
            return None
        return action(self, body, rule)

    def _vmap(self, body: Any, rule: Rule) -> tuple[str, Any] | None:
        found = self.lookups.find(self.lookups.value(body["key"], rule), body["data"], rule, is_map=True)
        if found is None:
            return "continue", None
        if found is UNKNOWN:
            self._doubt(rule, [statement({"vmap": body}, Problems())])
            return "continue", None
        self.marks.append(Mark(rule))
        if isinstance(body["data"], str) and (table := self.rules.table(rule.family, rule.table)):
            self.marks.append(Mark(rule, table.sets[body["data"][1:]], found))
        kind, target = next(iter(found.data.items()))
        return kind, target

    def _dnat(self, body: Any, rule: Rule) -> tuple[str, Any] | None:
        state = self.state
        address = self.lookups.value(body["addr"], rule) if "addr" in body else state.address
        port = self.lookups.value(body["port"], rule) if "port" in body else state.port
        if address is MISMATCH or port is MISMATCH:  # a map without an element for it ends the rule
            return "continue", None
        if isinstance(address, dict) and "concat" in address:
            address, port = address["concat"]
        elif isinstance(address, tuple):
            address, port = address
        if not isinstance(address, str) or not isinstance(port, int):
            self._doubt(rule, ["which address and port it gives"])
            return "continue", None
        state.address, state.port = canonical(address), port
        self.marks.append(Mark(rule))
        state.dnat = True
        return "accept", None

    def _redirect(self, body: Any, rule: Rule) -> tuple[str, Any] | None:
        state = self.state
        six = state.packet.family == 6
        if state.packet.client == "node":
            state.address = "::1" if six else "127.0.0.1"
        else:
            own = sorted(a for a in state.view.primary if (":" in a) == six)
            state.address = own[0] if own else state.address
            self.notes[f"{_place(rule)}: goes to the address of the interface it came in by: {rule_text(rule)}"] = None
        state.port = number((body or {}).get("port")) or state.port
        self.marks.append(Mark(rule))
        state.dnat = True
        return "accept", None

    def _snat(self, body: Any, rule: Rule) -> tuple[str, Any] | None:
        self.state.snat = True
        self.marks.append(Mark(rule))
        return "accept", None

    def _mangle(self, body: Any, rule: Rule) -> tuple[str, Any] | None:
        key = body["key"]
        value = self.lookups.value(body["value"], rule)
        for kind, name in (("meta", "mark"), ("ct", "ct_mark")):
            if isinstance(key, dict) and key.get(kind, {}).get("key") == "mark":
                setattr(self.state, name, number(value))
                self.marks.append(Mark(rule))
        if isinstance(key, dict) and "payload" in key and key["payload"].get("field") in ("saddr", "daddr", "dport"):
            self.notes[f"{_place(rule)}: rewrites the packet, not followed: {rule_text(rule)}"] = None
        return None

    def _update(self, body: Any, rule: Rule) -> tuple[str, Any] | None:
        name = str(body.get("set", body.get("map", "")))[1:]
        element = body.get("elem")
        if name in self.state.asked and body.get("op") in ("add", "update"):
            table = self.rules.table(rule.family, rule.table)
            inner = element.get("elem", {}) if isinstance(element, dict) else {}
            timeout = inner.get("timeout") or (table.sets[name].timeout if table and name in table.sets else None)
            self.state.affinity = None if timeout is None else int(timeout)
            self.marks.append(Mark(rule))
        return None

    def _notrack(self, body: Any, rule: Rule) -> tuple[str, Any] | None:
        self.state.tracked = False
        self.marks.append(Mark(rule))
        return None


def _place(rule: Rule) -> str:
    return f"{rule.family} {rule.table}, chain {rule.chain}"


_ACTIONS: dict[str, Callable[[Run, Any, Rule], tuple[str, Any] | None]] = {
    "vmap": Run._vmap,
    "dnat": Run._dnat,
    "redirect": Run._redirect,
    "snat": Run._snat,
    "masquerade": Run._snat,
    "mangle": Run._mangle,
    "set": Run._update,
    "map": Run._update,
    "notrack": Run._notrack,
}
