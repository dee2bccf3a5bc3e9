"""``nft -j list ruleset`` under new names. A range of addresses becomes the networks that hold its image."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from typing import Any

from .redact_rules import RuleRedaction

__all__ = ["redact_nft"]


def redact_nft(rules: RuleRedaction, content: bytes) -> bytes:
    """The ruleset. Raises ValueError for what is no JSON, or translates to a range that is no network."""
    return (json.dumps(_Nft(rules).value(json.loads(content), "")) + "\n").encode()


class _Nft:
    def __init__(self, rules: RuleRedaction) -> None:
        self.rules, self.addresses, self.names = rules, rules.addresses, rules.names
        self._renamed: dict[str, Callable[[str], str]] = {
            "comment": rules.comment,
            "chain": rules.chain,
            "target": rules.chain,
            "table": rules.table,
            "log": lambda _text: "prefix",
            "prefix": lambda _text: "prefix",  # of log; of an address it is a dict
            "log_prefix": lambda _text: "prefix",
            "name": rules.named,
            "dev": rules.names.interface,
            "interface": rules.names.interface,
        }

    def value(self, value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return self._dict(value)
        if isinstance(value, list):
            if key in ("set", "elem"):
                return [one for raw in value for one in self.elements(raw)]
            return [self.value(one, key) for one in value]
        return self.text(value, key) if isinstance(value, str) else value

    def _dict(self, value: dict[str, Any]) -> dict[str, Any]:
        if set(value) == {"prefix"} and isinstance(value["prefix"], dict):
            prefix = dict(value["prefix"])
            prefix["addr"] = self.addresses.network(str(prefix["addr"]), int(prefix["len"]))
            return {"prefix": prefix}
        if _is_range(value):
            return {"range": self.addresses.span(*map(str, value["range"])).split("-")}
        if isinstance(value.get("match"), dict) and "right" in value["match"]:
            return {**value, "match": self._match(value["match"])}
        if isinstance(value.get("table"), dict):  # the entry of a table; elsewhere the word is a reference to one
            return {
                "table": {
                    **value["table"],
                    "name": self.rules.table(str(value["table"].get("name"))),
                    **self._note(value["table"]),
                }
            }
        return {name: one if name == "xt" else self.value(one, name) for name, one in value.items()}

    def _note(self, table: dict[str, Any]) -> dict[str, str]:
        return {"comment": self.rules.comment(str(table["comment"]))} if table.get("comment") else {}

    def _match(self, match: dict[str, Any]) -> dict[str, Any]:
        told = {key: self.value(one, key) for key, one in match.items() if key != "right"}
        right = match["right"]
        if isinstance(match.get("left"), dict) and _key(match["left"]) in ("iifname", "oifname", "iif", "oif"):
            return {**told, "right": self._interfaces(right)}
        several = self.elements(right) if isinstance(right, dict) and "set" not in right else [self.value(right, "")]
        return {**told, "right": several[0] if len(several) == 1 else {"set": several}}

    def _interfaces(self, value: Any) -> Any:
        """Names of interfaces, alone or in a set."""
        if isinstance(value, str):
            return f"@{self.rules.named(value[1:])}" if value.startswith("@") else self.names.interface(value)
        if isinstance(value, list):
            return [self._interfaces(one) for one in value]
        return {key: self._interfaces(one) for key, one in value.items()} if isinstance(value, dict) else value

    def elements(self, value: Any) -> list[Any]:
        """What becomes of one element: a range of addresses of several networks becomes several."""
        if isinstance(value, list) and len(value) == 2:  # of a map: key and data
            data = self.value(value[1], "")
            return [[key, data] for key in self.elements(value[0])]
        if not isinstance(value, dict):
            return [self.value(value, "")]
        if _is_range(value):
            found = self.addresses.networks(*map(str, value["range"]))
            return [_network(str(one.network_address), one.prefixlen, one.max_prefixlen) for one in found]
        if isinstance(value.get("concat"), list):
            parts = product(*(self.elements(one) for one in value["concat"]))
            return [{"concat": list(one)} for one in parts]
        if isinstance(value.get("elem"), dict) and "val" in value["elem"]:
            rest = {key: self.value(one, key) for key, one in value["elem"].items() if key != "val"}
            return [{"elem": {"val": one, **rest}} for one in self.elements(value["elem"]["val"])]
        return [self.value(value, "")]

    def text(self, text: str, key: str) -> str:
        if text.startswith("@"):
            return f"@{self.rules.named(text[1:])}"
        known = self._renamed.get(key)
        if known is not None:
            return known(text)
        return self.addresses.strict(self.names.learnt_interface(text))


def _network(address: str, length: int, whole: int) -> Any:
    return address if length == whole else {"prefix": {"addr": address, "len": length}}


def _key(left: dict[str, Any]) -> Any:
    meta = left.get("meta")
    return meta.get("key") if isinstance(meta, dict) else None


def _is_range(value: dict[str, Any]) -> bool:
    ends = value.get("range")
    return isinstance(ends, list) and len(ends) == 2 and any(_looks_like_address(one) for one in ends)


def _looks_like_address(value: Any) -> bool:
    return isinstance(value, str) and (value.count(".") == 3 or ":" in value)
