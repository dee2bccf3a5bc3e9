"""Rules and packets for tests of the walk through iptables."""

from __future__ import annotations

from k8snet_nb.explain.iptables.path import evaluate
from k8snet_nb.explain.outcome import Client, NodeView, Outcome, Packet
from k8snet_nb.parse.iptables import Ruleset, parse_iptables_save

VIEW = NodeView(
    "node-one",
    frozenset({"127.0.0.1", "172.30.0.11", "10.244.18.1", "::1"}),
    frozenset({"172.30.0.11"}),
    frozenset(f"10.244.18.{n}" for n in range(2, 7)),
    ("10.244.18.0/24",),
)


def ask(
    rules: Ruleset, dst: str, port: int, client: Client = "pod", protocol: str = "tcp", src: str | None = None
) -> Outcome:
    return evaluate(rules, Packet(6 if ":" in dst else 4, protocol, dst, port, src, client), VIEW)


def made(nat: str = "", filters: str = "", mangle: str = "", raw: str = "") -> Ruleset:
    """Rules from bare ``-A`` lines; every chain that is named is declared."""
    text = ""
    builtin = {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}
    for table, rules in (("raw", raw), ("mangle", mangle), ("nat", nat), ("filter", filters)):
        lines = [line.strip() for line in rules.strip().splitlines() if line.strip()]
        heads = [line for line in lines if line.startswith(":")]
        lines = [line for line in lines if not line.startswith(":")]
        known = {head[1:].split()[0] for head in heads}
        names = dict.fromkeys(line.split()[1] for line in lines if line.split()[1] not in known)
        heads += [f":{name} {'ACCEPT' if name in builtin else '-'} [0:0]" for name in names]
        text += "\n".join([f"*{table}", *heads, *lines, "COMMIT", ""])
    return parse_iptables_save(text)
