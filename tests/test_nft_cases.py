"""nftables cases that the recorded cluster lacks: IPv6, UDP, SCTP, affinity, source ranges, policies, other tables."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from k8snet_nb.errors import FactBroken
from k8snet_nb.explain.nft.path import evaluate
from k8snet_nb.explain.nft.services import services
from k8snet_nb.explain.outcome import Client, NodeView, Outcome, Packet
from k8snet_nb.parse.nft import Ruleset, parse_nft

HALF, THIRD = Fraction(1, 2), Fraction(1, 3)
VIEW = NodeView(
    "n1",
    local=frozenset(("192.0.2.11", "10.200.1.1", "127.0.0.1", "::1", "2001:db8::11")),
    primary=frozenset(("192.0.2.11", "2001:db8::11")),
    pod_addresses=frozenset(("10.200.1.5", "10.200.1.6", "2001:db8:200:1::5", "2001:db8:200:1::6")),
    pod_networks=("10.200.1.0/24", "2001:db8:200:1::/64"),
)


@pytest.fixture(scope="module")
def rules() -> Ruleset:
    return parse_nft((Path(__file__).parent / "data/nft-cases.json").read_bytes())


def ask(rules: Ruleset, protocol: str, dst: str, port: int, client: Client = "pod", src: str | None = None) -> Outcome:
    return evaluate(rules, Packet(6 if ":" in dst else 4, protocol, dst, port, src, client), VIEW)


def ends(outcome: Outcome) -> dict[str, tuple[Fraction | None, bool | str | None]]:
    return {choice.address: (choice.probability, choice.masquerade) for choice in outcome.choices}


def test_sctp_and_the_hairpin_of_one_endpoint(rules: Ruleset) -> None:
    assert ends(ask(rules, "sctp", "10.96.0.10", 7000)) == {
        "10.200.1.5": (HALF, "hairpin"),
        "10.200.2.5": (HALF, False),
    }
    assert ask(rules, "tcp", "10.96.0.10", 7000).action == "reject"  # the same port of another protocol


def test_ipv6_udp_by_every_client(rules: Ruleset) -> None:
    near, far = "2001:db8:200:1::5", "2001:db8:200:2::5"
    assert ends(ask(rules, "udp", "2001:db8:96::a", 53)) == {near: (HALF, "hairpin"), far: (HALF, False)}
    assert ends(ask(rules, "udp", "2001:DB8:96:0::A", 53, "outside")) == {near: (HALF, True), far: (HALF, True)}
    assert ends(ask(rules, "udp", "2001:db8::11", 31053, "node")) == {near: (HALF, True), far: (HALF, True)}
    assert ask(rules, "udp", "::1", 31053, "node").action == "none"
    assert ask(rules, "udp", "2001:db8::12", 31053, "outside").action == "none"  # not an address of this node


def test_affinity_of_new_and_of_remembered_clients(rules: Ruleset) -> None:
    new = ask(rules, "tcp", "10.96.0.20", 443)
    assert new.affinity == 10800
    assert [choice.probability for choice in new.choices] == [HALF, HALF]
    remembered = ask(rules, "tcp", "203.0.113.20", 443, "outside", "198.51.100.7")
    assert remembered.affinity == 10800
    assert ends(remembered) == {"10.200.2.5": (Fraction(1), True)}


def test_source_ranges_say_who_may_come_in(rules: Ruleset) -> None:
    anyone = ask(rules, "tcp", "203.0.113.20", 443, "outside")
    assert anyone.action == "dnat"
    assert set(anyone.source_ranges) == {"198.51.100.0/24", "192.0.2.99"}
    assert ask(rules, "tcp", "203.0.113.20", 443, "outside", "198.51.100.9").action == "dnat"
    assert ask(rules, "tcp", "203.0.113.20", 443, "outside", "203.0.113.200").action == "drop"
    for client in ("pod", "node"):
        assert ask(rules, "tcp", "203.0.113.20", 443, client).action == "drop"  # type: ignore[arg-type]
    for kind, source in (("outside", "198.51.100.9"), ("outside", "203.0.113.200"), ("pod", None), ("node", None)):
        ranges = ask(rules, "tcp", "203.0.113.20", 443, kind, source).source_ranges  # type: ignore[arg-type]
        assert set(ranges) == {"198.51.100.0/24", "192.0.2.99"}, "of the entry, whoever asks"
    assert ask(rules, "tcp", "192.0.2.11", 31020, "outside").source_ranges == ()


def test_local_policy_without_a_local_endpoint_drops_only_outsiders(rules: Ruleset) -> None:
    for address, port in (("203.0.113.30", 80), ("192.0.2.11", 31030)):
        assert ask(rules, "tcp", address, port, "outside").action == "drop"
        by_pod = ask(rules, "tcp", address, port, "pod")
        assert ends(by_pod) == dict.fromkeys(("10.200.2.5", "10.200.2.6", "10.200.3.7"), (THIRD, False))
        assert {choice.masquerade for choice in ask(rules, "tcp", address, port, "node").choices} == {True}


def test_a_node_port_without_endpoints_is_rejected_on_the_primary_address(rules: Ruleset) -> None:
    assert ask(rules, "udp", "192.0.2.11", 31031, "outside").action == "reject"
    assert ask(rules, "udp", "10.200.1.1", 31031, "pod").action == "none"


def test_cluster_addresses_on_wrong_ports_and_unallocated(rules: Ruleset) -> None:
    assert ask(rules, "tcp", "10.96.0.20", 444).action == "reject"
    assert ask(rules, "tcp", "10.96.9.9", 80, "node").action == "drop"


def test_other_tables_are_followed_and_named_where_they_cannot_be(rules: Ruleset) -> None:
    assert ask(rules, "udp", "198.51.100.1", 7777).action == "drop"
    guarded = ask(rules, "tcp", "198.51.100.1", 9999)
    assert guarded.action == "none"
    assert len(guarded.unknown) == 1
    assert "skuid 0" in guarded.unknown[0]
    assert "guards drop" in guarded.unknown[0]
    (limited,) = ask(rules, "tcp", "10.96.0.30", 81).unknown
    assert "taken as within its limit" in limited
    assert ask(rules, "tcp", "198.51.100.1", 9998).unknown == ()


def test_a_node_whose_pods_are_not_known_gives_no_certain_masquerading(rules: Ruleset) -> None:
    blank = NodeView("n1", local=VIEW.local, primary=VIEW.primary)
    outcome = evaluate(rules, Packet(4, "tcp", "10.96.0.20", 443), blank)
    assert {choice.masquerade for choice in outcome.choices} == {None}
    assert any("10.200.0.0/16" in note for note in outcome.unknown)


def test_steps_quote_the_rules_in_order(rules: Ruleset) -> None:
    steps = ask(rules, "tcp", "203.0.113.30", 80, "outside").steps
    assert [(step.place, step.text) for step in steps] == [
        ("ip kube-proxy filter-forward", "ct state new jump service-endpoints-check"),
        ("ip kube-proxy service-endpoints-check", "ip daddr . meta l4proto . th dport vmap @no-endpoint-services"),
        ("ip kube-proxy no-endpoint-services", '203.0.113.30 . tcp . 80 comment "web/local:http" : drop'),
    ]


def test_the_inventory(rules: Ruleset) -> None:
    found = {(one.family, one.entry, one.address, one.protocol, one.port, one.action): one for one in services(rules)}
    assert len(found) == 12
    shop = found[4, "external", "203.0.113.20", "tcp", 443, "dnat"]
    assert (shop.service, shop.port_name) == ("web/shop", "https")
    assert shop.cluster == {("10.200.1.5", 8443), ("10.200.2.5", 8443)}
    assert set(shop.source_ranges) == {"198.51.100.0/24", "192.0.2.99"}
    assert found[4, "node_port", "", "udp", 31031, "reject"].service == "web/gone"
    assert found[4, "external", "203.0.113.30", "tcp", 80, "drop"].cluster is None
    assert found[6, "cluster_ip", "2001:db8:96::a", "udp", 53, "dnat"].port_name == "dns"


def build(*rules: list[object], sets: str = "") -> Ruleset:
    """A table with a nat chain at prerouting that holds these rules, and an empty chain ``next``."""
    base = {"family": "ip", "table": "t"}
    hook = {"type": "nat", "hook": "prerouting", "prio": -100, "policy": "accept"}
    entries: list[object] = [{"metainfo": {"version": "1", "json_schema_version": 1}}]
    entries += [{"table": {"family": "ip", "name": "t", "handle": 1}}]
    entries += [{"chain": {**base, "name": "pre", **hook}}, {"chain": {**base, "name": "next"}}]
    entries += json.loads(f"[{sets}]")
    entries += [{"rule": {**base, "chain": "pre", "handle": i, "expr": rule}} for i, rule in enumerate(rules)]
    return parse_nft(json.dumps({"nftables": entries}))


def numgen(mod: int, data: list[object], mode: str = "random") -> dict[str, object]:
    return {"key": {"numgen": {"mode": mode, "mod": mod, "offset": 0}}, "data": {"set": data}}


def test_uneven_draws_are_exact_and_what_is_left_over_is_said() -> None:
    data = [[{"range": [0, 6]}, {"concat": ["10.0.0.1", 80]}], [7, {"concat": ["10.0.0.2", 80]}]]
    outcome = ask(build([{"dnat": {"family": "ip", "addr": {"map": numgen(10, data)}}}]), "tcp", "10.9.9.9", 80)  # type: ignore[arg-type]
    assert [choice.probability for choice in outcome.choices] == [Fraction(1, 10), Fraction(7, 10)]
    assert outcome.unknown == ("with a chance of 1/5, the packets end otherwise: none",)


def test_a_ladder_of_comparisons_multiplies() -> None:
    def rung(mod: int, address: str) -> list[object]:
        draw = {"numgen": {"mode": "random", "mod": mod, "offset": 0}}
        return [{"match": {"op": "<", "left": draw, "right": 1}}, {"dnat": {"addr": address, "port": 80}}]

    ladder = build(rung(3, "10.0.0.1"), rung(2, "10.0.0.2"), [{"dnat": {"addr": "10.0.0.3", "port": 80}}])
    assert [choice.probability for choice in ask(ladder, "tcp", "10.9.9.9", 80).choices] == [THIRD] * 3


def test_a_hash_of_the_packet_gives_no_chance() -> None:
    key = {"jhash": {"mod": 2, "expr": {"payload": {"protocol": "ip", "field": "saddr"}}}}
    data = {"set": [[0, {"concat": ["10.0.0.1", 80]}], [1, {"concat": ["10.0.0.2", 80]}]]}
    outcome = ask(build([{"dnat": {"addr": {"map": {"key": key, "data": data}}}}]), "tcp", "10.9.9.9", 80)
    assert [choice.probability for choice in outcome.choices] == [None, None]
    assert "hash of the packet" in outcome.unknown[0]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ([{"jump": {"target": "pre"}}], "in a circle at ip t, chain pre"),
        ([{"goto": {"target": "gone"}}], "no chain 'gone'"),
        (
            [{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": "@gone"}}],
            "@gone",
        ),
    ],
)
def test_rules_that_contradict_themselves_are_named(rule: list[object], words: str) -> None:
    with pytest.raises(FactBroken, match=words):
        ask(build(rule), "tcp", "10.9.9.9", 80)


def test_accept_ends_a_base_chain_only_and_marks_carry_on() -> None:
    mark = {"meta": {"key": "mark"}}
    rules = build([{"mangle": {"key": mark, "value": {"|": [mark, 4]}}}, {"accept": None}], [{"drop": None}])
    assert ask(rules, "tcp", "10.9.9.9", 80).action == "none"


def test_return_and_goto_come_back_where_the_kernel_does() -> None:
    drop = build([{"jump": {"target": "next"}}], [{"drop": None}])
    assert ask(drop, "tcp", "10.9.9.9", 80).action == "drop"  # next ends: back to the rule after the jump
    gone = build([{"goto": {"target": "next"}}], [{"drop": None}])
    assert ask(gone, "tcp", "10.9.9.9", 80).action == "none"  # a goto does not come back: the policy decides
    back = build([{"return": None}], [{"drop": None}])
    assert ask(back, "tcp", "10.9.9.9", 80).action == "none"


def test_expressions_that_are_not_understood_are_reported_never_assumed() -> None:
    strange = build([{"match": {"op": "==", "left": {"hologram": {}}, "right": 1}}, {"drop": None}], [{"frob": {}}])
    outcome = ask(strange, "tcp", "10.9.9.9", 80)
    assert outcome.action == "none"
    assert len(outcome.unknown) == 2
    known_not = build(
        [
            {"match": {"op": "==", "left": {"hologram": {}}, "right": 1}},
            {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 81}},
            {"drop": None},
        ]
    )
    assert ask(known_not, "tcp", "10.9.9.9", 80).unknown == ()  # another port: it does not matter here


def listing(family: str, *chains: tuple[str, int, list[object]]) -> Ruleset:
    """One table of base chains of type nat at prerouting: name, priority, the expressions of its one rule."""
    base = {"family": family, "table": "t"}
    entries: list[object] = [{"metainfo": {"version": "1", "json_schema_version": 1}}]
    entries += [{"table": {"family": family, "name": "t", "handle": 1}}]
    hook = {"type": "nat", "hook": "prerouting", "policy": "accept"}
    entries += [{"chain": {**base, "name": name, "prio": prio, **hook}} for name, prio, _ in chains]
    entries += [{"rule": {**base, "chain": name, "handle": 1, "expr": expr}} for name, _, expr in chains]
    return parse_nft(json.dumps({"nftables": entries}))


def test_a_destination_is_rewritten_once() -> None:
    chains = [
        (name, prio, [{"dnat": {"addr": f"10.0.0.{-prio}", "port": 80}}]) for name, prio in (("a", -90), ("b", -99))
    ]
    outcome = ask(listing("ip", *chains), "tcp", "10.9.9.9", 80)  # type: ignore[arg-type]
    assert [choice.address for choice in outcome.choices] == ["10.0.0.99"]


def test_a_match_on_the_other_family_never_matches() -> None:
    other = {"match": {"op": "!=", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": "10.9.9.9"}}
    rules = listing("inet", ("a", -100, [other, {"drop": None}]))
    assert ask(rules, "tcp", "2001:db8::1", 80).action == "none"
    assert ask(rules, "tcp", "10.9.9.8", 80).action == "drop"
