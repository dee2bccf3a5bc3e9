"""Every Service and entry of the recorded node-two, by every client, against expectations worked out by hand."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from k8snet_nb.explain.nft.path import evaluate
from k8snet_nb.explain.nft.services import services
from k8snet_nb.explain.outcome import NodeView, Packet
from k8snet_nb.parse.nft import Ruleset, parse_nft

NODES = Path(__file__).parent.parent / "k8snet_nb/data/hello-cluster/nodes"
VIEW = NodeView(
    "node-two",
    frozenset(("172.30.0.12", "10.244.3.1", "127.0.0.1", "::1")),
    frozenset(("172.30.0.12",)),
    frozenset(f"10.244.3.{n}" for n in range(2, 8)),
    ("10.244.3.0/24",),
)
HELLO = {"10.244.18.3:8080", "10.244.18.4:8080", "10.244.3.3:8080", "10.244.3.4:8080"}
NEAR = {"10.244.3.3:8080", "10.244.3.4:8080"}
CART = {"10.244.18.6:8000", "10.244.3.5:8000", "10.244.3.6:8000"}
DNS, METRICS = {"10.244.18.2:53", "10.244.3.2:53"}, {"10.244.18.2:9153", "10.244.3.2:9153"}
API = {"172.30.0.1:6443"}
ORDINARY = {"pod": "hairpin", "node": True, "outside": True}
ALL = dict.fromkeys(("pod", "node", "outside"), True)
CASES = [  # address, port, protocol, {client: endpoints}, {client: masquerading}, affinity
    ("10.32.0.1", 443, "tcp", API, {"pod": False, "node": True, "outside": True}, None),
    ("10.32.0.10", 53, "udp", DNS, ORDINARY, None),
    ("10.32.0.10", 53, "tcp", DNS, ORDINARY, None),
    ("10.32.0.10", 9153, "tcp", METRICS, ORDINARY, None),
    ("10.32.35.27", 80, "tcp", NEAR, ORDINARY, None),
    ("10.32.43.193", 80, "tcp", HELLO, ORDINARY, None),
    ("10.32.62.13", 80, "tcp", HELLO, ORDINARY, None),
    ("10.32.91.161", 80, "tcp", HELLO, ORDINARY, 600),
    ("10.32.118.77", 81, "tcp", CART, ORDINARY, None),
    ("10.32.118.77", 8000, "tcp", CART, ORDINARY, None),
    ("10.32.180.52", 80, "tcp", HELLO, ORDINARY, None),
    ("10.32.219.232", 80, "tcp", HELLO, ORDINARY, None),
    ("172.30.0.99", 80, "tcp", HELLO, ALL, None),
    ("172.30.0.12", 30080, "tcp", HELLO, ALL, None),
    ("172.30.0.12", 30120, "tcp", HELLO, ALL, None),
    ("172.30.0.12", 30081, "tcp", {"pod": HELLO, "node": HELLO, "outside": NEAR}, {**ORDINARY, "outside": False}, None),
]


@pytest.fixture(scope="module")
def rules() -> Ruleset:
    return parse_nft((NODES / "node-two/nft.json").read_bytes(), "node-two")


@pytest.mark.parametrize("client", ["pod", "node", "outside"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}")
def test_every_entry(rules: Ruleset, case: tuple, client: str) -> None:  # type: ignore[type-arg]
    address, port, protocol, endpoints, masquerading, affinity = case
    expected = endpoints[client] if isinstance(endpoints, dict) else endpoints
    outcome = evaluate(rules, Packet(4, protocol, address, port, None, client), VIEW)  # type: ignore[arg-type]
    assert (outcome.action, outcome.unknown, outcome.affinity) == ("dnat", (), affinity)
    assert {f"{choice.address}:{choice.port}" for choice in outcome.choices} == expected
    assert {choice.probability for choice in outcome.choices} == {Fraction(1, len(expected))}
    for choice in outcome.choices:
        here = choice.address.startswith("10.244.3.")
        wanted = masquerading[client]
        assert choice.masquerade == (False if wanted == "hairpin" and not here else wanted), choice


@pytest.mark.parametrize("client", ["pod", "node", "outside"])
@pytest.mark.parametrize(
    ("address", "port", "action"),
    [
        ("10.32.22.26", 80, "reject"),
        ("10.32.22.26", 9000, "reject"),
        ("10.32.62.13", 81, "reject"),
        ("10.32.200.200", 80, "drop"),
        ("10.244.3.1", 30080, "none"),
        ("172.30.0.12", 30099, "none"),
        ("10.244.18.3", 8080, "none"),
    ],
)
def test_what_is_refused_or_left_alone(rules: Ruleset, address: str, port: int, action: str, client: str) -> None:
    outcome = evaluate(rules, Packet(4, "tcp", address, port, None, client), VIEW)  # type: ignore[arg-type]
    assert (outcome.action, outcome.choices, outcome.unknown) == (action, (), ())


def test_a_pod_that_meets_itself_and_a_remembered_client(rules: Ruleset) -> None:
    itself = evaluate(rules, Packet(4, "tcp", "10.32.62.13", 80, "10.244.3.3"), VIEW)
    assert {c.address: c.masquerade for c in itself.choices} == {
        "10.244.18.3": False,
        "10.244.18.4": False,
        "10.244.3.3": True,
        "10.244.3.4": False,
    }
    remembered = evaluate(rules, Packet(4, "tcp", "10.32.91.161", 80, "10.244.3.7"), VIEW)
    assert [(c.address, c.probability) for c in remembered.choices] == [("10.244.3.3", 1)]


def test_ipv6_has_a_table_without_services(rules: Ruleset) -> None:
    outcome = evaluate(rules, Packet(6, "tcp", "fd00::1", 80, None, "outside"), VIEW)
    assert (outcome.action, outcome.unknown) == ("none", ())
    assert {one.family for one in services(rules)} == {4}


def test_the_inventory_holds_every_entry_and_nothing_else(rules: Ruleset) -> None:
    found = {(one.address or "172.30.0.12", one.port, one.protocol): one for one in services(rules)}
    assert set(found) == {case[:3] for case in CASES} | {("10.32.22.26", 80, "tcp"), ("10.32.22.26", 9000, "tcp")}
    local = found["172.30.0.12", 30081, "tcp"]
    assert (local.service, local.port_name, local.entry) == ("default/hello-local", "http", "node_port")
    assert {f"{address}:{port}" for address, port in local.local or ()} == NEAR
    assert {f"{address}:{port}" for address, port in local.cluster or ()} == HELLO
    assert found["10.32.35.27", 80, "tcp"].cluster is None
    assert found["172.30.0.99", 80, "tcp"].entry == "external"
    assert found["10.32.22.26", 80, "tcp"].action == "reject"


def test_iptables_nft_tables_are_told_apart_and_summed_up(rules: Ruleset) -> None:
    assert {key for key, table in rules.tables.items() if not table.compat} == {
        ("ip", "kube-proxy"),
        ("ip6", "kube-proxy"),
    }
    other = parse_nft((NODES / "node-one/nft.json").read_bytes(), "node-one")
    assert all(table.compat for table in other.tables.values())
    outcome = evaluate(other, Packet(4, "tcp", "10.32.62.13", 80), VIEW)
    assert any("xtables expressions" in note and "iptables-save has them" in note for note in outcome.unknown)
    assert parse_nft((NODES / "node-three/nft.json").read_bytes()).tables == {}
