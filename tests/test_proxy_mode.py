"""The mode of kube-proxy, by what is programmed."""

from __future__ import annotations

from pathlib import Path

import pytest

import k8snet_nb.errors
from k8snet_nb.explain.proxy_mode import KubeProxyTable, Mode, VirtualServers, proxy_mode
from k8snet_nb.parse.iptables import Ruleset, parse_iptables_save

NODES = Path(k8snet_nb.errors.__file__).parent / "data" / "hello-cluster" / "nodes"
KUBE_PROXY = ["systemd", "/usr/local/bin/kube-proxy --config /etc/kubernetes/proxy.yaml"]
NONE: list[KubeProxyTable] = []
NFT = [KubeProxyTable("ip", 13, 9)]


def saves(node: str) -> list[Ruleset]:
    return [
        parse_iptables_save(path.read_bytes(), path.name, node)
        for path in sorted((NODES / node).glob("ip*tables-save.txt"))
    ]


@pytest.mark.parametrize(
    ("node", "nft", "ipvs", "mode"),
    [
        ("node-one", NONE, VirtualServers(0), "iptables"),
        ("node-two", [*NFT, KubeProxyTable("ip6", 0, 10)], VirtualServers(0), "nftables"),
        ("node-three", NONE, VirtualServers(15, ("-A -t 10.32.0.1:443 -s rr",)), "ipvs"),
    ],
)
@pytest.mark.parametrize("own", [None, "iptables", "nftables", "ipvs"])
def test_recorded_nodes(
    node: str, nft: list[KubeProxyTable], ipvs: VirtualServers, mode: Mode, own: str | None
) -> None:
    """Whatever kube-proxy says of itself, and although node-two and node-three hold KUBE- chains in iptables too."""
    answer = proxy_mode(node, iptables=saves(node), nft=nft, ipvs=ipvs, own_word=own, processes=KUBE_PROXY)
    assert (answer.mode, answer.found, answer.leftovers, answer.running) == (mode, (mode,), (), True)
    assert answer.evidence
    assert all(evidence.ref.node == node for evidence in answer.evidence)
    assert (f"in {own} mode" in answer.why) == (own not in (None, mode))


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
    assert unseen.unseen == ("iptables", "nft.json", "ipvs-save.txt")
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
