"""cluster.drift: rules that were edited by hand, in each mode."""

from __future__ import annotations

import json
from typing import Any

from drifting import FACT, ONE, THREE, TWO, cut, on_nft, on_service, only, rows, said, service
from edited import Change, as_json, cluster, text


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
