"""What a data plane looks at until it finds a Service: rules one after the other, and look-ups in maps and hashes.

Counted in the node's own rules, for the first packet of a connection from a pod (PREROUTING, table nat); later packets
of it are translated by conntrack and see none of this. Rules of other tables (filter) are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..parse.iptables import Chain, Rule
from ..parse.iptables import Ruleset as Iptables
from ..parse.ipvs import VirtualServer
from ..parse.nft import Rule as NftRule
from ..parse.nft import Ruleset as Nft
from ..parse.nft_text import rule_text
from .programmed import Key

__all__ = ["Lookup", "in_iptables", "in_ipvs", "in_nft"]


@dataclass(frozen=True, slots=True)
class Lookup:
    """One entry of a Service: ``rules`` compared up to the one that finds it, ``tables`` (maps, sets) looked into."""

    key: Key
    rules: int
    tables: int
    found_by: str


def in_iptables(rules: Iptables, family: int) -> Iterator[Lookup]:
    """KUBE-SERVICES from its first rule on; a NodePort after all of it, in KUBE-NODEPORTS."""
    chain, ports = rules.chain("nat", "KUBE-SERVICES"), rules.chain("nat", "KUBE-NODEPORTS")
    hook = rules.chain("nat", "PREROUTING")
    before = _until(hook, "KUBE-SERVICES")
    for at, rule in enumerate(chain.rules() if chain else (), 1):
        key = _wanted(rule, family)
        if key is not None and key[1] is not None and (rule.target or "").startswith("KUBE-"):
            yield Lookup(key, before + at, 0, f"rule {at} of {len(chain or ())} in KUBE-SERVICES")
    for at, rule in enumerate(ports.rules() if ports else (), 1):
        key = _wanted(rule, family)
        if key is not None and key[1] is None:
            yield Lookup(key, before + len(chain or ()) + at, 0, f"rule {at} of {len(ports or ())} in KUBE-NODEPORTS")


def _until(chain: Chain | None, target: str) -> int:
    rules = list(chain.rules()) if chain is not None else []
    return next((at for at, rule in enumerate(rules, 1) if rule.target == target), 0)


def _wanted(rule: Rule, family: int) -> Key | None:
    """Address (None: any of the node's), port and protocol that a rule asks for."""
    found: dict[str, str] = {}
    for match in rule.matches:
        for option in match.options:
            if option.negated and option.name in ("-d", "--dport", "-p"):
                return None
            found[option.name] = option.value
    if "--dport" not in found or "-p" not in found or not found["--dport"].isdigit():
        return None
    address = found["-d"].partition("/")[0] if "-d" in found else None
    if address is not None and address.startswith("127."):
        return None
    return family, address, int(found["--dport"]), found["-p"]


def in_nft(rules: Nft, entries: Sequence[Key]) -> Iterator[Lookup]:
    """One map holds all: the same few rules whatever the Service."""
    for family, name in (("ip", 4), ("ip6", 6)):
        table = rules.table(family, "kube-proxy")
        hook = table.chains.get("nat-prerouting") if table else None
        services = table.chains.get("services") if table else None
        if table is None or hook is None or services is None:
            continue
        for key in entries:
            if key[0] != name:
                continue
            wanted = "@service-nodeports" if key[1] is None else "@service-ips"
            texts = [rule_text(rule) for rule in [*hook.rules, *services.rules]]
            at = next((i for i, text in enumerate(texts, 1) if wanted in text), None)
            held = table.sets[wanted[1:]].exact if wanted[1:] in table.sets else {}
            element = (key[3], key[2]) if key[1] is None else (key[1], key[3], key[2])
            if at is not None and element in held:
                size = len(held)
                looked = sum(_looks(rule) for rule in [*hook.rules, *services.rules][:at])
                yield Lookup(key, at, looked, f"one look-up in map {wanted[1:]} of {size} elements")


def _looks(rule: NftRule) -> int:
    return str(rule.expr).count("'@")


def in_ipvs(servers: Sequence[VirtualServer], rules: Iptables | None, entries: Sequence[Key]) -> Iterator[Lookup]:
    """A hash of virtual servers; the few iptables rules before it are the same for all."""
    hook = rules.chain("nat", "PREROUTING") if rules else None
    chain = rules.chain("nat", "KUBE-SERVICES") if rules else None
    before = _until(hook, "KUBE-SERVICES") + len(chain or ())
    sets = sum(any(match.module == "set" for match in rule.matches) for rule in (chain.rules() if chain else ()))
    held = {(one.address, one.protocol, one.port) for one in servers}
    ports = {(one.protocol, one.port) for one in servers}
    for key in entries:
        if (key[1], key[3], key[2]) not in held and (key[1] is not None or (key[3], key[2]) not in ports):
            continue
        yield Lookup(key, before, sets + 1, f"one look-up in the hash of {len(servers)} virtual servers")
