"""A node's recorded rules -> the commands that load them, in their order. Pure: nothing is run here.

Sets first, as rules refer to them; then iptables and ip6tables in the flavour that the node used, nft's own tables in
the order of their making, virtual servers last. Accounting objects (``Loaded.nfacct``) are to be made before, and so
are the interfaces: a rule may name one by its number.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ...errors import FactBroken, FactMissing
from ...facts import FactRef
from ...parse.ipset import parse_ipset
from ...parse.iptables import Ruleset, parse_iptables_save
from ...parse.ipvs import parse_rules
from ...parse.nft import parse_nft
from ...sources.base import Source
from ..model import LeftOut, Step
from .ipset import set_step
from .iptables import restore_step
from .ipvs import server_step
from .nft import table_steps

__all__ = ["Loaded", "rule_steps"]

_SAVES = ("iptables-save.txt", "ip6tables-save.txt", "iptables-legacy-save.txt", "ip6tables-legacy-save.txt")
_EXPECTED = frozenset(("iptables-save.txt", "ip6tables-save.txt", "nft.json"))
"""Of these it is said when they were not recorded; other facts are lacking on most nodes, which do without."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Loaded:
    """How a node's rules are loaded: the accounting objects to make, the steps to run, what is left out.

    ``guest``: it has virtual servers, so it needs a kernel with IPVS.
    """

    steps: tuple[Step, ...]
    nfacct: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    guest: bool


def rule_steps(source: Source, node: str) -> Loaded:
    """The steps of one node. A fact that is broken, or not recorded, is in ``left_out`` with the reason."""
    reader = _Reader(source, node)
    sets = reader.sets()
    iptables = reader.iptables()
    early, late = reader.nft()
    servers = reader.virtual_servers()
    return Loaded(
        (*sets, *early, *iptables, *late, *servers),
        tuple(reader.nfacct),
        tuple(reader.left_out),
        bool(servers),
    )


@dataclass(slots=True)
class _Reader:
    """Reads a node's facts one after the other, and keeps what is left out."""

    source: Source
    node: str
    left_out: list[LeftOut] = field(default_factory=list)
    nfacct: dict[str, None] = field(default_factory=dict)
    by_iptables_nft: set[tuple[str, str]] = field(default_factory=set)

    def _parsed(self, fact: str, parse: Callable[[bytes], _T]) -> _T | None:
        ref = FactRef(fact, self.node)
        try:
            return parse(self.source.read(ref))
        except FactMissing as error:
            if self._expected(fact):
                self.left_out.append(LeftOut(self.node, fact, "", f"it was not recorded: {error.why}"))
        except FactBroken as error:
            self.left_out.append(LeftOut(self.node, fact, "", f"it cannot be read: {error.why}"))
        return None

    def _expected(self, fact: str) -> bool:
        """Whether a node that was read should have it: not where iptables of the other flavour told its rules."""
        if fact == "ipvs-save.txt":
            return self._about().get("kube_proxy_mode") == "ipvs"
        legacy = fact.replace("tables-save", "tables-legacy-save")
        return fact in _EXPECTED and (fact not in _SAVES or not self._has(legacy))

    def _has(self, fact: str) -> bool:
        try:
            return bool(self.source.read(FactRef(fact, self.node)))
        except (FactMissing, FactBroken):
            return False

    def _about(self) -> dict[str, Any]:
        """node.json, empty where there is none."""
        try:
            about = json.loads(self.source.read(FactRef("node.json", self.node)))
        except (FactMissing, FactBroken, ValueError):
            return {}
        return about if isinstance(about, dict) else {}

    def sets(self) -> list[Step]:
        read = self._parsed("ipset.txt", lambda data: (parse_ipset(data, self.node), data.decode()))
        if read is None:
            return []
        step, left_out = set_step(*read, self.node)
        self.left_out += left_out
        return [step] if step else []

    def iptables(self) -> list[Step]:
        steps, seen = [], set[tuple[int, str]]()
        for fact in _SAVES:
            save = self._parsed(fact, lambda data, fact=fact: parse_iptables_save(data, fact, self.node))  # type: ignore[misc]
            if save is None or not (save.tables or save.problems):
                continue
            flavour = self._flavour(save)
            if flavour is None:
                why = "neither its header nor node.json says which flavour of iptables it is of"
                self.left_out.append(LeftOut(self.node, fact, "", why))
            elif (save.family, flavour) not in seen:  # else the same rules, recorded under both names
                seen.add((save.family, flavour))
                steps += self._restore(save, flavour)
        return steps

    def _restore(self, save: Ruleset, flavour: str) -> list[Step]:
        step, nfacct, left_out = restore_step(save, flavour, self.node)
        self.nfacct.update(dict.fromkeys(nfacct))
        self.left_out += left_out
        if flavour == "nft":
            self.by_iptables_nft.update(("ip6" if save.family == 6 else "ip", name) for name in save.tables)
        return [step] if step else []

    def _flavour(self, save: Ruleset) -> str | None:
        if "legacy" in save.fact:
            return "legacy"
        tools = self._about().get("tools")
        said = str(tools.get("iptables")) if isinstance(tools, dict) else ""
        by_tool = "nft" if "nf_tables" in said else "legacy" if "legacy" in said else None
        return save.flavour or by_tool

    def nft(self) -> tuple[list[Step], list[Step]]:
        rules = self._parsed("nft.json", lambda data: parse_nft(data, self.node))
        if rules is None:
            return [], []
        tables, left_out = table_steps(rules, self.node, self.by_iptables_nft)
        self.left_out += left_out
        return [one.step for one in tables if one.early], [one.step for one in tables if not one.early]

    def virtual_servers(self) -> list[Step]:
        servers = self._parsed("ipvs-save.txt", lambda data: parse_rules(data, self.node))
        step, left_out = server_step(servers or (), self.node)
        self.left_out += left_out
        return [step] if step else []
