"""What a node's nftables rules do with a packet: :func:`evaluate`, with the rules that decided as its steps.

No chain or set has a meaning by its name here; only the words of a step (``says``) use kube-proxy's names.
"""

from __future__ import annotations

from dataclasses import replace

from ...parse.nft import Chain, NftSet, Rule, Ruleset
from ...parse.nft_text import chain_text, element_text, rule_text
from ..outcome import Action, Choice, NodeView, Outcome, Packet, Step
from .run import Mark, Run
from .source import Ranges, Sources, canonical, part_range
from .tree import End, Folded, Guide, explore
from .values import State

__all__ = ["evaluate", "masquerade_inside"]

FACT = "nft.json"


def evaluate(rules: Ruleset, packet: Packet, view: NodeView) -> Outcome:
    """Follow a connection's first packet through all tables that hook into its way.

    Chances are exact. What the recorded facts do not decide is in ``unknown``. Raises FactBroken for rules that jump
    in a circle or to a chain or set that is not there, ValueError for a packet with something that is no address.
    """
    notes, marks, affinities = dict[str, None](), dict[int, dict[str, Mark]](), set[int]()
    blind = dict[tuple[str, str], set[int]]()
    anonymous: dict[int, NftSet] = {}
    source = None if packet.src is None else canonical(packet.src)
    inside = masquerade_inside(rules, packet.family) if packet.client == "outside" and source is None else ()

    def run(guide: Guide) -> tuple[End, bool]:
        state = State(packet, view, source, canonical(packet.dst), packet.dport)
        way = Run.make(rules, state, Sources(packet, view, inside), guide, anonymous, notes)
        end = way.go()
        for mark in way.marks:
            marks.setdefault(id(mark.rule or mark.chain), {}).setdefault(str(mark.element and mark.element.key), mark)
        affinities.update(() if state.affinity is None else (state.affinity,))
        for key, handles in way.blind.items():
            blind.setdefault(key, set()).update(handles)
        return end, state.snat

    folded, complete = explore(run)
    unknown = [*notes, *folded.notes, *_blind_notes(blind), *_ingress_notes(rules)]
    unknown += [] if complete else ["the rules fork into too many ways; only the first ones were followed"]
    action = _action(folded, unknown)
    choices = tuple(
        Choice(end.address, end.port, share, None, masquerade)
        for end, (share, masquerade) in folded.ends.items()
        if end.action == "dnat" == action
    )
    if any(choice.probability is None for choice in choices):
        unknown.append("the rules choose by a hash of the packet, so no chance can be given")
    steps = tuple(_step(mark) for group in marks.values() for mark in group.values())
    affinity = max(affinities, default=None) if action == "dnat" else None
    return Outcome(
        action,
        choices,
        affinity=affinity,
        source_ranges=_ranges(rules, packet, view, folded, action),
        steps=steps,
        unknown=tuple(dict.fromkeys(unknown)),
        partial=not complete,
    )


def _ranges(rules: Ruleset, packet: Packet, view: NodeView, folded: Folded, action: Action) -> tuple[str, ...]:
    """Who alone may come in: a property of the entry, also where a known source leaves the rules nothing to ask."""
    refused = action in ("drop", "reject")
    if folded.ranges or (packet.src is None and (packet.client == "outside" or not refused)):
        return folded.ranges
    anyone = replace(packet, src=None, client="outside" if refused else packet.client)
    return evaluate(rules, anyone, view).source_ranges


def masquerade_inside(rules: Ruleset, family: int) -> Ranges:
    """The source prefixes that the rules treat as the cluster's inside: whoever is not in them gets a mark set."""
    key = ("masquerade inside", family)
    if key not in rules.memo:
        rules.memo[key] = _find_inside(rules, family)
    ranges: Ranges = rules.memo[key]
    return ranges


def _find_inside(rules: Ruleset, family: int) -> Ranges:
    found = dict[tuple[int, int], None]()
    for table in rules.tables.values():
        if table.compat or table.family not in ("inet", "ip6" if family == 6 else "ip"):
            continue
        for chain in table.chains.values():
            for rule in chain.rules:
                found.update(dict.fromkeys(_marked_if_not_in(rule)))
    return tuple(found)


def _marked_if_not_in(rule: Rule) -> Ranges:
    if not rule.expr or "mangle" not in rule.expr[-1]:
        return ()
    for part in rule.expr:
        match = part.get("match")
        if match and match["op"] == "!=" and match["left"].get("payload", {}).get("field") == "saddr":
            covered = part_range(match["right"])
            return () if covered is None else (covered,)
    return ()


def _action(folded: Folded, unknown: list[str]) -> Action:
    actions: set[Action] = {end.action for end in folded.ends}
    if len(actions) > 1:
        for end, (share, _) in folded.ends.items():
            if end.action != "dnat":
                chance = "some of the packets" if share is None else f"with a chance of {share}, the packets"
                unknown.append(f"{chance} end otherwise: {end.action}")
    order: tuple[Action, ...] = ("dnat", "reject", "drop")
    return next((action for action in order if action in actions), "none")


def _blind_notes(blind: dict[tuple[str, str], set[int]]) -> list[str]:
    return [
        f"table {family} {name} is iptables-nft's: nft's JSON does not spell out the xtables expressions of "
        f"{len(handles)} of its rules that this packet meets; iptables-save has them"
        for (family, name), handles in blind.items()
    ]


def _ingress_notes(rules: Ruleset) -> list[str]:
    found = list[str]()
    for table in rules.tables.values():
        if table.family in ("netdev", "bridge") or any(c.hook in ("ingress", "egress") for c in table.chains.values()):
            hooked = [
                chain for chain in table.chains.values() if chain.hook and (chain.rules or chain.policy != "accept")
            ]
            if table.family == "inet":
                hooked = [chain for chain in hooked if chain.hook in ("ingress", "egress")]
            found += [f"{table.family} {table.name}, chain {c.name} (hook {c.hook}) is not evaluated" for c in hooked]
    return found


def _step(mark: Mark) -> Step:
    rule, owner, element = mark.rule, mark.owner, mark.element
    if owner is not None and element is not None:
        place = f"{owner.family} {owner.table} {owner.name}"
        return Step(place, element_text(owner, element), _says_element(owner, element.comment, element.data), FACT)
    if rule is not None:
        return Step(f"{rule.family} {rule.table} {rule.chain}", rule_text(rule), _says(rule), FACT)
    chain = mark.chain or Chain("", "", "")
    return Step(f"{chain.family} {chain.table} {chain.name}", chain_text(chain), f"the policy is {chain.policy}", FACT)


def _says_element(owner: NftSet, comment: str, data: object) -> str:
    what = f"{owner.comment or owner.name}"
    if isinstance(data, dict) and data:
        kind, body = next(iter(data.items()))
        target = f"{kind} {body['target']}" if isinstance(body, dict) else kind
        return f"{what}: {target}" + (f" ({comment})" if comment else "")
    return what


def _says(rule: Rule) -> str:
    if rule.comment:
        return rule.comment
    for part in rule.expr:
        kind, body = next(iter(part.items()))
        if kind == "dnat":
            return _says_dnat(body)
        if kind in _WORDS:
            return _WORDS[kind]
        if kind in ("jump", "goto"):
            return f"go on in {body['target']}"
    return ""


def _says_dnat(body: dict[str, object]) -> str:
    address = body.get("addr")
    table = address.get("map", {}) if isinstance(address, dict) else {}
    mod = table.get("key", {}).get("numgen", {}).get("mod") if table else None
    if mod:
        return (
            f"destination rewritten to one of {mod} endpoints, drawn at random with equal chances"
            if mod > 1
            else ("destination rewritten to the only endpoint")
        )
    return "destination rewritten to the endpoint"


_WORDS = {
    "masquerade": "source rewritten to an address of this node",
    "snat": "source rewritten",
    "redirect": "destination rewritten to this node itself",
    "reject": "refused with an answer",
    "drop": "dropped in silence",
    "accept": "accepted",
    "vmap": "looked up in a verdict map",
    "mangle": "marked, for later rules to recognise",
    "set": "the client is remembered, for session affinity",
    "return": "back to the calling chain",
    "notrack": "left out of connection tracking: no translation",
}
