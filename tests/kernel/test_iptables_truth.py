"""What evaluate() says of the recorded node-one, against what this kernel does with the same rules.

A node, its pods, the other node's pods and a client outside are namespaces; the recorded rules are loaded with both
flavours of iptables-restore, connections are made, and the servers tell who they are and whom they saw.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from lab import Answer, Lab, require

import k8snet_nb.errors
from k8snet_nb.explain.iptables.path import evaluate
from k8snet_nb.explain.outcome import Client, NodeView, Outcome, Packet
from k8snet_nb.explain.proxy_mode import kube_proxy_tables, proxy_mode
from k8snet_nb.parse.iptables import Ruleset, parse_iptables_save
from k8snet_nb.parse.nft import parse_nft

SAVE = Path(k8snet_nb.errors.__file__).parent / "data" / "hello-cluster" / "nodes" / "node-one" / "iptables-save.txt"
NODE, CLIENT = "172.30.0.11", "172.30.0.200"
LOCAL_PODS = ("10.244.18.2", "10.244.18.3", "10.244.18.4", "10.244.18.5", "10.244.18.6")
REMOTE_PODS = ("10.244.3.2", "10.244.3.3", "10.244.3.4", "10.244.3.5", "10.244.3.6")
VIEW = NodeView(
    "node-one",
    frozenset({"127.0.0.1", NODE, "10.244.18.1"}),
    frozenset({NODE}),
    frozenset(LOCAL_PODS),
    ("10.244.18.0/24",),
    frozenset({"cni0"}),
)
PORTS = (("tcp", 8080), ("tcp", 8000), ("tcp", 53), ("udp", 53), ("tcp", 9153))

EXTRA = """*filter
:FORWARD DROP [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:OTHER - [0:0]
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -d 10.244.18.5/32 -p tcp -m tcp --dport 8080 -g OTHER
-A FORWARD -d 10.244.18.6/32 -m comment --comment "by -j chance" -m statistic --mode random --probability 0.5 -j DROP
-A FORWARD -j ACCEPT
-A FORWARD -d 10.32.9.1/32 -j ACCEPT
-A KUBE-PROXY-FIREWALL -d 10.32.9.1/32 -p tcp -m comment --comment "not accepted by KUBE-FW-A" -m tcp --dport 80 -j DROP
-A OTHER -s 10.244.18.3/32 -p tcp -j REJECT --reject-with tcp-reset
-A OTHER -m mark --mark 0x1/0x1 -j ACCEPT
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
-A PREROUTING -s 10.244.18.4/32 -j MARK --set-xmark 0x1/0x1
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:KUBE-FW-A - [0:0]
:KUBE-EXT-A - [0:0]
:NTH - [0:0]
-A PREROUTING -d 10.32.9.1/32 -p tcp -m tcp --dport 80 -j KUBE-FW-A
-A PREROUTING -d 10.32.9.2/32 -p tcp -m multiport --dports 81,90:99 -j NTH
-A PREROUTING -d 10.32.9.3/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8080
-A PREROUTING -d 172.30.0.11/32 -p tcp -m tcp --dport 7000 -j REDIRECT --to-ports 8080
-A KUBE-FW-A -s 172.30.0.200/30 -j KUBE-EXT-A
-A KUBE-FW-A -m comment --comment "other traffic to x/fw will be dropped by KUBE-PROXY-FIREWALL"
-A KUBE-EXT-A -p tcp -j DNAT --to-destination 10.244.18.3:8080
-A NTH -p tcp -m statistic --mode nth --every 3 --packet 0 -j DNAT --to-destination 10.244.18.2:8080
-A NTH -p tcp -m statistic --mode nth --every 2 --packet 0 -j DNAT --to-destination 10.244.18.3:8080
-A NTH -p tcp -j DNAT --to-destination 10.244.18.4:8080
COMMIT
"""


@dataclass
class Cluster:
    """The lab, its rules as we read them, and the namespace of each client."""

    lab: Lab
    node: str
    clients: dict[str, str]
    flavour: str
    rules: Ruleset

    def load(self, text: str) -> None:
        """Load rules with the flavour's iptables-restore; what evaluate() gets is what the kernel has."""
        self.lab.run(self.node, [f"iptables-{self.flavour}-restore"], text=text)
        for table in ("filter", "nat", "mangle"):
            if f"*{table}" not in text:
                self.lab.run(self.node, [f"iptables-{self.flavour}", "-t", table, "-F"], check=False)
        saved = self.lab.run(self.node, [f"iptables-{self.flavour}-save", "-c"])
        self.rules = parse_iptables_save(saved)
        assert not self.rules.partial, self.rules.problems

    def says(self, dst: str, port: int, client: str, protocol: str = "tcp") -> Outcome:
        kind: Client = "node" if client == NODE else "outside" if client == CLIENT else "pod"
        outcome = evaluate(self.rules, Packet(4, protocol, dst, port, client, kind), VIEW)
        assert not outcome.unknown
        return outcome

    def does(self, dst: str, port: int, client: str, count: int = 1, protocol: str = "tcp") -> list[Answer]:
        return self.lab.connect(self.clients[client], dst, port, count=count, protocol=protocol, timeout=1.0)


@pytest.fixture(scope="module", params=["legacy", "nft"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    flavour: str = request.param
    require(f"iptables-{flavour}-restore", f"iptables-{flavour}-save", "bridge", "conntrack")
    with Lab(f"ipt-{flavour}") as lab:
        node = lab.namespace("node", forward=True)
        lab.bridge(node, "cni0", "10.244.18.1/24")
        clients = {NODE: node}
        for address in LOCAL_PODS:
            pod = clients[address] = lab.namespace(f"pod-{address.rpartition('.')[2]}")
            lab.plug(pod, "eth0", f"{address}/24", node, "cni0", gateway="10.244.18.1")
            lab.serve(pod, [(protocol, address, port) for protocol, port in PORTS])
        lan = lab.namespace("lan")
        lab.bridge(lan, "br0")
        other, outside = lab.namespace("node-two"), lab.namespace("outside")
        lab.plug(node, "eth0", f"{NODE}/24", lan, "br0")
        lab.plug(other, "eth0", "172.30.0.12/24", lan, "br0", gateway=NODE)
        lab.plug(outside, "eth0", f"{CLIENT}/24", lan, "br0", gateway=NODE)
        lab.address(other, "lo", *(f"{address}/32" for address in REMOTE_PODS))
        lab.serve(other, [(protocol, address, port) for protocol, port in PORTS for address in REMOTE_PODS])
        lab.route(node, "10.244.3.0/24", "172.30.0.12")
        lab.route(node, "default", "172.30.0.12")
        lab.route(outside, "172.30.0.99/32", NODE)
        for key in ("conf/all/send_redirects", "conf/eth0/send_redirects", "icmp_ratelimit"):
            lab.sysctl(node, f"net/ipv4/{key}", "0")  # a redirect would use up the budget of the rejects
        lab.nfacct(node, "ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts")
        clients[CLIENT] = outside
        made = Cluster(lab, node, clients, flavour, parse_iptables_save(SAVE.read_text()))
        made.load(SAVE.read_text())
        yield made


def shares_agree(expected: dict[str, float], seen: Counter[str], count: int) -> None:
    """Every share within 5.5 standard deviations: fails by chance less than once in 10 million comparisons."""
    assert set(seen) <= set(expected)
    for server, share in expected.items():
        slack = 5.5 * math.sqrt(count * share * (1 - share)) + 0.5
        assert abs(seen[server] - count * share) <= slack, (server, share, seen)


def compare(cluster: Cluster, dst: str, port: int, client: str, count: int, protocol: str = "tcp") -> None:
    outcome = cluster.says(dst, port, client, protocol)
    if outcome.action in ("reject", "drop"):
        (answer,) = cluster.does(dst, port, client, 1, protocol)
        assert answer.end == {"reject": "refused", "drop": "timeout"}[outcome.action]
        return
    answers = cluster.does(dst, port, client, count, protocol)
    assert {answer.end for answer in answers} == {"ok"}
    expected = {f"{c.address}:{c.port}": float(c.probability or 0) for c in outcome.choices} or {f"{dst}:{port}": 1.0}
    shares_agree(expected, Counter(f"{a.server}:{a.port}" for a in answers), count)
    masquerade = {c.address: c.masquerade for c in outcome.choices} or {dst: outcome.masquerade}
    for answer in answers:
        assert (answer.peer != client) == masquerade[answer.server] or client == NODE, (answer, masquerade)


CASES = [
    ("10.32.62.13", 80, LOCAL_PODS[3], 240),
    ("10.32.62.13", 80, LOCAL_PODS[1], 80),
    ("10.32.62.13", 80, NODE, 80),
    ("10.32.62.13", 80, CLIENT, 80),
    ("10.32.118.77", 8000, LOCAL_PODS[0], 120),
    ("10.32.118.77", 81, LOCAL_PODS[4], 60),
    ("10.32.35.27", 80, LOCAL_PODS[0], 60),
    ("10.32.22.26", 80, LOCAL_PODS[0], 1),
    ("10.32.22.26", 9000, NODE, 1),
    ("10.32.22.26", 80, CLIENT, 1),
    (NODE, 30080, CLIENT, 80),
    (NODE, 30081, CLIENT, 60),
    (NODE, 30081, LOCAL_PODS[0], 80),
    (NODE, 30081, LOCAL_PODS[1], 60),
    (NODE, 30081, NODE, 60),
    (NODE, 30120, CLIENT, 40),
    ("172.30.0.99", 80, CLIENT, 40),
    ("172.30.0.99", 80, LOCAL_PODS[2], 40),
    ("10.244.18.1", 30080, LOCAL_PODS[2], 20),
    (REMOTE_PODS[1], 8080, LOCAL_PODS[1], 3),
    (LOCAL_PODS[1], 8080, CLIENT, 3),
]


@pytest.mark.parametrize(("dst", "port", "client", "count"), CASES)
def test_recorded_rules(cluster: Cluster, dst: str, port: int, client: str, count: int) -> None:
    compare(cluster, dst, port, client, count)


def test_udp(cluster: Cluster) -> None:
    compare(cluster, "10.32.0.10", 53, LOCAL_PODS[3], 100, "udp")


def test_affinity_keeps_a_client(cluster: Cluster) -> None:
    outcome = cluster.says("10.32.91.161", 80, LOCAL_PODS[3])
    assert outcome.affinity == 600
    assert len(outcome.choices) == 4
    servers = {answer.server for answer in cluster.does("10.32.91.161", 80, LOCAL_PODS[3], 20)}
    assert len(servers) == 1
    assert servers <= {choice.address for choice in outcome.choices}


def test_conntrack_shows_the_same(cluster: Cluster) -> None:
    """The reply tuples in the node's own table hold the endpoints, and the node's address where it is masqueraded."""
    cluster.lab.run(cluster.node, ["conntrack", "-F"], check=False)
    cluster.does("10.32.62.13", 80, LOCAL_PODS[1], 100)
    table = cluster.lab.run(cluster.node, ["conntrack", "-L", "-d", "10.32.62.13"])
    outcome = cluster.says("10.32.62.13", 80, LOCAL_PODS[1])
    expected = {(c.address, bool(c.masquerade)) for c in outcome.choices}
    seen = set()
    for line in table.splitlines():
        server, target = [word.partition("=")[2] for word in line.split() if word.startswith(("src=", "dst="))][2:]
        seen.add((server, target != LOCAL_PODS[1]))
    assert seen == expected


def test_every_service_and_client_kind_has_its_action(cluster: Cluster) -> None:
    """One connection each to an address that no rule knows: nothing happens to it, and the kernel agrees."""
    assert cluster.says("10.32.62.13", 81, LOCAL_PODS[0]).action == "none"
    assert cluster.says(NODE, 31999, LOCAL_PODS[0]).action == "none"
    assert cluster.does(NODE, 31999, LOCAL_PODS[0])[0].end == "refused"


@pytest.fixture(scope="module")
def other_rules(cluster: Cluster) -> Iterator[Cluster]:
    cluster.load(EXTRA)
    yield cluster
    cluster.load(SAVE.read_text())


@pytest.mark.parametrize(
    ("dst", "port", "client", "action"),
    [
        ("10.244.18.5", 8080, LOCAL_PODS[1], "reject"),
        ("10.244.18.5", 8080, LOCAL_PODS[2], "none"),
        ("10.244.18.5", 8080, LOCAL_PODS[0], "drop"),
        ("10.32.9.1", 80, CLIENT, "dnat"),
        ("10.32.9.2", 95, LOCAL_PODS[3], "dnat"),
        (NODE, 7000, CLIENT, "dnat"),
    ],
)
def test_other_semantics(other_rules: Cluster, dst: str, port: int, client: str, action: str) -> None:
    """goto, policies, marks, source ranges, nth, multiport, REDIRECT."""
    if dst == "10.244.18.5":
        # pod to pod on one bridge is switched, not routed: ask from the same source through the node
        other_rules.lab.run(other_rules.clients[client], ["ip", "route", "replace", f"{dst}/32", "via", "10.244.18.1"])
        other_rules.lab.run(other_rules.clients[dst], ["ip", "route", "replace", f"{client}/32", "via", "10.244.18.1"])
    if port == 7000:
        other_rules.lab.serve(other_rules.node, [("tcp", NODE, 8080)])
    outcome = other_rules.says(dst, port, client)
    assert outcome.action == action
    compare(other_rules, dst, port, client, 30)


def test_a_drop_by_chance_is_told_with_its_share(other_rules: Cluster) -> None:
    outcome = evaluate(other_rules.rules, Packet(4, "tcp", LOCAL_PODS[4], 8080, CLIENT, "outside"), VIEW)
    assert outcome.action == "none"
    assert outcome.unknown == (
        "1/2 of the packets are dropped or rejected by a rule that works by chance or by endpoint",
    )


@pytest.mark.parametrize("first", ["iptables", "nftables"])
def test_of_two_modes_the_last_one_registered_wins(first: str) -> None:
    """What proxy_mode() says of iptables and nftables rules for the same Service, as this kernel does it."""
    require("nft", "iptables-nft-restore", "bridge")
    with Lab("ipt-order") as lab:
        node, pod, other = lab.namespace("node", forward=True), lab.namespace("pod"), lab.namespace("other")
        lab.bridge(node, "cni0", "10.244.18.1/24")
        lab.plug(pod, "eth0", "10.244.18.3/24", node, "cni0", gateway="10.244.18.1")
        lab.plug(other, "eth0", "10.244.18.4/24", node, "cni0", gateway="10.244.18.1")
        lab.serve(other, [("tcp", "10.244.18.4", 1), ("tcp", "10.244.18.4", 2)])
        iptables = ["*nat", ":KUBE-SVC-A - [0:0]", "-A PREROUTING -d 10.32.0.5/32 -p tcp -j KUBE-SVC-A"]
        iptables += ["-A KUBE-SVC-A -p tcp -j DNAT --to-destination 10.244.18.4:1", "COMMIT", ""]
        table = """table ip kube-proxy {
            map service-ips {
                type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.32.0.5 . tcp . 80 : goto s }
            }
            chain s { meta l4proto tcp dnat to 10.244.18.4:2; }
            chain nat-prerouting {
                type nat hook prerouting priority -100; ip daddr . meta l4proto . th dport vmap @service-ips;
            }
        }
        """
        loads = {
            "iptables": lambda: lab.run(node, ["iptables-nft-restore"], text="\n".join(iptables)),
            "nftables": lambda: lab.run(node, ["nft", "-f", "-"], text=table),
        }
        for mode in sorted(loads, key=lambda mode: mode != first):
            loads[mode]()
        rules = parse_iptables_save(lab.run(node, ["iptables-nft-save"]))
        tables = kube_proxy_tables(parse_nft(lab.run(node, ["nft", "-j", "list", "ruleset"])))
        answer = proxy_mode("node", iptables=[rules], nft=tables)
        (seen,) = lab.connect(pod, "10.32.0.5", 80)
        assert answer.mode == {1: "iptables", 2: "nftables"}[seen.port]
        assert answer.mode != first


def test_ipv6_ladder_and_hairpin() -> None:
    """The same form over IPv6, UDP and TCP."""
    require("ip6tables-nft-restore", "ip6tables-nft-save", "bridge")
    with Lab("ipt-six") as lab:
        node = lab.namespace("node", forward=True)
        lab.bridge(node, "cni0", "fd00:18::1/64")
        pods = ["fd00:18::3", "fd00:18::4", "fd00:18::5"]
        spaces = {address: lab.namespace(f"pod{address[-1]}") for address in pods}
        for address, space in spaces.items():
            lab.plug(space, "eth0", f"{address}/64", node, "cni0", gateway="fd00:18::1")
            lab.serve(space, [("tcp", address, 8080), ("udp", address, 8080)])
        text = "*nat\n:KUBE-SVC-A - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n"
        text += "".join(f":KUBE-SEP-{i} - [0:0]\n" for i in range(3))
        for protocol in ("tcp", "udp"):
            text += f"-A PREROUTING -d fd00:32::5/128 -p {protocol} -m {protocol} --dport 80 -j KUBE-SVC-A\n"
        for i, address in enumerate(pods):
            chance = f"-m statistic --mode random --probability {1 / (3 - i):.11f} " if i < 2 else ""
            text += f"-A KUBE-SVC-A {chance}-j KUBE-SEP-{i}\n-A KUBE-SEP-{i} -s {address}/128 -j KUBE-MARK-MASQ\n"
            text += "".join(
                f"-A KUBE-SEP-{i} -p {p} -j DNAT --to-destination [{address}]:8080\n" for p in ("tcp", "udp")
            )
        text += "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n"
        text += "-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE\nCOMMIT\n"
        lab.run(node, ["ip6tables-nft-restore"], text=text)
        rules = parse_iptables_save(lab.run(node, ["ip6tables-nft-save"]))
        view = NodeView(
            "node", frozenset({"fd00:18::1"}), pod_addresses=frozenset(pods), pod_networks=("fd00:18::/64",)
        )
        for protocol in ("tcp", "udp"):
            outcome = evaluate(rules, Packet(6, protocol, "fd00:32::5", 80, pods[0], "pod"), view)
            assert not outcome.unknown
            sent = lab.connect(spaces[pods[0]], "fd00:32::5", 80, protocol=protocol, count=90)
            answers = [answer for answer in sent if answer.end != "timeout"]
            assert len(answers) >= 88  # the first is sometimes lost while neighbours are looked for
            expected = {c.address: float(c.probability or 0) for c in outcome.choices}
            shares_agree(expected, Counter(answer.server for answer in answers), len(answers))
            masquerade = {c.address: c.masquerade for c in outcome.choices}
            assert masquerade == {pods[0]: True, pods[1]: False, pods[2]: False}
            assert all((answer.peer != pods[0]) == masquerade[answer.server] for answer in answers)
