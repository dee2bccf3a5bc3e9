"""How nodes connect their pods, and whether the network model holds."""

from __future__ import annotations

from typing import Any

import pytest
from edited import Change, Edited, as_json, cluster

import k8snet_nb as kn
from k8snet_nb.errors import FactMissing
from k8snet_nb.facts import FactRef
from k8snet_nb.sources.opening import BUNDLED, open_source


def test_how_each_node_connects_its_pods(hello: kn.Cluster) -> None:
    found = {n.node: n for n in hello.node_networks()}
    one, two, three = found["node-one"], found["node-two"], found["node-three"]
    assert (one.attachment, one.bridge, one.between_nodes) == ("bridge", "cni0", "routed")
    assert (two.attachment, two.bridge, two.between_nodes) == ("point-to-point", None, "routed")
    assert (three.attachment, three.between_nodes) == ("no pods", "routed")
    assert any("10.244.18.0/24 dev cni0" in line for e in one.evidence for line in e.lines)


def test_a_renamed_bridge_is_still_a_bridge() -> None:

    def rename(links: Any) -> None:
        for link in links:
            if link["ifname"] == "cni0":
                link["ifname"] = "eth9"

    def reroute(routes: Any) -> None:
        for route in routes:
            if route.get("dev") == "cni0":
                route["dev"] = "eth9"

    renamed = (
        cluster({"node-one/addr.json": as_json(rename), "node-one/route.json": as_json(reroute)})
        .node("node-one")
        .network()
    )
    assert (renamed.attachment, renamed.bridge) == ("bridge", "eth9")


def test_what_is_called_like_a_bridge_need_not_be_one() -> None:
    def unbridge(links: Any) -> None:
        for link in links:
            if link["ifname"] == "cni0":
                link["linkinfo"] = {"info_kind": "macvlan"}

    assert cluster({"node-one/addr.json": as_json(unbridge)}).node("node-one").network().attachment == "other"


def test_a_tunnel_is_known_by_its_kind() -> None:
    def tunnel(links: Any) -> None:
        for link in links:
            if link["ifname"] == "eth0":
                link["linkinfo"] = {"info_kind": "vxlan"}

    assert cluster({"node-one/addr.json": as_json(tunnel)}).node("node-one").network().between_nodes == "encapsulated"


def test_the_network_model_holds_on_the_recorded_cluster(hello: kn.Cluster) -> None:
    rules = hello.network_model()
    assert [rule.verdict for rule in rules] == ["holds"] * 4
    assert all(rule.evidence for rule in rules)
    assert "314 tracked connections" in rules[2].checked


def _verdicts(changes: dict[str, Change]) -> list[str]:
    return [rule.verdict for rule in cluster(changes).network_model()]


def test_a_duplicate_address_is_a_violation() -> None:
    def same(pods: Any) -> None:
        pods["items"][1]["status"]["podIPs"] = [{"ip": "10.244.18.5"}]

    verdicts = _verdicts({"pods": as_json(same)})
    assert verdicts[0] == "violated"
    assert verdicts[1] == "violated", "and that pod's own interface does not have it"


def test_a_pod_without_a_route_is_a_violation() -> None:
    def cut(routes: Any) -> Any:
        return [r for r in routes if r["dst"] not in ("10.244.3.0/24", "default")]

    assert _verdicts({"node-one/route.json": as_json(cut)})[2] == "violated"


def test_a_translated_connection_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(BUNDLED)
    real = source.read

    def read(ref: FactRef) -> bytes:
        content = real(ref)
        if ref.fact == "conntrack.txt" and ref.node == "node-one":
            content += b"ipv4 2 tcp 6 90 TIME_WAIT src=10.244.18.5 dst=10.244.3.4 sport=1 dport=8080 "
            content += b"src=10.244.3.4 dst=172.30.0.11 sport=8080 dport=9 [ASSURED] mark=0 use=1 id=1\n"
        return content

    monkeypatch.setattr(source, "read", read)
    rule = kn.Cluster(source).network_model()[2]
    assert rule.verdict == "violated"
    assert "10.244.18.5 -> 10.244.3.4 is answered by 10.244.3.4 to 172.30.0.11" in "".join(rule.exceptions)


def test_what_was_not_collected_is_not_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(BUNDLED)
    monkeypatch.setattr(source, "nodes", tuple)
    own, inside, between, from_node = kn.Cluster(source).network_model()
    assert own.verdict == "holds"
    assert [r.verdict for r in (inside, between, from_node)] == ["not seen"] * 3
    assert between.unknown


def test_services_are_no_counter_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod that calls a VIP which its node holds (IPVS), or a NodePort, is translated on purpose."""
    source = open_source(BUNDLED)
    real = source.read
    entries = {
        "node-three": b"ipv4 2 tcp 6 90 TIME_WAIT src=10.244.3.7 dst=10.32.0.10 sport=1 dport=53 "
        b"src=10.244.3.2 dst=10.244.3.7 sport=53 dport=1 [ASSURED] mark=0 use=1 id=1\n",
        "node-one": b"ipv4 2 tcp 6 90 TIME_WAIT src=10.244.3.7 dst=172.30.0.11 sport=1 dport=30080 "
        b"src=10.244.3.4 dst=172.30.0.11 sport=8080 dport=1 [ASSURED] mark=0 use=1 id=2\n",
    }

    def read(ref: FactRef) -> bytes:
        return real(ref) + (entries.get(ref.node or "", b"") if ref.fact == "conntrack.txt" else b"")

    monkeypatch.setattr(source, "read", read)
    assert [rule.verdict for rule in kn.Cluster(source).network_model()] == ["holds"] * 4


def test_a_missing_route_fact_takes_nothing_else_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(BUNDLED)
    real = source.read

    def read(ref: FactRef) -> bytes:
        if (ref.node, ref.fact) == ("node-one", "route.json"):
            raise FactMissing(ref.fact, ref.where, "timed out")
        return real(ref)

    monkeypatch.setattr(source, "read", read)
    rules = kn.Cluster(source).network_model()
    assert "22 routes" in rules[2].checked
    assert "314 tracked connections" in rules[2].checked
    assert any("timed out" in why for why in rules[2].unknown)


def test_a_family_whose_routes_are_not_known_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    def dual(pods: Any) -> None:
        pods["items"][0]["status"]["podIPs"].append({"ip": "fd00::5"})

    source = Edited({"pods": as_json(dual)})
    has = source._source.has
    source.has = lambda ref: ref.fact != "route6.json" and has(ref)  # type: ignore[method-assign]

    def only_four(value: Any) -> Any:
        return [route for route in value if ":" not in route["dst"]]

    source._changes |= {f"node-{n}/route.json": as_json(only_four) for n in ("one", "two", "three")}
    found = kn.Cluster(source)  # type: ignore[arg-type]
    assert found.network_model()[2].verdict == "holds"
    assert found.node("node-one").network().attachment == "bridge"


def test_a_default_route_is_no_evidence_and_policy_routing_is_said() -> None:
    def only_default(routes: Any) -> Any:
        return [r for r in routes if r["dst"] == "default" or r.get("table") == "local"]

    rule = cluster({"node-one/route.json": as_json(only_default)}).network_model()[2]
    assert rule.verdict == "holds"
    assert "22 routes" in rule.checked
    assert any("11 pods that node-one reaches by its default route" in why for why in rule.unknown)

    def more_tables(rules: Any) -> None:
        rules.append({"priority": 100, "src": "all", "table": "vpc"})

    def cut(routes: Any) -> Any:
        return [r for r in routes if r["dst"] not in ("10.244.3.0/24", "default")]

    rule = cluster({"node-one/route.json": as_json(cut), "node-one/rule.json": as_json(more_tables)}).network_model()[2]
    assert rule.verdict == "holds"
    assert any("vpc" in why for why in rule.unknown)


def test_a_route_by_an_own_address_is_not_called_an_underlay() -> None:
    def cilium(routes: Any) -> None:
        for route in routes:
            if route["dst"] == "10.244.3.0/24":
                route |= {"gateway": "10.244.18.1", "dev": "cni0"}

    assert cluster({"node-one/route.json": as_json(cilium)}).node("node-one").network().between_nodes == "other"


def test_host_routes_to_one_shared_interface_are_not_point_to_point() -> None:
    def shared(routes: Any) -> None:
        for route in routes:
            if str(route.get("dev")).startswith("veth"):
                route["dev"] = "vethf794c889"

    assert cluster({"node-two/route.json": as_json(shared)}).node("node-two").network().attachment == "other"
