"""The recorded node-two rules, loaded into this kernel: do real connections end where ``evaluate`` says?"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from k8snet_nb.explain.nft_path import evaluate
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


def _compare(outcome: Outcome, answers: list[Answer], source: str) -> None:
    """Ends and shares (within 6 standard deviations), and the client's address as each server saw it."""
    ends = Counter(answer.end for answer in answers)
    if outcome.action != "dnat":
        assert set(ends) == {{"reject": "refused", "drop": "timeout"}[outcome.action]}
        return
    assert set(ends) == {"ok"}
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
    _compare(outcome, lab.connect(namespace, address, port, protocol=protocol, count=count, timeout=1.0), source)


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
