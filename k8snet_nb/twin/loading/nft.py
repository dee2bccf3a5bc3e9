"""The recorded native nft tables, each as one ``nft -f -``.

Tables that iptables-nft made are not here: iptables-save tells them whole. A rule or set that cannot be said in nft's
syntax, or holds a word that nft(8) does not have, is left out with what refers to it; a table whose own frame (name,
hooks, chains) is not sound is left out whole. Counters begin at zero, as they do with the iptables rules.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from ...parse.nft import NftSet, Rule, Ruleset, Table
from ...parse.nft_expr import Problems
from ...parse.nft_text import chain_text, element_text, rule_text, set_head_text, table_text
from ..model import LeftOut, Step
from .nft_words import NAME, text_problem

__all__ = ["TableStep", "table_steps"]

_FACT = "nft.json"
_FAMILIES = frozenset(("ip", "ip6", "inet", "arp", "bridge", "netdev"))
_MALFORMED = (AttributeError, IndexError, KeyError, RecursionError, StopIteration, TypeError, ValueError)
_MALFORMED_WHY = "it is not what nft lists"


class TableStep(NamedTuple):
    """The step of one table; ``early``: it was made before the tables of iptables-nft, whose hooks then run first."""

    step: Step
    early: bool


def table_steps(
    rules: Ruleset, node: str, by_iptables: AbstractSet[tuple[str, str]]
) -> tuple[tuple[TableStep, ...], tuple[LeftOut, ...]]:
    """The steps of the tables that are not in ``by_iptables`` (family, name), and what is left out of them."""
    steps, left_out, early = [], list[LeftOut](), True
    for key, table in rules.tables.items():
        if key in by_iptables:
            early = False
            continue
        if why := _frame_problem(table):
            left_out.append(LeftOut(node, _FACT, f"table {table.family} {table.name}", why))
            continue
        kept, lost = _pruned(table)
        rendered = table_text(kept)
        text = "\n".join(line for line in rendered.text.split("\n") if not line.lstrip().startswith("# left out: "))
        left_out += [LeftOut(node, _FACT, what, why) for what, why in lost]
        left_out += [LeftOut(node, _FACT, *_split(line)) for line in rendered.left_out]
        if why := _block_problem(text, kept):
            left_out.append(LeftOut(node, _FACT, f"table {table.family} {table.name}", why))
            continue
        says = f"{_FACT}: table {table.family} {table.name}"
        steps.append(TableStep(Step(("nft", "-f", "-"), text, says), early))
    return tuple(steps), tuple(left_out)


def _split(line: str) -> tuple[str, str]:
    what, _, why = line.partition(": ")
    return what, f"nft's syntax cannot say it: {why}"


def _frame_problem(table: Table) -> str | None:
    """Why a table cannot be loaded at all."""
    if table.family not in _FAMILIES:
        return "nft has no such family"
    names = [table.name, *table.chains, *table.sets]
    for name in names:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            return f"{name!r} is no name that nft takes"
    if table.raw.get("flags"):
        return "it has flags (dormant, owner), which its listing as JSON cannot give back"
    try:
        for chain in table.chains.values():
            problems = Problems()
            why = text_problem(chain_text(chain, problems), frozenset())
            if why := why or next(iter(problems), None):
                return f"chain {chain.name}: {why}"
    except _MALFORMED:
        return _MALFORMED_WHY
    return _comment_problem([table.comment, *(chain.comment for chain in table.chains.values())])


def _comment_problem(comments: list[str]) -> str | None:
    bad = next((text for text in comments if '"' in text or not text.isprintable()), None)
    return None if bad is None else f"the comment {bad!r} cannot be quoted"


def _pruned(table: Table) -> tuple[Table, list[tuple[str, str]]]:
    """The table with sound sets and rules only, and what was taken out: where it stands, and why."""
    lost: list[tuple[str, str]] = []
    names = _names(table)
    objects = []
    for kind, body in table.objects:
        sound = kind in ("counter", "quota", "limit") and isinstance(body.get("name"), str)
        if sound and NAME.fullmatch(body["name"]):
            objects.append((kind, {**body, "packets": 0, "bytes": 0} if kind == "counter" else body))
        else:
            lost.append(
                (
                    f"table {table.family} {table.name}, {kind} {body.get('name')}",
                    "it is not an object that the twin makes",
                )
            )
    sets = {}
    for name, one in table.sets.items():
        if why := _set_problem(one, names):
            lost.append((f"table {one.family} {one.table}, {'map' if one.is_map else 'set'} {name}", why))
        else:
            sets[name] = one
    absent = {f"@{name}" for name in table.sets.keys() - sets.keys()}
    chains = {}
    for name, chain in table.chains.items():
        kept = []
        for rule in map(_fresh, chain.rules):
            if why := _rule_problem(rule, names, absent):
                lost.append((_shown(rule), why))
            else:
                kept.append(rule)
        chains[name] = dataclasses.replace(chain, rules=kept)
    return dataclasses.replace(table, chains=chains, sets=sets, objects=objects), lost


def _names(table: Table) -> frozenset[str]:
    named = {body["name"] for _, body in table.objects if isinstance(body.get("name"), str)}
    return frozenset({*table.chains, *table.sets, *named})


def _fresh(rule: Rule) -> Rule:
    return rule._replace(expr=[{"counter": None} if isinstance(p.get("counter"), dict) else p for p in rule.expr])


def _rule_problem(rule: Rule, names: AbstractSet[str], absent: AbstractSet[str]) -> str | None:
    problems = Problems(rule.family)
    try:
        text = rule_text(rule, problems)
    except _MALFORMED:
        return _MALFORMED_WHY
    if problems:
        return f"nft's syntax cannot say it: {problems[0]}"
    if why := text_problem(text, names):
        return why
    if lost := [word for word in re.findall(r"@[\w./-]+", text) if word in absent]:
        return f"it uses {lost[0]}, which is left out"
    for part in rule.expr:
        queue = part.get("queue", ())
        if queue != () and "bypass" not in str((queue or {}).get("flags")):
            return "it hands packets to a program that the twin does not run, so they would be lost"
    return None


def _shown(rule: Rule) -> str:
    try:
        text = rule_text(rule)
    except _MALFORMED:
        text = str(rule.expr)
    return f"table {rule.family} {rule.table}, chain {rule.chain}: {text}"


def _set_problem(one: NftSet, names: AbstractSet[str]) -> str | None:
    problems = Problems(one.family)
    try:
        texts = [*set_head_text(one, problems), *(element_text(one, e, problems) for e in one.elements())]
    except _MALFORMED:
        return _MALFORMED_WHY
    if problems:
        return f"nft's syntax cannot say it: {problems[0]}"
    return text_problem("\n".join(texts), names)


def _block_problem(text: str, table: Table) -> str | None:
    """A last look at the whole text: one table from its first brace to its last, and known words only."""
    head, _, body = text.partition("{")
    if head != f"table {table.family} {table.name} ":
        return "its text does not begin as a table"
    depth = 1
    rest = body.rstrip()
    bare = re.sub(r'"[^"]*"', '""', rest)
    for brace in re.finditer("[{}]", bare):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0 and brace.end() != len(bare):
            return "its text ends before its end"
    if depth:
        return "its text has no end"
    return text_problem(rest, _names(table))
