"""What hooks on a packet's way beside the rules that are followed: named, because it is not evaluated."""

from __future__ import annotations

from collections.abc import Iterable

from ..parse.nft import Ruleset

__all__ = ["data_planes", "foreign_tables"]

_OTHERS = (
    ("cilium-agent", "Cilium, which works in eBPF"),
    ("calico-node", "Calico, which may work in eBPF"),
    ("felix", "Calico, which may work in eBPF"),
    ("antrea-agent", "Antrea, which works in Open vSwitch"),
    ("ovnkube", "OVN-Kubernetes, which works in Open vSwitch"),
    ("ovs-vswitchd", "Open vSwitch"),
    ("istio-cni", "Istio, which redirects inside pods"),
    ("linkerd-cni", "Linkerd, which redirects inside pods"),
)


def foreign_tables(rules: Ruleset) -> tuple[str, ...]:
    """Tables of nftables with rules at a hook that neither iptables-nft nor kube-proxy made."""
    found = []
    for (family, name), table in rules.tables.items():
        if table.compat or name == "kube-proxy":
            continue
        hooks = dict.fromkeys(
            chain.hook for chain in table.chains.values() if chain.hook and (chain.rules or chain.policy != "accept")
        )
        if hooks:
            found.append(f"table {family} {name} (hooks {', '.join(map(str, hooks))})")
    return tuple(found)


def data_planes(commands: Iterable[str]) -> tuple[str, ...]:
    """Programs seen running on a node that move or stop packets by means that no fact shows."""
    seen = [
        words
        for command in commands
        for program in [command.split(" ")[0].rpartition("/")[2]]
        for name, words in _OTHERS
        if program.startswith(name)
    ]
    return tuple(dict.fromkeys(seen))
