"""The chains, maps and sets of a node, each to be listed as its own tool shows it, with where its rules lead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from ..facts import Evidence, FactRef
from ..parse import iptables, nft
from ..parse.nft_expr import Problems
from ..parse.nft_text import chain_text, element_text, rule_text, set_head_text
from ..render import Report, Shown
from . import chain_listing
from .iptables.says import chain_words

__all__ = ["ChainEntry", "ChainView", "iptables_chains", "nft_chains"]

_OF_ONE_SERVICE = ("KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-")
MOST = 200
"""At most so many rules or elements of one chain, map or set are listed."""


@dataclass(frozen=True, slots=True)
class ChainView(Shown):
    """One chain (map, set) as ``command`` lists it, rendered from the fact; ``jumps``: where its rules lead."""

    key: str
    command: str
    text: str
    jumps: tuple[chain_listing.Jump, ...]
    evidence: tuple[Evidence, ...]

    def report(self) -> Report:
        """The listing, then the chains that it leads to."""
        ref = self.evidence[0].ref
        notes = [f"Rendered from {ref.fact} ({self.evidence[0].command})"]
        kinds: dict[str, list[str]] = {}
        for jump in self.jumps:
            words = chain_words(jump.chain)
            kinds.setdefault("" if words.endswith(jump.chain) else words, []).append(jump.chain)
        for words, names in kinds.items():
            rest = f" and {len(names) - 2} more" if len(names) > 2 else ""
            notes.append(f"-> {', '.join(names[:2])}{rest}" + (f": {words}" if words else ""))
        return Report(f"[node {ref.node}]$ {self.command}", notes=tuple(notes), block=self.text, wide=True)


@dataclass(frozen=True, slots=True)
class ChainEntry:
    """What can be listed: ``table`` with its tool, ``name``, how many rules or elements, and what it is about."""

    key: str
    tool: str
    table: str
    name: str
    kind: str
    size: int
    about: str
    view: Callable[..., ChainView]


def iptables_chains(rules: iptables.Ruleset, node: str, command: str) -> Iterator[ChainEntry]:
    """The chains of one ``iptables-save`` or ``ip6tables-save``."""
    tool = rules.fact.removesuffix("-save.txt")
    for table, chains in rules.tables.items():
        for name in chains:
            numbers = chains.rules_of(name) or []
            yield ChainEntry(
                f"{tool} {table} {name}",
                tool,
                table,
                name,
                "chain",
                len(numbers),
                _about(rules, numbers) if name.startswith(_OF_ONE_SERVICE) else "",
                partial(_iptables_view, rules, table, name, node, command),
            )


def _about(rules: iptables.Ruleset, numbers: list[int]) -> str:
    """The Service that a chain of kube-proxy is for, by the comment of its first rule."""
    comment = rules.rule(numbers[0]).comment if numbers else ""
    words = comment.split()
    named = [word for word in words if "/" in word and ":" in word and not word.endswith("/")]
    return named[0] if len({*named}) == 1 else ""


def _iptables_view(
    rules: iptables.Ruleset, table: str, name: str, node: str, command: str, holding: str = ""
) -> ChainView:
    chain = rules.tables[table][name]
    tool = rules.fact.removesuffix("-save.txt")
    at = "" if table == "filter" else f" -t {table}"
    return ChainView(
        f"{tool} {table} {name}",
        f"{tool}{at} -L {name} -n -v",
        chain_listing.listing(rules, table, chain, holding, MOST),
        chain_listing.jumps(rules, table, chain, holding),
        (Evidence(FactRef(rules.fact, node), command),),
    )


def nft_chains(rules: nft.Ruleset, node: str, command: str) -> Iterator[ChainEntry]:
    """The chains, maps and sets of the tables that are nftables' own; those of iptables-nft are iptables' to list."""
    for (family, table_name), table in rules.tables.items():
        if table.compat:
            continue
        where = f"{family} {table_name}"
        for chain in table.chains.values():
            view = partial(_nft_view, chain, where, node, command)
            about = "/".join(chain.name.split("-", 2)[-1].split("/")[:2]) if "/" in chain.name else chain.comment
            key = f"nft {where} {chain.name}"
            yield ChainEntry(key, "nft", where, chain.name, "chain", len(chain.rules), about, view)
        for one in table.sets.values():
            kind, size = "map" if one.is_map else "set", len(one.exact) + len(one.ranged)
            view = partial(_nft_view, one, where, node, command)
            yield ChainEntry(f"nft {where} {one.name}", "nft", where, one.name, kind, size, one.comment, view)


def _nft_view(part: nft.Chain | nft.NftSet, where: str, node: str, command: str, holding: str = "") -> ChainView:
    kind = "chain" if isinstance(part, nft.Chain) else ("map" if part.is_map else "set")
    lines = _chain_lines(part) if isinstance(part, nft.Chain) else _set_lines(part)
    heads, body = lines
    found = [line for line in body if holding in line]
    told = [f"table {where} {{", f"\t{kind} {part.name} {{", *(f"\t\t{line}" for line in heads)]
    told += [f"\t\t{line}" for line in found[:MOST]] + ["\t}", "}"]
    if holding:
        told.append(f"({len(found)} of {len(body)} lines hold {holding!r})")
    if len(found) > MOST:
        told.append(f"(and {len(found) - MOST} more)")
    return ChainView(
        f"nft {where} {part.name}",
        f"nft list {kind} {where} {part.name}",
        "\n".join(told),
        tuple(chain_listing.Jump(name, "") for name in _targets(part)),
        (Evidence(FactRef("nft.json", node), command),),
    )


def _chain_lines(chain: nft.Chain) -> tuple[list[str], list[str]]:
    heads = [f'comment "{chain.comment}"'] if chain.comment else []
    heads += [chain_text(chain)] if chain.hook else []
    return heads, [rule_text(rule) for rule in chain.rules]


def _set_lines(one: nft.NftSet) -> tuple[list[str], list[str]]:
    elements = [element_text(one, element) for element in one.elements()]
    last = len(elements) - 1
    opened = [
        f"{'elements = { ' if not i else '             '}{text}{',' if i < last else ' }'}"
        for i, text in enumerate(elements)
    ]
    return set_head_text(one, Problems()), opened


def _targets(part: nft.Chain | nft.NftSet) -> tuple[str, ...]:
    """The chains that verdicts lead to, and the maps and sets that rules look into."""
    if isinstance(part, nft.NftSet):
        found = [next(iter(e.data.values())) for e in part.elements() if isinstance(e.data, dict) and e.data]
    else:
        found = [part_ for rule in part.rules for part_ in _verdicts(rule.expr)]
    names = [one.get("target") if isinstance(one, dict) else one for one in found]
    return tuple(dict.fromkeys(str(name).removeprefix("@") for name in names if name))


def _verdicts(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("jump", "goto"):
                yield inner
            else:
                yield from _verdicts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _verdicts(inner)
    elif isinstance(value, str) and value.startswith("@"):
        yield value
