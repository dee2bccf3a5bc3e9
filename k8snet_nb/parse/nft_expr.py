"""nft's JSON expressions and statements -> nft's own syntax (nft(8)), so that evidence reads as nft prints it.

Every word that comes from the JSON is checked or quoted, so text from a stranger's recording cannot smuggle in a
statement. What nft's JSON does not spell out (xtables expressions) is shown, and named in :class:`Problems`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

__all__ = ["Problems", "expression", "name", "quoted", "statement", "verdict"]

_WORD = re.compile(r"[A-Za-z0-9_./:\\+-]+|[!=<>]=?")
_NAME = re.compile(r"[A-Za-z_.][A-Za-z0-9_./\\-]*")
_UNQUALIFIED = frozenset(("iif", "iifname", "iifgroup", "oif", "oifname", "oifgroup"))
_QUOTED_META = frozenset(
    ("iif", "iifname", "oif", "oifname", "sdif", "sdifname", "ibrname", "obrname", "ibriport", "hour", "time", "day")
)
_VERDICTS = frozenset(("accept", "drop", "continue", "return", "notrack"))
_JUMPS = frozenset(("jump", "goto"))
_OPERATORS = frozenset(("|", "&", "^", "<<", ">>"))
_REJECTS_WITH = {"ip": "icmp", "ip6": "icmpv6", "inet": "icmpx", "bridge": "icmpx"}


class Problems(list[str]):
    """What could not be said in nft's syntax so that nft reads it back, in words; ``family`` is the table's."""

    def __init__(self, family: str = "") -> None:
        super().__init__()
        self.family = family

    def cannot(self, what: str, shown: str) -> str:
        """Note it once, and give what to show in its place."""
        if what not in self:
            self.append(what)
        return shown


def name(value: Any, problems: Problems) -> str:
    """The name of a table, chain, set or map."""
    text = str(value)
    return text if _NAME.fullmatch(text) else problems.cannot(f"name {text!r}", quoted(text, problems))


def quoted(value: Any, problems: Problems) -> str:
    """A quoted string. nft knows no escape for a double quote inside one."""
    text = str(value)
    if '"' in text or "\0" in text:
        problems.cannot(f"double quote in {text!r}", "")
        text = text.replace('"', "'").replace("\0", "")
    return f'"{text}"'


def _word(value: Any, problems: Problems) -> str:
    if isinstance(value, bool):
        return "exists" if value else "missing"
    text = str(value)
    return text if text == "*" or _WORD.fullmatch(text) else quoted(text, problems)


def _quotes(left: Any) -> list[bool]:
    """For each part of a left side: is its value a quoted string (interface names and times)?"""
    parts = left["concat"] if isinstance(left, dict) and "concat" in left else [left]
    return [isinstance(p, dict) and p.get("meta", {}).get("key") in _QUOTED_META for p in parts]


def _is_mark(left: Any) -> bool:
    if not isinstance(left, dict):
        return False
    if any(isinstance(left.get(kind), dict) and left[kind].get("key") == "mark" for kind in ("meta", "ct")):
        return True
    return any(op in left and any(_is_mark(part) for part in left[op]) for op in _OPERATORS)


def expression(value: Any, problems: Problems, quote: tuple[bool, ...] = (), mark: bool = False) -> str:
    """One expression. ``quote``: which concatenated parts are strings; ``mark``: show numbers as nft shows marks."""
    if isinstance(value, list):
        return ",".join(expression(part, problems, quote, mark) for part in value)
    if not isinstance(value, dict):
        if mark and type(value) is int:
            return f"0x{value:08x}"
        if isinstance(value, str) and value.startswith("@"):
            return "@" + name(value[1:], problems)
        return quoted(value, problems) if quote[:1] == (True,) and value != "*" else _word(value, problems)
    if not value:
        return problems.cannot("empty expression", "")
    kind, body = next(iter(value.items()))
    if kind in _OPERATORS:
        return _operation(kind, body, problems, mark or _is_mark(value))
    if kind in ("concat", "set", "prefix", "range", "elem"):
        return _COMPOUND[kind](body, problems, quote, mark)
    if kind in _SOURCES:
        return _SOURCES[kind](body, problems)
    if kind in _VERDICTS or kind in _JUMPS:
        return verdict(value, problems)
    return problems.cannot(f"expression {kind!r}", f"<{kind}>")


def _operation(kind: str, parts: list[Any], problems: Problems, mark: bool) -> str:
    def part(one: Any) -> str:
        if isinstance(one, list):
            return "(" + " | ".join(expression(flag, problems) for flag in one) + ")"
        nested = isinstance(one, dict) and next(iter(one)) in _OPERATORS
        text = expression(one, problems, mark=mark)
        return f"({text})" if nested and next(iter(one)) != kind else text

    return f" {kind} ".join(part(one) for one in parts)


def _concat(parts: Any, problems: Problems, quote: tuple[bool, ...], mark: bool) -> str:
    return " . ".join(expression(part, problems, quote[i : i + 1], mark) for i, part in enumerate(parts))


def _set(parts: Any, problems: Problems, quote: tuple[bool, ...], mark: bool) -> str:
    if isinstance(parts, str):
        return expression(parts, problems)
    items = [
        f"{expression(part[0], problems, quote, mark)} : {expression(part[1], problems)}"
        if isinstance(part, list) and len(part) == 2
        else expression(part, problems, quote, mark)
        for part in parts
    ]
    return "{ " + ", ".join(items) + " }"


def _elem(body: Any, problems: Problems, quote: tuple[bool, ...], mark: bool) -> str:
    text = expression(body["val"], problems, quote, mark)
    for key in ("timeout", "expires"):
        if body.get(key) is not None:
            text += f" {key} {_word(body[key], problems)}s"
    for key in ("counter", "limit"):
        if body.get(key):
            text += " " + statement({key: body[key]}, problems)
    return text + (f" comment {quoted(body['comment'], problems)}" if body.get("comment") else "")


def _prefix(body: Any, problems: Problems, quote: tuple[bool, ...], mark: bool) -> str:
    return f"{expression(body['addr'], problems, mark=mark)}/{int(body['len'])}"


def _range(body: Any, problems: Problems, quote: tuple[bool, ...], mark: bool) -> str:
    return "-".join(expression(end, problems, quote, mark) for end in body)


_COMPOUND: dict[str, Callable[[Any, Problems, tuple[bool, ...], bool], str]] = {
    "concat": _concat,
    "set": _set,
    "prefix": _prefix,
    "range": _range,
    "elem": _elem,
}


def _payload(body: Any, problems: Problems) -> str:
    if "base" in body:
        return f"@{_word(body['base'], problems)},{int(body['offset'])},{int(body['len'])}"
    return f"{_word(body['protocol'], problems)} {_word(body['field'], problems)}"


def _meta(body: Any, problems: Problems) -> str:
    key = body["key"]
    return key if key in _UNQUALIFIED else f"meta {_word(key, problems)}"


def _keyed(first: str, *before: str) -> Callable[[Any, Problems], str]:
    def render(body: Any, problems: Problems) -> str:
        words = [str(body[one]) for one in before if body.get(one)] + str(body["key"]).split(" ")
        return " ".join([first, *(_word(word, problems) for word in words)])

    return render


def _fib(body: Any, problems: Problems) -> str:
    flags = body["flags"] if isinstance(body["flags"], list) else [body["flags"]]
    return f"fib {' . '.join(_word(flag, problems) for flag in flags)} {_word(body['result'], problems)}"


def _hash(body: Any, problems: Problems, head: str) -> str:
    seed = f" seed {_word(hex(body['seed']), problems)}" if body.get("seed") else ""
    offset = f" offset {int(body['offset'])}" if body.get("offset") else ""
    return f"{head} mod {int(body['mod'])}{seed}{offset}"


def _map(body: Any, problems: Problems) -> str:
    return f"{expression(body['key'], problems)} map {_lookup_data(body, problems)}"


def _lookup_data(body: Any, problems: Problems) -> str:
    return expression(body["data"], problems, tuple(_quotes(body["key"])), _is_mark(body["key"]))


def _field_of(first: str) -> Callable[[Any, Problems], str]:
    def render(body: Any, problems: Problems) -> str:
        return " ".join([first, *(_word(body[key], problems) for key in ("name", "field") if body.get(key))]).strip()

    return render


_SOURCES: dict[str, Callable[[Any, Problems], str]] = {
    "payload": _payload,
    "meta": _meta,
    "ct": _keyed("ct", "dir"),
    "rt": _keyed("rt", "family"),
    "socket": _keyed("socket"),
    "fib": _fib,
    "numgen": lambda body, problems: _hash(body, problems, f"numgen {_word(body['mode'], problems)}"),
    "jhash": lambda body, problems: _hash(body, problems, f"jhash {expression(body['expr'], problems)}"),
    "symhash": lambda body, problems: _hash(body, problems, "symhash"),
    "map": _map,
    "tcp option": _field_of("tcp option"),
    "exthdr": _field_of("exthdr"),
}


def verdict(value: Any, problems: Problems) -> str:
    """A verdict: ``accept``, ``goto CHAIN`` and so on."""
    kind, body = next(iter(value.items()))
    return f"{kind} {name(body['target'], problems)}" if kind in _JUMPS else str(kind)


def statement(value: dict[str, Any], problems: Problems) -> str:
    """One entry of a rule's ``expr``."""
    kind, body = next(iter(value.items()))
    if kind in _STATEMENTS:
        return _STATEMENTS[kind](body, problems)
    if kind in _VERDICTS or kind in _JUMPS:
        return verdict(value, problems)
    if kind == "xt" and isinstance(body, dict):
        shown = f"xt {_word(body.get('type'), problems)} {quoted(body.get('name'), problems)}"
        return problems.cannot(f"xtables {body.get('type')} {body.get('name')!r}", shown)
    return problems.cannot(f"statement {kind!r}", f"<{kind}>")


def _match(body: Any, problems: Problems) -> str:
    left, right = body["left"], body["right"]
    text, mark = expression(left, problems), _is_mark(left)
    plain = body["op"] == "==" and _OPERATORS.isdisjoint(left)
    compare = "" if plain or body["op"] == "in" else f"{_word(body['op'], problems)} "
    return f"{text} {compare}{expression(right, problems, tuple(_quotes(left)), mark)}"


def _counter(body: Any, problems: Problems) -> str:
    if isinstance(body, str):
        return f"counter name {quoted(body, problems)}"
    return f"counter packets {int(body['packets'])} bytes {int(body['bytes'])}" if body else "counter"


def _limit(body: Any, problems: Problems) -> str:
    if isinstance(body, str):
        return f"limit name {quoted(body, problems)}"
    over = "over " if body.get("inv") else ""
    unit = f" {_word(body['rate_unit'], problems)}" if body.get("rate_unit", "packets") != "packets" else ""
    text = f"limit rate {over}{int(body['rate'])}{unit}/{_word(body.get('per', 'second'), problems)}"
    burst_unit = _word(body.get("burst_unit", "packets"), problems)
    return text + (f" burst {int(body['burst'])} {burst_unit}" if body.get("burst") else "")


def _quota(body: Any, problems: Problems) -> str:
    if isinstance(body, str):
        return f"quota name {quoted(body, problems)}"
    over = "over " if body.get("inv") else ""
    used = f" used {int(body['used'])} {_word(body.get('used_unit', 'bytes'), problems)}" if body.get("used") else ""
    return f"quota {over}{int(body['val'])} {_word(body['val_unit'], problems)}{used}"


def _log(body: Any, problems: Problems) -> str:
    words = ["log"]
    for key in ("prefix", "group", "snaplen", "queue-threshold", "level"):
        if body and body.get(key) is not None:
            words += [key, quoted(body[key], problems) if key == "prefix" else _word(body[key], problems)]
    flags = body.get("flags") if body else None
    return " ".join(words + (["flags", expression(flags, problems)] if flags else []))


def _reject(body: Any, problems: Problems) -> str:
    if not body or "type" not in body:
        return "reject"
    if body["type"] == "tcp reset":
        return "reject with tcp reset"
    if body.get("expr") == "port-unreachable" and body["type"] == _REJECTS_WITH.get(problems.family):
        return "reject"
    return f"reject with {_word(body['type'], problems)} {_word(body['expr'], problems)}"


def _nat(kind: str) -> Callable[[Any, Problems], str]:
    def render(body: Any, problems: Problems) -> str:
        body = body or {}
        family = f" {_word(body['family'], problems)}" if body.get("family") else ""
        prefix = " prefix" if "prefix" in _listed(body.get("type_flags")) else ""
        text = f"{kind}{family}{prefix}"
        target = expression(body["addr"], problems) if "addr" in body else ""
        if target.count(":") > 1 and "port" in body and isinstance(body["addr"], str):
            target = f"[{target}]"
        port = f":{expression(body['port'], problems)}" if "port" in body else ""
        flags = [_word(flag, problems) for flag in _listed(body.get("flags")) if flag != "netmap"]
        return text + (f" to {target}{port}" if target or port else "") + (f" {','.join(flags)}" if flags else "")

    return render


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _mangle(body: Any, problems: Problems) -> str:
    key, mark = body["key"], _is_mark(body["key"])
    return f"{expression(key, problems)} set {expression(body['value'], problems, tuple(_quotes(key)), mark)}"


def _vmap(body: Any, problems: Problems) -> str:
    return f"{expression(body['key'], problems)} vmap {_lookup_data(body, problems)}"


def _set_statement(body: Any, problems: Problems) -> str:
    extra = "".join(" " + statement(one, problems) for one in body.get("stmt", ()))
    data = f" : {expression(body['data'], problems)}" if "data" in body else ""
    target = expression(body.get("set", body.get("map")), problems)
    return f"{_word(body['op'], problems)} {target} {{ {expression(body['elem'], problems)}{extra}{data} }}"


def _map_statement(body: Any, problems: Problems) -> str:
    return _set_statement(body, problems) if "op" in body else _map(body, problems)


def _queue(body: Any, problems: Problems) -> str:
    flags = _listed((body or {}).get("flags"))
    head = f"queue flags {expression(flags, problems)}" if flags else "queue"
    return head + (f" to {expression(body['num'], problems)}" if body and "num" in body else "")


_STATEMENTS: dict[str, Callable[[Any, Problems], str]] = {
    "match": _match,
    "counter": _counter,
    "limit": _limit,
    "quota": _quota,
    "log": _log,
    "reject": _reject,
    "dnat": _nat("dnat"),
    "snat": _nat("snat"),
    "masquerade": _nat("masquerade"),
    "redirect": _nat("redirect"),
    "mangle": _mangle,
    "vmap": _vmap,
    "set": _set_statement,
    "map": _map_statement,
    "queue": _queue,
    "ct count": lambda body, p: f"ct count {'over ' if body.get('inv') else ''}{int(body['val'])}",
    "ct helper": lambda body, p: f"ct helper set {quoted(body, p)}",
    "ct timeout": lambda body, p: f"ct timeout set {quoted(body, p)}",
    "ct expectation": lambda body, p: f"ct expectation set {quoted(body, p)}",
    "flow": lambda body, p: f"flow {_word(body['op'], p)} {expression(body['flowtable'], p)}",
}
