"""The mode of kube-proxy, by what is programmed."""

from __future__ import annotations

from pathlib import Path

import pytest

import k8snet_nb.errors
from k8snet_nb.explain.proxy_mode import (
    KubeProxyTable,
    Mode,
    VirtualServers,
    kube_proxy_tables,
    proxy_mode,
    virtual_servers,
)
from k8snet_nb.parse.iptables import Ruleset, parse_iptables_save
from k8snet_nb.parse.ipvs import parse_rules
from k8snet_nb.parse.nft import parse_nft

NODES = Path(k8snet_nb.errors.__file__).parent / "data" / "hello-cluster" / "nodes"
KUBE_PROXY = ["systemd", "/usr/local/bin/kube-proxy --config /etc/kubernetes/proxy.yaml"]
NONE: list[KubeProxyTable] = []


def saves(node: str) -> list[Ruleset]:
    return [
        parse_iptables_save(path.read_bytes(), path.name, node)
        for path in sorted((NODES / node).glob("ip*tables-save.txt"))
    ]


def nft(node: str) -> list[KubeProxyTable]:
    return kube_proxy_tables(parse_nft((NODES / node / "nft.json").read_bytes()))


def ipvs(node: str) -> VirtualServers:
    path = NODES / node / "ipvs-save.txt"
    return virtual_servers(parse_rules(path.read_bytes()) if path.exists() else ())


@pytest.mark.parametrize(("node", "mode"), [("node-one", "iptables"), ("node-two", "nftables"), ("node-three", "ipvs")])
@pytest.mark.parametrize("own", [None, "iptables", "nftables", "ipvs"])
def test_recorded_nodes(node: str, mode: Mode, own: str | None) -> None:
    """Whatever kube-proxy says of itself, and although node-two and node-three hold KUBE- chains in iptables too."""
    answer = proxy_mode(node, iptables=saves(node), nft=nft(node), ipvs=ipvs(node), own_word=own, processes=KUBE_PROXY)
    assert (answer.mode, answer.found, answer.leftovers, answer.running) == (mode, (mode,), (), True)
    assert answer.evidence
    assert all(evidence.ref.node == node for evidence in answer.evidence)
    assert (f"in {own} mode" in answer.why) == (own not in (None, mode))


def test_what_the_tables_say() -> None:
    assert nft("node-one") == nft("node-three") == []
    four, six = nft("node-two")
    assert (four.family, four.entries, four.handle, four.priority, four.iptables_handle) == ("ip", 18, 9, -100, None)
    assert "priority dstnat" in four.lines[0] or "priority -100" in four.lines[0]
    assert (six.family, six.entries) == ("ip6", 0)
    assert (ipvs("node-three").count, ipvs("node-three").lines[0]) == (18, "-A -t 172.30.0.13:30080 -s rr")


def test_a_dead_kube_proxy_leaves_its_mode() -> None:
    answer = proxy_mode("node-one", iptables=saves("node-one"), nft=NONE, ipvs=None, processes=["systemd"])
    assert (answer.mode, answer.running, answer.unseen) == ("iptables", False, ("ipvs-save.txt",))
    assert "not running" in answer.why
    lines = answer.evidence[0].lines
    assert lines
    assert all(line in (NODES / "node-one" / "iptables-save.txt").read_text() for line in lines)


def test_nothing_programmed() -> None:
    answer = proxy_mode(
        "n", iptables=saves("node-three"), nft=NONE, ipvs=VirtualServers(0), processes=["cilium-agent --x"]
    )
    assert (answer.mode, answer.found) == (None, ())
    assert "cilium-agent" in answer.why
    assert len(answer.evidence) == 4
    unseen = proxy_mode("n")
    assert unseen.mode is None
    assert unseen.unseen == ("iptables-save.txt", "ip6tables-save.txt", "nft.json", "ipvs-save.txt")
    assert "not collected" in unseen.why


def test_two_modes_at_once() -> None:
    """IPVS sees only what the others leave; between those the one that was registered last is asked first."""
    one = saves("node-one")
    ipvs = VirtualServers(3)
    both = proxy_mode("n", iptables=one, nft=NONE, ipvs=ipvs, own_word="ipvs")
    assert (both.mode, both.leftovers, "LOCAL_IN" in both.why) == ("iptables", ("ipvs",), True)
    newer = proxy_mode("n", iptables=one, nft=[KubeProxyTable("ip", 1, handle=9, iptables_handle=4)])
    assert (newer.mode, newer.leftovers) == ("nftables", ("iptables",))
    older = proxy_mode("n", iptables=one, nft=[KubeProxyTable("ip", 1, handle=2, iptables_handle=4)], ipvs=ipvs)
    assert (older.mode, older.leftovers, older.found) == (
        "iptables",
        ("nftables", "ipvs"),
        ("iptables", "nftables", "ipvs"),
    )
    early = proxy_mode("n", iptables=one, nft=[KubeProxyTable("ip", 1, priority=-120)])
    assert early.mode == "nftables"
    assert "-120" in early.why
    unknown = proxy_mode("n", iptables=one, nft=[KubeProxyTable("ip", 1)])
    assert (unknown.mode, unknown.found, "unknown" in unknown.why) == (None, ("iptables", "nftables"), True)
