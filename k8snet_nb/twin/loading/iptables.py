"""The recorded iptables rules as one restore a family and flavour.

A line goes in as it was recorded, byte for byte, or is left out with the reason. Recorded counters are not restored
(``--counters`` is not given), so that what a learner reads are the packets of the twin. A chain that lost a rule stays,
and so do the rules that jump to it; what was lost is listed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ...parse.iptables import Ruleset, Table
from ..model import LeftOut, Step
from .iptables_words import TABLES, chain_problem, rule_problem

__all__ = ["Restore", "restore_step"]


class Restore(NamedTuple):
    """What becomes of one save: a step (None: nothing to load), accounting objects that it needs, what is left out."""

    step: Step | None
    nfacct: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


def restore_step(save: Ruleset, flavour: str, node: str) -> Restore:
    """The command that loads a save with the tool of its family and flavour (``legacy`` or ``nft``)."""
    left_out = list(_stray_lines(save, node))
    lines: list[str] = []
    nfacct: dict[str, None] = {}
    names: list[str] = []
    for name, table in save.tables.items():
        if name not in TABLES:
            left_out.append(LeftOut(node, save.fact, f"*{name}", "iptables has no table of this name"))
            continue
        names.append(name)
        lines += _table_lines(save, table, node, left_out, nfacct)
    if not names:
        return Restore(None, (), tuple(left_out))
    tool = f"ip{'6' if save.family == 6 else ''}tables-{flavour}-restore"
    says = f"{save.fact}: tables {', '.join(names)}"
    return Restore(Step((tool, "-w", "10"), "\n".join([*lines, ""]), says), tuple(nfacct), tuple(left_out))


def _table_lines(
    save: Ruleset, table: Table, node: str, left_out: list[LeftOut], nfacct: dict[str, None]
) -> Iterator[str]:
    yield f"*{table.name}"
    made = set[str]()
    for name, chain in table.items():
        if not table.declares(name):
            continue
        head = table.head(name)
        if why := chain_problem(table.name, name, chain.policy, head):
            left_out.append(LeftOut(node, save.fact, head, why))
        else:
            made.add(name)
            yield head
    users = frozenset(made) - TABLES[table.name]
    for number in sorted(number for name in table for number in table.rules_of(name) or ()):
        rule = save.rule(number)
        why = None if rule.chain in made else "its chain is left out, or not declared"
        if why := why or rule_problem(rule, users, save.family):
            left_out.append(LeftOut(node, save.fact, rule.line, why))
            continue
        for match in rule.matches:
            if match.module == "nfacct":
                nfacct.update(dict.fromkeys(option.value for option in match.options))
        yield rule.line
    yield "COMMIT"


def _stray_lines(save: Ruleset, node: str) -> Iterator[LeftOut]:
    """What the reader found wrong outside of the rules; a damaged rule is met in its chain."""
    rules = {number for table in save.tables.values() for name in table for number in table.rules_of(name) or ()}
    for problem in save.problems:
        if problem.line not in rules:
            yield LeftOut(node, save.fact, save.line(problem.line), problem.why)
