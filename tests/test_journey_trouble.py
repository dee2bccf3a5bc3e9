"""cluster.journey where a packet does not arrive, or where it is not known."""

from __future__ import annotations

import json
from typing import Any

import pytest
from dual_stack import DUAL_RULES, POD6, VIP6, dual_api
from edited import Change, as_json, cluster, slice_of, text
from journeys import ACROSS, CLIENTS, HELLO, ONE, TWO, at, places

import k8snet_nb as kn
from k8snet_nb.explain.journey.parts import address_in


def without(*gateways: str) -> Change:
    return as_json(lambda routes: [route for route in routes if route.get("gateway") not in gateways])


def test_no_route_on_the_client_s_node() -> None:
    journey = cluster({f"{ONE}/route.json": without("172.30.0.12", "172.30.0.1")}).journey(
        "default/client", HELLO, backend="10.244.3.3"
    )
    assert places(journey) == ["pod", "veth", "bridge", "translation", "forwarding"]
    assert journey.verdict == "no route"
    assert journey.stops[-1].says == "node-one has no route to 10.244.3.3"


def test_no_route_inside_the_client() -> None:
    journey = cluster({f"{ONE}/route.json": without("10.244.18.1")}).journey("default/client", HELLO)
    assert places(journey) == ["pod"]
    assert journey.verdict == "no route"


def test_no_way_back() -> None:
    journey = cluster({f"{TWO}/route.json": without("172.30.0.11", "172.30.0.1")}).journey("default/client", HELLO)
    assert journey.verdict == "no way back: node-two has no route to 10.244.18.5"
    assert places(journey, "back") == ["server", "forwarding"]


def test_a_way_back_that_passes_the_memory_by() -> None:
    """Without its own route the answer takes the default one, and the translation is remembered elsewhere."""
    journey = cluster({f"{TWO}/route.json": without("172.30.0.11")}).journey("default/client", HELLO)
    back = at(journey, "forwarding", "back")
    assert not back.seen
    assert "172.30.0.1 is no address of node-one" in back.says
    assert "comes back through node-one" in journey.unknown[0]


@pytest.mark.parametrize(("node", "last"), [(ONE, "forwarding"), (TWO, "forwarding")])
def test_a_node_that_does_not_forward(node: str, last: str) -> None:
    off = text(lambda lines: [line.replace("ip_forward = 1", "ip_forward = 0") for line in lines])
    journey = cluster({f"{node}/sysctl.txt": off}).journey("default/client", HELLO)
    assert journey.verdict == f"dropped: net.ipv4.ip_forward = 0 on {node}"
    assert (journey.stops[-1].node, journey.stops[-1].place) == (node, last)
    if node == ONE:
        assert cluster({f"{ONE}/sysctl.txt": off}).journey(ONE, HELLO).verdict == "delivered", "its own it sends"


def test_whether_a_node_forwards_may_be_unknown() -> None:
    journey = cluster({f"{ONE}/sysctl.txt": None}).journey("default/client", HELLO)
    assert "whether the node forwards was not read" in at(journey, "forwarding").says
    assert journey.verdict == "delivered"


def on_the_host_network() -> dict[str, Change]:
    """One endpoint is node-two itself."""

    def slices(listing: Any) -> None:
        endpoint = next(e for e in slice_of(listing, "hello-world")["endpoints"] if e["addresses"] == ["10.244.3.3"])
        endpoint["addresses"] = ["172.30.0.12"]
        endpoint["targetRef"]["name"] = "node-watch-qp8zd"

    rules = text(lambda lines: [line.replace("10.244.3.3:8080", "172.30.0.12:8080") for line in lines])
    return {"endpointslices": as_json(slices), f"{ONE}/iptables-save.txt": rules}


def test_a_server_on_the_host_network_has_no_veth() -> None:
    journey = cluster(on_the_host_network()).journey("default/client", HELLO, backend="172.30.0.12")
    assert places(journey) == ["pod", "veth", "bridge", "translation", *ACROSS[:-1], "process"]
    assert journey.far == TWO
    assert places(journey, "back")[:2] == ["process", "forwarding"]
    assert "no listening socket on port 8080" in journey.unknown[0], "and nothing listens on node-two itself"


def test_rejected_at_the_client_s_node(hello: kn.Cluster) -> None:
    for client, last in zip(
        CLIENTS.values(), ("filter KUBE-SERVICES", "ip kube-proxy reject-chain", None), strict=True
    ):
        journey = hello.journey(client, "default/orphan", "http")
        assert journey.verdict == "rejected"
        assert not places(journey, "back")
        assert (journey.stops[-1].name if last else None) == last
        assert journey.stops[-1].evidence
        assert journey.server == ""


def test_an_end_outside_is_not_followed(hello: kn.Cluster) -> None:
    journey = hello.journey("default/client", "default/kubernetes")
    assert (journey.verdict, journey.far) == ("leaves", None)
    assert journey.stops[-1].place == "wire"
    assert not journey.stops[-1].seen


def test_what_was_not_read_of_the_server_s_node_is_said() -> None:
    facts = ("nft.json", "iptables-save.txt", "ip6tables-save.txt", "route.json", "sysctl.txt", "sockets.txt",
             "conntrack.txt", "conntrack6.txt", "neigh.json")  # fmt: skip
    journey = cluster({f"{TWO}/{fact}": None for fact in facts}).journey("default/client", HELLO, backend="10.244.3.3")
    unseen = {stop.place for stop in journey.stops if not stop.seen}
    assert {"rules", "forwarding", "wire", "server"} <= unseen
    assert "the rules of node-two are not known" in journey.verdict


def test_a_tunnel_is_said_to_wrap() -> None:
    def vxlan(links: Any) -> None:
        next(link for link in links if link["ifname"] == "eth0")["linkinfo"] = {"info_kind": "vxlan"}

    journey = cluster({f"{ONE}/addr.json": as_json(vxlan)}).journey("default/client", HELLO)
    assert "wrapped into another packet: eth0 is a vxlan interface" in at(journey, "leaving").says
    assert "outer packet" in at(journey, "wire").says


def test_ipv6() -> None:
    def routes6(node: str, gateway: str) -> dict[str, Change]:
        """The same, and a default route, which pods need."""
        routes: Any = DUAL_RULES[f"{node}/route6.json"]
        default = {"type": "unicast", "dst": "default", "gateway": gateway, "dev": "eth0", "flags": []}
        return {f"{node}/route6.json": json.dumps([*json.loads(routes), default]).encode()}

    dual = cluster(dual_api() | DUAL_RULES | routes6(ONE, "fd00:18::1") | routes6(TWO, "fd00:3::1"))
    for client, source in (("default/client", "fd00:18::5"), ("default/client-two", "fd00:3::7")):
        journey = dual.journey(client, HELLO, family=6)
        translation = at(journey, "translation")
        assert journey.stops[0].moves == f"{source} > [{VIP6}]:80"
        assert address_in(translation.destination) in POD6.values()
        lines = [line for item in translation.evidence for line in item.lines]
        assert len([line for line in lines if "KUBE-SVC-NOIMA57NP5B3VMDZ -m" in line]) == (
            1 if "client-two" not in client else 0
        )
        assert translation.name.startswith(("KUBE-SEP-", "service-"))
        assert "whether the node forwards was not read" in at(journey, "forwarding").says, "ip_forward is IPv4's"


def test_a_policy_of_another_endpoint_is_no_doubt_here() -> None:
    def policies(listing: Any) -> None:
        spec = {"podSelector": {"matchLabels": {"app": "hello-world"}}, "policyTypes": ["Ingress"]}
        listing["items"].append({"metadata": {"name": "none", "namespace": "default"}, "spec": spec})

    journey = cluster({"networkpolicies": as_json(policies)}).journey("default/client", HELLO)
    assert len(journey.not_evaluated) == 1
    assert journey.not_evaluated[0].endswith("forbids it to enter default/hello-world-c648f6bd8-b6hq5")
    assert journey.verdict.startswith("delivered unless NetworkPolicy")
