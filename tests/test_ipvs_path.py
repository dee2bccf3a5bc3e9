"""What IPVS does with a packet: the recorded node, Service by Service, and the cases that it does not have."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from k8snet_nb.explain.ipvs.path import evaluate, find, services
from k8snet_nb.explain.ipvs.schedule import share
from k8snet_nb.explain.outcome import Client, NodeView, Outcome, Packet
from k8snet_nb.parse.ipset import parse_ipset
from k8snet_nb.parse.iptables import parse_iptables_save
from k8snet_nb.parse.ipvs import parse_rules

NODE = Path(__file__).parent.parent / "k8snet_nb/data/hello-cluster/nodes/node-three"
SERVERS = parse_rules((NODE / "ipvs-save.txt").read_bytes())
SETS = parse_ipset((NODE / "ipset.txt").read_bytes())
RULES = parse_iptables_save((NODE / "iptables-save.txt").read_bytes())
LOCAL = frozenset(
    address["local"]
    for link in json.loads((NODE / "addr.json").read_bytes())
    for address in link["addr_info"]
    if "local" in address
)
VIEW = NodeView("node-three", LOCAL, frozenset(["172.30.0.13"]))
HELLO = ["10.244.3.3:8080", "10.244.3.4:8080", "10.244.18.3:8080", "10.244.18.4:8080"]
CART = ["10.244.3.5:8000", "10.244.3.6:8000", "10.244.18.6:8000"]
DNS = ["10.244.3.2:53", "10.244.18.2:53"]
ALL, NO_PODS, NONE = ("pod", "node", "outside"), ("node", "outside"), ()


def asked(dst: str, dport: int, client: Client = "pod", protocol: str = "tcp", src: str | None = None) -> Outcome:
    packet = Packet(6 if ":" in dst else 4, protocol, dst, dport, src, client)
    return evaluate(SERVERS, packet, VIEW, RULES, SETS)


# (Service and entry, protocol, address, port, endpoints, clients that are masqueraded), from kubectl's view of the
# Services: cluster addresses masquerade whoever is no pod, NodePorts and external addresses everyone, unless
# externalTrafficPolicy is Local (hello-local's 30081)
PROGRAMMED = [
    ("hello-world", "tcp", "10.32.62.13", 80, HELLO, NO_PODS),
    ("hello-nodeport", "tcp", "10.32.43.193", 80, HELLO, NO_PODS),
    ("hello-nodeport node_port", "tcp", "172.30.0.13", 30080, HELLO, ALL),
    ("hello-local", "tcp", "10.32.219.232", 80, HELLO, NO_PODS),
    ("hello-local node_port", "tcp", "172.30.0.13", 30081, HELLO, NONE),
    ("hello-lb", "tcp", "10.32.180.52", 80, HELLO, NO_PODS),
    ("hello-lb node_port", "tcp", "172.30.0.13", 30120, HELLO, ALL),
    ("hello-lb external_ip", "tcp", "172.30.0.99", 80, HELLO, ALL),
    ("hello-sticky", "tcp", "10.32.91.161", 80, HELLO, NO_PODS),
    ("kubernetes", "tcp", "10.32.0.1", 443, ["172.30.0.1:6443"], NO_PODS),
    ("kube-dns dns", "udp", "10.32.0.10", 53, DNS, NO_PODS),
    ("kube-dns dns-tcp", "tcp", "10.32.0.10", 53, DNS, NO_PODS),
    ("kube-dns metrics", "tcp", "10.32.0.10", 9153, ["10.244.3.2:9153", "10.244.18.2:9153"], NO_PODS),
    ("cart web", "tcp", "10.32.118.77", 8000, CART, NO_PODS),
    ("cart alt", "tcp", "10.32.118.77", 81, CART, NO_PODS),
]


@pytest.mark.parametrize("client", ALL)
@pytest.mark.parametrize(("name", "protocol", "dst", "dport", "endpoints", "masqueraded"), PROGRAMMED)
def test_every_service_of_the_recorded_node(  # type: ignore[no-untyped-def]
    name, protocol, dst, dport, endpoints, masqueraded, client: Client
) -> None:
    outcome = asked(dst, dport, client, protocol)
    assert outcome.action == "dnat"
    assert [f"{one.address}:{one.port}" for one in outcome.choices] == endpoints
    assert {one.probability for one in outcome.choices} == {Fraction(1, len(endpoints))}
    assert {one.masquerade for one in outcome.choices} == {client in masqueraded}
    assert outcome.scheduler == "rr"
    assert outcome.affinity == (600 if name == "hello-sticky" else None)
    assert outcome.unknown == ()
    assert not outcome.partial


@pytest.mark.parametrize("client", ALL)
@pytest.mark.parametrize(
    ("dst", "dport"),
    [("10.32.22.26", 80), ("10.32.22.26", 9000), ("10.32.35.27", 80)],
    ids=["orphan http", "orphan admin", "hello-internal-local"],
)
def test_a_service_without_servers_is_rejected(dst: str, dport: int, client: Client) -> None:
    outcome = asked(dst, dport, client)
    assert (outcome.action, outcome.choices, outcome.unknown) == ("reject", (), ())
    assert outcome.steps[-1].text == f"-A -t {dst}:{dport} -s rr"
    assert "port-unreachable" in outcome.steps[-1].says


def test_a_wrong_port_of_a_service_address_is_rejected_by_the_filter_also_for_the_node_itself() -> None:
    for client in ("pod", "outside"):
        outcome = asked("10.32.62.13", 81, client)  # type: ignore[arg-type]
        assert outcome.action == "reject"
        assert [step.place for step in outcome.steps] == ["filter INPUT", "filter KUBE-IPVS-FILTER"]
        assert "KUBE-IPVS-IPS dst -j REJECT" in outcome.steps[-1].text
    at_home = asked("10.32.62.13", 81, "node")
    assert at_home.action == "reject", "it leaves by lo and comes in again: INPUT is met, as for everyone"
    assert "KUBE-IPVS-IPS dst -j REJECT" in at_home.steps[-1].text


def test_an_address_that_is_not_the_nodes_does_not_come_to_ipvs() -> None:
    assert asked("10.32.99.99", 80).action == "none"
    assert "kube-ipvs0" not in asked("10.32.99.99", 80).steps[-1].text
    without = evaluate(SERVERS, Packet(4, "tcp", "10.32.62.13", 80), NodeView("x"), RULES, SETS)
    assert any("addresses are not known" in words for words in without.unknown)


def test_a_pod_of_which_the_address_is_known_is_no_other_client() -> None:
    assert {one.masquerade for one in asked("10.32.62.13", 80, src="10.244.3.9").choices} == {False}
    assert {one.masquerade for one in asked("10.32.62.13", 80, src="192.0.2.1").choices} == {True}


def test_steps_quote_the_facts_as_they_stand() -> None:
    texts = {
        "iptables-save.txt": [
            line.partition("] ")[2] for line in (NODE / "iptables-save.txt").read_text().splitlines()
        ],
        "ipvs-save.txt": (NODE / "ipvs-save.txt").read_text().splitlines(),
    }
    outcome = asked("172.30.0.13", 30080, "outside")
    for step in outcome.steps:
        assert step.text in texts[step.fact]
    places = [step.place for step in outcome.steps]
    assert places[:4] == ["nat PREROUTING", "nat KUBE-SERVICES", "nat KUBE-NODE-PORT", "nat KUBE-MARK-MASQ"]
    assert places[-4:] == ["ipvs real server"] * 4
    assert "nat KUBE-POSTROUTING" in places


def test_services_lists_what_is_programmed() -> None:
    listed = {(one.protocol, one.address, one.port): one for one in services(SERVERS)}
    assert len(listed) == 18
    assert set(listed) == {(protocol, dst, dport) for _, protocol, dst, dport, _, _ in PROGRAMMED} | {
        ("tcp", "10.32.22.26", 80),
        ("tcp", "10.32.22.26", 9000),
        ("tcp", "10.32.35.27", 80),
    }
    cart = listed["tcp", "10.32.118.77", 81]
    assert cart.endpoints == (("10.244.3.5", 8000, 1), ("10.244.3.6", 8000, 1), ("10.244.18.6", 8000, 1))
    assert listed["tcp", "10.32.91.161", 80].affinity == 600


def virtual(servers: str, name: str = "-t 10.0.0.1:80", options: str = "-s rr"):  # type: ignore[no-untyped-def]
    lines = [f"-A {name} {options}", *(f"-a {name} -r {server}" for server in servers.split(";") if server)]
    return parse_rules("".join(line + "\n" for line in lines))


def shares(servers: str, scheduler: str) -> list[Fraction | None]:
    return [part for _, part in share(virtual(servers, options=f"-s {scheduler}")[0]).usable]


THREE = "10.1.0.1:8080 -m -w 3;10.1.0.2:8080 -m -w 1;10.1.0.3:8080 -m -w 0"


def test_exact_shares_of_the_schedulers() -> None:
    assert shares(THREE, "rr") == [Fraction(1, 2), Fraction(1, 2)]
    assert shares(THREE, "wrr") == [Fraction(3, 4), Fraction(1, 4)]
    assert shares(THREE, "fo") == [1, 0]
    assert shares("10.1.0.1:80 -m -w 2;10.1.0.2:80 -m -w 2", "fo") == [None, None]
    for scheduler in ("lc", "wlc", "sed", "nq", "sh", "dh", "mh", "lblc", "ovf", "someday"):
        assert shares(THREE, scheduler) == [None, None]
        told = share(virtual(THREE, options=f"-s {scheduler}")[0])
        assert f"scheduler {scheduler}" in told.unknown


def test_one_server_alone_gets_everything_but_for_hashes_that_may_hit_a_draining_one() -> None:
    one, drained = "10.1.0.1:80 -m -w 1", "10.1.0.1:80 -m -w 1;10.1.0.2:80 -m -w 0"
    assert shares(one, "lc") == shares(one, "sh") == shares(drained, "lc") == [1]
    assert shares(drained, "sh") == [None]
    assert "refused" in share(virtual(drained, options="-s sh")[0]).unknown


def alone(servers, dst: str = "10.0.0.1", dport: int = 80, protocol: str = "tcp") -> Outcome:  # type: ignore[no-untyped-def]
    """Without any rule, and with every address the node's own."""
    empty = parse_iptables_save("*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n")
    packet = Packet(6 if ":" in dst else 4, protocol, dst, dport, "192.0.2.1", "outside")
    return evaluate(servers, packet, NodeView("x", frozenset([dst])), empty, {})


def test_draining_servers_stand_apart() -> None:
    outcome = alone(virtual(THREE))
    assert [(one.address, one.weight, one.probability) for one in outcome.draining] == [("10.1.0.3", 0, 0)]
    assert len(outcome.choices) == 2
    drained = alone(virtual("10.1.0.3:8080 -m -w 0"))
    assert (drained.action, len(drained.draining)) == ("reject", 1)
    assert "draining" in drained.steps[-1].says


def test_sctp_ipv6_and_a_port_for_all() -> None:
    sctp = virtual("10.1.0.9:99 -m -w 1", "--sctp-service 10.0.0.1:99")
    assert alone(sctp, dport=99, protocol="sctp").choices[0].address == "10.1.0.9"
    assert alone(sctp, dport=99, protocol="tcp").action == "none"
    six = virtual("[fd00::9]:8080 -m -w 1", "-t [fd00::1]:80")
    assert alone(six, "fd00::1").choices[0].address == "fd00::9"
    every = virtual("10.1.0.9:0 -m -w 1", "-t 10.0.0.1:0", "-s rr -p 60")
    outcome = alone(every, dport=8443)
    assert (outcome.choices[0].port, outcome.affinity) == (8443, 60)
    both = [*every, *virtual("10.1.0.1:80 -m -w 1")]
    assert find(both, Packet(4, "tcp", "10.0.0.1", 80)) is both[1]


def test_servers_reached_without_nat_are_no_dnat() -> None:
    outcome = alone(virtual("10.1.0.1:80 -g -w 1;10.1.0.2:80 -i -w 1 --tun-type ipip"))
    assert outcome.action == "none"
    assert len([words for words in outcome.unknown if "destination unchanged" in words]) == 2


def test_virtual_servers_by_mark_are_named() -> None:
    outcome = alone([*virtual(THREE), *virtual("10.1.0.9:99 -m -w 1", "-f 7")])
    assert outcome.action == "dnat"
    assert any("fwmark 7" in words for words in outcome.unknown)


def test_without_the_rules_masquerading_is_not_told() -> None:
    outcome = evaluate(SERVERS, Packet(4, "tcp", "10.32.62.13", 80), VIEW)
    assert outcome.action == "dnat"
    assert {one.masquerade for one in outcome.choices} == {None}
    assert any("iptables rules" in words for words in outcome.unknown)


def test_without_the_sets_the_rules_that_need_them_are_named() -> None:
    outcome = evaluate(SERVERS, Packet(4, "tcp", "10.32.62.13", 80, client="outside"), VIEW, RULES, None)
    assert {one.masquerade for one in outcome.choices} == {None}
    assert any("KUBE-CLUSTER-IP" in words and "line " in words for words in outcome.unknown)


def ruled(text: str, src: str | None = "192.0.2.1", client: Client = "outside", sets: str = "") -> Outcome:
    rules = parse_iptables_save(text)
    view = NodeView("x", frozenset(["10.0.0.1"]), pod_addresses=frozenset(["10.1.0.1"]), pod_networks=("10.1.0.0/24",))
    return evaluate(virtual(THREE), Packet(4, "tcp", "10.0.0.1", 80, src, client), view, rules, parse_ipset(sets))


def table(name: str, *rules: str, chains: str = "") -> str:
    heads = {"nat": ("PREROUTING", "OUTPUT", "POSTROUTING"), "filter": ("INPUT", "OUTPUT")}[name]
    declared = [f":{chain} ACCEPT [0:0]" for chain in heads] + [f":{chain} - [0:0]" for chain in chains.split()]
    return "\n".join([f"*{name}", *declared, *rules, "COMMIT"]) + "\n"


def test_drop_and_reject_of_the_filter() -> None:
    assert ruled(table("filter", "-A INPUT -s 192.0.2.0/24 -j DROP")).action == "drop"
    assert ruled(table("filter", "-A INPUT -p tcp -m tcp --dport 80 -j REJECT")).action == "reject"
    assert ruled(table("filter", "-A INPUT -s 198.51.100.0/24 -j DROP")).action == "dnat"
    assert ruled(table("filter").replace(":INPUT ACCEPT", ":INPUT DROP")).action == "drop"
    # processes of the node do not pass INPUT on their way to IPVS
    assert ruled(table("filter", "-A INPUT -j DROP"), None, "node").action == "dnat"


def test_an_undecided_rule_is_named_and_matters_only_where_it_makes_a_difference() -> None:
    strange = "-A POSTROUTING -m hashlimit --hashlimit-above 5/sec --hashlimit-name x"
    outcome = ruled(table("nat", f"{strange} -j MASQUERADE"))
    assert {one.masquerade for one in outcome.choices} == {None}
    assert strange in outcome.unknown[0]
    same = ruled(table("nat", f"{strange} -j MASQUERADE", "-A POSTROUTING -j MASQUERADE"))
    assert {one.masquerade for one in same.choices} == {True}
    assert same.unknown == ()


def test_chains_in_a_circle_and_unknown_targets_are_no_answer() -> None:
    circle = ruled(table("nat", "-A POSTROUTING -j A", "-A A -j B", "-A B -j A", chains="A B"))
    assert {one.masquerade for one in circle.choices} != {True}
    assert any("circle" in words for words in circle.unknown)
    lost = ruled(table("nat", "-A PREROUTING -p tcp -j DNAT --to-destination 10.9.9.9:80"))
    assert lost.action == "none"
    assert any("DNAT takes it elsewhere" in words for words in lost.unknown)


SOURCES = """\
create FW hash:ip,port family inet
add FW 10.0.0.1,tcp:80
create CIDR hash:ip,port,net family inet
add CIDR 10.0.0.1,tcp:80,192.0.2.0/24
add CIDR 10.0.0.2,tcp:80,203.0.113.0/24
create LOOP hash:ip,port,ip family inet
add LOOP 10.1.0.1,tcp:8080,10.1.0.1
"""
FIREWALL = table(
    "filter",
    "-A INPUT -m set --match-set FW dst,dst -j RANGES",
    "-A RANGES -m set --match-set CIDR dst,dst,src -j RETURN",
    "-A RANGES -j DROP",
    chains="RANGES",
)


def test_source_ranges() -> None:
    inside, outside, anyone = (ruled(FIREWALL, src, sets=SOURCES) for src in ("192.0.2.1", "198.51.100.1", None))
    assert (inside.action, outside.action, anyone.action) == ("dnat", "drop", "dnat")
    assert {outcome.source_ranges for outcome in (inside, outside, anyone)} == {("192.0.2.0/24",)}
    assert anyone.unknown == ()
    assert any("only for clients in 192.0.2.0/24" in step.says for step in anyone.steps)
    assert ruled(FIREWALL, None, "node", SOURCES).source_ranges == ()


def test_hairpin() -> None:
    loop = table("nat", "-A POSTROUTING -m set --match-set LOOP dst,dst,src -j MASQUERADE")
    outcome = ruled(loop, None, "pod", SOURCES)
    assert [one.masquerade for one in outcome.choices] == ["hairpin", False]
    assert [one.masquerade for one in ruled(loop, "10.1.0.1", "pod", SOURCES).choices] == [True, False]
    assert {one.masquerade for one in ruled(loop, None, "outside", SOURCES).choices} == {False}


def test_rules_that_are_partly_readable_make_the_answer_partial() -> None:
    text = (NODE / "iptables-save.txt").read_text()
    cut = parse_iptables_save(text[: text.rindex("COMMIT")])
    outcome = evaluate(SERVERS, Packet(4, "tcp", "10.32.62.13", 80), VIEW, cut, SETS)
    assert outcome.partial
