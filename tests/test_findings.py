"""cluster.findings: each code when something is wrong and not before; what cannot be read is told, never silence."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import dns.message
import pandas as pd
import pytest
from edited import Change, Edited, as_json, cluster, slice_of, text

import k8snet_nb as kn
from k8snet_nb.cluster.finding import COLUMNS, finding_of
from k8snet_nb.explain.drift import CODES as DRIFT
from k8snet_nb.explain.findings import CODES, SEVERITIES
from k8snet_nb.facts import Evidence

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


def endpoints(name: str, edit: Callable[[Any], object]) -> Change:
    def change(listing: Any) -> None:
        edit(slice_of(listing, name))

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
        {"endpointslices": endpoints("hello-world", lambda s: s["endpoints"].append({"addresses": ["10.244.3.99"]}))},
        ("ENDPOINT_MISSING", TWO, "default/hello-world", None),
    ),
    "ENDPOINT_STALE": (
        {"endpointslices": endpoints("hello-world", lambda s: s["endpoints"].pop())},
        ("ENDPOINT_STALE", THREE, "default/hello-world", None),
    ),
    "ENDPOINT_RETIRING": (
        {
            "endpointslices": endpoints(
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
        {"endpointslices": endpoints("cart", lambda s: s.update(endpoints=None))},
        ("SERVICE_NO_ENDPOINTS", None, "shop/cart", None),
    ),
    "SERVICE_NONE_READY": (
        {"endpointslices": endpoints("cart", states())},
        ("SERVICE_NONE_READY", None, "shop/cart", None),
    ),
    "SERVICE_ONLY_TERMINATING": (
        {"endpointslices": endpoints("cart", states(serving=True, terminating=True))},
        ("SERVICE_ONLY_TERMINATING", None, "shop/cart", None),
    ),
    "SERVICE_PORT_NO_ENDPOINTS": (
        {"endpointslices": endpoints("cart", lambda s: s["ports"].pop())},
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
        {"endpointslices": endpoints("cart", lost)},
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


def test_every_code_has_a_case() -> None:
    assert set(CODES) == {*CASES, *AS_RECORDED}


@pytest.mark.parametrize("code", CASES)
def test_the_code_is_found_and_not_before(code: str) -> None:
    changes, row = CASES[code]
    source = Edited(LIGHT | changes)
    frame = kn.Cluster(source).findings()
    assert row in rows(frame), frame[["code", "subject", "what"]].to_string()
    assert row not in before()
    assert not {name for name in source.unused() if changes.get(name) is not None}
    found = frame[[one == row for one in zip(frame.code, frame.node, frame.service, frame.pod, strict=True)]].iloc[0]
    assert found.evidence
    assert all(isinstance(item, Evidence) and item.command for item in found.evidence)
    assert found.means
    assert "{" not in found.next


def test_the_recording_s_own() -> None:
    found = cluster().findings()
    assert list(found.columns) == COLUMNS
    assert [(one.code, one.subject) for one in found.itertuples() if one.severity in ("error", "warning")] == [
        ("CONNTRACK_DROPS", "node node-one"),
        ("CONNTRACK_DROPS", "node node-two"),
        ("CONNTRACK_FULL_LOGGED", "node node-one"),
        ("MIXED_MODES", "the cluster"),
        ("NODE_NOT_READY", "node node-three"),
        ("SERVICE_NO_ENDPOINTS", "Service default/orphan"),
    ]
    ranks = [SEVERITIES.index(severity) for severity in found.severity]
    assert ranks == sorted(ranks)
    assert {ref.ref.fact for ref in found.evidence[0]} == {"conntrack-stats.txt"}


def test_nodes_in_one_mode_are_not_mixed() -> None:
    """node-one's rules alone: of the others it is not known what they do."""
    changes: dict[str, Change] = {
        f"{node}/{fact}": None
        for node in (TWO, THREE)
        for fact in ("iptables-save.txt", "ip6tables-save.txt", "nft.json", "ipvs-save.txt")
    }
    found = cluster(changes).findings()
    assert "MIXED_MODES" not in set(found.code)
    assert {TWO, THREE} <= set(found[found.code == "NOT_CHECKED"].node)


def test_ways_that_are_as_good() -> None:
    """A router that is no node, silence of one that is not asked, ways that differ where nobody is strict about it."""
    neigh = as_json(lambda found: found.append({"dst": "172.30.0.77", "dev": "eth0", "state": ["FAILED"]}))
    astray: dict[str, Change] = {f"{ONE}/route.json": way("10.244.3.0/24", gateway="172.30.0.77")}
    assert "ROUTE_ASTRAY" not in set(cluster(LIGHT | astray).findings().code)
    assert "ROUTE_ASTRAY" in set(cluster(LIGHT | astray | {f"{ONE}/neigh.json": neigh}).findings().code)
    strict, _ = CASES["RP_FILTER_DROPS"]
    for value in "02":
        loose = {f"{ONE}/sysctl.txt": more(f"net.ipv4.conf.all.rp_filter = {value}")}
        assert "RP_FILTER_DROPS" not in set(cluster(LIGHT | strict | loose).findings().code)
    symmetric = {name: change for name, change in strict.items() if "route" not in name}
    assert "RP_FILTER_DROPS" not in set(cluster(LIGHT | symmetric).findings().code)


def test_drift_s_codes_keep_their_severity() -> None:
    for code, (severity, means) in DRIFT.items():
        assert CODES[code].means.lower() == means.lower() or code == "NOT_CHECKED"
        assert CODES[code].severity == ("unknown" if code == "NOT_CHECKED" else severity)
    assert {code.severity for code in CODES.values()} == set(SEVERITIES)


def test_drift_is_told_once_and_quotes_the_rule() -> None:
    changes, _ = CASES["ENDPOINT_STALE"]
    one = cluster(changes)
    drift, found = one.drift(), one.findings()
    mine = found[found.code == "ENDPOINT_STALE"]
    assert list(mine.node) == list(drift.node)
    for node, word in ((ONE, "DNAT"), (TWO, "dnat"), (THREE, "-r ")):
        lines = [line for item in mine[mine.node == node].evidence.iloc[0] for line in item.lines]
        assert any(word in line and "10.244.3.4" in line for line in lines), lines
    assert set(mine.port) == {"80/TCP"}


def test_only_one_node() -> None:
    found = cluster().findings(THREE)
    assert set(found.node) == {THREE}
    with pytest.raises(kn.errors.NotFound, match="nosuch"):
        cluster().findings("nosuch")


def test_a_row_is_a_finding_that_shows_itself() -> None:
    found = cluster().findings()
    row = found[found.code == "SERVICE_NO_ENDPOINTS"].iloc[0]
    shown = str(finding_of(row))
    assert shown.startswith("warning: SERVICE_NO_ENDPOINTS, Service default/orphan\n")
    assert "kubectl describe service --namespace default orphan" in shown
    assert "[your machine]$ kubectl get endpointslices --namespace default" in shown
    assert "<details open>" in row.evidence._repr_mimebundle_()["text/html"]


def test_hostile_names_stay_text() -> None:
    def edit(one: Any) -> None:
        one["endpoints"] = None
        one["metadata"]["labels"]["kubernetes.io/service-name"] = "cart"

    evil = "x\x1b[31m<script>"
    changes: dict[str, Change] = {
        "endpointslices": endpoints("cart", edit),
        "services": service("cart", lambda s: s["spec"].update(selector={evil: evil})),
    }
    found = cluster(changes).findings()
    row = found[found.service == "shop/cart"].iloc[0]
    assert "\x1b" not in f"{row.what}{row.subject}{row.next}"
    bundle = finding_of(row)._repr_mimebundle_()
    assert "\x1b" not in bundle["text/plain"]
    assert "<script>" not in bundle["text/html"]


# ---------------------------------------------------------------- one fact less

PODS = ("default/client", "default/client-two", "kube-system/coredns-675dc9c89c-km5v8", "kube-system/node-watch-74fwx")


def facts() -> list[str]:
    """Every fact file of the API and the nodes, and those of a pod of each kind."""
    found = []
    for path in sorted(RECORDING.rglob("*")):
        name = path.relative_to(RECORDING).as_posix()
        if (
            path.is_file()
            and name != "recording.json"
            and ("/pods/" not in name or any(f"/{p}/" in name for p in PODS))
        ):
            found.append(name)
    return found


def key(name: str) -> str:
    return (
        name.removeprefix("api/").removesuffix(".json")
        if name.startswith("api/")
        else (name.removeprefix("nodes/").replace("/pods/", "/"))
    )


@pytest.mark.parametrize("name", facts())
def test_a_fact_missing_or_cut_is_told_and_never_raised(name: str) -> None:
    """A node's facts are judged with that node, which is quick; the API's with everything."""
    parts = name.split("/")
    node = parts[1] if parts[0] == "nodes" and parts[-1] != "dns.jsonl" else None
    for change in (None, lambda content: content[: len(content) // 2]):
        found = cluster(LIGHT | {key(name): change}).findings(node)
        assert list(found.columns) == COLUMNS
        assert set(found.code) <= set(CODES)
        if parts[0] == "api" and parts[1] in ("pods.json", "services.json", "nodes.json", "endpointslices.json"):
            assert set(found.code) & {"FACT_MISSING", "FACT_BROKEN"}


def test_a_fact_that_many_pods_lack_is_told_once() -> None:
    lacking: dict[str, Change] = {f"{ONE}/dns.jsonl": None, f"{ONE}/resolv.conf": None}
    found = cluster(LIGHT | lacking).findings()
    mine = found[(found.code == "FACT_MISSING") & found.what.str.contains("pods")]
    assert list(mine.node) == [ONE]
    assert mine.what.iloc[0].startswith("dns.jsonl, resolv.conf of 6 pods (default/client, ")


def test_one_broken_service_breaks_only_its_own_check() -> None:
    found = cluster(LIGHT | {"services": service("cart", lambda one: one.update(spec=None))}).findings()
    assert any("shop/cart: has no spec" in what for what in found[found.code == "FACT_BROKEN"].what)
    assert "default/orphan" in set(found[found.code == "SERVICE_NO_ENDPOINTS"].service)


def test_without_the_api_nothing_is_checked() -> None:
    found = cluster({path.stem: None for path in (RECORDING / "api").iterdir()}).findings()
    assert found.attrs["checks"] == 0
    assert set(found.severity) == {"unknown"}
