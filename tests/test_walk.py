"""cluster.walk: where a packet ends, and what was not evaluated on the way."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import pytest
from dual_stack import DUAL_RULES, POD6, VIP6, dual_api
from edited import as_json, cluster, text

import k8snet_nb as kn
from k8snet_nb.errors import NotFound, Refused
from k8snet_nb.explain.walk import Walk
from k8snet_nb.facts import FactRef

ONE, TWO, THREE = "node-one", "node-two", "node-three"
HELLO = {"10.244.18.3": ONE, "10.244.18.4": ONE, "10.244.3.3": TWO, "10.244.3.4": TWO}


def ends(walk: Walk) -> dict[str, tuple[Any, ...]]:
    return {end.address: (end.verdict, end.chance, end.node) for end in walk.ends}


QUARTER = {ip: ("delivered", Fraction(1, 4), home) for ip, home in HELLO.items()}


@pytest.mark.parametrize(
    ("src", "node", "mode"),
    [("default/client", ONE, "iptables"), ("default/client-two", TWO, "nftables"), ("pod", THREE, "ipvs")],
)
def test_pod_to_service(hello: kn.Cluster, src: str, node: str, mode: str) -> None:
    where = node if src == "pod" else None
    walk = hello.walk(src, "default/hello-world", "tcp", 80, node=where)
    assert (walk.verdict, walk.node, walk.mode) == ("delivered", node, mode)
    assert walk.destination == "10.32.62.13:80/tcp"
    assert ends(walk) == QUARTER
    assert all(end.who.startswith("pod default/hello-world-") for end in walk.ends)
    assert not walk.not_evaluated
    assert not walk.unknown
    remote = [hop for hop in walk.hops if hop.place == "rules" and hop.node != node]
    assert {hop.node for hop in remote} == set(HELLO.values()) - {node}, "the other nodes' rules are met too"
    assert any(hop.place == "route" and hop.line in hop.says for hop in walk.hops)
    assert any(item.ref.fact == "route.json" for item in walk.evidence)


def test_node_to_service_is_masqueraded(hello: kn.Cluster) -> None:
    for name in (ONE, TWO, THREE):
        walk = hello.walk(name, "10.32.62.13", "TCP", 80)
        assert ends(walk) == QUARTER
        assert {end.masquerade for end in walk.ends} == {True}


def test_outside_to_node_port(hello: kn.Cluster) -> None:
    walk = hello.walk("203.0.113.5", "172.30.0.12", "tcp", 30080)
    assert (walk.node, walk.verdict) == (TWO, "delivered")
    assert ends(walk) == QUARTER
    assert {end.masquerade for end in walk.ends} == {True}
    local = hello.walk("203.0.113.5", "172.30.0.12", "tcp", 30081)
    assert ends(local) == {ip: ("delivered", Fraction(1, 2), TWO) for ip in ("10.244.3.3", "10.244.3.4")}
    assert {end.masquerade for end in local.ends} == {False}


@pytest.mark.parametrize(
    ("src", "dst", "home"),
    [
        ("default/client", "default/client-two", TWO),
        ("default/client", "10.244.18.4", ONE),
        ("shop/cart-865f99cbb8-k6zjh", "default/client", ONE),
    ],
)
def test_pod_to_pod(hello: kn.Cluster, src: str, dst: str, home: str) -> None:
    walk = hello.walk(src, dst, "tcp", 8080)
    assert [(end.verdict, end.chance, end.node, end.masquerade) for end in walk.ends] == [("delivered", 1, home, False)]
    assert "no rule translates the destination" in str(walk)


def test_pod_to_outside_leaves(hello: kn.Cluster) -> None:
    walk = hello.walk("default/client", "8.8.8.8", "udp", 53)
    assert walk.verdict == "leaves"
    assert "default via 172.30.0.1" in str(walk)


def test_a_wrong_port_of_a_cluster_ip_differs_by_mode(hello: kn.Cluster) -> None:
    """Nftables mode looks after its Service range; in iptables mode such a packet just follows the default route."""
    assert hello.walk("default/client-two", "10.32.62.13", "tcp", 81).verdict == "rejected"
    assert hello.walk("default/client-two", "10.32.200.200", "tcp", 80).verdict == "dropped"
    assert hello.walk("default/client", "10.32.62.13", "tcp", 81).verdict == "leaves"
    assert "Service default/hello-world" in str(hello.walk("default/client", "10.32.62.13", "tcp", 81))
    # in IPVS mode the address is on kube-ipvs0, and the filter there lets no other port in
    assert hello.walk("pod", "10.32.62.13", "tcp", 81, node=THREE).verdict == "rejected"


@pytest.mark.parametrize("where", [ONE, TWO, THREE])
def test_a_service_without_endpoints_rejects(hello: kn.Cluster, where: str) -> None:
    walk = hello.walk("pod", "default/orphan", "tcp", 80, node=where)
    assert walk.verdict == "rejected"
    assert ends(walk) == {"10.32.22.26": ("rejected", 1, where)}


def test_to_a_node_s_own_address(hello: kn.Cluster) -> None:
    walk = hello.walk("outside", "172.30.0.11", "tcp", 10250)
    assert (walk.verdict, walk.node) == ("delivered", ONE)
    assert "if one listens" in str(walk)
    other = hello.walk("default/client", "172.30.0.12", "tcp", 10250)
    assert (other.verdict, other.ends[0].who) == ("delivered", "node node-two")


def test_an_address_of_the_cluster_that_nobody_holds(hello: kn.Cluster) -> None:
    assert hello.walk("default/client", "10.244.3.250", "tcp", 80).verdict == "unknown"


def test_a_node_port_on_another_node_goes_on_to_an_endpoint(hello: kn.Cluster) -> None:
    """The first node only routes it; the node whose address it is translates it, and masquerades."""
    walk = hello.walk("default/client-two", "172.30.0.11", "tcp", 30080)
    assert (walk.node, walk.verdict) == (TWO, "delivered")
    assert ends(walk) == QUARTER
    assert {end.masquerade for end in walk.ends} == {True}
    assert any(hop.node == ONE and "arrives for 172.30.0.11:30080: dnat" in hop.says for hop in walk.hops)


def test_an_answer_that_goes_past_the_node_that_translated_is_none(hello: kn.Cluster) -> None:
    """Found in the kernel: externalTrafficPolicy Local keeps the client's address, the answer takes a shorter way."""
    # IPVS without an endpoint of its own: it sends on to the others', whose nodes answer the client directly
    walk = hello.walk("203.0.113.5", "172.30.0.13", "tcp", 30081)
    assert (walk.node, walk.verdict) == (THREE, "unanswered")
    assert "past node-three, which alone could undo its translation" in walk.ends[0].why
    # a pod by another node's NodePort: the answers of that node's pods come back, those of its own node's do not
    across = hello.walk("default/client-two", "172.30.0.11", "tcp", 30081)
    verdicts = {end.address: end.verdict for end in across.ends}
    assert verdicts == {ip: "delivered" if home == ONE else "unanswered" for ip, home in HELLO.items()}
    # masqueraded, it is answered to the node that translated; and so it is on the way to that node's own address
    assert hello.walk("203.0.113.5", "172.30.0.13", "tcp", 30080).verdict == "delivered"
    assert hello.walk(THREE, "172.30.0.13", "tcp", 30081).verdict == "delivered"


def test_a_node_s_own_process_to_a_wrong_port_of_a_virtual_address(hello: kn.Cluster) -> None:
    """It stays on the node, because kube-ipvs0 has the address, and meets the filter of INPUT there."""
    walk = hello.walk(THREE, "10.32.62.13", "tcp", 81)
    assert walk.verdict == "rejected"
    assert any("KUBE-IPVS-FILTER" in hop.place for hop in walk.hops)

    def no_filter(lines: list[str]) -> list[str]:
        return [line for line in lines if "KUBE-IPVS-IPS dst" not in line]

    opened = cluster({f"{THREE}/iptables-save.txt": text(no_filter)}).walk(THREE, "10.32.62.13", "tcp", 81)
    assert (opened.verdict, opened.ends[0].node) == ("delivered", THREE)
    assert "to a process of the node, if one listens" in str(opened)


@pytest.mark.parametrize("target", ["127.0.0.1", "127.9.9.9", "::1"])
@pytest.mark.parametrize("src", [ONE, THREE, "default/client", "10.244.18.5", "pod", "node"])
def test_loopback_stays_where_it_is(hello: kn.Cluster, src: str, target: str) -> None:
    walk = hello.walk(src, target, "tcp", 22)
    assert [(end.address, end.verdict, end.chance) for end in walk.ends] == [(target, "delivered", 1)]
    inside = src not in (ONE, THREE, "node")
    assert ("inside the pod" in str(walk)) is inside
    assert ("of the same pod" in str(walk)) is inside


@pytest.mark.parametrize("src", ["outside", "203.0.113.5"])
def test_nobody_outside_reaches_loopback(hello: kn.Cluster, src: str) -> None:
    with pytest.raises(Refused, match="every host has its own"):
        hello.walk(src, "127.0.0.1", "tcp", 22)


BAD = [
    (("default/client", "default/hello-world", "icmp", 80), Refused, "tcp, udp, sctp"),
    (("default/client", "default/hello-world", "tcp", 0), Refused, "0 is no port"),
    (("default/client", "default/hello-headless", "tcp", 80), Refused, "has no cluster IP"),
    (("kube-system/node-watch-8zf8j", "10.244.3.3", "tcp", 80), Refused, "no address yet"),
    (("default/client", "fd00::1", "tcp", 80), Refused, "only 10.244.18.5"),
    (("node-one", "fd00::1", "tcp", 80), Refused, "only 172.30.0.11"),
    (("192.0.2.1", "fd00::1", "tcp", 80), Refused, "cannot send to an IPv6"),
    (("default/nobody", "10.244.3.3", "tcp", 80), NotFound, "no pod"),
    (("default/client", "default/nobody", "tcp", 80), NotFound, "no pod"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_what_cannot_be_walked(hello: kn.Cluster, arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        hello.walk(*arguments)
    if arguments[0] == "default/client" and error is Refused:
        return


def test_a_pod_s_packets_meet_its_own_node_first(hello: kn.Cluster) -> None:
    with pytest.raises(Refused, match="is on node-one"):
        hello.walk("default/client", "default/hello-world", "tcp", 80, node=TWO)


# ---------------------------------------------------------------- what is not evaluated


def deny(name: str, namespace: str, direction: str, **labels: str) -> dict[str, Any]:
    spec = {"podSelector": {"matchLabels": labels}, "policyTypes": [direction]}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def with_policies(*policies: dict[str, Any]) -> kn.Cluster:
    return cluster({"networkpolicies": json.dumps({"kind": "NetworkPolicyList", "items": policies}).encode()})


def test_a_policy_on_the_receiving_end() -> None:
    walk = with_policies(deny("closed", "default", "Ingress", app="hello-world")).walk(
        "default/client", "default/hello-world", "tcp", 80
    )
    assert walk.verdict.startswith("delivered unless NetworkPolicy default/closed forbids it to enter default/hello-w")
    assert walk.verdict.endswith("(and 3 more)")
    assert len(walk.not_evaluated) == 4
    assert "Not evaluated: NetworkPolicy default/closed" in str(walk)


def test_a_policy_on_the_sending_end() -> None:
    labels = cluster().pod("default/client").value.labels
    changed = with_policies(deny("quiet", "default", "Egress", **labels))
    walk = changed.walk("default/client", "8.8.8.8", "udp", 53)
    assert walk.verdict == "leaves unless NetworkPolicy default/quiet forbids it to leave default/client"
    assert changed.walk("default/client-two", "8.8.8.8", "udp", 53).verdict.startswith("leaves")
    entering = with_policies(deny("quiet", "default", "Ingress", **labels))
    assert entering.walk("default/client", "8.8.8.8", "udp", 53).verdict == "leaves"


def test_policies_that_were_not_collected_are_a_doubt() -> None:
    walk = cluster({"networkpolicies": None}).walk("default/client", "default/hello-world", "tcp", 80)
    assert walk.verdict.startswith("delivered unless NetworkPolicies are not known")


def test_programs_and_tables_of_others_are_named() -> None:
    def firewalld(document: Any) -> None:
        chain = {"family": "inet", "table": "firewalld", "name": "filter_FORWARD", "handle": 1, "type": "filter"}
        document["nftables"] += [
            {"table": {"family": "inet", "name": "firewalld", "handle": 99}},
            {"chain": chain | {"hook": "forward", "prio": 10, "policy": "drop"}},
        ]

    def xdp(links: Any) -> None:
        next(link for link in links if link["ifname"] == "eth0")["xdp"] = {"mode": 1, "prog": {"id": 7}}

    changed = cluster({f"{ONE}/nft.json": as_json(firewalld), f"{ONE}/addr.json": as_json(xdp)})
    walk = changed.walk("default/client", "default/hello-world", "tcp", 80)
    assert walk.verdict.startswith("delivered unless the XDP program on eth0 of node-one stops it")
    assert "table inet firewalld (hooks forward) of node-one stops it" in walk.not_evaluated


def test_another_data_plane_on_the_way_is_named() -> None:
    def cilium(processes: Any) -> None:
        processes.append({**processes[0], "cmdline": "/usr/bin/cilium-agent --config-dir=/tmp"})

    walk = cluster({f"{TWO}/processes.json": as_json(cilium)}).walk("default/client", "default/client-two", "tcp", 80)
    assert walk.verdict == "delivered unless Cilium, which works in eBPF, on node-two does otherwise"


def test_legacy_tables_beside_nftables_are_named() -> None:
    legacy = b"*filter\n:FORWARD DROP [0:0]\n-A FORWARD -i cni0 -j ACCEPT\nCOMMIT\n"
    walk = cluster({f"{TWO}/iptables-legacy-save.txt": legacy}).walk("default/client-two", "8.8.8.8", "tcp", 443)
    assert "iptables-legacy-save.txt" in walk.verdict


def test_a_node_at_the_other_end_whose_rules_are_not_known() -> None:
    facts = {f"{TWO}/{fact}": None for fact in ("iptables-save.txt", "ip6tables-save.txt", "nft.json")}
    walk = cluster(facts).walk("default/client", "default/client-two", "tcp", 80)
    assert walk.verdict.startswith("delivered, as far as can be told: the rules of node-two are not known")


def test_a_firewall_rule_at_the_other_end_decides() -> None:
    """The default policy of FORWARD on the receiving node."""

    def close(lines: list[str]) -> list[str]:
        at = next(i for i, line in enumerate(lines) if line.startswith("[") and "-A FORWARD" in line)
        return [*lines[:at], "[0:0] -A FORWARD -d 10.244.18.5/32 -p tcp -m tcp --dport 22 -j DROP", *lines[at:]]

    changed = cluster({f"{ONE}/iptables-save.txt": text(close)})
    walk = changed.walk("default/client-two", "default/client", "tcp", 22)
    assert walk.verdict == "dropped"
    assert "by the rules of node-one" in str(walk)
    assert changed.walk("default/client-two", "default/client", "tcp", 23).verdict == "delivered"


def test_rules_that_could_not_be_read_are_said() -> None:
    partial = cluster({f"{ONE}/iptables-save.txt": text(lambda lines: lines[:-2])})
    walk = partial.walk("default/client", "default/hello-world", "tcp", 80)
    assert walk.verdict.startswith("delivered, as far as can be told")


# ---------------------------------------------------------------- IPv6


def test_ipv6_by_the_sender_s_address_of_that_family() -> None:
    """Pods of both families: the walk takes the address that fits the destination."""
    walk = cluster(dual_api() | DUAL_RULES).walk("default/client", VIP6, "tcp", 80)
    assert walk.destination == f"[{VIP6}]:80/tcp"
    assert {end.address for end in walk.ends} == set(POD6.values())
    assert {end.chance for end in walk.ends} == {Fraction(1, 4)}
    assert {end.verdict for end in walk.ends} == {"delivered"}


def test_the_source_is_read_once(hello: kn.Cluster) -> None:
    """A second question costs no further parse: rules and addresses are kept with the cluster."""
    hello.walk("default/client", "default/hello-world", "tcp", 80)
    rules, view = hello.node_rules(ONE), hello.node(ONE).view()
    hello.walk("default/client", "default/client-two", "tcp", 80)
    assert hello.node_rules(ONE) is rules
    assert hello.node(ONE).view() is view
    assert hello.source.has(FactRef("nft.json", ONE))
