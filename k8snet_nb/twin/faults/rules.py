"""Faults in the rules of one node: what kube-proxy wrote is no longer what it wrote. In each of its three modes.

A rule that is changed comes back as it was, at its place in its chain: rules of iptables by their number, a chain of
nftables as a whole (a rule that is made anew has another handle), a virtual server with its real servers in order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from ...errors import Refused
from ...parse import iptables, iptables_rule, nft
from ...parse.ipvs import VirtualServer
from ...parse.nft_expr import Problems, name
from ...parse.nft_text import element_text, rule_text
from ...text import socket_text
from .scene import Change, Fault, Scene, Target, choose, tool, unused

__all__ = ["rule_deleted", "stale_endpoint"]

_TABLE = "kube-proxy"
_JUMPS = re.compile(r"\b(?:goto|jump) ([^\s,}]+)")


@dataclass(frozen=True, slots=True)
class _Swap:
    """An endpoint of a Service that is to be another one, for this Service alone."""

    target: Target
    old: str
    new: str
    port: int


def rule_deleted(scene: Scene, rng: Random, node: str | None) -> Fault:
    """The rule that leads a Service's address to its endpoints is gone from one node."""
    where, target = _place(scene, rng, node)
    delete = {"iptables": _iptables_deleted, "nftables": _nft_deleted, "ipvs": _ipvs_deleted}[str(scene.mode(where))]
    return Fault(
        f"On {where}, no client gets an answer of {target.text}. The same clients are served by other Services, and "
        "clients on other nodes by this one.",
        f"the rule of {where} that leads {target.address}:{target.port} to the endpoints of {target.service} is gone",
        (where,),
        delete(scene, where, target),
    )


def stale_endpoint(scene: Scene, rng: Random, node: str | None) -> Fault:
    """One node still sends to an address that no pod has any more, in place of the one that the API says."""
    where, target = _place(scene, rng, node)
    one = choose(rng, [e for e in target.endpoints if e.port], "no endpoint with a port")
    swap = _Swap(target, one.address, unused(one.address, 24, scene.taken()), one.port or 0)
    change = {"iptables": _iptables_stale, "nftables": _nft_stale, "ipvs": _ipvs_stale}[str(scene.mode(where))]
    share = f"one in {len(target.endpoints)}"
    return Fault(
        f"On {where}, about {share} connections to {target.text} comes to nothing. On other nodes all of them succeed.",
        f"{where} sends connections of {target.service} to {swap.new}, which no pod has, instead of to {swap.old}",
        (where,),
        change(scene, where, swap),
    )


def _place(scene: Scene, rng: Random, node: str | None) -> tuple[str, Target]:
    nodes = [one for one in scene.nodes() if node in (None, one) and scene.mode(one)]
    where = choose(rng, nodes, f"no rules for Services on {node or 'any node'}")
    return where, choose(rng, scene.targets(), "no Service with two endpoints or more")


# iptables


def _restore(save: iptables.Ruleset, *lines: str) -> dict[str, object]:
    flavour = "legacy" if "legacy" in save.fact else save.flavour or "legacy"
    argv = (f"iptables-{flavour}-restore", "-w", "10", "--noflush")
    return {**tool(*argv, stdin="\n".join(["*nat", *lines, "COMMIT", ""]))}


def _iptables_deleted(scene: Scene, node: str, target: Target) -> tuple[Change, ...]:
    save = scene.iptables(node)
    number, rule = _dispatch(save, target)
    again = f"-I {rule.chain} {number} {_words(rule)}"
    return (Change(node, _restore(save, f"-D {rule.chain} {number}"), _restore(save, again)),)


def _iptables_stale(scene: Scene, node: str, swap: _Swap) -> tuple[Change, ...]:
    save = scene.iptables(node)
    chain = _endpoint_chain(save, _dispatch(save, swap.target)[1].target or "", f"{swap.old}:{swap.port}")
    pairs = []
    for number, rule in enumerate(chain.rules(), 1):
        words = _words(rule)
        other = words.replace(f"-s {swap.old}/32 ", f"-s {swap.new}/32 ")
        other = other.replace(f"--to-destination {swap.old}:", f"--to-destination {swap.new}:")
        if other != words:
            pairs.append((f"-R {chain.name} {number} {other}", f"-R {chain.name} {number} {words}"))
    return (Change(node, _restore(save, *(do for do, _ in pairs)), _restore(save, *(undo for _, undo in pairs))),)


def _words(rule: iptables_rule.Rule) -> str:
    return rule.text.removeprefix(f"-A {rule.chain} ")


def _dispatch(save: iptables.Ruleset, target: Target) -> tuple[int, iptables_rule.Rule]:
    chain = save.chain("nat", "KUBE-SERVICES")
    for number, rule in enumerate(chain.rules() if chain else (), 1):
        options = {option.name: option.value for match in rule.matches for option in match.options}
        meant = (options.get("-d"), options.get("-p"), options.get("--dport"))
        if meant == (f"{target.address}/32", target.protocol, str(target.port)) and rule.target:
            return number, rule
    raise Refused(f"no rule of {save.where} leads to {target.text}")


def _endpoint_chain(save: iptables.Ruleset, service: str, socket: str) -> iptables.Chain:
    start = save.chain("nat", service)
    for rule in start.rules() if start else ():
        chain = save.chain("nat", rule.target or "")
        if chain and any(_destination(one) == socket for one in chain.rules()):
            return chain
    raise Refused(f"no rule of {save.where} leads to {socket}")


def _destination(rule: iptables_rule.Rule) -> str:
    option = rule.target_option("--to-destination")
    return option.value if option else ""


# nftables


def _nft_deleted(scene: Scene, node: str, target: Target) -> tuple[Change, ...]:
    services, element = _nft_entry(scene, node, target)
    text = element_text(services, element)
    place = f"element ip {_TABLE} {services.name}"
    do = f"delete {place} {{ {text.partition(' : ')[0]} }}\n"
    return (
        Change(node, tool("nft", "-f", "-", stdin=do), tool("nft", "-f", "-", stdin=f"add {place} {{ {text} }}\n")),
    )


def _nft_stale(scene: Scene, node: str, swap: _Swap) -> tuple[Change, ...]:
    table = scene.nft(node).table("ip", _TABLE)
    chains = dict(table.chains) if table else {}
    _, element = _nft_entry(scene, node, swap.target)
    seen: set[str] = set()
    todo = [_goal(element.data)]
    changes = []
    while todo:
        chain = chains.get(todo.pop())
        if chain is None or chain.name in seen:
            continue
        seen.add(chain.name)
        before = [rule_text(rule) for rule in chain.rules]
        after = [_swapped(text, swap) for text in before]
        if after != before:
            changes.append(Change(node, _chain_request(chain, after), _chain_request(chain, before)))
        todo += [goal for text in before for goal in _JUMPS.findall(text)]
    if not changes:
        raise Refused(f"no rule of {node} leads to {swap.old}:{swap.port}")
    return tuple(changes)


def _swapped(text: str, swap: _Swap) -> str:
    text = text.replace(f"{swap.old} . {swap.port}", f"{swap.new} . {swap.port}")
    text = text.replace(f"dnat to {swap.old}:{swap.port}", f"dnat to {swap.new}:{swap.port}")
    return text.replace(f"ip saddr {swap.old} ", f"ip saddr {swap.new} ")


def _chain_request(chain: nft.Chain, rules: Sequence[str]) -> dict[str, object]:
    """The chain's rules anew, in one transaction."""
    called = f"ip {_TABLE} {name(chain.name, Problems())}"
    lines = [f"flush chain {called}", *(f"add rule {called} {text}" for text in rules), ""]
    return {**tool("nft", "-f", "-", stdin="\n".join(lines))}


def _nft_entry(scene: Scene, node: str, target: Target) -> tuple[nft.NftSet, nft.Element]:
    table = scene.nft(node).table("ip", _TABLE)
    services = table.sets.get("service-ips") if table else None
    element = services.get((target.address, target.protocol, target.port)) if services else None
    if services is None or element is None:
        raise Refused(f"no rule of {node} leads to {target.text}")
    return services, element


def _goal(verdict: object) -> str:
    """The chain of a verdict, such as ``{"goto": {"target": NAME}}``."""
    jumps = verdict.values() if isinstance(verdict, dict) else ()
    return next((str(jump["target"]) for jump in jumps if isinstance(jump, dict) and "target" in jump), "")


# IPVS


def _ipvs_deleted(scene: Scene, node: str, target: Target) -> tuple[Change, ...]:
    virtual = _virtual(scene, node, target)
    return (Change(node, _without(target), _made_again(virtual)),)


def _ipvs_stale(scene: Scene, node: str, swap: _Swap) -> tuple[Change, ...]:
    virtual = _virtual(scene, node, swap.target)
    old, new = socket_text(swap.old, swap.port), socket_text(swap.new, swap.port)
    if not any(socket_text(one.address, one.port) == old for one in virtual.servers):
        raise Refused(f"no virtual server of {node} leads to {old}")
    other = _made_again(virtual, lambda line: line.replace(f" -r {old} ", f" -r {new} "))
    return (
        Change(node, _without(swap.target), _made_again(virtual)),
        Change(node, other, _without(swap.target)),
    )


def _without(target: Target) -> dict[str, object]:
    return {**tool("ipvsadm", "-D", f"-{target.protocol[0]}", socket_text(target.address, target.port))}


def _made_again(virtual: VirtualServer, edit: Callable[[str], str] = str) -> dict[str, object]:
    lines = [virtual.text, *(edit(one.text) for one in virtual.servers), ""]
    return {**tool("ipvsadm", "-R", stdin="\n".join(lines))}


def _virtual(scene: Scene, node: str, target: Target) -> VirtualServer:
    for one in scene.servers(node):
        if (one.address, one.port, one.protocol) == (target.address, target.port, target.protocol):
            return one
    raise Refused(f"no virtual server of {node} leads to {target.text}")
