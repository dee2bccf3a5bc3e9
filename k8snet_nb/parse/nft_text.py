"""A parsed nftables ruleset in nft's own syntax: single rules and elements for evidence, whole tables to load.

The loaded text gives the same ruleset (tests load it into this kernel). What nft's JSON does not spell out is in
``Rendered.left_out``: such rules stand in the text as comments, never silently dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .nft import Chain, Element, NftSet, Rule, Ruleset, Table
from .nft_expr import Problems, expression, name, quoted, statement

__all__ = ["Rendered", "chain_text", "element_text", "rule_text", "ruleset_text", "set_head_text", "table_text"]

_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
_REFERENCE = re.compile(r"@[A-Za-z_.][A-Za-z0-9_./\\-]*")
_ONLY_AT = {"dstnat": ("prerouting",), "srcnat": ("postrouting",)}


@dataclass(frozen=True, slots=True)
class Rendered:
    """Text for ``nft -f``, and what it leaves out: one line each, with table, chain and reason."""

    text: str
    left_out: tuple[str, ...] = ()


def rule_text(rule: Rule, problems: Problems | None = None) -> str:
    """One rule as ``nft list ruleset`` shows it, without its handle."""
    problems = Problems(rule.family) if problems is None else problems
    words = [statement(part, problems) for part in rule.expr]
    return " ".join([*words, *([f"comment {quoted(rule.comment, problems)}"] if rule.comment else [])])


def element_text(owner: NftSet, element: Element, problems: Problems | None = None) -> str:
    """One element of a set, or ``key : data`` of a map."""
    problems = Problems() if problems is None else problems
    mark, quote = owner.types == ("mark",), tuple(kind == "ifname" for kind in owner.types)
    if not owner.is_map:
        return expression(element.raw, problems, quote, mark)
    key, data = element.raw
    data_mark = owner.raw.get("map") == "mark"
    return f"{expression(key, problems, quote, mark)} : {expression(data, problems, mark=data_mark)}"


def chain_text(chain: Chain, problems: Problems | None = None) -> str:
    """A chain's first line inside its braces (type, hook, priority, policy), or nothing for one without a hook."""
    problems = Problems() if problems is None else problems
    if not chain.hook:
        return ""
    devices = chain.raw.get("dev") or []
    devices = devices if isinstance(devices, list) else [devices]
    listed = ", ".join(quoted(device, problems) for device in devices)
    device = f" devices = {{ {listed} }}" if len(devices) > 1 else f" device {listed}" if devices else ""
    kind, hook, policy = (expression(word, problems) for word in (chain.type, chain.hook, chain.policy))
    return f"type {kind} hook {hook}{device} priority {_priority(chain)}; policy {policy};"


def _priority(chain: Chain) -> str:
    if chain.family in ("ip", "ip6", "inet"):
        for word, value in _PRIORITIES.items():
            away = chain.prio - value
            if abs(away) <= 10 and chain.hook in _ONLY_AT.get(word, (chain.hook,)):
                return word if not away else f"{word} {'+' if away > 0 else '-'} {abs(away)}"
    return str(chain.prio)


def ruleset_text(rules: Ruleset, tables: Iterable[tuple[str, str]] | None = None) -> Rendered:
    """The whole ruleset (or the named ``(family, name)`` tables) as ``nft -f`` reads it."""
    wanted = None if tables is None else set(tables)
    parts = [table_text(table) for key, table in rules.tables.items() if wanted is None or key in wanted]
    return Rendered("".join(part.text for part in parts), tuple(line for part in parts for line in part.left_out))


def table_text(table: Table) -> Rendered:
    """One table as ``nft -f`` reads it."""
    problems, left_out = Problems(table.family), list[str]()
    lines = [f"table {expression(table.family, problems)} {name(table.name, problems)} {{"]
    if table.comment:
        lines.append(f"\tcomment {quoted(table.comment, problems)}")
    for kind, body in table.objects:
        lines += _object_lines(kind, body, problems)
    updated, absent = _updated_sets(table), set[str]()
    for one in table.sets.values():
        lines += _set_lines(one, one.name in updated, absent, left_out)
    left_out += [f"table {table.family} {table.name}: {what}" for what in problems]
    for chain in table.chains.values():
        lines += _chain_lines(chain, absent, left_out)
    return Rendered("\n".join([*lines, "}", ""]), tuple(left_out))


def _chain_lines(chain: Chain, absent: set[str], left_out: list[str]) -> list[str]:
    problems = Problems()
    lines = [f"\tchain {name(chain.name, problems)} {{"]
    if chain.comment:
        lines.append(f"\t\tcomment {quoted(chain.comment, problems)}")
    if chain.hook:
        lines.append(f"\t\t{chain_text(chain, problems)}")
    where = f"table {chain.family} {chain.table}, chain {chain.name}"
    left_out += [f"{where}: {what}" for what in problems]
    for rule in chain.rules:
        problems = Problems(chain.family)
        text = rule_text(rule, problems)
        problems += [f"it uses {word}" for word in _REFERENCE.findall(text) if absent and word in absent]
        left_out += [f"{where}, handle {rule.handle}: {what}" for what in problems]
        lines.append("\t\t" + ("# left out: " + " ".join(text.split()) if problems else text))
    return [*lines, "\t}", ""]


def set_head_text(one: NftSet, problems: Problems, dynamic: bool = False) -> list[str]:
    """The lines that declare a set or map, without its elements. ``dynamic``: rules add to it (old nft hides that)."""
    raw = one.raw
    lines = [_type_line(one, problems)]
    if raw.get("size"):
        lines.append(f"size {int(raw['size'])}")
    flags = raw.get("flags", [])
    flags = list(flags) if isinstance(flags, list) else [flags]
    flags = sorted({*flags, "dynamic"} if dynamic else flags)
    if flags:
        lines.append("flags " + expression(flags, problems))
    lines += [f"{key} {expression(raw[key], problems)}s" for key in ("timeout", "gc-interval") if raw.get(key)]
    lines += ["auto-merge"] if raw.get("auto-merge") else []
    lines += [f"policy {expression(raw['policy'], problems)}"] if raw.get("policy") else []
    lines += [statement(one, problems) for one in raw.get("stmt") or ()]
    return lines + ([f"comment {quoted(one.comment, problems)}"] if one.comment else [])


def _type_line(one: NftSet, problems: Problems) -> str:
    raw, word = one.raw, "type"
    key: Any = raw.get("type")
    if isinstance(key, dict) and "typeof" in key:
        word, text = "typeof", expression(key["typeof"], problems)
    elif None in one.types or "integer" in one.types:
        text = problems.cannot(f"type of {one.name!r}: nft does not say of what", "integer")
    else:
        text = " . ".join(expression(part, problems) for part in one.types)
    if not one.is_map:
        return f"{word} {text}"
    data: Any = raw.get("map")
    if isinstance(data, dict) and "typeof" in data:
        return f"{word} {text} : {expression(data['typeof'], problems)}"
    listed = str(data).split(" . ") if isinstance(data, str) else data or []
    return f"{word} {text} : " + " . ".join(expression(part, problems) for part in listed)


def _set_lines(one: NftSet, dynamic: bool, absent: set[str], left_out: list[str]) -> list[str]:
    problems = Problems()
    lines = [f"\t{'map' if one.is_map else 'set'} {name(one.name, problems)} {{"]
    lines += [f"\t\t{line}" for line in set_head_text(one, problems, dynamic)]
    elements = [element_text(one, element, problems) for element in one.elements()]
    if elements:
        lines.append("\t\telements = { " + ",\n\t\t\t     ".join(elements) + " }")
    lines += ["\t}", ""]
    if problems:
        absent.add(f"@{one.name}")
        left_out += [f"table {one.family} {one.table}, {one.raw.get('name')}: {what}" for what in problems]
        lines = ["\t# left out: " + " ".join(line.split()) for text in lines for line in text.splitlines() if line]
    return lines


def _object_lines(kind: str, body: dict[str, Any], problems: Problems) -> list[str]:
    if kind == "counter":
        inside = f"packets {int(body['packets'])} bytes {int(body['bytes'])}"
    elif kind in ("quota", "limit"):
        inside = statement({kind: {"val_unit": "bytes", **body, "val": body.get("bytes", body.get("val"))}}, problems)
        inside = inside.removeprefix("limit ").removeprefix("quota ")
    else:
        problems.cannot(f"{kind} {body.get('name')!r}", "")
        return []
    return [f"\t{kind} {name(body['name'], problems)} {{", f"\t\t{inside}", "\t}", ""]


def _updated_sets(table: Table) -> set[str]:
    named = set()
    for chain in table.chains.values():
        for rule in chain.rules:
            for part in rule.expr:
                body = part.get("set") or part.get("map")
                if isinstance(body, dict) and "op" in body:
                    named.add(str(body.get("set", body.get("map")))[1:])
    return named
