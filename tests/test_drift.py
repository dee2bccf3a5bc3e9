"""cluster.drift: nothing on a healthy cluster, whatever its Services are like; each code when something is wrong."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from drifting import FACT, NODES, ONE, THREE, TWO, cut, on_service, only, rows, said, service
from edited import Change, as_json, cluster, on_slice, text

from k8snet_nb.explain.drift import CODES
from k8snet_nb.facts import FactRef


def condition(endpoint: Any, **given: bool) -> None:
    endpoint["conditions"] = {"ready": False, "serving": False, "terminating": False} | given


# ---------------------------------------------------------------- nothing to report


def test_nothing_on_the_recorded_cluster_in_any_mode() -> None:
    frame = rows({})
    assert len(frame) == 0
    columns = "code severity node service entry address port protocol family missing extra says".split()
    assert list(frame.columns) == columns


def test_every_code_has_a_severity_and_words() -> None:
    assert {severity for severity, _ in CODES.values()} == {"error", "warning", "info"}
    assert all(words for _, words in CODES.values())


@pytest.mark.parametrize("name", ["hello-headless", "example-external"])
def test_headless_and_external_name_services_are_not_expected(name: str) -> None:
    assert name in {key.rpartition("/")[2] for key in cluster().api.services}
    assert name not in set(rows({}).service)


def hand_made(listing: Any, owner: str, addresses: list[str], kind: str = "IPv4", **more: Any) -> None:
    listing["items"].append(
        {
            "metadata": {
                "namespace": "default",
                "name": f"{owner}-by-hand",
                "labels": {"kubernetes.io/service-name": owner},
            },
            "addressType": kind,
            "endpoints": [{"addresses": [address], **more} for address in addresses],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        }
    )


def test_a_slice_of_host_names_is_nothing_that_rules_could_hold() -> None:
    assert not len(
        rows({"endpointslices": as_json(lambda listing: hand_made(listing, "hello-world", ["db.example.com"], "FQDN"))})
    )


def test_a_slice_that_belongs_to_no_service_is_nobody_s() -> None:
    assert not len(rows({"endpointslices": as_json(lambda listing: hand_made(listing, "", ["10.244.3.9"]))}))


def test_a_slice_made_by_hand_counts_like_any_other() -> None:
    frame = rows({"endpointslices": as_json(lambda listing: hand_made(listing, "hello-world", ["192.0.2.9"]))})
    assert said(frame) == [("ENDPOINT_MISSING", "default/hello-world", "cluster_ip", ["192.0.2.9:8080"], [])] * 3
    assert frame.node.tolist() == NODES or set(frame.node) == set(NODES)


def test_a_service_of_another_proxy_is_not_expected() -> None:
    """Its rules are still there: then they are what is left behind."""
    label = {"service.kubernetes.io/service-proxy-name": "other"}
    change = on_service("hello-world", lambda one: one["metadata"].update(labels=label))
    assert set(rows({"services": change}).code) == {"SERVICE_GONE"}
    gone = rows({"services": change, f"{ONE}/{FACT[ONE]}": without_hello_world()}, ONE)
    assert not len(gone)


def without_hello_world() -> Change:
    return text(lambda lines: [line for line in lines if "NOIMA57" not in line or not line.startswith("[")])


@pytest.mark.parametrize("mode", ["Proxy", "VIP"])
def test_a_load_balancer_address_that_the_balancer_proxies_itself(mode: str) -> None:
    """KEP-1860: with ipMode Proxy the nodes do not translate it."""

    def edit(one: Any) -> None:
        one["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.80", "ipMode": mode}]}}

    frame = rows({"services": on_service("hello-lb", edit)})
    assert len(frame) == (0 if mode == "Proxy" else 3)
    assert set(frame.entry) <= {"load_balancer"}


def test_a_load_balancer_with_a_host_name_only() -> None:
    def edit(one: Any) -> None:
        one["status"] = {"loadBalancer": {"ingress": [{"hostname": "lb.example.com"}]}}

    assert not len(rows({"services": on_service("hello-lb", edit)}))


# ---------------------------------------------------------------- readiness, by the API's own states


def test_an_endpoint_that_is_not_ready_is_stale_in_the_rules() -> None:
    frame = rows({"endpointslices": on_slice("hello-world", lambda s: condition(s["endpoints"][0]))})
    assert said(frame) == [("ENDPOINT_STALE", "default/hello-world", "cluster_ip", [], ["10.244.18.3:8080"])] * 3
    assert set(frame.severity) == {"error"}


def test_an_endpoint_on_its_way_out_is_a_warning() -> None:
    change = on_slice("hello-world", lambda s: condition(s["endpoints"][0], serving=True, terminating=True))
    frame = rows({"endpointslices": change})
    assert said(frame) == [("ENDPOINT_RETIRING", "default/hello-world", "cluster_ip", [], ["10.244.18.3:8080"])] * 3
    assert set(frame.severity) == {"warning"}


def test_when_all_are_terminating_those_that_still_serve_are_used() -> None:
    """KEP-1669: the rules as they are, with all four, are right."""

    def edit(piece: Any) -> None:
        for endpoint in piece["endpoints"]:
            condition(endpoint, serving=True, terminating=True)

    assert not len(rows({"endpointslices": on_slice("hello-world", edit)}))


def test_when_all_are_gone_every_endpoint_in_the_rules_is_stale() -> None:
    def edit(piece: Any) -> None:
        for endpoint in piece["endpoints"]:
            condition(endpoint)

    frame = rows({"endpointslices": on_slice("hello-world", edit)})
    assert frame.code.tolist() == ["ENDPOINT_STALE"] * 3
    assert all(len(extra) == 4 for extra in frame.extra)


def test_conditions_that_are_not_there_mean_ready() -> None:
    """Also publishNotReadyAddresses: the controller writes ready for pods that are not."""

    def edit(piece: Any) -> None:
        piece["endpoints"][0]["conditions"] = {}
        piece["endpoints"][1].pop("conditions")

    assert not len(rows({"endpointslices": on_slice("hello-world", edit)}))
    published = on_service("hello-world", lambda one: one["spec"].update(publishNotReadyAddresses=True))
    assert not len(rows({"services": published}))


def test_endpoints_null_is_none() -> None:
    frame = rows({"endpointslices": on_slice("hello-world", lambda s: s.update(endpoints=None))})
    assert frame.code.tolist() == ["ENDPOINT_STALE"] * 3


# ---------------------------------------------------------------- trafficDistribution and policies


def zones(listing: Any) -> None:
    for node, zone in ((ONE, "a"), (TWO, "b"), (THREE, "a")):
        service(listing, node)["metadata"].setdefault("labels", {})["topology.kubernetes.io/zone"] = zone


def hint(piece: Any, **hints: str) -> None:
    """``forZones`` or ``forNodes`` by the endpoint's node."""
    for endpoint in piece["endpoints"]:
        kind, names = next(iter(hints.items()))
        endpoint["hints"] = {kind: [{"name": names[endpoint["nodeName"]]}]}  # type: ignore[index]


def test_hints_for_zones_narrow_what_is_expected() -> None:
    slices = on_slice("hello-world", lambda s: hint(s, forZones={ONE: "a", TWO: "b"}))
    changes: dict[str, Change] = {"nodes": as_json(zones), "endpointslices": slices}
    frame = rows(changes)
    assert said(frame) == [
        ("ENDPOINT_STALE", "default/hello-world", "cluster_ip", [], ["10.244.3.3:8080", "10.244.3.4:8080"]),
        ("ENDPOINT_STALE", "default/hello-world", "cluster_ip", [], ["10.244.3.3:8080", "10.244.3.4:8080"]),
        ("ENDPOINT_STALE", "default/hello-world", "cluster_ip", [], ["10.244.18.3:8080", "10.244.18.4:8080"]),
    ]
    assert frame.node.tolist() == [ONE, THREE, TWO]
    keep = {ONE: "10.244.18.", TWO: "10.244.3.", THREE: "10.244.18."}
    assert not len(rows(changes | {f"{node}/{FACT[node]}": only(node, keep[node]) for node in NODES}))


def test_hints_for_nodes_narrow_what_is_expected() -> None:
    """KEP-4444 PreferSameNode: a node without an endpoint of its own uses the zones' hints, here none."""
    slices = on_slice("hello-world", lambda s: hint(s, forNodes={ONE: ONE, TWO: TWO}))
    changes: dict[str, Change] = {"endpointslices": slices}
    assert rows(changes).node.tolist() == [ONE, TWO]
    narrowed = {f"{ONE}/{FACT[ONE]}": only(ONE, "10.244.18."), f"{TWO}/{FACT[TWO]}": only(TWO, "10.244.3.")}
    assert not len(rows(changes | narrowed))


@pytest.mark.parametrize("why", ["one without a hint", "none for this zone", "a node without a zone"])
def test_hints_are_left_aside_when_they_do_not_cover(why: str) -> None:
    def edit(piece: Any) -> None:
        hint(piece, forZones={ONE: "a", TWO: "b"})
        if why == "one without a hint":
            piece["endpoints"][0].pop("hints")
        if why == "none for this zone":
            hint(piece, forZones={ONE: "x", TWO: "y"})

    changes: dict[str, Change] = {"endpointslices": on_slice("hello-world", edit)}
    if why != "a node without a zone":
        changes["nodes"] = as_json(zones)
    assert not len(rows(changes))


def test_external_policy_local_has_its_own_semantics_in_every_mode() -> None:
    """Of hello-nodeport, made Local in the API only: what each mode would have to change."""
    change = on_service("hello-nodeport", lambda one: one["spec"].update(externalTrafficPolicy="Local"))
    frame = rows({"services": change})
    assert said(frame[frame.node == ONE]) == [
        ("ENDPOINT_MISSING", "default/hello-nodeport", "node_port", ["10.244.18.3:8080", "10.244.18.4:8080"], [])
    ]
    assert said(frame[frame.node == TWO]) == [
        ("ENDPOINT_MISSING", "default/hello-nodeport", "node_port", ["10.244.3.3:8080", "10.244.3.4:8080"], [])
    ]
    # IPVS has no endpoint on that node and falls back to all: what is there is right
    assert not len(frame[frame.node == THREE])


def test_internal_policy_local_on_a_node_without_endpoints() -> None:
    """A plain cluster IP gets no servers in IPVS; one that is also a NodePort falls back to all."""
    local = {"internalTrafficPolicy": "Local"}
    plain = rows({"services": on_service("hello-world", lambda one: one["spec"].update(local))}, THREE)
    assert [(r.code, len(r.extra)) for r in plain.itertuples()] == [("ENDPOINT_STALE", 4)]
    exposed = rows({"services": on_service("hello-nodeport", lambda one: one["spec"].update(local))}, THREE)
    assert not len(exposed)


# ---------------------------------------------------------------- nodes


def test_a_node_without_facts_is_one_line() -> None:
    def another(listing: Any) -> None:
        made = copy.deepcopy(listing["items"][0])
        made["metadata"]["name"] = "node-zero"
        listing["items"].append(made)

    frame = rows({"nodes": as_json(another)})
    assert frame[["code", "severity", "node"]].to_numpy().tolist() == [["NOT_CHECKED", "info", "node-zero"]]
    assert frame.says[0]


def test_two_modes_that_both_left_rules() -> None:
    """Switched to nftables, the iptables rules of before still there: who wins is checked, the rest told."""
    both = cluster().source.read(FactRef("nft.json", TWO))
    frame = rows({f"{ONE}/nft.json": both}, ONE)
    # node-two's hello-internal-local is narrowed to its own endpoints, so it does not fit here
    assert "MODE_LEFTOVER" in frame.code.tolist()
    left = frame[frame.code == "MODE_LEFTOVER"].iloc[0]
    assert left.severity == "warning"
    assert "iptables and nftables both" in left.says


def test_a_named_node_only() -> None:
    change = {f"{ONE}/{FACT[ONE]}": cut("-A KUBE-SERVICES -d 10.32.62.13/32")}
    assert len(rows(change, TWO)) == 0
    assert len(rows(change, ONE)) == 1
