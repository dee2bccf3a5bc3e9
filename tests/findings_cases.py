"""One case for each code of cluster.findings: what is changed in the recording, and the row that must come of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import dns.message
import pandas as pd
from edited import Change, as_json, cluster, on_slice, text

import k8snet_nb as kn

RECORDING = Path(kn.__path__[0]) / "data" / "hello-cluster"
ONE, TWO, THREE = "node-one", "node-two", "node-three"
CLIENT = f"{ONE}/default/client"
UDP = "ipv4     2 udp      17 {seconds} src=10.244.18.5 dst={to} sport=5353 dport=53 {flags}src={by} dst=10.244.18.5 sport=53 dport=5353 {end}mark=0 use=1 id=7"  # noqa: E501
TCP = "ipv4     2 tcp      6 100 ESTABLISHED src={src} dst={dst} sport=40000 dport={port} src={by} dst={back} sport=8080 dport=40000 [ASSURED] mark=0 use=1 id=8"  # noqa: E501

Row = tuple[str, str | None, str | None, str | None]


LIGHT: dict[str, Change] = {f"{node}/dns.jsonl": text(lambda lines: lines[:4]) for node in (ONE, TWO)}
"""The recorded questions are many; most cases need few of them."""


@cache
def before() -> frozenset[Row]:
    return rows(cluster().findings())


def rows(frame: pd.DataFrame) -> frozenset[Row]:
    """Code, node, Service and pod of each finding."""
    return frozenset(zip(frame.code, frame.node, frame.service, frame.pod, strict=True))


def service(name: str, edit: Callable[[Any], object]) -> Change:
    def change(listing: Any) -> None:
        edit(next(item for item in listing["items"] if item["metadata"]["name"] == name))

    return as_json(change)


def pod(name: str, edit: Callable[[Any], object]) -> Change:
    return service(name, edit)


def states(**given: bool) -> Callable[[Any], None]:
    def edit(one: Any) -> None:
        for endpoint in one["endpoints"]:
            endpoint["conditions"] = {"ready": False, "serving": False, "terminating": False} | given

    return edit


def more(*lines: str) -> Change:
    return text(lambda before: [*before, *lines])


def swap(old: str, new: str) -> Change:
    return text(lambda lines: [line.replace(old, new) for line in lines])


def without(*words: str) -> Change:
    return text(lambda lines: [line for line in lines if not all(word in line for word in words)])


def listed(keep: Callable[[Any], bool]) -> Change:
    return as_json(lambda found: [one for one in found if keep(one)])


def udp(to: str, by: str, seconds: int, flags: str = "", end: str = "") -> Change:
    return more(UDP.format(to=to, by=by, seconds=seconds, flags=flags, end=end))


def tcp(src: str, dst: str, port: int, by: str, back: str | None = None) -> Change:
    return more(TCP.format(src=src, dst=dst, port=port, by=by, back=back or src))


def answers(edit: Callable[[dict[str, Any]], None], name: str, server: str) -> Change:
    """The recorded answers of one server to one A question."""

    def change(line: str) -> str:
        row = json.loads(line)
        if (row["name"], row["type"], row["server"]) == (name, "A", server):
            edit(row)
        return json.dumps(row)

    return text(lambda lines: [change(line) for line in lines])


def says(address: str) -> Callable[[dict[str, Any]], None]:
    def edit(row: dict[str, Any]) -> None:
        message = dns.message.from_wire(base64.b64decode(row["response"]))
        name = message.question[0].name
        message.answer = [dns.rrset.from_text(name, 30, "IN", "A", address)]
        row["response"] = base64.b64encode(message.to_wire()).decode()

    return edit


def silent(row: dict[str, Any]) -> None:
    row.update(response=None, error="timed out")


def stats(counter: str) -> dict[str, Change]:
    return {f"{THREE}/conntrack-stats.txt": swap(f" {counter}=0", f" {counter}=7")}


def lost(listing: Any) -> None:
    listing["endpoints"][0]["targetRef"]["uid"] = "another"


def tunnel(links: Any) -> None:
    info = {"info_kind": "vxlan", "info_data": {"id": 7}}
    if any(link["ifname"].startswith("veth") for link in links):  # a node's, not a pod's
        links.append({"ifindex": 99, "ifname": "vxlan7", "link_type": "ether", "mtu": 1450, "linkinfo": info})


def shrink(links: Any) -> None:
    for link in links:
        if link["ifname"] == "veth5255f3bf":
            link.update(mtu=1280)


def way(to: str, **change: str) -> Change:
    """The route to that network, changed."""

    def edit(routes: Any) -> None:
        for route in routes:
            if route["dst"] == to and "gateway" in route:
                route.update(change)

    return as_json(edit)


KUBERNETES = "kubernetes.default.svc.cluster.local."
COUNT, MAX = "net.netfilter.nf_conntrack_count = ", "net.netfilter.nf_conntrack_max = "
GONE_PAUSE = {
    f"{TWO}/processes.json": listed(lambda one: one["netns"] != 4026533067),
    f"{TWO}/lsns.json": as_json(
        lambda found: found.update(namespaces=[n for n in found["namespaces"] if str(n["ns"]) != "4026533067"])
    ),
}

CASES: dict[str, tuple[dict[str, Change], Row]] = {
    "SERVICE_NOT_PROGRAMMED": (
        {
            "services": service(
                "hello-world", lambda s: s["spec"].update(clusterIP="10.32.9.9", clusterIPs=["10.32.9.9"])
            )
        },
        ("SERVICE_NOT_PROGRAMMED", TWO, "default/hello-world", None),
    ),
    "SERVICE_GONE": (
        {
            "services": service(
                "hello-world", lambda s: s["spec"].update(clusterIP="10.32.9.9", clusterIPs=["10.32.9.9"])
            )
        },
        ("SERVICE_GONE", THREE, None, None),
    ),
    "WRONG_PORT": (
        {"services": service("hello-world", lambda s: s["spec"]["ports"][0].update(port=8081))},
        ("WRONG_PORT", ONE, "default/hello-world", None),
    ),
    "ENDPOINT_MISSING": (
        {"endpointslices": on_slice("hello-world", lambda s: s["endpoints"].append({"addresses": ["10.244.3.99"]}))},
        ("ENDPOINT_MISSING", TWO, "default/hello-world", None),
    ),
    "ENDPOINT_STALE": (
        {"endpointslices": on_slice("hello-world", lambda s: s["endpoints"].pop())},
        ("ENDPOINT_STALE", THREE, "default/hello-world", None),
    ),
    "ENDPOINT_RETIRING": (
        {
            "endpointslices": on_slice(
                "hello-world",
                lambda s: s["endpoints"][0].update(conditions={"ready": False, "serving": True, "terminating": True}),
            )
        },
        ("ENDPOINT_RETIRING", ONE, "default/hello-world", None),
    ),
    "MODE_LEFTOVER": (
        {f"{ONE}/ipvs-save.txt": b"-A -t 10.32.62.13:80 -s rr\n-a -t 10.32.62.13:80 -r 10.244.3.3:8080 -m -w 1\n"},
        ("MODE_LEFTOVER", ONE, None, None),
    ),
    "NOT_FOLLOWED": (
        {f"{ONE}/iptables-save.txt": without("KUBE-SEP-4XITVHZVEZTX25SU", "--to-destination")},
        ("NOT_FOLLOWED", ONE, "default/hello-world", None),
    ),
    "NOT_CHECKED": (
        {f"{ONE}/{fact}": None for fact in ("iptables-save.txt", "ip6tables-save.txt", "nft.json", "ipvs-save.txt")},
        ("NOT_CHECKED", ONE, None, None),
    ),
    "STALE_FLOW": (
        {f"{ONE}/conntrack.txt": udp("10.32.0.10", "10.244.3.77", 29)},
        ("STALE_FLOW", ONE, "kube-system/kube-dns", "default/client"),
    ),
    "EXPIRING_FLOW": (
        {f"{ONE}/conntrack.txt": udp("10.32.0.10", "10.244.3.77", 3)},
        ("EXPIRING_FLOW", ONE, "kube-system/kube-dns", "default/client"),
    ),
    "DRAINING_FLOW": (
        {f"{ONE}/conntrack.txt": tcp("10.244.18.5", "10.32.62.13", 80, "10.244.3.77")},
        ("DRAINING_FLOW", ONE, "default/hello-world", "default/client"),
    ),
    "UNTRANSLATED_FLOW": (
        {f"{ONE}/conntrack.txt": udp("10.32.0.10", "10.32.0.10", 29, "[UNREPLIED] ")},
        ("UNTRANSLATED_FLOW", ONE, "kube-system/kube-dns", "default/client"),
    ),
    "UNREPLIED_FLOW": (
        {f"{ONE}/conntrack.txt": udp("10.32.0.10", "10.244.3.2", 29, "[UNREPLIED] ")},
        ("UNREPLIED_FLOW", ONE, "kube-system/kube-dns", "kube-system/coredns-675dc9c89c-km5v8"),
    ),
    "CONNTRACK_FULL": (
        {f"{TWO}/sysctl.txt": swap(f"{COUNT}354", f"{COUNT}131072")},
        ("CONNTRACK_FULL", TWO, None, None),
    ),
    "CONNTRACK_PRESSURE": (
        {f"{TWO}/sysctl.txt": swap(f"{MAX}131072", f"{MAX}400")},
        ("CONNTRACK_PRESSURE", TWO, None, None),
    ),
    "CONNTRACK_GROWING": (
        {f"{ONE}/sysctl.txt": swap(f"{COUNT}359", f"{COUNT}4200")},
        ("CONNTRACK_GROWING", ONE, None, None),
    ),
    "CONNTRACK_DROPS": (stats("drop"), ("CONNTRACK_DROPS", THREE, None, None)),
    "CONNTRACK_EARLY_DROP": (stats("early_drop"), ("CONNTRACK_EARLY_DROP", THREE, None, None)),
    "CONNTRACK_INSERT_FAILED": (stats("insert_failed"), ("CONNTRACK_INSERT_FAILED", THREE, None, None)),
    "CONNTRACK_CHAIN_TOO_LONG": (stats("chaintoolong"), ("CONNTRACK_CHAIN_TOO_LONG", THREE, None, None)),
    "CONNTRACK_FULL_LOGGED": (
        {f"{TWO}/kernel-log.txt": b"[12.5] nf_conntrack: table full, dropping packet\n"},
        ("CONNTRACK_FULL_LOGGED", TWO, None, None),
    ),
    "SERVICE_NO_ENDPOINTS": (
        {"endpointslices": on_slice("cart", lambda s: s.update(endpoints=None))},
        ("SERVICE_NO_ENDPOINTS", None, "shop/cart", None),
    ),
    "SERVICE_NONE_READY": (
        {"endpointslices": on_slice("cart", states())},
        ("SERVICE_NONE_READY", None, "shop/cart", None),
    ),
    "SERVICE_ONLY_TERMINATING": (
        {"endpointslices": on_slice("cart", states(serving=True, terminating=True))},
        ("SERVICE_ONLY_TERMINATING", None, "shop/cart", None),
    ),
    "SERVICE_PORT_NO_ENDPOINTS": (
        {"endpointslices": on_slice("cart", lambda s: s["ports"].pop())},
        ("SERVICE_PORT_NO_ENDPOINTS", None, "shop/cart", None),
    ),
    "SERVICE_LOCAL_NONE": (
        {"services": service("hello-world", lambda s: s["spec"].update(internalTrafficPolicy="Local"))},
        ("SERVICE_LOCAL_NONE", THREE, "default/hello-world", None),
    ),
    "LOAD_BALANCER_PENDING": (
        {"services": service("hello-lb", lambda s: (s["spec"].pop("externalIPs", None), s.update(status={})))},
        ("LOAD_BALANCER_PENDING", None, "default/hello-lb", None),
    ),
    "ENDPOINT_POD_GONE": (
        {"endpointslices": on_slice("cart", lost)},
        ("ENDPOINT_POD_GONE", None, "shop/cart", "shop/cart-865f99cbb8-j49cc"),
    ),
    "DNS_DISAGREE": (
        {f"{CLIENT}/dns.jsonl": answers(says("10.32.0.2"), KUBERNETES, "10.244.3.2")},
        ("DNS_DISAGREE", None, "kube-system/kube-dns", None),
    ),
    "DNS_SILENT": (
        {f"{CLIENT}/dns.jsonl": answers(silent, KUBERNETES, "10.244.3.2")},
        ("DNS_SILENT", None, "kube-system/kube-dns", None),
    ),
    "DNS_WRONG_ANSWER": (
        {f"{CLIENT}/dns.jsonl": answers(says("10.32.0.2"), "hello-world.default.svc.cluster.local.", "10.32.0.10")},
        ("DNS_WRONG_ANSWER", None, "default/hello-world", "default/client"),
    ),
    "RESOLV_CONF_DIFFERS": (
        {f"{CLIENT}/resolv.conf": swap("ndots:5", "ndots:1")},
        ("RESOLV_CONF_DIFFERS", ONE, None, "default/client"),
    ),
    "POD_NO_NAMESPACE": (GONE_PAUSE, ("POD_NO_NAMESPACE", TWO, None, "default/client-two")),
    "POD_UNPLUGGED": (
        {f"{ONE}/addr.json": listed(lambda link: link["ifname"] != "veth5255f3bf")},
        ("POD_UNPLUGGED", ONE, None, "default/client"),
    ),
    "MTU_MISMATCH": (
        {f"{ONE}/addr.json": as_json(shrink)},
        ("MTU_MISMATCH", ONE, None, "default/client"),
    ),
    "ENDPOINT_NOT_LISTENING": (
        {f"{ONE}/shop/cart-865f99cbb8-j49cc/sockets.txt": without("LISTEN", ":8000 ")},
        ("ENDPOINT_NOT_LISTENING", ONE, "shop/cart", "shop/cart-865f99cbb8-j49cc"),
    ),
    "ROUTE_ASTRAY": (
        {f"{ONE}/route.json": way("10.244.3.0/24", gateway="172.30.0.13")},
        ("ROUTE_ASTRAY", ONE, None, None),
    ),
    "RP_FILTER_DROPS": (
        {
            f"{ONE}/addr.json": as_json(tunnel),
            f"{TWO}/addr.json": as_json(tunnel),
            f"{TWO}/route.json": way("10.244.18.0/24", dev="vxlan7"),
            f"{ONE}/sysctl.txt": more("net.ipv4.conf.all.rp_filter = 1"),
        },
        ("RP_FILTER_DROPS", ONE, None, None),
    ),
    "POD_NOT_RUNNING": (
        {"pods": pod("client", lambda p: p["status"].update(phase="Pending"))},
        ("POD_NOT_RUNNING", ONE, None, "default/client"),
    ),
    "NODE_NOT_READY": (
        {"nodes": service(ONE, lambda n: n["status"].update(conditions=[{"type": "Ready", "status": "False"}]))},
        ("NODE_NOT_READY", ONE, None, None),
    ),
    "DUPLICATE_ADDRESS": (
        {"services": service("hello-world", lambda s: s["spec"].update(clusterIPs=["10.32.118.77"]))},
        ("DUPLICATE_ADDRESS", None, "default/hello-world", None),
    ),
    "MODEL_POD_ADDRESS": (
        {"pods": pod("client", lambda p: p["status"].update(podIP="10.244.18.99", podIPs=[{"ip": "10.244.18.99"}]))},
        ("MODEL_POD_ADDRESS", None, None, None),
    ),
    "MODEL_POD_TO_POD": (
        {f"{ONE}/conntrack.txt": tcp("10.244.18.5", "10.244.3.3", 8080, "10.244.3.3", "172.30.0.11")},
        ("MODEL_POD_TO_POD", None, None, None),
    ),
    "MODEL_NODE_TO_POD": (
        {f"{ONE}/conntrack.txt": tcp("172.30.0.11", "10.244.18.5", 8080, "10.244.18.5", "172.30.0.77")},
        ("MODEL_NODE_TO_POD", None, None, None),
    ),
    "PROXY_NOT_RUNNING": (
        {f"{ONE}/processes.json": listed(lambda one: "kube-proxy" not in one["cmdline"])},
        ("PROXY_NOT_RUNNING", ONE, None, None),
    ),
    "PROXY_SAYS_OTHERWISE": (
        {f"{ONE}/node.json": as_json(lambda about: about.update(kube_proxy_mode="ipvs"))},
        ("PROXY_SAYS_OTHERWISE", ONE, None, None),
    ),
    "FACT_MISSING": ({"configmaps": None}, ("FACT_MISSING", None, None, None)),
    "FACT_BROKEN": ({f"{ONE}/addr.json": b"["}, ("FACT_BROKEN", ONE, None, None)),
}
AS_RECORDED = {"MIXED_MODES"}
"""Codes that the recording has as a whole: their absence is tested below."""
