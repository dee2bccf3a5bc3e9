"""The walk through iptables rules: the recorded node-one by hand-written expectations, and made-up rules."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from iptables_place import VIEW, ask, made

import k8snet_nb.errors
from k8snet_nb.errors import FactBroken
from k8snet_nb.explain.iptables.path import evaluate
from k8snet_nb.explain.iptables.services import services
from k8snet_nb.explain.outcome import Client, NodeView, Packet
from k8snet_nb.parse.ipset import parse_ipset
from k8snet_nb.parse.iptables import Ruleset, parse_iptables_save

NODES = Path(k8snet_nb.errors.__file__).parent / "data" / "hello-cluster" / "nodes"
HELLO = ("10.244.18.3", "10.244.18.4", "10.244.3.3", "10.244.3.4")
CART = ("10.244.18.6", "10.244.3.5", "10.244.3.6")
DNS = ("10.244.18.2", "10.244.3.2")


@pytest.fixture(scope="module")
def node_one() -> Ruleset:
    return parse_iptables_save((NODES / "node-one" / "iptables-save.txt").read_bytes())


CLUSTER_IPS = [
    ("10.32.62.13", "tcp", 80, HELLO, 8080),
    ("10.32.43.193", "tcp", 80, HELLO, 8080),
    ("10.32.180.52", "tcp", 80, HELLO, 8080),
    ("10.32.219.232", "tcp", 80, HELLO, 8080),
    ("10.32.91.161", "tcp", 80, HELLO, 8080),
    ("10.32.35.27", "tcp", 80, HELLO[:2], 8080),
    ("10.32.118.77", "tcp", 8000, CART, 8000),
    ("10.32.118.77", "tcp", 81, CART, 8000),
    ("10.32.0.10", "tcp", 53, DNS, 53),
    ("10.32.0.10", "udp", 53, DNS, 53),
    ("10.32.0.10", "tcp", 9153, DNS, 9153),
    ("10.32.0.1", "tcp", 443, ("172.30.0.1",), 6443),
]


@pytest.mark.parametrize(("address", "protocol", "port", "endpoints", "target"), CLUSTER_IPS)
@pytest.mark.parametrize("client", ["pod", "node", "outside"])
def test_cluster_ips(
    node_one: Ruleset, address: str, protocol: str, port: int, endpoints: tuple[str, ...], target: int, client: Client
) -> None:
    outcome = ask(node_one, address, port, client, protocol)
    assert (outcome.action, outcome.unknown, outcome.partial) == ("dnat", (), False)
    assert [(c.address, c.port, c.probability) for c in outcome.choices] == [
        (endpoint, target, Fraction(1, len(endpoints))) for endpoint in endpoints
    ]
    assert outcome.affinity == (600 if address == "10.32.91.161" else None)
    for choice in outcome.choices:
        local = choice.address.startswith("10.244.18.")
        assert choice.masquerade == (("hairpin" if local else False) if client == "pod" else True)


@pytest.mark.parametrize(("address", "port"), [("172.30.0.11", 30080), ("10.244.18.1", 30120), ("172.30.0.99", 80)])
@pytest.mark.parametrize("client", ["pod", "node", "outside"])
def test_external_entries_of_policy_cluster(node_one: Ruleset, address: str, port: int, client: Client) -> None:
    outcome = ask(node_one, address, port, client)
    assert [(c.address, c.probability, c.masquerade) for c in outcome.choices] == [
        (e, Fraction(1, 4), True) for e in HELLO
    ]
    assert not outcome.unknown


def test_external_entry_of_policy_local(node_one: Ruleset) -> None:
    """Pods and the node go on to all endpoints; outsiders to those here, and keep their address."""
    shares = {client: ask(node_one, "172.30.0.11", 30081, client).choices for client in ("pod", "node", "outside")}  # type: ignore[arg-type]
    assert [(c.address, c.masquerade) for c in shares["pod"]] == [
        *((e, "hairpin") for e in HELLO[:2]),
        *((e, False) for e in HELLO[2:]),
    ]
    assert [(c.address, c.masquerade) for c in shares["node"]] == [(e, True) for e in HELLO]
    assert [(c.address, c.probability, c.masquerade) for c in shares["outside"]] == [
        (e, Fraction(1, 2), False) for e in HELLO[:2]
    ]


@pytest.mark.parametrize("port", [80, 9000])
@pytest.mark.parametrize("client", ["pod", "node", "outside"])
def test_no_endpoints_is_a_reject(node_one: Ruleset, port: int, client: Client) -> None:
    outcome = ask(node_one, "10.32.22.26", port, client)
    assert outcome.action == "reject"
    assert outcome.steps[-1].place == "filter KUBE-SERVICES"
    assert "has no endpoints" in outcome.steps[-1].text
    assert "rejected with icmp-port-unreachable" in outcome.steps[-1].says


def test_the_pod_itself_by_its_service(node_one: Ruleset) -> None:
    outcome = ask(node_one, "10.32.62.13", 80, src="10.244.18.3")
    assert {c.address: c.masquerade for c in outcome.choices} == {
        HELLO[0]: True,
        HELLO[1]: False,
        HELLO[2]: False,
        HELLO[3]: False,
    }


@pytest.mark.parametrize(
    ("dst", "port"), [("10.244.3.3", 8080), ("192.0.2.7", 443), ("10.32.62.13", 81), ("172.30.0.11", 31999)]
)
@pytest.mark.parametrize("client", ["pod", "node", "outside"])
def test_any_other_packet_passes(node_one: Ruleset, dst: str, port: int, client: Client) -> None:
    outcome = ask(node_one, dst, port, client)
    assert (outcome.action, outcome.choices, outcome.masquerade, outcome.unknown) == ("none", (), False, ())


def test_loopback_from_elsewhere_is_dropped(node_one: Ruleset) -> None:
    assert ask(node_one, "127.0.0.1", 9999, "outside").action == "drop"
    assert ask(node_one, "127.0.0.1", 9999, "node").action == "none"


def test_steps_quote_the_save(node_one: Ruleset) -> None:
    text = (NODES / "node-one" / "iptables-save.txt").read_text()
    steps = ask(node_one, "10.32.62.13", 80).steps
    assert [step.place for step in steps[:3]] == [
        "nat PREROUTING",
        "nat KUBE-SERVICES",
        "nat KUBE-SVC-NOIMA57NP5B3VMDZ",
    ]
    assert all(step.text in text and step.fact == "iptables-save.txt" for step in steps)
    assert "1 in 3 of the packets" in next(s.says for s in steps if "0.33333333349" in s.text)


def test_the_other_family_is_refused(node_one: Ruleset) -> None:
    with pytest.raises(ValueError, match="IPv6"):
        ask(node_one, "fd00::1", 80)


def test_ipvs_node_needs_its_sets() -> None:
    rules = parse_iptables_save((NODES / "node-three" / "iptables-save.txt").read_bytes())
    sets = parse_ipset((NODES / "node-three" / "ipset.txt").read_bytes())
    view = NodeView(
        "node-three",
        frozenset({"172.30.0.13", "10.32.62.13"}),
        frozenset({"172.30.0.13"}),
        pod_networks=("10.244.7.0/24",),
    )
    packet = Packet(4, "tcp", "10.32.62.13", 80, client="node")
    known = evaluate(rules, packet, view, ipsets=sets)
    assert (known.action, known.masquerade, known.unknown) == ("none", True, ())
    blind = evaluate(rules, packet, view)
    assert blind.masquerade is None
    assert any("KUBE-IPVS-IPS" in text and "rejected" in text for text in blind.unknown)


def test_services_of_node_one(node_one: Ruleset) -> None:
    """Every entry that kube-proxy programmed, by hand."""
    found = {(e.kind, e.address, e.port, e.protocol): e for e in services(node_one)}
    assert len(found) == 18
    assert not [e for e in found.values() if e.problem]
    for address, protocol, port, endpoints, target in CLUSTER_IPS:
        entry = found["cluster_ip", address, port, protocol]
        assert [e for e, _ in entry.endpoints] == list(endpoints)
        assert {p for _, p in entry.endpoints} == {target}
        assert (entry.local is None) == (address != "10.32.35.27")
    local = found["node_port", None, 30081, "tcp"]
    assert (local.service, [e for e, _ in local.cluster]) == ("default/hello-local:http", list(HELLO))
    assert local.local == tuple((e, 8080) for e in HELLO[:2])
    assert found["external_ip", "172.30.0.99", 80, "tcp"].service == "default/hello-lb:http"
    orphans = [(e.service, e.action, e.endpoints) for e in found.values() if e.action != "dnat"]
    assert orphans == [("default/orphan:http", "reject", ()), ("default/orphan:admin", "reject", ())]


def test_services_whose_outsiders_get_nothing() -> None:
    """Traffic policy Local on a node without an endpoint: the EXT chain serves pods and the node only."""
    comment = '-m comment --comment "a/b:c" -m tcp --dport 30000'
    chain = "-A KUBE-EXT-A -s 10.244.0.0/16 -j KUBE-SVC-A\n-A KUBE-EXT-A -m addrtype --src-type LOCAL -j KUBE-SVC-A\n"
    ends = "-A KUBE-SVC-A -j KUBE-SEP-A\n-A KUBE-SEP-A -p tcp -j DNAT --to-destination 10.244.3.3:80"
    drop = (
        '-m comment --comment "a/b:c has no local endpoints" -m addrtype --dst-type LOCAL -m tcp --dport 30000 -j DROP'
    )
    hooks = "-A PREROUTING -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n-A OUTPUT -j KUBE-NODEPORTS\n"
    nat = hooks + f"-A KUBE-NODEPORTS -p tcp {comment} -j KUBE-EXT-A\n" + chain + ends
    rules = made(nat, f"-A INPUT -j KUBE-EXTERNAL-SERVICES\n-A KUBE-EXTERNAL-SERVICES -p tcp {drop}")
    found = [(e.kind, e.service, e.action, e.cluster, e.local) for e in services(rules)]
    assert found == [
        ("node_port", "a/b:c", "dnat", (("10.244.3.3", 80),), ()),
        ("node_port", "a/b:c", "drop", (), None),
    ]
    view = NodeView(VIEW.node, VIEW.local, VIEW.primary, VIEW.pod_addresses, ("10.244.0.0/16",))
    actions = {
        client: evaluate(rules, Packet(4, "tcp", "172.30.0.11", 30000, client=client), view).action  # type: ignore[arg-type]
        for client in ("pod", "node", "outside")
    }
    assert actions == {"pod": "dnat", "node": "dnat", "outside": "drop"}


def test_services_with_damage() -> None:
    comment = '-m comment --comment "a/b:c cluster IP" -m tcp --dport 80'
    nat = f"-A KUBE-SERVICES -d 10.32.0.5/32 -p tcp {comment} -j KUBE-SVC-A\n"
    nat += "-A KUBE-SVC-A -j KUBE-SEP-A\n-A KUBE-SEP-A -j RETURN"
    (entry,) = services(made(nat))
    assert (entry.service, entry.endpoints, "KUBE-SEP-A leads to no endpoint" in entry.problem) == ("a/b:c", (), True)
    circle = (
        nat.replace("KUBE-SVC-A", "KUBE-EXT-A")
        .replace("KUBE-SEP-A", "KUBE-EXT-B")
        .replace("-j RETURN", "-j KUBE-EXT-A")
    )
    with pytest.raises(FactBroken, match="circle"):
        services(made(circle))
