"""The recorded node-two rules, loaded into this kernel: do real connections end where ``evaluate`` says?"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from k8snet_nb.explain.nft.path import evaluate
from k8snet_nb.explain.outcome import Choice, NodeView, Outcome, Packet
from k8snet_nb.parse.nft import Ruleset, parse_nft
from k8snet_nb.parse.nft_text import ruleset_text

sys.path.insert(0, str(Path(__file__).parent))
from lab import Answer, Lab, require

RECORDED = Path(__file__).parents[2] / "k8snet_nb/data/hello-cluster/nodes/node-two/nft.json"
NODE, OTHER, CLIENT, GATEWAY = "172.30.0.12", "172.30.0.11", "172.30.0.50", "10.244.3.1"
PODS = {n: f"10.244.3.{n}" for n in (2, 3, 4, 5, 6, 7)}
PORTS = {2: [("tcp", 53), ("udp", 53), ("tcp", 9153)], 3: [("tcp", 8080)], 4: [("tcp", 8080)]}
PORTS |= {5: [("tcp", 8000)], 6: [("tcp", 8000)], 7: []}
FAR = {2: PORTS[2], 3: PORTS[3], 4: PORTS[3], 5: PORTS[5], 6: PORTS[5]}
VIEW = NodeView(
    "node-two",
    frozenset((NODE, GATEWAY, "127.0.0.1", "::1")),
    frozenset((NODE,)),
    frozenset(PODS.values()),
    ("10.244.3.0/24",),
)


@pytest.fixture(scope="module")
def rules() -> Ruleset:
    return parse_nft(RECORDED.read_bytes(), "node-two")


@pytest.fixture(scope="module")
def places(rules: Ruleset) -> Iterator[tuple[Lab, dict[str, str]]]:
    """The node with its pods on point-to-point links, the other node and the API server, and a client outside."""
    require("nft")
    with Lab("nft") as lab:
        node, other = lab.namespace("node", forward=True), lab.namespace("other")
        spaces = {"node": node, "other": other, "outside": lab.namespace("outside")}
        lab.bridge(node, "eth0", f"{NODE}/24")
        lab.plug(other, "eth0", f"{OTHER}/24", node, "eth0")
        lab.address(other, "eth0", "172.30.0.1/24", *(f"10.244.18.{n}/32" for n in FAR))
        lab.route(other, "10.244.3.0/24", NODE)
        lab.route(node, "10.244.18.0/24", OTHER)
        lab.plug(spaces["outside"], "eth0", f"{CLIENT}/24", node, "eth0", gateway=NODE)
        lab.route(spaces["outside"], "172.30.0.99/32", NODE)  # as a load balancer delivers to the node
        lab.run(node, ["ip", "route", "add", "default", "via", "172.30.0.1"])
        for key in ("net/ipv4/conf/all/send_redirects", "net/ipv4/conf/eth0/send_redirects", "net/ipv4/icmp_ratelimit"):
            lab.sysctl(node, key, "0")  # so that every reject is heard, and the client keeps its route
        for number, address in PODS.items():
            spaces[address] = _pod(lab, node, number, address)
        far = [(protocol, f"10.244.18.{n}", port) for n, ports in FAR.items() for protocol, port in ports]
        lab.serve(other, [*far, ("tcp", "172.30.0.1", 6443)])
        tables = [("ip", "kube-proxy"), ("ip6", "kube-proxy")]
        lab.run(node, ["nft", "-f", "-"], text=ruleset_text(rules, tables).text)
        yield lab, spaces


def _pod(lab: Lab, node: str, number: int, address: str) -> str:
    pod = lab.namespace(f"pod{number}")
    lab.veth(pod, "eth0", node, f"vethpod{number}")
    lab.address(node, f"vethpod{number}", f"{GATEWAY}/32")
    lab.run(node, ["ip", "route", "add", f"{address}/32", "dev", f"vethpod{number}", "src", GATEWAY])
    lab.address(pod, "eth0", f"{address}/32")
    lab.run(pod, ["ip", "route", "add", GATEWAY, "dev", "eth0"])
    lab.route(pod, "default", GATEWAY)
    if PORTS[number]:
        lab.serve(pod, [(protocol, address, port) for protocol, port in PORTS[number]])
    return pod


def _compare(outcome: Outcome, answers: list[Answer], source: str, protocol: str) -> None:
    """Ends and shares (within 6 standard deviations), and the client's address as each server saw it."""
    ends = Counter(answer.end for answer in answers)
    if outcome.action != "dnat":
        assert set(ends) == {{"reject": "refused", "drop": "timeout"}[outcome.action]}
        return
    assert set(ends) <= ({"ok", "timeout"} if protocol == "udp" else {"ok"})
    answers = [answer for answer in answers if answer.end == "ok"]
    assert len(answers) >= 0.9 * ends.total()  # a datagram may be lost on a busy machine
    by_server: dict[tuple[str, int], Choice] = {(c.address, c.port): c for c in outcome.choices}
    met = Counter((answer.server, answer.port) for answer in answers)
    assert set(met) <= set(by_server)
    for server, choice in by_server.items():
        assert choice.probability is not None
        share, total = float(choice.probability), len(answers)
        assert abs(met[server] - share * total) <= 6 * (total * share * (1 - share)) ** 0.5, (server, met)
    for answer in answers:
        masquerade = by_server[answer.server, answer.port].masquerade
        assert answer.peer in {True: (NODE, GATEWAY), False: (source,)}[masquerade], answer  # type: ignore[index]


CLIENTS = {"pod": PODS[7], "hairpin": PODS[3], "node": NODE, "outside": CLIENT}
CASES = [
    ("pod", "10.32.62.13", 80, "tcp", 120),
    ("node", "10.32.62.13", 80, "tcp", 120),
    ("outside", "10.32.62.13", 80, "tcp", 120),
    ("hairpin", "10.32.62.13", 80, "tcp", 100),
    ("pod", "10.32.118.77", 8000, "tcp", 100),
    ("pod", "10.32.0.1", 443, "tcp", 5),
    ("node", "10.32.0.1", 443, "tcp", 5),
    ("pod", "10.32.0.10", 53, "udp", 100),
    ("node", "10.32.0.10", 53, "udp", 100),
    ("pod", NODE, 30080, "tcp", 100),
    ("outside", NODE, 30080, "tcp", 100),
    ("node", NODE, 30080, "tcp", 100),
    ("outside", NODE, 30081, "tcp", 100),
    ("pod", NODE, 30081, "tcp", 100),
    ("node", NODE, 30081, "tcp", 100),
    ("outside", "172.30.0.99", 80, "tcp", 100),
    ("pod", "172.30.0.99", 80, "tcp", 100),
    ("pod", "10.32.35.27", 80, "tcp", 100),
    ("pod", "10.32.22.26", 80, "tcp", 2),
    ("node", "10.32.22.26", 9000, "tcp", 2),
    ("outside", "10.32.22.26", 80, "tcp", 2),
    ("pod", "10.32.62.13", 81, "tcp", 2),
    ("node", "10.32.62.13", 81, "tcp", 2),
    ("pod", "10.32.7.7", 80, "tcp", 1),
    ("node", "10.32.7.7", 80, "tcp", 1),
    ("pod", "10.32.91.161", 80, "tcp", 20),
]


@pytest.mark.parametrize(("who", "address", "port", "protocol", "count"), CASES)
def test_connections_end_where_evaluate_says(
    places: tuple[Lab, dict[str, str]], rules: Ruleset, who: str, address: str, port: int, protocol: str, count: int
) -> None:
    lab, spaces = places
    source = CLIENTS[who]
    kind = "node" if who == "node" else "outside" if who == "outside" else "pod"
    outcome = evaluate(rules, Packet(4, protocol, address, port, source, kind), VIEW)  # type: ignore[arg-type]
    assert outcome.unknown == ()
    namespace = spaces.get(who) or spaces[source]
    _compare(
        outcome, lab.connect(namespace, address, port, protocol=protocol, count=count, timeout=1.0), source, protocol
    )


def test_a_new_client_of_a_sticky_service_stays_with_its_first_endpoint(
    places: tuple[Lab, dict[str, str]], rules: Ruleset
) -> None:
    lab, spaces = places
    outcome = evaluate(rules, Packet(4, "tcp", "10.32.91.161", 80, CLIENT, "outside"), VIEW)
    assert outcome.affinity == 600
    answers = lab.connect(spaces["outside"], "10.32.91.161", 80, count=20)
    assert {answer.end for answer in answers} == {"ok"}
    assert len({answer.server for answer in answers}) == 1
    assert answers[0].server in {choice.address for choice in outcome.choices}
    after = parse_nft(lab.run(spaces["node"], ["nft", "-j", "list", "ruleset"]))
    remembered = evaluate(after, Packet(4, "tcp", "10.32.91.161", 80, CLIENT, "outside"), VIEW)
    assert [choice.address for choice in remembered.choices] == [answers[0].server]


def test_a_node_port_answers_on_the_primary_address_only(places: tuple[Lab, dict[str, str]], rules: Ruleset) -> None:
    lab, spaces = places
    outcome = evaluate(rules, Packet(4, "tcp", GATEWAY, 30080, PODS[7], "pod"), VIEW)
    assert outcome.action == "none"
    assert [a.end for a in lab.connect(spaces[PODS[7]], GATEWAY, 30080)] == ["refused"]  # nothing listens there


CASES_FILE = Path(__file__).parents[1] / "data/nft-cases.json"
CASES_VIEW = NodeView(
    "n1",
    frozenset(("192.0.2.11", "10.200.1.1", "127.0.0.1", "::1", "2001:db8::11", "2001:db8:200:1::1")),
    frozenset(("192.0.2.11", "2001:db8::11")),
    frozenset(("10.200.1.5", "10.200.1.6", "2001:db8:200:1::5", "2001:db8:200:1::6")),
)


@pytest.fixture(scope="module")
def cases() -> Iterator[tuple[Lab, Ruleset, dict[str, str]]]:
    """The constructed cases: a node with a pod that serves and one that asks, another node, a client outside."""
    require("nft")
    rules = parse_nft(CASES_FILE.read_bytes())
    with Lab("nfc") as lab:
        node, other, outside = lab.namespace("node", forward=True), lab.namespace("other"), lab.namespace("outside")
        lab.bridge(node, "eth0", "192.0.2.11/24", "2001:db8::11/64")
        for space, four, six in (
            (other, "192.0.2.12/24", "2001:db8::12/64"),
            (outside, "192.0.2.99/24", "2001:db8::99/64"),
        ):
            lab.plug(space, "eth0", four, node, "eth0", gateway="192.0.2.11")
            lab.address(space, "eth0", six)
            lab.route(space, "default", "2001:db8::11")
        lab.address(outside, "eth0", "192.0.2.50/24")
        lab.sysctl(outside, "net/ipv6/conf/eth0/accept_redirects", "0")
        lab.sysctl(outside, "net/ipv4/conf/eth0/accept_redirects", "0")
        lab.sysctl(node, "net/ipv4/icmp_ratelimit", "0")
        lab.address(other, "lo", "10.200.2.5/32", "2001:db8:200:2::5/128")
        lab.route(node, "10.200.2.0/24", "192.0.2.12")
        lab.route(node, "2001:db8:200:2::/64", "2001:db8::12")
        lab.run(node, ["ip", "route", "add", "default", "via", "192.0.2.12"])
        lab.run(node, ["ip", "-6", "route", "add", "default", "via", "2001:db8::12"])
        spaces = {"node": node, "outside": outside}
        lab.bridge(node, "near", "10.200.1.1/24", "2001:db8:200:1::1/64")
        for name in ("5", "6"):
            spaces[name] = lab.namespace(f"pod{name}")
            lab.plug(spaces[name], "eth0", f"10.200.1.{name}/24", node, "near", gateway="10.200.1.1")
            lab.address(spaces[name], "eth0", f"2001:db8:200:1::{name}/64")
            lab.route(spaces[name], "default", "2001:db8:200:1::1")
        lab.serve(spaces["5"], [("tcp", "10.200.1.5", 8443), ("udp", "2001:db8:200:1::5", 53)])
        lab.serve(other, [("tcp", "10.200.2.5", 8443), ("udp", "2001:db8:200:2::5", 53)])
        lab.run(node, ["nft", "-f", "-"], text=ruleset_text(rules).text)
        yield lab, rules, spaces


def _agree(cases: tuple[Lab, Ruleset, dict[str, str]], packet: Packet, space: str, count: int) -> Outcome:
    lab, rules, spaces = cases
    outcome = evaluate(rules, packet, CASES_VIEW)
    assert outcome.unknown == ()
    answers = lab.connect(
        spaces[space], packet.dst, packet.dport, protocol=packet.protocol, count=count, timeout=1.0, source=packet.src
    )
    if outcome.action == "dnat" and outcome.affinity is None:
        answers = [answer for answer in answers if answer.end == "ok"]
        shares, asked, count = Counter(answer.server for answer in answers), count, len(answers)
        assert count >= 0.9 * asked  # a datagram may be lost on a busy machine
        for choice in outcome.choices:
            share = float(choice.probability or 0)
            assert abs(shares[choice.address] - share * count) <= 6 * (count * share * (1 - share)) ** 0.5
        masquerade = {choice.address: choice.masquerade for choice in outcome.choices}
        for answer in answers:
            assert masquerade[answer.server] is (answer.peer in CASES_VIEW.local)
    else:
        ends = {"dnat": "ok", "drop": "timeout", "reject": "refused"}
        assert {answer.end for answer in answers} == {ends[outcome.action]}
        assert len({answer.server for answer in answers}) == 1
    return outcome


def test_ipv6_udp_from_outside_and_by_node_port(cases: tuple[Lab, Ruleset, dict[str, str]]) -> None:
    _agree(cases, Packet(6, "udp", "2001:db8:96::a", 53, "2001:db8::99", "outside"), "outside", 100)
    _agree(cases, Packet(6, "udp", "2001:db8::11", 31053, "2001:db8::99", "outside"), "outside", 100)


def test_source_ranges_let_in_and_shut_out(cases: tuple[Lab, Ruleset, dict[str, str]]) -> None:
    allowed = _agree(cases, Packet(4, "tcp", "203.0.113.20", 443, "192.0.2.99", "outside"), "outside", 10)
    refused = _agree(cases, Packet(4, "tcp", "203.0.113.20", 443, "192.0.2.50", "outside"), "outside", 1)
    assert (allowed.action, allowed.affinity, refused.action) == ("dnat", 10800, "drop")


def test_policy_local_without_a_local_endpoint(cases: tuple[Lab, Ruleset, dict[str, str]]) -> None:
    for dst, port in (("203.0.113.30", 80), ("192.0.2.11", 31030)):
        assert _agree(cases, Packet(4, "tcp", dst, port, "192.0.2.50", "outside"), "outside", 1).action == "drop"
    rejected = _agree(cases, Packet(4, "udp", "192.0.2.11", 31031, "192.0.2.50", "outside"), "outside", 1)
    assert rejected.action == "reject"


ORDER = """
table ip first {
	chain a {
		type filter hook output priority 0; policy accept;
		meta mark 1 drop
	}
}
table ip second {
	chain b {
		type filter hook output priority 0; policy accept;
		udp dport 9 meta mark set 1
	}
}
"""


def test_of_equal_priorities_the_chain_made_last_runs_first() -> None:
    require("nft")
    with Lab("nfo") as lab:
        alone = lab.namespace("a")
        lab.run(alone, ["nft", "-f", "-"], text=ORDER)
        listed = parse_nft(lab.run(alone, ["nft", "-j", "list", "ruleset"]))
        lab.serve(alone, [("udp", "127.0.0.1", 9), ("udp", "127.0.0.1", 10)])
        met = {port: lab.connect(alone, "127.0.0.1", port, protocol="udp", timeout=0.5)[0].end for port in (9, 10)}
    view = NodeView("a", frozenset(("127.0.0.1",)))
    said = {port: evaluate(listed, Packet(4, "udp", "127.0.0.1", port, None, "node"), view).action for port in (9, 10)}
    assert said == {9: "drop", 10: "none"}
    assert met[9] != "ok"
    assert met[10] == "ok"
