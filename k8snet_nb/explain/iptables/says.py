"""What a rule that decided something means, in words. kube-proxy's chains are explained by their names."""

from __future__ import annotations

from fractions import Fraction

from ...parse.iptables_rule import Rule

__all__ = ["action_words", "chain_words", "rule_words"]

_CHAINS = (
    ("KUBE-SERVICES", "all Service addresses are looked up here, one rule after the other"),
    ("KUBE-NODEPORTS", "the destination is an address of the node: NodePorts are looked up here"),
    ("KUBE-EXT-", "the entry for clients that come by an external address or a NodePort"),
    ("KUBE-SVC-", "the choice among all endpoints of this Service port"),
    ("KUBE-SVL-", "the choice among the endpoints on this node only (traffic policy Local)"),
    ("KUBE-SEP-", "one endpoint"),
    ("KUBE-FW-", "only the Service's load balancer source ranges go on"),
    ("KUBE-MARK-MASQ", "mark 0x4000: the source address is to be masqueraded"),
    ("KUBE-MARK-DROP", "mark 0x8000: the packet is to be dropped"),
    ("KUBE-POSTROUTING", "marked packets are masqueraded on their way out"),
    ("KUBE-FORWARD", "kube-proxy lets Service traffic through"),
    ("KUBE-EXTERNAL-SERVICES", "external addresses and NodePorts without usable endpoints"),
    ("KUBE-PROXY-FIREWALL", "packets to a load balancer address that no source range let through"),
    ("KUBE-FIREWALL", "the kubelet's protection of the node's loopback addresses"),
)


def chain_words(chain: str) -> str:
    """What a chain of kube-proxy is for; for any other chain its name."""
    for name, words in _CHAINS:
        if chain == name or (name.endswith("-") and chain.startswith(name)):
            return words
    return f"on to chain {chain}"


def rule_words(rule: Rule, chance: Fraction | None) -> str:
    """What a matched rule does, with its chance among the packets that reach the rule."""
    words = action_words(rule)
    return f"{words} (1 in {1 / chance} of the packets that come to this rule)" if chance and chance != 1 else words


def action_words(rule: Rule) -> str:
    """What the target of a rule does."""
    option = rule.target_options[0].value if rule.target_options else ""
    simple = {
        "ACCEPT": "accepted: no further rule of this table is asked",
        "RETURN": "back to the chain before",
        "MASQUERADE": "the source address becomes the node's own",
        "SNAT": f"the source address becomes {option}",
        "DNAT": f"the destination becomes {option}",
        "REDIRECT": f"the destination becomes this node itself, port {option or 'as it was'}",
        "MARK": f"the packet's mark becomes {option}",
        "CONNMARK": "the connection's mark is set or copied",
        "NOTRACK": "conntrack does not follow it, so no translation either",
    }
    if rule.target in ("DROP", "REJECT"):
        why = f" ({rule.comment})" if rule.comment else ""
        return ("dropped without a word" if rule.target == "DROP" else f"rejected with {option or 'icmp'}") + why
    return simple.get(rule.target or "") or chain_words(rule.target or "")
