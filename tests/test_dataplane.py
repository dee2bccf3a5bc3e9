"""Ladders, IPVS tables and look-ups on the recorded nodes, and the exercises that ask about them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from edited import as_json, cluster, text

import k8snet_nb as kn
from k8snet_nb.errors import FactMissing, Refused
from k8snet_nb.show.exercises.planes import tool_command

ONE, TWO, THREE = "node-one", "node-two", "node-three"


def test_every_rung_takes_its_part_of_what_is_left(hello: kn.Cluster) -> None:
    ladder = hello.node(ONE).ladder("default/hello-world")
    assert ladder.chain == "KUBE-SVC-NOIMA57NP5B3VMDZ"
    assert [(rung.endpoint, rung.printed) for rung in ladder.rungs] == [
        ("10.244.18.3:8080", "0.25000000000"),
        ("10.244.18.4:8080", "0.33333333349"),
        ("10.244.3.3:8080", "0.50000000000"),
        ("10.244.3.4:8080", None),
    ]
    assert [rung.comes for rung in ladder.rungs] == [1, Fraction(3, 4), Fraction(1, 2), Fraction(1, 4)]
    assert [rung.takes for rung in ladder.rungs] == [Fraction(1, 4), Fraction(1, 3), Fraction(1, 2), 1]
    assert {rung.share for rung in ladder.rungs} == {Fraction(1, 4)}
    assert [rung.packets for rung in ladder.rungs] == [1100, 1131, 1097, 1096]
    assert "715,827,883 / 2^31" in str(ladder)


def test_a_sticky_service_s_ladder_leaves_its_memory_out(hello: kn.Cluster) -> None:
    assert len(hello.node(ONE).ladder("default/hello-sticky").rungs) == 4
    assert [rung.endpoint for rung in hello.node(ONE).ladder("default/hello-internal-local").rungs] == [
        "10.244.18.3:8080",
        "10.244.18.4:8080",
    ]


@pytest.mark.parametrize(("service", "node"), [("default/orphan", ONE), ("default/hello-world", TWO)])
def test_where_there_is_no_ladder(hello: kn.Cluster, service: str, node: str) -> None:
    with pytest.raises(Refused, match="no ladder"):
        hello.node(node).ladder(service, 80)


def test_the_ipvs_table_is_counted_from_the_connections(hello: kn.Cluster) -> None:
    table = hello.node(THREE).ipvs("default/hello-world")
    assert table.command == "ipvsadm -Ln -t 10.32.62.13:80"
    assert [(one.address, one.active, one.inactive) for one in table.servers[0].servers] == [
        ("10.244.3.3", 0, 2),
        ("10.244.3.4", 0, 2),
        ("10.244.18.3", 0, 1),
        ("10.244.18.4", 0, 1),
    ]
    assert "Forward Weight ActiveConn InActConn" in str(table)
    assert hello.node(THREE).ipvs("kube-system/kube-dns", "dns").command == "ipvsadm -Ln -u 10.32.0.10:53"
    assert hello.node(THREE).ipvs().command == "ipvsadm -Ln"
    assert len(hello.node(THREE).ipvs("default/hello-nodeport").servers) == 2
    assert len(hello.node(THREE).ipvs().servers) == 18


def test_without_connections_the_table_says_so() -> None:
    table = cluster({f"{THREE}/ipvs-connections.txt": None}).node(THREE).ipvs("default/hello-world")
    assert "were not collected (-)" in str(table)
    assert "Masq    1      -          -" in str(table)


def test_a_table_that_was_collected_is_taken_as_it_is() -> None:
    listed = (
        b"IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n"
        b"  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
        b"TCP  10.32.62.13:80 rr\n  -> 10.244.3.3:8080              Masq    1      7          3\n"
    )
    table = cluster({f"{THREE}/ipvs.txt": listed}).node(THREE).ipvs("default/hello-world")
    assert [(one.active, one.inactive) for one in table.servers[0].servers] == [(7, 3)]


def test_a_node_without_ipvs(hello: kn.Cluster) -> None:
    for ask in (hello.node(ONE).ipvs, hello.node(ONE).ipvs_stats, hello.node(ONE).ipvs_connections):
        with pytest.raises(FactMissing, match="ipvs"):
            ask()


def test_counters_and_sets(hello: kn.Cluster) -> None:
    stats = hello.node(THREE).ipvs_stats()
    assert stats[stats.connections > 0].service.tolist() == ["default/hello-world"] * 4
    assert int(stats.connections.sum()) == len(hello.node(THREE).ipvs_connections()) == 6
    sizes = hello.node(THREE).ipsets().set_index("name")["size"]
    assert (sizes["KUBE-IPVS-IPS"], sizes["KUBE-CLUSTER-IP"]) == (11, 14)


def test_what_a_look_up_costs_in_each_mode(hello: kn.Cluster) -> None:
    one = hello.node(ONE).lookups()
    portals = one[one.entry != "node_port"]
    assert portals.rules.tolist() == list(range(2, 15)), "the jump, then KUBE-SERVICES from its top"
    assert one[one.entry == "node_port"].rules.tolist() == [17, 19, 21]
    two = hello.node(TWO).lookups()
    assert set(zip(two.entry, two.rules, strict=True)) == {("cluster_ip", 3), ("external_ip", 3), ("node_port", 4)}
    assert "default/orphan" not in set(two.service), "that one is in the map of Services without endpoints"
    three = hello.node(THREE).lookups()
    assert set(three.rules) == {8}
    assert len(three) == 18


def test_look_ups_without_a_mode() -> None:
    bare = text(lambda lines: [line for line in lines if "KUBE-S" not in line and "KUBE-EXT" not in line])
    silent = as_json(lambda about: about.pop("kube_proxy_mode") and None)
    with pytest.raises(Refused, match="no Service is programmed"):
        cluster({f"{ONE}/iptables-save.txt": bare, f"{ONE}/node.json": silent}).node(ONE).lookups()


COMMANDS: list[tuple[str, bool]] = [
    ("iptables -t nat -L KUBE-SERVICES", True),
    ("sudo iptables -L KUBE-SERVICES -t nat -n -v", True),
    ("iptables -t nat -nvL KUBE-SERVICES", True),
    ("iptables –t nat -L KUBE-SERVICES", False),
    ("iptables -t nat -L KUBE-SERVICE", False),
    ("iptables -t nat -L", False),
    ("iptables -L KUBE-SERVICES", False),
    ("iptables -t nat -F KUBE-SERVICES", False),
    ("iptables-save", False),
    ("iptables -t nat -L KUBE-SERVICES 'open", False),
    ("", False),
]


@pytest.mark.parametrize(("given", "right"), COMMANDS)
def test_command_lines_are_judged_by_what_they_do(given: str, right: bool) -> None:
    answer = tool_command("iptables", {"t": "nat", "L": "KUBE-SERVICES"}, "nv", "iptables -t nat -L KUBE-SERVICES")
    assert answer.accepts(given) is right


@pytest.mark.parametrize("number", [f"{lesson}-{place}" for lesson in ("06", "08", "09") for place in range(1, 5)])
@pytest.mark.parametrize("change", ["none", "no rules", "one mode"])
def test_exercises_are_right_or_not_here(number: str, change: str) -> None:
    changes: dict[str, Any] = {}
    if change == "no rules":
        facts = ("iptables-save.txt", "ip6tables-save.txt", "nft.json", "ipvs-save.txt")
        changes = {f"{node}/{fact}": None for node in (ONE, TWO, THREE) for fact in facts}
    elif change == "one mode":
        changes = {"nodes": as_json(lambda listing: {**listing, "items": listing["items"][:1]})}
    exercise = kn.exercise(number, cluster(changes))
    solution = exercise.solution()
    assert exercise.question
    if change == "none":
        assert exercise.check(solution.answer).right is True  # type: ignore[union-attr]
        assert exercise.check("certainly not").right is False
    assert exercise.hint(1)
