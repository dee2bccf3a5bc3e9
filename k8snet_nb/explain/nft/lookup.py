"""Set and map look-ups of one packet: ``match`` expressions, and the element that a map gives."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from ...errors import FactBroken
from ...parse.nft import Element, NftSet, Rule, Ruleset, index_elements
from ...parse.nft_expr import Problems, expression
from ...parse.nft_text import rule_text
from .source import Ranges, Sources, part_range
from .tree import Fork, Guide
from .values import ANY_SOURCE, MISMATCH, UNKNOWN, Draw, State, Value, element_in, number, part_in, read

__all__ = ["Lookups"]


class Lookups:
    """Answers ``match`` and map look-ups for one way of one packet; asks the guide where the way forks."""

    def __init__(
        self, rules: Ruleset, state: State, sources: Sources, guide: Guide, anonymous: dict[int, NftSet]
    ) -> None:
        self.rules, self.state, self.sources, self.guide = rules, state, sources, guide
        self._anonymous = anonymous

    def value(self, expr: Any, rule: Rule) -> Value:
        """The value of any expression; a concatenation is a tuple."""
        if isinstance(expr, dict):
            if "concat" in expr:
                parts = tuple(self.value(part, rule) for part in expr["concat"])
                return MISMATCH if MISMATCH in parts else parts
            if "map" in expr:
                found = self.find(self.value(expr["map"]["key"], rule), expr["map"]["data"], rule, is_map=True)
                return found if found is UNKNOWN else MISMATCH if found is None else found.data
        return read(expr, self.state)

    def match(self, body: dict[str, Any], rule: Rule) -> bool | None:
        """Does the packet match? None: the facts do not say."""
        left = self.value(body["left"], rule)
        if left is MISMATCH:
            return False
        op, right = body["op"], body["right"]
        if op in ("==", "in", "!=", "!"):
            answer = self._member(left, right, rule)
            return answer if answer is None or op in ("==", "in") else not answer
        bound = number(right)
        if isinstance(left, Draw) and bound is not None:
            return self._draw_below(left, op, bound)
        mine = number(left)
        if mine is None or bound is None:
            return None
        return {"<": mine < bound, ">": mine > bound, "<=": mine <= bound, ">=": mine >= bound}.get(op)

    def _draw_below(self, draw: Draw, op: str, bound: int) -> bool:
        below = min(max(bound - draw.low + (op in ("<=", ">")), 0), draw.size)
        share = Fraction(below, draw.size)
        small = self._take([share, 1 - share], draw.fair) == 0
        return small if op in ("<", "<=") else not small

    def _take(self, shares: list[Fraction], fair: bool) -> int:
        possible = [i for i, share in enumerate(shares) if share]
        if len(possible) == 1:
            return possible[0]
        weights = tuple(shares[i] if fair else None for i in possible)
        return possible[self.guide.choose(Fork(weights))]

    def _member(self, left: Value, right: Any, rule: Rule) -> bool | None:
        if (isinstance(right, str) and right.startswith("@")) or (isinstance(right, dict) and "set" in right):
            found = self.find(left, right, rule, is_map=False)
            return None if found is UNKNOWN else found is not None
        if isinstance(right, list):
            answers = [part_in(left, part) for part in right]
            return True if True in answers else None if None in answers else False
        if isinstance(left, Draw):
            draw_set = NftSet("", "", "", False, exact={(right,): right})
            return self._find_draw(left, draw_set) is not None
        if (isinstance(right, dict) and "concat" in right) or left is ANY_SOURCE:
            parts = right["concat"] if isinstance(right, dict) and "concat" in right else [right]
            values = left if isinstance(left, tuple) else (left,)
            found = self._candidates(values, [Element(tuple(parts), None, "", None, right)], rule)
            return None if found is UNKNOWN else found is not None
        return part_in(left, right)

    def find(self, key: Value, data: Any, rule: Rule, is_map: bool) -> Any:
        """The :class:`Element` for a key, None without one, or UNKNOWN."""
        if key is MISMATCH:
            return None
        target = self._target(data, rule, is_map)
        if isinstance(key, Draw):
            return self._find_draw(key, target)
        values = key if isinstance(key, tuple) else (key,)
        forgets = target.timeout is not None or "dynamic" in (target.raw.get("flags") or ())
        if forgets and self._asks_source(rule):
            self.state.asked.add(target.name)  # the rules remember clients in it: session affinity
        if UNKNOWN not in values and ANY_SOURCE not in values:
            if element := target.get(values) if _plain(values) else None:
                return element
            if target.ranged:
                return self._candidates(values, list(target.ranged_elements()), rule)
            return self._numeric(values, target)
        if forgets and ANY_SOURCE in values:
            return None  # a client that is not remembered yet
        return self._candidates(values, _narrow(values, target), rule)

    def _numeric(self, values: tuple[Value, ...], target: NftSet) -> Any:
        """Elements that are equal as numbers only (marks, flags), or parts that are no plain text."""
        if all(isinstance(v, str) for v in values) or len(target.exact) > 64:
            return None if _plain(values) else UNKNOWN
        return self._candidates(values, list(target.elements()), None)

    def _asks_source(self, rule: Rule) -> bool:
        return any("saddr" in str(part) for part in rule.expr if "match" in part or "vmap" in part)

    def _target(self, data: Any, rule: Rule, is_map: bool) -> NftSet:
        if isinstance(data, str):
            table = self.rules.table(rule.family, rule.table)
            named = table.sets.get(data[1:]) if table else None
            if named is None:
                raise FactBroken(
                    "nft.json", self.state.view.node or "this node", f"no set {data} for: {rule_text(rule)}"
                )
            return named
        entries = data["set"]
        if isinstance(entries, str):
            return self._target(entries, rule, is_map)
        made = self._anonymous.get(id(entries))
        if made is None:
            made = self._anonymous[id(entries)] = NftSet(rule.family, rule.table, "", is_map)
            index_elements(made, entries if isinstance(entries, list) else [entries])
        return made

    def _find_draw(self, draw: Draw, target: NftSet) -> Element | None:
        shares, found = [], list[Element | None]()
        left = Fraction(1)
        for element in target.elements():
            covered = (0, -1) if element.key == ("*",) else part_range(element.key[0]) or (0, -1)
            low, high = max(covered[0], draw.low), min(covered[1], draw.low + draw.size - 1)
            share = Fraction(max(high - low + 1, 0), draw.size)
            found.append(element)
            shares.append(share)
            left -= share
        rest = [i for i, element in enumerate(found) if element and element.key == ("*",)]
        if rest:
            shares[rest[0]] = left
        else:
            found.append(None)
            shares.append(left)
        return found[self._take(shares, draw.fair)]

    def _candidates(self, values: tuple[Value, ...], elements: list[Element], rule: Rule | None) -> Any:
        open_ones = list[tuple[Element, Any]]()
        doubt = False
        for element in elements:
            answer, source_at = element_in(values, element)
            if answer is None:
                doubt = True
            elif answer and source_at is None:
                return element
            elif answer:
                open_ones.append((element, element.key[source_at or 0]))
        if open_ones and rule is not None:
            found = self._by_source(open_ones, rule)
            if found is not None:
                return found
        return UNKNOWN if doubt else None

    def _by_source(self, open_ones: list[tuple[Element, Any]], rule: Rule) -> Element | None:
        if all(element.data is None for element, _ in open_ones):  # a set: which element it was makes no difference
            groups = [[*open_ones]]
        else:
            groups = [[one] for one in open_ones]
        for group in groups:
            if self.ask([part for _, part in group], rule):
                return group[0][0]
        return None

    def ask(self, parts: list[Any], rule: Rule) -> bool:
        """Is the source in one of these parts? Decided by the kind of client, else a fork."""
        ranges: Ranges = tuple(r for r in (part_range(part) for part in parts) if r is not None)
        answer = self.sources.member(ranges)
        if answer is None:
            listed = tuple(expression(part, Problems()) for part in parts)
            answer = self.guide.choose(Fork((Fraction(1), Fraction(1)), listed, rule_text(rule))) == 0
            self.sources.learn(ranges, answer)
        return answer


def _plain(values: tuple[Value, ...]) -> bool:
    return all(isinstance(value, (str, int)) for value in values)


def _narrow(values: tuple[Value, ...], target: NftSet) -> list[Element]:
    """The elements to look at when a part is open: all, but without making a value of those that cannot match."""
    if target.by_rest and values[0] is ANY_SOURCE and _plain(values[1:]):
        keys = [(first, *values[1:]) for first in target.by_rest.get(values[1:], ())]
        exact = [element for key in keys if (element := target.get(key)) is not None]
        return [*exact, *target.ranged_elements()]
    known = [(i, value) for i, value in enumerate(values) if isinstance(value, (str, int))]
    keys = [key for key in target.exact if all(i < len(key) and key[i] == value for i, value in known)]
    exact = [element for key in keys if (element := target.get(key)) is not None]
    return [*exact, *target.ranged_elements()]
