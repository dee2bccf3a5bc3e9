"""What a plan holds of a recording, and what it refuses of a hostile one. No kernel is touched."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from twin.made import LO, Made, dual_stack, four, link, made_node, made_pod
from twin.planned import HELLO, changed

from k8snet_nb.errors import NotFound
from k8snet_nb.facts import FactRef
from k8snet_nb.parse.links import parse_routes, route_to
from k8snet_nb.sources.recorded import open_recording
from k8snet_nb.twin.links import Batch, Line, failures, run_batch, wire_batch, work_for
from k8snet_nb.twin.model import LeftOut, NodePlan, PodPlan, Space, Step, TwinPlan
from k8snet_nb.twin.planning.plan import plan_twin, with_rules
from k8snet_nb.twin.planning.wire import Ways


@pytest.fixture(scope="module")
def hello() -> TwinPlan:
    return plan_twin(open_recording(HELLO))


@pytest.fixture(scope="module")
def dual(tmp_path_factory: pytest.TempPathFactory) -> TwinPlan:
    return plan_twin(open_recording(dual_stack(tmp_path_factory.mktemp("dual"))))


def node(plan: TwinPlan, name: str) -> NodePlan:
    return next(one for one in plan.nodes if one.name == name)


def pod(plan: TwinPlan, key: str) -> PodPlan:
    return next(one for n in plan.nodes for one in n.pods if one.key == key)


def text_of(space: Space) -> list[str]:
    return [" ".join(route.words) for route in space.routes]


# hello-cluster


def test_hello_cluster_is_taken_whole(hello: TwinPlan) -> None:
    assert hello.recording == "hello-cluster"
    assert [(n.name, n.stand_in, len(n.pods)) for n in hello.nodes] == [
        ("node-one", False, 6), ("node-three", False, 0), ("node-two", False, 7)
    ]  # fmt: skip
    assert hello.left_out == ()


def test_a_bridged_node_has_its_interfaces_and_pairs(hello: TwinPlan) -> None:
    one = {k.name: k for k in node(hello, "node-one").space.links}
    assert list(one) == ["lo", "eth0", "cni0"] + [k for k in one if k.startswith("veth")]
    assert (one["eth0"].kind, one["eth0"].ifindex, one["eth0"].mac) == ("wire", 2, "a2:69:94:b7:f0:9a")
    assert one["cni0"].addresses[0] == "10.244.18.1/24 brd 10.244.18.255"
    pair = one["veth5255f3bf"]
    assert (pair.kind, pair.ifindex, pair.master, pair.hairpin, pair.nsid) == ("veth", 7, "cni0", True, 4)
    assert (pair.peer, pair.peer_name) == ("default/client", "eth0")
    assert text_of(node(hello, "node-one").space) == [
        "0.0.0.0/0 scope global via 172.30.0.1 dev eth0",
        "10.244.3.0/24 scope global via 172.30.0.12 dev eth0",
    ]


def test_a_pod_has_processes_namespace_and_servers_as_recorded(hello: TwinPlan) -> None:
    client = pod(hello, "default/client")
    assert client.pids == (685, 798, 4148)
    assert client.netns == "cni-cfc054c6-aff6-38e4-2f8f-c84c63929077"
    assert client.cgroup.startswith("/node-one/kubepods/besteffort/pod5e2579d7-8153-4da2-be8e-811db5d234ec/")
    assert client.listeners == ()
    assert client.space is not None
    eth0 = client.space.links[1]
    assert (eth0.ifindex, eth0.peer, eth0.peer_name, eth0.nsid) == (2, "", "veth5255f3bf", 0)
    cart = pod(hello, "shop/cart-865f99cbb8-j49cc").listeners
    assert [(s.protocol, s.address, s.port, s.kind) for s in cart] == [("tcp", "10.244.18.6", 8000, "http")]
    dns = pod(hello, "kube-system/coredns-675dc9c89c-tn5qt").listeners
    assert [(s.protocol, s.port, s.kind) for s in dns] == [
        ("udp", 53, "dns"),
        ("tcp", 53, "dns"),
        ("tcp", 9153, "http"),
    ]
    watch = pod(hello, "kube-system/node-watch-74fwx")
    assert watch.space is None
    assert watch.netns is None


def test_a_route_that_the_add_on_took_away_is_withdrawn(hello: TwinPlan) -> None:
    two = pod(hello, "default/client-two").space
    assert two is not None
    assert [r.words for r in two.withdrawn] == [("10.244.3.0/24", "dev", "eth0", "proto", "kernel")]
    assert node(hello, "node-one").space.withdrawn == ()


def test_services_of_ipvs_get_no_dns_server_on_the_node(hello: TwinPlan) -> None:
    three = node(hello, "node-three")
    assert three.listeners == ()
    held = next(k for k in three.space.links if k.name == "kube-ipvs0")
    assert (held.kind, held.up, "10.32.0.10/32" in held.addresses) == ("dummy", False, True)
    assert three.space.sysctls["net/ipv4/vs/conntrack"] == "1"


def test_settings_of_a_node(hello: TwinPlan) -> None:
    one = node(hello, "node-one").space.sysctls
    assert one["net/ipv4/ip_forward"] == "1"
    assert one["net/ipv4/conf/all/route_localnet"] == "1"
    assert one["net/netfilter/nf_conntrack_tcp_timeout_established"] == "86400"
    assert not any("nf_conntrack_max" in path or "buckets" in path for path in one)
    assert "net/ipv4/conf/all/route_localnet" not in node(hello, "node-two").space.sysctls


def test_the_wire_has_the_gateway_the_endpoint_without_a_pod_and_a_client(hello: TwinPlan) -> None:
    wire = {k.name: k for k in hello.wire.links}
    assert wire["wire0"].addresses == ("172.30.0.1/24",)
    assert wire["wire0"].mac == "32:8b:32:d4:d5:06"
    assert hello.outside == {4: "203.0.113.10"}
    assert wire["outside0"].addresses == ("203.0.113.10/32",)
    assert [(s.address, s.port, s.says) for s in hello.wire_listeners] == [("172.30.0.1", 6443, "172.30.0.1:6443")]
    # no node needs the gateway for a pod, so it knows none
    assert all("table" in route.words or route.words[0] == "local" for route in hello.wire.routes)
    # the API server answers pods, which it knows by a table of its own
    assert "10.244.3.2/32 via 172.30.0.12 dev wire0 onlink table 1000" in text_of(hello.wire)
    assert hello.wire.rules[-1].words == ("priority", "1000", "from", "172.30.0.1/32", "lookup", "1000")
    # every address of the client's network can be a client
    assert "local 203.0.113.0/24 dev lo" in text_of(hello.wire)
    assert "0.0.0.0/0 via 172.30.0.13 dev wire0 onlink table 1002" in text_of(hello.wire)
    assert hello.wire.rules[1].words == ("priority", "1002", "fwmark", "1002", "lookup", "1002")


def test_chosen_nodes_are_made_and_the_others_stand_in() -> None:
    plan = plan_twin(open_recording(HELLO), ["node-two"])
    assert [(n.name, n.stand_in) for n in plan.nodes] == [
        ("node-two", False), ("node-one", True), ("node-three", True)
    ]  # fmt: skip
    one = node(plan, "node-one")
    assert [(k.name, k.kind) for k in one.space.links] == [("lo", "loopback"), ("eth0", "wire"), ("pods0", "bridge")]
    assert one.space.links[1].addresses == ("172.30.0.11/24",)
    assert "10.244.18.6/32" in one.space.links[2].addresses
    assert ("10.244.18.2", 53, "dns") in {(s.address, s.port, s.kind) for s in one.listeners}
    assert "0.0.0.0/0 via 172.30.0.1 dev eth0" in text_of(one.space)
    assert "10.244.3.7/32 via 172.30.0.12 dev eth0 onlink" in text_of(one.space)
    with pytest.raises(NotFound, match="node-nine"):
        plan_twin(open_recording(HELLO), ["node-nine"])


def test_a_pod_that_was_not_read_is_made_from_the_api() -> None:
    plan = plan_twin(changed({"node-one/default/client/*": None}))
    client, one = pod(plan, "default/client"), node(plan, "node-one")
    assert client.space is not None
    assert client.space.links[1].addresses == ("10.244.18.5/24",)
    assert text_of(client.space) == ["0.0.0.0/0 via 10.244.18.1 dev eth0"]
    pair = next(k for k in one.space.links if k.peer == "default/client")
    assert (pair.name, pair.ifindex, pair.master, pair.nsid) == ("veth5255f3bf", 7, "cni0", 4)
    assert [left.text for left in plan.left_out] == ["default/client"]


def test_a_node_whose_interfaces_were_not_read_stands_in() -> None:
    plan = plan_twin(changed({"node-one/addr.json": None}))
    assert node(plan, "node-one").stand_in
    assert "not read" in plan.left_out[0].why


@pytest.mark.parametrize("chosen", [None, ["node-one"]])
def test_a_node_called_as_the_twins_own_place_is_left_out(chosen: list[str] | None) -> None:
    source = changed({"nodes": lambda listing: listing["items"].append(made_node("wire", "172.30.0.77"))})
    known = ("node-one", "node-three", "node-two", "wire")
    source.nodes = lambda: known if chosen is None else known[:3]
    plan = plan_twin(source, chosen)
    assert "wire" not in [one.name for one in plan.nodes]
    assert any(one.text == "wire" and "of its own" in one.why for one in plan.left_out)


def test_rules_are_added_to_nodes_but_not_to_stand_ins() -> None:
    @dataclasses.dataclass(frozen=True)
    class Said:
        steps: tuple[Step, ...]
        nfacct: tuple[str, ...] = ("localhost_nps_accepted_pkts",)
        left_out: tuple[LeftOut, ...] = (LeftOut("node-two", "nft.json", "x", "y"),)
        guest: bool = True

    plan = with_rules(plan_twin(open_recording(HELLO), ["node-two"]), lambda name: Said((Step(("nft",), name, name),)))
    assert [(n.name, [s.stdin for s in n.steps], n.guest) for n in plan.nodes[:2]] == [
        ("node-two", ["node-two"], True),
        ("node-one", [], False),
    ]
    assert plan.left_out[-1].why == "y"


# a made-up cluster with both families


def test_dual_stack_places(dual: TwinPlan) -> None:
    assert [(n.name, n.stand_in) for n in dual.nodes] == [("alpha", False), ("beta", False), ("gamma", True)]
    alpha = node(dual, "alpha").space
    assert [(k.name, k.kind) for k in alpha.links] == [
        ("lo", "loopback"), ("ens3", "wire"), ("flannel.1", "vxlan"), ("caliweb", "veth")
    ]  # fmt: skip
    assert " ".join(alpha.links[2].options) == "id 1 local 192.168.5.11 dev ens3 dstport 8472 nolearning"
    assert "10.20.2.0/24 scope global via 10.20.2.0 dev flannel.1 onlink" in text_of(alpha)
    assert "::/0 metric 1024 via fd00:5::1 dev ens3" in text_of(alpha)
    assert "blackhole 10.20.1.0/24 proto 80" in text_of(alpha)
    assert [" ".join(rule.words) for rule in alpha.rules] == [
        "priority 90 from all fwmark 0x200/0xf00 lookup 100",
        "priority 91 from 10.20.1.0/24 to 10.99.0.0/16 lookup 100",
        "not priority 92 from all iif ens3 lookup main suppress_prefixlength 0",
    ]


def test_dual_stack_wire_and_clients(dual: TwinPlan) -> None:
    own = "fe80::6b38:736e:6574/64"  # without one the wire could not ask for nodes on behalf of clients
    assert set(dual.wire.links[1].addresses) == {"192.168.5.1/24", "fd00:5::1/64", "192.168.5.200/32", own}
    assert dual.wire.sysctls["net/ipv6/ip_nonlocal_bind"] == "1"
    assert set(dual.outside) == {4, 6}
    assert dual.outside[4] == "203.0.113.10"
    assert {"198.51.100.7/32", "203.0.113.10/32", f"{dual.outside[6]}/128"} == set(dual.wire.links[2].addresses)
    # gamma's pods are reached through the gateway by the others: the underlay knows them, and only them
    to_pods = [text for text in text_of(dual.wire) if "table" not in text and not text.startswith("local ")]
    assert to_pods == [
        "10.20.3.5/32 via 192.168.5.13 dev wire0 onlink",
        "fd00:20:3::5/128 via fd00:5::13 dev wire0 onlink",
    ]
    assert {rule.family for rule in dual.wire.rules} == {4, 6}


def test_every_endpoint_has_a_server_whatever_its_conditions(dual: TwinPlan) -> None:
    two = {(s.protocol, s.address, s.port, s.kind) for s in pod(dual, "shop/web-2").listeners}
    assert two == {
        ("tcp", "10.20.2.5", 8080, "http"), ("udp", "10.20.2.5", 9000, "udp"),
        ("tcp", "fd00:20:2::5", 8080, "http"), ("udp", "fd00:20:2::5", 9000, "udp"),
    }  # fmt: skip
    assert {s.says for s in node(dual, "gamma").listeners} == {"shop/web-3"}
    assert [(s.address, s.says) for s in node(dual, "alpha").listeners] == [("192.168.5.11", "192.168.5.11:5432")]
    assert {s.address for s in dual.wire_listeners} == {"198.51.100.7", "192.168.5.200"}
    assert any("shop/gone" in left.text and "not there" in left.why for left in dual.left_out)


def test_pods_on_the_nodes_own_link_are_answered_for_by_their_node(tmp_path: Path) -> None:
    made, macs = Made(tmp_path, ["a", "b"]), {"a": "0e:00:00:00:01:01", "b": "0e:00:00:00:02:01"}
    for number, name in ((1, "a"), (2, "b")):
        up = link(2, "ens5", macs[name], f"10.0.0.{number}/16")
        made.space(name, [LO, up], [four("default", "ens5", gateway="10.0.0.254"), four("10.0.0.0/16", "ens5")], [])
        made.write(f"nodes/{name}/node.json", {})
        inside = link(3, "eth0", f"0e:00:00:00:0{number}:05", f"10.0.{number}.5/16", kind="macvlan", link_index=2)
        inside["linkinfo"]["info_data"] = {"mode": "bridge"}
        made.space(f"{name}/pods/shop/p{number}", [LO, inside], [four("default", "eth0", gateway="10.0.0.254")], [])
        made.write(f"nodes/{name}/processes.json", [])
    made.items("nodes", [made_node(name, f"10.0.0.{number}") for number, name in ((1, "a"), (2, "b"))])
    made.items("pods", [made_pod(f"p{n}", n, name, [f"10.0.{n}.5"]) for n, name in ((1, "a"), (2, "b"))])
    plan = plan_twin(open_recording(tmp_path))
    one = node(plan, "a")
    assert [(r.family, r.words) for r in one.space.neighbours] == [(4, ("proxy", "10.0.1.5", "dev", "ens5"))]
    upper = next(k for k in one.space.links if k.kind == "macvlan")
    assert (upper.name, upper.peer, upper.parent, upper.options) == ("eth0", "shop/p1", "ens5", ("mode", "bridge"))
    made_there = [line.text for line in work_for(one.space, lambda _: 44, one.pods, "a").make.lines]
    assert made_there == [
        "link add link ens5 name eth0 index 3 address 0e:00:00:00:01:05 mtu 1500 netns 44 type macvlan mode bridge"
    ]
    space = pod(plan, "shop/p1").space
    assert space is not None
    assert work_for(space, lambda _: 44).make.lines == ()


@pytest.mark.parametrize("address", ["10.244.3.9", "10.244.18.5", "172.30.0.77", "8.8.8.8", "fd00::1"])
def test_ways_are_those_of_the_parser(address: str) -> None:
    ref = FactRef("route.json", "node-one")
    routes = parse_routes(open_recording(HELLO).read(ref), ref)
    assert Ways(routes).to(address) == route_to(address, routes)


# batches


def test_a_pair_is_made_from_the_node_with_both_ends_as_recorded(hello: TwinPlan) -> None:
    one = node(hello, "node-one")
    work = work_for(one.space, lambda key: 4000 + len(key), one.pods, one.name)
    line = next(line.text for line in work.make.lines if "veth5255f3bf" in line.text)
    assert line == (
        "link add name veth5255f3bf index 7 address 2e:fd:68:f4:d0:76 mtu 1450 type veth "
        "peer name eth0 index 2 address da:c6:70:bc:5a:3f mtu 1450 netns 4014"
    )
    assert ("default/client", 4) in work.nsids
    wired = wire_batch(one.space.links[1], 99, 3)
    assert wired.lines[0].text == (
        "link add n3 mtu 1500 type veth peer name eth0 index 2 address a2:69:94:b7:f0:9a mtu 1500 netns 99"
    )


def test_failures_name_their_lines() -> None:
    batch = Batch(("ip",), (Line("a", "addr.json"), Line("b", "addr.json"), Line("c", "addr.json")))
    said = 'RTNETLINK answers: File exists\nCommand failed -:1\nCannot find device "x"\nCommand failed -:3\n'
    assert failures(batch, said) == ({0: "RTNETLINK answers: File exists", 2: 'Cannot find device "x"'}, False)
    assert failures(batch, 'Error: any valid prefix is expected rather than "x".\n') == ({}, True)


def test_a_tool_that_stops_midway_is_asked_line_by_line() -> None:
    batch = Batch(("ip",), (Line("one", "addr.json"), Line("bad", "route.json"), Line("two", "addr.json")))
    asked: list[str] = []

    def run(argv: Any, stdin: str) -> tuple[int, str]:
        asked.append(stdin)
        if "bad" in stdin:
            return 1, "Error: garbage\n"
        return (
            (1, "RTNETLINK answers: File exists\nCommand failed -:1\n") if asked[1:] and stdin == "one\n" else (0, "")
        )

    (left,) = run_batch(batch, run, "n")
    assert (left.node, left.fact, left.text, left.why) == ("n", "route.json", "bad", "ip: Error: garbage")
    assert asked[1:] == ["one\n", "bad\n", "two\n"]
