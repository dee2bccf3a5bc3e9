"""``nft -j list ruleset`` -> tables, chains with their rules, and sets and maps with their elements indexed.

The format is libnftables-json(5), schema version 1. Rules keep nft's own expression lists, so nothing that nft
spelled out is lost; elements are indexed by key, so a look-up costs the same with 5 Services and with 5,000.
"""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..errors import FactBroken

__all__ = ["Chain", "Element", "NftSet", "Rule", "Ruleset", "Table", "index_elements", "parse_nft"]

FACT = "nft.json"
SCHEMA = 1
_AGAIN = "Collect it again with: nft -j list ruleset"
_IPTABLES_TABLES = frozenset(("filter", "nat", "mangle", "raw", "security"))
_IPTABLES_CHAINS = frozenset(("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"))
_PROTOCOL_NUMBERS = {1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 58: "ipv6-icmp", 132: "sctp", 136: "udplite"}


class Rule(NamedTuple):
    """One rule: ``expr`` is nft's own list of expressions and statements; ``comment`` empty without one."""

    family: str
    table: str
    chain: str
    handle: int | None
    expr: list[Any]
    comment: str


class Element(NamedTuple):
    """One element of a set or map. ``data``: what a map gives for it (None in a set); ``raw``: nft's own entry.

    ``key`` is a tuple of its concatenated parts (one part: a tuple of one). ``expires`` in seconds, None without.
    """

    key: tuple[Any, ...]
    data: Any
    comment: str
    expires: float | None
    raw: Any


@dataclass(slots=True)
class Chain:
    """A chain; ``hook`` None for one that only jumps reach. ``prio``: lower runs first. ``policy`` accept or drop."""

    family: str
    table: str
    name: str
    type: str | None = None
    hook: str | None = None
    prio: int = 0
    policy: str = "accept"
    comment: str = ""
    rules: list[Rule] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class NftSet:
    """A named set or map, or an anonymous one in a rule (``name`` empty).

    ``exact``: nft's own entry by key; ``ranged``: the entries that hold a prefix, a range or ``*``; :meth:`get` and
    :meth:`elements` give them as values. ``by_rest``, in a set that begins with an address: which first parts go with
    the other parts of a key, for clients of unknown address. Timeouts in seconds. ``raw`` is nft's own entry.
    """

    family: str
    table: str
    name: str
    is_map: bool
    types: tuple[Any, ...] = ()
    timeout: float | None = None
    comment: str = ""
    exact: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    ranged: list[Any] = field(default_factory=list)
    by_rest: dict[tuple[Any, ...], list[Any]] = field(default_factory=dict, repr=False)
    raw: dict[str, Any] = field(default_factory=dict, repr=False)

    def elements(self) -> Iterator[Element]:
        """All elements, exact ones first."""
        for raw in (*self.exact.values(), *self.ranged):
            yield _element(raw, self.is_map)

    def ranged_elements(self) -> Iterator[Element]:
        """The elements that hold a prefix, a range or ``*``."""
        return (_element(raw, self.is_map) for raw in self.ranged)

    def get(self, key: tuple[Any, ...]) -> Element | None:
        """The element of exactly that key (not one whose range covers it), or None."""
        raw = self.exact.get(key)
        return None if raw is None else _element(raw, self.is_map)


@dataclass(slots=True)
class Table:
    """A table. ``compat``: made by iptables-nft (or with xtables expressions), best read with iptables-save."""

    family: str
    name: str
    comment: str = ""
    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, NftSet] = field(default_factory=dict)
    objects: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    compat: bool = False
    raw: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class Ruleset:
    """A node's whole nftables ruleset. ``version``: of the nft that listed it; ``tables`` by (family, name).

    ``memo`` keeps what readers work out once for the whole ruleset.
    """

    version: str
    tables: dict[tuple[str, str], Table] = field(default_factory=dict)
    hooks: dict[tuple[str, str], tuple[Chain, ...]] = field(default_factory=dict, repr=False)
    memo: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def table(self, family: str, name: str) -> Table | None:
        """The table of that family and name, or None."""
        return self.tables.get((family, name))

    def base_chains(self, family: str, hook: str) -> tuple[Chain, ...]:
        """The chains that hook there for packets of that family (``ip``, ``ip6``), in the kernel's order.

        Tables of family ``inet`` see both families' packets. Of equal priorities the one made last runs first
        (nf_hook_entries_grow), and nft lists tables and chains in the order of their making.
        """
        return self.hooks.get((family, hook), ())


def parse_nft(data: bytes | str, where: str = "this node") -> Ruleset:
    """Parse the output of ``nft -j list ruleset``. ``where`` says of which node it is, for messages.

    Raises :class:`FactBroken`, with the position, for text that is truncated, is not nft's JSON, has another schema
    version, or contradicts itself (a rule in a chain that is not listed).
    """
    collecting = gc.isenabled()
    gc.disable()  # hundreds of thousands of objects that all stay: looking for garbage among them doubles the time
    try:
        return _parse(_entries(data, where), where)
    finally:
        if collecting:
            gc.enable()


def _parse(entries: list[Any], where: str) -> Ruleset:
    head = entries[0].get("metainfo") if entries and isinstance(entries[0], dict) else None
    if not isinstance(head, dict):
        raise FactBroken(FACT, where, 'this is JSON, but not nft\'s: "nftables" does not begin with "metainfo"', _AGAIN)
    if head.get("json_schema_version") != SCHEMA:
        said = head.get("json_schema_version")
        raise FactBroken(FACT, where, f"json_schema_version is {said!r}; this version reads {SCHEMA}")
    rules = Ruleset(version=str(head.get("version", "")))
    for number, entry in enumerate(entries[1:], start=1):
        try:
            _take(rules, entry)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            why = error.args[0] if isinstance(error, _Inconsistent) else "is not what nft lists"
            raise FactBroken(FACT, where, f'entry {number} of "nftables" {why}: {_snippet(entry)}', _AGAIN) from None
    _finish(rules)
    return rules


class _Inconsistent(ValueError):
    """An entry that contradicts the ones before it; its one argument says how."""


def _entries(data: bytes | str, where: str) -> list[Any]:
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        document = json.loads(text)
    except UnicodeDecodeError as error:
        raise FactBroken(FACT, where, f"byte {error.start} is not UTF-8", _AGAIN) from None
    except json.JSONDecodeError as error:
        raise FactBroken(FACT, where, *_why_not_json(text, error)) from None
    except (RecursionError, ValueError) as error:
        raise FactBroken(FACT, where, f"JSON that cannot be read: {error}", _AGAIN) from None
    entries = document.get("nftables") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise FactBroken(FACT, where, 'this is JSON, but not nft\'s: it has no list "nftables"', _AGAIN)
    return entries


def _why_not_json(text: str, error: json.JSONDecodeError) -> tuple[str, str]:
    place = f"line {error.lineno}, column {error.colno}"
    if not text.strip():
        return "it is empty", _AGAIN
    if re.match(r"\s*(#|table\s|flush\s)", text):
        return "this is nft's text, not its JSON (line 1)", "List it with -j: nft -j list ruleset"
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
        return f"it is truncated: the text ends inside the ruleset ({place} of {len(text):,} characters)", _AGAIN
    return f"not JSON at {place}: {error.msg}", _AGAIN


def _snippet(entry: Any) -> str:
    text = json.dumps(entry, default=str)
    return text if len(text) <= 120 else text[:117] + "..."


def _take(rules: Ruleset, entry: dict[str, Any]) -> None:
    if len(entry) != 1:
        raise _Inconsistent("has not exactly one kind")
    ((kind, body),) = entry.items()
    if kind == "rule":
        _take_rule(rules, body)
    elif kind in ("set", "map"):
        table = _table(rules, body)
        table.sets[body["name"]] = _set(body, kind == "map")
    elif kind == "chain":
        _table(rules, body).chains[body["name"]] = _chain(body)
    elif kind == "table":
        key = (body["family"], body["name"])
        rules.tables[key] = Table(*key, comment=_word(body.get("comment", "")), raw=body)
    elif kind != "metainfo":
        _table(rules, body).objects.append((kind, body))


def _table(rules: Ruleset, body: dict[str, Any]) -> Table:
    table = rules.tables.get((body["family"], body["table"]))
    if table is None:
        raise _Inconsistent("names a table that is not listed before it")
    return table


def _take_rule(rules: Ruleset, body: dict[str, Any]) -> None:
    family, table_name, chain_name, expr = body["family"], body["table"], body["chain"], body["expr"]
    table = rules.tables.get((family, table_name))
    chain = table.chains.get(chain_name) if table else None
    if table is None or chain is None:
        raise _Inconsistent("names a chain that is not listed before it")
    if type(expr) is not list:
        raise TypeError
    for part in expr:
        if type(part) is not dict or len(part) != 1:
            raise _Inconsistent("has an expression without exactly one kind")
        if "xt" in part:
            table.compat = True
    chain.rules.append(Rule(family, table_name, chain_name, body.get("handle"), expr, _word(body.get("comment", ""))))


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _chain(body: dict[str, Any]) -> Chain:
    prio = body.get("prio", 0)
    if not isinstance(prio, int):
        raise TypeError
    name, kind, hook = _word(body["name"]), body.get("type"), body.get("hook")
    if not isinstance(kind, str | None) or not isinstance(hook, str | None):
        raise TypeError
    comment, policy = _word(body.get("comment", "")), _word(body.get("policy", "accept"))
    return Chain(body["family"], body["table"], name, kind, hook, prio, policy, comment, [], body)


def _set(body: dict[str, Any], is_map: bool) -> NftSet:
    declared = body.get("type", ())
    types = tuple(declared) if isinstance(declared, list) else (declared,)
    types = tuple(one if isinstance(one, str) else None for one in types)
    made = NftSet(body["family"], body["table"], _word(body["name"]), is_map, types, body.get("timeout"))
    made.comment, made.raw = _word(body.get("comment", "")), body
    index_elements(made, body.get("elem", ()))
    if not is_map and len(types) > 1 and types[0] in ("ipv4_addr", "ipv6_addr"):
        for key in made.exact:
            made.by_rest.setdefault(key[1:], []).append(key[0])
    return made


def index_elements(target: NftSet, entries: Any) -> None:
    """Index nft's element entries (``[key, data]`` pairs in a map) into ``target``."""
    exact, ranged, is_map = target.exact, target.ranged, target.is_map
    protocol_at = target.types.index("inet_proto") if "inet_proto" in target.types else -1
    for raw in entries:
        held, _ = raw if is_map else (raw, None)
        if type(held) is dict and "elem" in held:
            held = held["elem"]["val"]
        key = tuple(held["concat"]) if type(held) is dict and "concat" in held else (held,)
        try:
            if protocol_at >= 0 and type(key[protocol_at]) is int:  # nft prints a number where it has no name list
                number = _PROTOCOL_NUMBERS.get(key[protocol_at], key[protocol_at])
                key = (*key[:protocol_at], number, *key[protocol_at + 1 :])
            if "*" in key:
                ranged.append(raw)
            else:
                exact[key] = raw
        except TypeError:  # a prefix or a range is a dict, which has no hash
            ranged.append(raw)


def _element(raw: Any, is_map: bool) -> Element:
    held, data = raw if is_map else (raw, None)
    comment, expires = "", None
    if type(held) is dict and "elem" in held:
        inner = held["elem"]
        comment, expires, held = str(inner.get("comment", "")), inner.get("expires"), inner["val"]
    parts = held["concat"] if type(held) is dict and "concat" in held else [held]
    return Element(tuple(parts), data, comment, expires, raw)


def _finish(rules: Ruleset) -> None:
    found: dict[tuple[str, str], list[Chain]] = {}
    for table in rules.tables.values():
        base = [chain for chain in table.chains.values() if chain.hook]
        if table.family in ("ip", "ip6") and table.name in _IPTABLES_TABLES:
            table.compat = table.compat or all(chain.name in _IPTABLES_CHAINS for chain in base)
        for chain in base:
            for family in ("ip", "ip6") if table.family == "inet" else (table.family,):
                found.setdefault((family, chain.hook or ""), []).insert(0, chain)
    rules.hooks = {key: tuple(sorted(chains, key=lambda chain: chain.prio)) for key, chains in found.items()}
