"""Names from the façade on the recorded cluster: every expected value was read from the recording by hand."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import pytest

import k8snet_nb as kn
from k8snet_nb.cluster import Cluster
from k8snet_nb.errors import FactBroken, FactMissing, NotFound, Refused

RECORDING = Path(kn.__file__).parent / "data" / "hello-cluster"
CLIENT = "nodes/node-one/pods/default/client"
COREDNS = {"10.244.18.2": "kube-system/coredns-675dc9c89c-tn5qt", "10.244.3.2": "kube-system/coredns-675dc9c89c-km5v8"}


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return kn.open(RECORDING)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RECORDING, tmp_path / "copy"))


def names(cluster: Cluster, name: str, libc: str = "glibc") -> list[tuple[str, str]]:
    return [(query.name, query.type) for query in cluster.pod("default/client").search_expansion(name, libc)]


def test_the_search_list_of_a_pod(cluster: Cluster) -> None:
    domains = ("default.svc.cluster.local.", "svc.cluster.local.", "cluster.local.", "")
    assert names(cluster, "hello-world") == [
        (f"hello-world.{domain}", kind) for domain in domains for kind in ("A", "AAAA")
    ]
    assert names(cluster, "hello-world.") == [("hello-world.", "A"), ("hello-world.", "AAAA")]
    assert names(cluster, "a.b.c.d.e.f")[0] == ("a.b.c.d.e.f.", "A")
    assert len(names(cluster, "a.b.c.d.e.f")) == 8
    assert len(names(cluster, "a.b.c.d.e.f", "musl")) == 2
    cart = cluster.pod("shop/cart-865f99cbb8-j49cc").search_expansion("cart")
    assert cart[0].name == "cart.shop.svc.cluster.local."
    pod = cluster.pod("default/client")
    assert [q.name for q in pod.search_expansion("cart.shop", "musl", ndots=1)] == ["cart.shop.", "cart.shop."]
    with pytest.raises(Refused, match="glibc or musl"):
        pod.search_expansion("x", "bionic")


def test_what_a_name_costs(cluster: Cluster) -> None:
    pod = cluster.pod("default/client")
    outside, inside = pod.dns_cost("example.com"), pod.dns_cost("hello-world", found_at=pod.resolve("hello-world").name)
    assert (outside.tries, outside.queries, outside.round_trips) == (4, 8, 4)
    assert (inside.tries, inside.queries, inside.round_trips) == (1, 2, 1)


def test_an_answer_is_joined_to_its_service(cluster: Cluster) -> None:
    found = cluster.pod("default/client").resolve("kubernetes.default")
    assert (found.outcome, found.rcode, found.server) == ("found", "NOERROR", "10.32.0.10")
    assert found.addresses == ("10.32.0.1",)
    assert [(each.query.name, each.query.type, each.result) for each in found.queries] == [
        ("kubernetes.default.default.svc.cluster.local.", "A", "NXDOMAIN"),
        ("kubernetes.default.default.svc.cluster.local.", "AAAA", "NXDOMAIN"),
        ("kubernetes.default.svc.cluster.local.", "A", "NOERROR, 1 record"),
        ("kubernetes.default.svc.cluster.local.", "AAAA", "NOERROR, no such record"),
    ]
    assert [(each.kind, each.what) for each in found.joined] == [("service", "default/kubernetes")]
    assert "namespace default has no such Service" in found.says[0]
    assert found.evidence[0].lines[1] == "nameserver 10.32.0.10"
    assert json.loads(found.evidence[1].lines[0])["server"] == "10.32.0.10"


def test_headless_srv_and_external_name(cluster: Cluster) -> None:
    pod = cluster.pod("default/client")
    headless = pod.resolve("hello-headless")
    assert {each.record.text: each.what for each in headless.joined} == {
        "10.244.3.3": "default/hello-world-c648f6bd8-b6hq5",
        "10.244.3.4": "default/hello-world-c648f6bd8-s8cwf",
        "10.244.18.4": "default/hello-world-c648f6bd8-96wh2",
        "10.244.18.3": "default/hello-world-c648f6bd8-gl7ct",
    }
    srv = pod.resolve("_http._tcp.hello-world", types="srv")
    assert [record.text for record in srv.records] == ["0 100 80 hello-world.default.svc.cluster.local."]
    assert "the port named http of Service default/hello-world is 80/TCP" in srv.joined[0].says
    external = pod.resolve("example-external")
    assert (external.joined[0].kind, external.joined[0].what) == ("external name", "default/example-external")
    assert external.eai == "EAI_NONAME"


def test_no_such_name_is_explained(cluster: Cluster) -> None:
    found = cluster.pod("default/client").resolve("no-such.default.svc.cluster.local.", types="A")
    assert (found.outcome, found.rcode, found.records) == ("no such name", "NXDOMAIN", ())
    assert "namespace default has no such Service" in found.says[0]


@pytest.mark.parametrize("name", ["example.com", "kubernetes.default.svc.cluster.local", "never-asked"])
def test_what_was_not_recorded_is_neither_an_error_nor_nxdomain(cluster: Cluster, name: str) -> None:
    found = cluster.pod("default/client").resolve(name)
    assert (found.outcome, found.rcode, found.records, found.eai) == ("not recorded", None, (), "")
    assert "not recorded" in found.report().text()


def test_a_pod_whose_questions_were_not_recorded(cluster: Cluster) -> None:
    pod = cluster.pod("kube-system/node-watch-74fwx")
    found = pod.resolve("example.com")
    assert [str(each.query) for each in found.queries] == ["example.com. A", "example.com. AAAA"]
    assert found.outcome == "not recorded"
    assert "dns.jsonl: not in this recording" in found.queries[0].result
    with pytest.raises(FactMissing, match=r"resolv\.conf of pod kube-system/node-watch-8zf8j: it is on no node yet"):
        cluster.pod("kube-system/node-watch-8zf8j").resolve("x")


def test_the_file_that_the_kubelet_writes(cluster: Cluster) -> None:
    client = cluster.pod("default/client").resolv_conf()
    assert (client.policy, client.expected.effective, client.differences) == ("ClusterFirst", "ClusterFirst", ())
    assert client.conf.nameservers == ("10.32.0.10",)
    host = cluster.pod("kube-system/node-watch-74fwx").resolv_conf()
    assert (host.policy, host.expected.effective, host.differences) == ("ClusterFirst", "Default", ())
    assert host.conf.nameservers == ("10.255.255.53",)


def test_a_file_that_differs(copy: Path) -> None:
    (copy / CLIENT / "resolv.conf").write_text("search default.svc.cluster.local\nnameserver 169.254.20.10\n")
    found = kn.open(copy).pod("default/client").resolv_conf()
    text = found.report().text()
    assert "169.254.20.10 (a link-local address is NodeLocal DNSCache" in text
    assert any("ndots is 1, expected 5" in each for each in found.differences)
    assert any(each.startswith("search list is default.svc.cluster.local, expected") for each in found.differences)


def test_dns_config_counts(copy: Path) -> None:
    listing = copy / "api" / "pods.json"
    pods = json.loads(listing.read_text())
    spec = next(p["spec"] for p in pods["items"] if p["metadata"]["name"] == "client")
    spec["dnsConfig"] = {"options": [{"name": "ndots", "value": "2"}], "searches": ["corp.example"]}
    listing.write_text(json.dumps(pods))
    found = kn.open(copy).pod("default/client").resolv_conf()
    assert found.expected.conf.ndots == 2
    assert found.expected.conf.search[-1] == "corp.example"
    assert "ndots is 5, expected 2" in found.differences


def test_replicas_agree(cluster: Cluster) -> None:
    found = cluster.dns_replicas()
    assert found.verdict == "agree"
    assert str(found.query) == "kubernetes.default.svc.cluster.local. A"
    assert [(row.server, row.transport) for row in found.rows[:2]] == [("10.32.0.10", "udp"), ("10.32.0.10", "tcp")]
    assert {row.server: row.who for row in found.rows[2:]} == COREDNS
    other = cluster.dns_replicas("hello-world.default.svc.cluster.local", pod="default/client")
    assert (other.verdict, len(other.unknown)) == ("not compared", 3)


def change_log(copy: Path, server: str, change: dict[str, object]) -> None:
    log = copy / CLIENT / "dns.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    for row in rows:
        if row["server"] == server:
            row.update(change)
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_replica_that_is_silent_and_one_that_disagrees(copy: Path) -> None:
    change_log(copy, "10.244.3.2", {"response": None, "error": "timed out"})
    silent = kn.open(copy).dns_replicas(pod="default/client")
    assert silent.verdict == "silence"
    assert "kube-system/coredns-675dc9c89c-km5v8 (10.244.3.2) by udp: no answer" in silent.findings[0]
    first = json.loads((copy / CLIENT / "dns.jsonl").read_text().splitlines()[0])["response"]
    wire = base64.b64decode(first)
    change_log(copy, "10.244.3.2", {"response": base64.b64encode(wire[:-1] + b"\x63").decode(), "error": None})
    other = kn.open(copy).dns_replicas(pod="default/client")
    assert other.verdict == "disagree"
    assert any("A 10.32.0.99" in each for each in other.findings)


def test_nothing_to_compare_by(copy: Path) -> None:
    for log in copy.glob("nodes/*/pods/*/*/dns.jsonl"):
        log.unlink()
    with pytest.raises(FactMissing, match="no pod's questions were recorded"):
        kn.open(copy).dns_replicas()


def test_the_corefile(cluster: Cluster) -> None:
    found = cluster.corefile()
    assert (found.cluster_zones, found.ttl) == (("cluster.local", "in-addr.arpa", "ip6.arpa"), 30)
    assert "SERVFAIL" in found.outside
    with pytest.raises(NotFound, match="ConfigMaps with one: coredns"):
        cluster.corefile("node-local-dns")


def test_another_corefile_and_a_broken_one(copy: Path) -> None:
    listing = copy / "api" / "configmaps.json"
    maps = json.loads(listing.read_text())
    local = {"metadata": {"name": "node-local-dns", "namespace": "kube-system"}}
    local["data"] = {"Corefile": "cluster.local:53 {\n    bind 169.254.20.10\n    forward . 10.32.0.10\n}\n"}
    maps["items"].append(local)
    listing.write_text(json.dumps(maps))
    cluster = kn.open(copy)
    assert any("node-local-dns has a Corefile too: NodeLocal DNSCache" in note for note in cluster.corefile().notes)
    assert cluster.corefile("node-local-dns").node_local
    next(m for m in maps["items"] if m["metadata"]["name"] == "coredns")["data"]["Corefile"] = ".:53 {\n errors\n"
    listing.write_text(json.dumps(maps))
    with pytest.raises(FactBroken, match="line 1"):
        kn.open(copy).corefile()
    assert kn.open(copy).pod("default/client").resolve("hello-world").joined[0].what == "default/hello-world"


def test_another_cluster_domain(copy: Path) -> None:
    listing = copy / "api" / "configmaps.json"
    listing.write_text(listing.read_text().replace("cluster.local in-addr.arpa", "prod.example in-addr.arpa"))
    found = kn.open(copy).pod("default/client").resolv_conf()
    assert found.expected.conf.search == ("default.svc.prod.example", "svc.prod.example", "prod.example")
    assert found.differences


def test_tools_beside_the_program(cluster: Cluster) -> None:
    pod = cluster.pod("default/client")
    ways = pod.compare_dns_tools("kubernetes.default", server="10.32.0.10").ways
    assert [way.result for way in ways] == [
        "kubernetes.default.svc.cluster.local. is 10.32.0.1",
        "kubernetes.default.svc.cluster.local. is 10.32.0.1",
        "kubernetes.default. SERVFAIL",
        "kubernetes.default. SERVFAIL",
    ]
    plain = pod.compare_dns_tools("kubernetes.default")
    assert (plain.ways[-1].server, plain.ways[-1].resolv_of) == ("10.255.255.53", "the node")
    assert plain.ways[-1].result == "kubernetes.default. not recorded"
    assert "coredns-675dc9c89c-tn5qt" in plain.notes[0]


def test_the_way_of_a_question(cluster: Cluster) -> None:
    path = cluster.pod("default/client-two").dns_path("cart.shop")
    assert [(tried.name, tried.found) for tried in path.tries] == [
        ("cart.shop.default.svc.cluster.local.", False),
        ("cart.shop.svc.cluster.local.", True),
    ]
    assert (path.server, path.what) == ("10.32.0.10", "the cluster IP of Service kube-system/kube-dns")
    assert path.translation is not None
    assert (path.translation.node, path.translation.mode) == ("node-two", "nftables")
    assert {b.address: b.pod for b in path.translation.backends} == COREDNS
    host = cluster.pod("kube-system/node-watch-74fwx").dns_path("example.com")
    assert host.translation is None
    assert "no Service's cluster IP" in host.why


def test_a_way_whose_node_has_no_rules(copy: Path) -> None:
    for name in ("iptables-save.txt", "nft.json", "ipvs-save.txt"):
        (copy / "nodes/node-one" / name).unlink(missing_ok=True)
    path = kn.open(copy).pod("default/client").dns_path("hello-world")
    assert path.answer.addresses == ("10.32.62.13",)
    assert path.translation is None or path.translation.mode is None
    assert path.report().text()


def test_a_broken_log_names_its_line(copy: Path) -> None:
    log = copy / CLIENT / "dns.jsonl"
    lines = log.read_text().splitlines()
    lines[20] = lines[20][:40]
    log.write_text("\n".join(lines) + "\n")
    pod = kn.open(copy).pod("default/client")
    with pytest.raises(FactBroken, match=r"dns\.jsonl of pod default/client on node-one: line 21"):
        pod.resolve("never-asked")
    assert pod.resolve("cart.shop").addresses == ("10.32.118.77",)


def test_a_broken_reply_names_its_line(copy: Path) -> None:
    log = copy / CLIENT / "dns.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    rows[30]["response"] = rows[30]["response"][:20]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(FactBroken, match="line 31"):
        kn.open(copy).pod("default/client").resolve("hello-world")


def test_without_the_api(copy: Path) -> None:
    (copy / "api" / "services.json").unlink()
    cluster = kn.open(copy)
    found = cluster.pod("default/client").resolve("hello-world")
    assert found.addresses == ("10.32.62.13",)
    assert not found.joined or found.joined[0].kind == "unknown"
    assert "services" in " ".join(found.says)
    conf = cluster.pod("default/client").resolv_conf()
    assert conf.differences == ()
    assert any("not known" in note for note in conf.notes)


def test_without_namespaces_none_is_said_to_be_missing(copy: Path) -> None:
    (copy / "api" / "namespaces.json").unlink()
    found = kn.open(copy).pod("default/client").resolve("kubernetes.default")
    assert "there is no namespace" not in found.report().text()


def test_without_a_resolv_conf(copy: Path) -> None:
    (copy / CLIENT / "resolv.conf").unlink()
    pod = kn.open(copy).pod("default/client")
    for ask in (lambda: pod.resolve("x"), lambda: pod.search_expansion("x"), pod.resolv_conf):
        with pytest.raises(FactMissing, match=r"resolv\.conf of pod default/client on node-one"):
            ask()


def test_what_cannot_be_a_name_or_a_type_is_refused(cluster: Cluster) -> None:
    pod = cluster.pod("default/client")
    with pytest.raises(Refused, match="FOO"):
        pod.resolve("x", types="FOO")
    for name in ("kubernetes.default\n", " ", "a\x00b"):
        for ask in (pod.search_expansion, pod.resolve, pod.dns_cost, pod.compare_dns_tools, pod.dns_path):
            with pytest.raises(Refused, match="white space or control"):
                ask(name)


def test_an_unknown_policy_is_unknown(copy: Path) -> None:
    listing = copy / "api" / "pods.json"
    pods = json.loads(listing.read_text())
    next(p["spec"] for p in pods["items"] if p["metadata"]["name"] == "client")["dnsPolicy"] = "Weird"
    listing.write_text(json.dumps(pods))
    (copy / CLIENT / "resolv.conf").write_text("search x\n")
    found = kn.open(copy).pod("default/client").resolv_conf()
    assert (found.expected.effective, found.differences) == ("unknown", ())
    assert "what dnsPolicy Weird means" in found.report().text()
    assert "none, so 127.0.0.1" in found.report().text()
