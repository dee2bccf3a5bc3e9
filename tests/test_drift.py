"""cluster.drift: nothing on a healthy cluster, whatever its Services are like; each code when something is wrong."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
from edited import Change, as_json, cluster, slice_of, text

from k8snet_nb.explain.drift import CODES
from k8snet_nb.facts import FactRef

ONE, TWO, THREE = "node-one", "node-two", "node-three"
NODES = [ONE, TWO, THREE]
FACT = {ONE: "iptables-save.txt", TWO: "nft.json", THREE: "ipvs-save.txt"}


def rows(changes: dict[str, Change], node: str | None = None) -> pd.DataFrame:
    return cluster(changes).drift(node)


def said(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Code, Service, entry, missing and extra of each row."""
    return [(r.code, r.service, r.entry, r.missing, r.extra) for r in frame.itertuples()]


def service(listing: Any, name: str) -> Any:
    return next(item for item in listing["items"] if item["metadata"]["name"] == name)


def on_service(name: str, edit: Callable[[Any], object]) -> Change:
    def change(listing: Any) -> None:
        edit(service(listing, name))

    return as_json(change)


def on_slice(name: str, edit: Callable[[Any], object]) -> Change:
    def change(listing: Any) -> None:
        edit(slice_of(listing, name))

    return as_json(change)


def on_nft(edit: Callable[[list[Any]], object]) -> Change:
    def change(document: Any) -> None:
        edit(document["nftables"])

    return as_json(change)


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


def add(listing: Any, kind: str, name: str, **spec: Any) -> Any:
    made = {
        "metadata": {"namespace": "default", "name": name, "labels": {}},
        "spec": {"type": kind, "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}], **spec},
    }
    listing["items"].append(made)
    return made


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


def only(node: str, keep: str) -> Change:
    """The rules of hello-world on a node, narrowed to the endpoints that begin so."""

    def iptables(lines: list[str]) -> list[str]:
        return [
            line for line in lines if not ("-A KUBE-SVC-NOIMA57" in line and "->" in line and f"-> {keep}" not in line)
        ]

    def ipvs(lines: list[str]) -> list[str]:
        return [line for line in lines if not (line.startswith("-a -t 10.32.62.13:80") and f"-r {keep}" not in line)]

    def nft(entries: list[Any]) -> None:
        body = next(
            e["rule"]
            for e in entries
            if e.get("rule", {}).get("chain", "").startswith("service-MBZD57SS") and "dnat" in e["rule"]["expr"][-1]
        )
        drawn = body["expr"][-1]["dnat"]["addr"]["map"]
        kept = [where for _, where in drawn["data"]["set"] if where["concat"][0].startswith(keep)]
        drawn["data"]["set"] = [[i, where] for i, where in enumerate(kept)]
        drawn["key"]["numgen"]["mod"] = len(kept)

    return {ONE: text(iptables), TWO: on_nft(nft), THREE: text(ipvs)}[node]


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


# ---------------------------------------------------------------- rules edited


def cut(*parts: str) -> Change:
    """Without the rules that hold all of these."""
    return text(lambda lines: [line for line in lines if not all(part in line for part in parts)])


def test_iptables_endpoint_rules_removed_and_added() -> None:
    gone = rows({f"{ONE}/{FACT[ONE]}": cut("-A KUBE-SVC-NOIMA57", "-> 10.244.3.3:8080")})
    assert said(gone) == [("ENDPOINT_MISSING", "default/hello-world", "cluster_ip", ["10.244.3.3:8080"], [])]

    def another(lines: list[str]) -> list[str]:
        return [
            line.replace("--to-destination 10.244.3.3:8080", "--to-destination 10.244.3.99:8080")
            if "default/hello-world:http" in line
            else line
            for line in lines
        ]

    frame = rows({f"{ONE}/{FACT[ONE]}": text(another)})
    assert said(frame) == [
        ("ENDPOINT_MISSING", "default/hello-world", "cluster_ip", ["10.244.3.3:8080"], []),
        ("ENDPOINT_STALE", "default/hello-world", "cluster_ip", [], ["10.244.3.99:8080"]),
    ]
    assert frame[["address", "port", "protocol", "family"]].to_numpy().tolist() == [["10.32.62.13", 80, "tcp", 4]] * 2


def test_iptables_portal_removed() -> None:
    frame = rows({f"{ONE}/{FACT[ONE]}": cut("-A KUBE-SERVICES -d 10.32.62.13/32")})
    assert frame.code.tolist() == ["SERVICE_NOT_PROGRAMMED"]
    assert len(frame.missing[0]) == 4


def test_iptables_reject_rule_removed() -> None:
    """A Service without endpoints has to be known too: else its clients wait instead of being told."""
    frame = rows({f"{ONE}/{FACT[ONE]}": cut("default/orphan:admin has no endpoints")})
    assert said(frame) == [("SERVICE_NOT_PROGRAMMED", "default/orphan", "cluster_ip", [], [])]
    assert frame.port.tolist() == [9000]


def test_iptables_chain_that_leads_nowhere() -> None:
    frame = rows({f"{ONE}/{FACT[ONE]}": cut("KUBE-SEP-4XITVHZVEZTX25SU", "--to-destination")})
    assert frame.code.tolist() == ["NOT_FOLLOWED"]
    assert "leads to no endpoint" in frame.says[0]


def test_iptables_wrong_port_and_a_service_that_is_gone() -> None:
    def other_port(lines: list[str]) -> list[str]:
        return [
            line.replace("--dport 80 ", "--dport 8888 ") if "-A KUBE-SERVICES -d 10.32.62.13/32" in line else line
            for line in lines
        ]

    frame = rows({f"{ONE}/{FACT[ONE]}": text(other_port)})
    assert sorted(zip(frame.code, frame.port, strict=True)) == [("SERVICE_NOT_PROGRAMMED", 80), ("WRONG_PORT", 8888)]
    assert set(frame.service) == {"default/hello-world"}

    def no_cart(listing: Any) -> None:
        listing["items"].remove(service(listing, "cart"))

    left = rows({"services": as_json(no_cart)})
    assert left.code.tolist() == ["SERVICE_GONE"] * 6  # two ports, three nodes
    assert set(left.address) == {"10.32.118.77"}
    assert {row.service for row in left.itertuples() if row.node != THREE} == {"shop/cart"}
    assert {row.service for row in left.itertuples() if row.node == THREE} == {None}  # IPVS keeps no names


def test_a_node_port_that_nobody_has_any_more() -> None:
    def edit(one: Any) -> None:
        one["spec"]["type"] = "ClusterIP"
        one["spec"]["ports"][0].pop("nodePort")

    frame = rows({"services": on_service("hello-nodeport", edit)})
    assert list(zip(frame.code, frame.entry, frame.port, strict=True)) == [("SERVICE_GONE", "node_port", 30080)] * 3


def element(entries: list[Any], name: str, address: Any) -> tuple[list[Any], Any]:
    body = next(e["map"] for e in entries if e.get("map", {}).get("name") == name and e["map"]["family"] == "ip")
    return body["elem"], next(pair for pair in body["elem"] if address in json.dumps(pair))


def test_nft_elements_removed() -> None:
    def no_portal(entries: list[Any]) -> None:
        held, one = element(entries, "service-ips", "10.32.62.13")
        held.remove(one)

    assert said(rows({f"{TWO}/nft.json": on_nft(no_portal)}))[0][:3] == (
        "SERVICE_NOT_PROGRAMMED",
        "default/hello-world",
        "cluster_ip",
    )

    def no_reject(entries: list[Any]) -> None:
        held, one = element(entries, "no-endpoint-services", "9000")
        held.remove(one)

    assert said(rows({f"{TWO}/nft.json": on_nft(no_reject)})) == [
        ("SERVICE_NOT_PROGRAMMED", "default/orphan", "cluster_ip", [], [])
    ]

    def no_node_port(entries: list[Any]) -> None:
        held, one = element(entries, "service-nodeports", "30081")
        held.remove(one)

    assert said(rows({f"{TWO}/nft.json": on_nft(no_node_port)}))[0][:3] == (
        "SERVICE_NOT_PROGRAMMED",
        "default/hello-local",
        "node_port",
    )


def test_nft_endpoints_removed() -> None:
    frame = rows({f"{TWO}/nft.json": only(TWO, "10.244.3.")})
    assert said(frame) == [
        ("ENDPOINT_MISSING", "default/hello-world", "cluster_ip", ["10.244.18.3:8080", "10.244.18.4:8080"], [])
    ]


def test_ipvs_servers_removed_added_and_draining() -> None:
    missing = ["10.244.3.3:8080"]
    gone = rows({f"{THREE}/ipvs-save.txt": cut("-a -t 10.32.62.13:80 -r 10.244.3.3:8080")})
    assert said(gone) == [("ENDPOINT_MISSING", "default/hello-world", "cluster_ip", missing, [])]

    def drain(lines: list[str]) -> list[str]:
        return [line.replace("-w 1", "-w 0") if "10.32.62.13:80 -r 10.244.3.3" in line else line for line in lines]

    assert said(rows({f"{THREE}/ipvs-save.txt": text(drain)})) == said(gone), "a draining server gets no connections"

    def stale(lines: list[str]) -> list[str]:
        return [*lines, "-A -t 10.32.62.13:8888 -s rr", "-A -t 10.32.99.99:80 -s rr", "-A -t 172.30.0.13:31999 -s rr"]

    frame = rows({f"{THREE}/ipvs-save.txt": text(stale)})
    assert sorted(zip(frame.code, frame.port, frame.entry, strict=True), key=str) == [
        ("SERVICE_GONE", 31999, "node_port"),
        ("SERVICE_GONE", 80, None),
        ("WRONG_PORT", 8888, None),
    ]


def test_ipvs_virtual_server_removed() -> None:
    frame = rows({f"{THREE}/ipvs-save.txt": cut("10.32.22.26:80")})
    assert said(frame) == [("SERVICE_NOT_PROGRAMMED", "default/orphan", "cluster_ip", [], [])]


def test_ipvs_address_that_is_on_no_interface() -> None:
    """A virtual server alone does not do: without its address on kube-ipvs0 packets are routed on."""

    def away(links: Any) -> None:
        dummy = next(link for link in links if link["ifname"] == "kube-ipvs0")
        dummy["addr_info"] = [one for one in dummy["addr_info"] if one["local"] != "10.32.62.13"]

    change: dict[str, Change] = {f"{THREE}/addr.json": as_json(away)}
    frame = rows(change, THREE)
    assert said(frame)[0][:2] == ("SERVICE_NOT_PROGRAMMED", "default/hello-world")
    assert "kube-ipvs0" in frame.says[0]
    assert cluster(change).translate("default/hello-world", node=THREE).action == "none"


# ---------------------------------------------------------------- the same number in two protocols


def test_the_same_port_number_in_udp_tcp_and_sctp() -> None:
    """kube-dns has 53 in both: taking away one says which."""
    frame = rows({f"{THREE}/ipvs-save.txt": cut("-u 10.32.0.10:53")})
    assert frame[["code", "protocol", "port"]].to_numpy().tolist() == [["SERVICE_NOT_PROGRAMMED", "udp", 53]]

    def sctp(one: Any) -> None:
        one["spec"]["ports"].append({"name": "tunnel", "port": 80, "protocol": "SCTP", "targetPort": 8080})

    frame = rows({"services": on_service("hello-world", sctp)})
    assert frame.protocol.tolist() == ["sctp"] * 3
    assert set(frame.code) == {"SERVICE_NOT_PROGRAMMED"}

    def programmed(lines: list[str]) -> list[str]:
        return [*lines, "-A --sctp-service 10.32.62.13:80 -s rr"]

    more = rows({"services": on_service("hello-world", sctp), f"{THREE}/ipvs-save.txt": text(programmed)}, THREE)
    assert not len(more)


# ---------------------------------------------------------------- both families


VIP6, POD6 = (
    "fd00:32::62",
    {"10.244.18.3": "fd00:18::3", "10.244.18.4": "fd00:18::4", "10.244.3.3": "fd00:3::3", "10.244.3.4": "fd00:3::4"},
)


def dual_api() -> dict[str, Change]:
    def slices(listing: Any) -> None:
        twin = copy.deepcopy(slice_of(listing, "hello-world"))
        twin["metadata"]["name"] += "-v6"
        twin["addressType"] = "IPv6"
        for endpoint in twin["endpoints"]:
            endpoint["addresses"] = [POD6[endpoint["addresses"][0]]]
        listing["items"].append(twin)

    def services(one: Any) -> None:
        one["spec"] |= {"clusterIPs": ["10.32.62.13", VIP6], "ipFamilies": ["IPv4", "IPv6"]}

    def pods(listing: Any) -> None:
        six = POD6 | {"10.244.18.5": "fd00:18::5", "10.244.3.7": "fd00:3::7"}
        for pod in listing["items"]:
            ip = (pod.get("status") or {}).get("podIP")
            if ip in six:
                pod["status"]["podIPs"] = [{"ip": ip}, {"ip": six[ip]}]

    return {
        "endpointslices": as_json(slices),
        "services": on_service("hello-world", services),
        "pods": as_json(pods),
    }


def routes6(own: str, other: str, gateway: str) -> Change:
    """IPv6 routes of a node to its own pods and to those of the other node."""
    return json.dumps(
        [
            {"type": "unicast", "dst": own, "dev": "cni0", "flags": []},
            {"type": "unicast", "dst": other, "gateway": gateway, "dev": "eth0", "flags": []},
        ]
    ).encode()


def dual_iptables(lines: list[str]) -> list[str]:
    """What node-one has for hello-world in IPv4, said for IPv6."""
    four = cluster().source.read(FactRef("iptables-save.txt", ONE)).decode().splitlines()
    mine = [line for line in four if "hello-world:http" in line]
    chains = {word for line in mine for word in line.split() if word.startswith(("KUBE-SVC-", "KUBE-SEP-"))}

    def six(line: str) -> str:
        for old, new in POD6.items():
            line = line.replace(f"{old}/32", f"{new}/128").replace(
                f"--to-destination {old}:", f"--to-destination [{new}]:"
            )
        return line.replace("10.32.62.13/32", f"{VIP6}/128").replace("10.244.0.0/16", "fd00::/16")

    at = lines.index("*nat") + 1
    end = lines.index("COMMIT", at)
    portals = [six(line) for line in mine if "-A KUBE-SERVICES" in line]
    others = [six(line) for line in mine if "-A KUBE-SERVICES" not in line]
    return [
        *lines[:at],
        *(f":{chain} - [0:0]" for chain in sorted(chains)),
        *lines[at : end - 1],
        *portals,
        lines[end - 1],
        *others,
        *lines[end:],
    ]


def dual_nft(entries: list[Any]) -> None:
    chain = "service-MBZD57SS-default/hello-world/tcp/http"
    portal = next(
        e["map"] for e in entries if e.get("map", {}).get("name") == "service-ips" and e["map"]["family"] == "ip6"
    )
    portal["elem"] = [[{"concat": [VIP6, "tcp", 80]}, {"goto": {"target": chain}}]]
    data = [[i, {"concat": [address, 8080]}] for i, address in enumerate(POD6.values())]
    numgen = {"numgen": {"mode": "random", "mod": 4, "offset": 0}}
    rule = {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "tcp"}}
    dnat = {"dnat": {"family": "ip6", "addr": {"map": {"key": numgen, "data": {"set": data}}}}}
    common = {"family": "ip6", "table": "kube-proxy"}
    entries.append({"chain": {**common, "name": chain, "handle": 900}})
    entries.append({"rule": {**common, "chain": chain, "handle": 901, "expr": [rule, dnat]}})


def dual_ipvs(lines: list[str]) -> list[str]:
    servers = [f"-a -t [{VIP6}]:80 -r [{address}]:8080 -m -w 1" for address in POD6.values()]
    return [*lines, f"-A -t [{VIP6}]:80 -s rr", *servers]


def on_dummy(links: Any) -> None:
    dummy = next(link for link in links if link["ifname"] == "kube-ipvs0")
    dummy["addr_info"].append({"family": "inet6", "local": VIP6, "prefixlen": 128, "scope": "global"})


DUAL_RULES: dict[str, Change] = {
    f"{ONE}/ip6tables-save.txt": text(dual_iptables),
    f"{TWO}/nft.json": on_nft(dual_nft),
    f"{THREE}/ipvs-save.txt": text(dual_ipvs),
    f"{THREE}/addr.json": as_json(on_dummy),
    f"{ONE}/route6.json": routes6("fd00:18::/64", "fd00:3::/64", "fd00::12"),
    f"{TWO}/route6.json": routes6("fd00:3::/64", "fd00:18::/64", "fd00::11"),
}


def test_dual_stack_with_rules_in_both_families() -> None:
    assert not len(rows(dual_api() | DUAL_RULES))


def test_dual_stack_without_rules_in_ipv6() -> None:
    frame = rows(dual_api())
    assert frame.code.tolist() == ["SERVICE_NOT_PROGRAMMED"] * 3
    assert set(frame.family) == {6}
    assert set(map(tuple, frame.missing)) == {tuple(sorted(f"[{address}]:8080" for address in POD6.values()))}


def test_dual_stack_is_translated_and_compared_in_both_families() -> None:
    dual = cluster(dual_api() | DUAL_RULES)
    for node in NODES:
        answer = dual.translate("default/hello-world", node=node, family=6, client="outside")
        assert (answer.target.address, answer.action) == (VIP6, "dnat"), node
        assert {b.address for b in answer.backends} == set(POD6.values())
    compared = dual.compare("default/hello-world")
    assert compared.family.tolist() == [4, 6] * 3
    assert compared.same.tolist() == [True] * 6


def test_ipv6_that_was_not_collected_is_not_checked() -> None:
    frame = rows(dual_api() | {f"{ONE}/ip6tables-save.txt": None}, ONE)
    assert frame[["code", "family"]].to_numpy().tolist() == [["NOT_CHECKED", 6]]
    # without IPv6 Services nobody misses it
    assert not len(rows({f"{ONE}/ip6tables-save.txt": None}, ONE))


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
