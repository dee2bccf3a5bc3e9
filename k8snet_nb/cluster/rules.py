"""One node's rules: parsed when first asked for, the mode decided from them, and packets taken through them."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

from ..errors import FactMissing
from ..explain.chains import ChainEntry
from ..explain.hooks import foreign_tables
from ..explain.iptables import path as iptables_path
from ..explain.ipvs import path as ipvs_path
from ..explain.nft import path as nft_path
from ..explain.outcome import NodeView, Outcome, Packet, agreed
from ..explain.proxy_mode import Mode, ProxyMode, kube_proxy_tables, proxy_mode, virtual_servers
from ..facts import FactRef
from ..parse import iptables, nft
from ..parse.api import parse_object
from ..parse.facts_json import json_list
from ..parse.ipset import IpSet, parse_ipset
from ..parse.ipvs import VirtualServer, parse_rules
from ..parse.links import Link, Route, route_to
from ..sources.base import Source
from .chains import chain_entries

__all__ = ["NodeRules", "node_view"]

_SAVES = {4: ("iptables-save.txt", "iptables-legacy-save.txt"), 6: ("ip6tables-save.txt", "ip6tables-legacy-save.txt")}


class NodeRules:
    """The rules of one node. Every property raises FactMissing or FactBroken for its own fact only."""

    def __init__(self, source: Source, node: str) -> None:
        self.source, self.node = source, node
        self._saves: dict[str, iptables.Ruleset] = {}
        self._chosen: dict[int, iptables.Ruleset] = {}

    def _read(self, fact: str) -> bytes:
        return self.source.read(FactRef(fact, self.node))

    def _has(self, fact: str) -> bool:
        return self.source.has(FactRef(fact, self.node))

    def save(self, fact: str) -> iptables.Ruleset:
        """One ``iptables-save``, parsed."""
        if fact not in self._saves:
            self._saves[fact] = iptables.parse_iptables_save(self._read(fact), fact, f"node {self.node}")
        return self._saves[fact]

    def iptables(self, family: int) -> iptables.Ruleset:
        """The family's rules: of the flavour that holds kube-proxy's, where a node has both."""
        if family not in self._chosen:
            first, other = _SAVES[family]
            saves = [self.save(fact) for fact in (first, other) if self._has(fact)] or [self.save(first)]  # may raise
            self._chosen[family] = max(saves, key=_kube_chains)
        return self._chosen[family]

    @cached_property
    def nft(self) -> nft.Ruleset:
        """``nft -j list ruleset``, parsed."""
        return nft.parse_nft(self._read("nft.json"), f"node {self.node}")

    @cached_property
    def servers(self) -> tuple[VirtualServer, ...]:
        """``ipvsadm -Sn``, parsed."""
        return parse_rules(self._read("ipvs-save.txt"), f"node {self.node}")

    @cached_property
    def ipsets(self) -> Mapping[str, IpSet] | None:
        """``ipset save``, parsed; None when it was not collected."""
        return parse_ipset(self._read("ipset.txt"), f"node {self.node}") if self._has("ipset.txt") else None

    @cached_property
    def mode(self) -> ProxyMode:
        """Which data plane translates Services here, decided from what is programmed."""
        saves = [self.save(fact) for pair in _SAVES.values() for fact in pair if self._has(fact)]
        return proxy_mode(
            self.node,
            iptables=saves or None,
            nft=kube_proxy_tables(self.nft) if self._has("nft.json") else None,
            ipvs=virtual_servers(self.servers) if self._has("ipvs-save.txt") else None,
            own_word=self._own_word(),
            processes=self.commands,
            reasons=self._reasons(),
        )

    def _reasons(self) -> dict[str, str]:
        """Why facts that hold rules were not collected, as far as the node's record says."""
        facts = (*(pair[0] for pair in _SAVES.values()), "nft.json", "ipvs-save.txt")
        asked = {fact: self.source.trouble(FactRef(fact, self.node)) for fact in facts if not self._has(fact)}
        return {fact: why for fact, why in asked.items() if why}

    def _claimed_but_missing(self, family: int) -> Mode | None:
        """The mode that kube-proxy says it is in, where the rules of that mode were not collected."""
        facts: dict[Mode, tuple[str, ...]]
        facts = {"iptables": _SAVES[family], "nftables": ("nft.json",), "ipvs": ("ipvs-save.txt",)}
        said = next((mode for mode in facts if mode == self.mode.own_word), None)
        return said if said and not any(self._has(fact) for fact in facts[said]) else None

    def evaluate(self, packet: Packet, view: NodeView) -> Outcome:
        """What the node's data plane does with a packet. Raises FactMissing when its rules were not collected.

        Also when no Service is programmed in what was collected, and that lacks the rules of the mode kube-proxy names.
        Without a mode (none has Services programmed, or which of two wins cannot be told) ``unknown`` begins with why.
        """
        mode = self.mode
        if mode.mode is not None:
            return self._by(mode.mode, packet, view)
        if mode.found:
            outcome = agreed({found: self._by(found, packet, view) for found in mode.found})
        elif claimed := self._claimed_but_missing(packet.family):
            return self._by(claimed, packet, view)  # raises FactMissing with the reason
        elif any(self._has(fact) for fact in _SAVES[packet.family]):
            outcome = self._by("iptables", packet, view)  # no Service's rules, but others that may stop a packet
        elif {"nft.json", "ipvs-save.txt"} <= set(mode.unseen):
            return self._by("iptables", packet, view)  # raises FactMissing with the reason
        else:
            outcome = Outcome("none")
        return replace(outcome, unknown=(mode.why, *outcome.unknown))

    def _by(self, mode: Mode, packet: Packet, view: NodeView) -> Outcome:
        if mode == "nftables":
            return nft_path.evaluate(self.nft, packet, view)
        if mode == "ipvs":
            rules = self.iptables(packet.family) if any(self._has(fact) for fact in _SAVES[packet.family]) else None
            return ipvs_path.evaluate(self.servers, packet, view, rules, self.ipsets)
        return iptables_path.evaluate(self.iptables(packet.family), packet, view, ipsets=self.ipsets)

    @cached_property
    def chains(self) -> tuple[ChainEntry, ...]:
        """Every chain, map and set of the node, to be listed."""
        return chain_entries(self)

    def other_hooks(self) -> tuple[str, ...]:
        """Tables with hooks on a packet's way that :meth:`evaluate` does not look into, in words."""
        if self.mode.mode == "nftables":
            saves = [fact for pair in _SAVES.values() for fact in pair if "legacy" in fact and self._has(fact)]
            return tuple(
                f"{fact}: {name}"
                for fact in saves
                for name, table in self.save(fact).tables.items()
                if table.rule_count()
            )
        if not self._has("nft.json"):
            return ()
        return foreign_tables(self.nft)

    def _own_word(self) -> str | None:
        try:
            about = parse_object(self._read("node.json"), f"nodes/{self.node}/node")
        except FactMissing:
            return None
        word = about.get("kube_proxy_mode")
        return str(word) if word else None

    @cached_property
    def commands(self) -> list[str] | None:
        """The command lines of the node's processes; None when they were not collected."""
        ref = FactRef("processes.json", self.node)
        if not self.source.has(ref):
            return None
        return [str(process.get("cmdline", "")) for process in json_list(self.source.read(ref), ref)]


def _kube_chains(save: iptables.Ruleset) -> int:
    return sum(chain.startswith("KUBE-") for chain in save.tables.get("nat", ()))


def node_view(
    node: str,
    links: tuple[Link, ...],
    routes: tuple[Route, ...],
    ips: tuple[str, ...],
    pods: tuple[str, ...],
    cidrs: tuple[str, ...],
) -> NodeView:
    """What the rules' evaluators need to know of a node. ``pods``: addresses of its pods; ``cidrs``: its pod ranges.

    Without a pod range in the API, the routes to its pods tell the prefix.
    """
    to_pods = [route for route in (route_to(ip, routes) for ip in pods) if route is not None]
    networks = cidrs or tuple(dict.fromkeys(str(route.network) for route in to_pods if route.network.prefixlen))
    return NodeView(
        node,
        local=frozenset(a.address for link in links for a in link.addresses),
        primary=frozenset(ips),
        pod_addresses=frozenset(pods),
        pod_networks=tuple(str(ipaddress.ip_network(cidr, strict=False)) for cidr in networks),
        pod_interfaces=frozenset(route.dev for route in to_pods if route.dev),
    )
