"""The chains, maps and sets of a node from the façade: one table of all, and one of them as its tool lists it."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import pandas as pd

from ..errors import FactMissing, NotFound
from ..explain.chains import ChainEntry, ChainView, iptables_chains, nft_chains
from ..facts import FactRef
from ..render import printable
from .tables import chains_frame

if TYPE_CHECKING:
    from .rules import NodeRules

__all__ = ["chain_entries", "chain_frame_of", "chain_view"]

_SAVES = ("iptables-save.txt", "ip6tables-save.txt", "iptables-legacy-save.txt", "ip6tables-legacy-save.txt")


def chain_entries(rules: NodeRules) -> tuple[ChainEntry, ...]:
    """Everything that can be listed of a node. Raises FactMissing when none of its rules were collected."""
    source, found = rules.source, list[ChainEntry]()
    for fact in _SAVES:
        ref = FactRef(fact, rules.node)
        if source.has(ref):
            found += iptables_chains(rules.save(fact), rules.node, source.command(ref))
    ref = FactRef("nft.json", rules.node)
    if source.has(ref):
        found += nft_chains(rules.nft, rules.node, source.command(ref))
    if not found:
        raise FactMissing("iptables-save.txt, nft.json", f"node {rules.node}", "no rules were collected")
    return tuple(found)


def chain_frame_of(rules: NodeRules) -> pd.DataFrame:
    """One row a chain, map or set: key tool table name kind size about."""
    return chains_frame(rules.chains)


def chain_view(rules: NodeRules, name: str, table: str | None, holding: str) -> ChainView:
    """The chain of that name (or key); of several, that of ``table``, else the one with the most rules.

    Raises NotFound with the nearest names.
    """
    fits = [one for one in rules.chains if name in (one.name, one.key) and table in (None, one.table)]
    if not fits:
        near = difflib.get_close_matches(name, dict.fromkeys(one.name for one in rules.chains), n=3, cutoff=0.6)
        hint = f"Near: {', '.join(near)}" if near else "See node.chains()"
        where = f" in table {table}" if table else ""
        raise NotFound(printable(f"node {rules.node} has no chain, map or set {name!r}{where}. {hint}"))
    return max(fits, key=lambda one: one.size).view(holding=holding)
