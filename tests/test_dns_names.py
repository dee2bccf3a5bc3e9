"""DNS joined to the cluster: records, missing names, policies, replicas, and what dig asks instead."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8snet_nb.explain.dns.answers import RecordedAnswers
from k8snet_nb.explain.dns.names import NameDirectory, cluster_name, explain_missing, join
from k8snet_nb.explain.dns.policy import compare_resolv_conf, expected_resolv_conf
from k8snet_nb.explain.dns.replicas import compare_replicas
from k8snet_nb.explain.dns.tools import compare_tools
from k8snet_nb.explain.names import Query
from k8snet_nb.explain.resolution import DnsAnswer, Reply, resolve
from k8snet_nb.facts import FactRef
from k8snet_nb.parse.dns import Message, Record, parse_dns_log
from k8snet_nb.parse.resolv_conf import ResolvConf, parse_resolv_conf
from k8snet_nb.parse.services import Endpoint, parse_service, parse_slice

DATA = Path(__file__).parent.parent / "k8snet_nb/data/hello-cluster"
VIP, REPLICAS = "10.32.0.10", {"10.244.3.2": "kube-system/coredns-km5v8", "10.244.18.2": "kube-system/coredns-tn5qt"}


class Who(NamedTuple):
    kind: str
    name: str | None
    says: str


def items(resource: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((DATA / f"api/{resource}.json").read_text())["items"]
    return found


@pytest.fixture(scope="module")
def directory() -> NameDirectory:
    services = {service.key: service for service in map(parse_service, items("services"))}
    endpoints: dict[str, tuple[Endpoint, ...]] = defaultdict(tuple)
    for piece in map(parse_slice, items("endpointslices")):
        endpoints[piece.service or ""] += piece.endpoints
    namespaces = [item["metadata"]["name"] for item in items("namespaces")]
    return NameDirectory(services, endpoints, namespaces, lambda address: Who("unknown", None, "nobody's"))


def pod_file(pod: str, file: str) -> bytes:
    return next(DATA.glob(f"nodes/*/pods/{pod}/{file}")).read_bytes()


def conf(pod: str) -> ResolvConf:
    return parse_resolv_conf(pod_file(pod, "resolv.conf"))


def answers(pod: str = "default/client") -> RecordedAnswers:
    return RecordedAnswers(parse_dns_log(pod_file(pod, "dns.jsonl")), FactRef("dns.jsonl", "node-one", pod))


def look(name: str, types: tuple[str, ...] = ("A", "AAAA")) -> DnsAnswer:
    return resolve(name, conf("default/client"), answers(), types=types)


@pytest.mark.parametrize(
    ("name", "kind", "key"),
    [
        ("hello.default.svc.cluster.local.", "service", "default/hello"),
        ("HELLO.Default.svc.cluster.local", "service", "default/hello"),
        ("_http._tcp.hello.default.svc.cluster.local.", "port", "default/hello"),
        ("db-0.hello.default.svc.cluster.local.", "endpoint", "default/hello"),
        ("10-244-3-4.default.pod.cluster.local.", "pod", None),
        ("default.svc.cluster.local.", "incomplete", None),
        ("a.b.hello.default.svc.cluster.local.", "incomplete", None),
        ("hello.cluster.local.", "incomplete", None),
        ("cluster.local.", "incomplete", None),
        ("example.com.", "outside", None),
        ("notcluster.local.", "outside", None),
        ("10.0.32.10.in-addr.arpa.", "reverse", None),
    ],
)
def test_forms_of_names(name: str, kind: str, key: str | None) -> None:
    found = cluster_name(name)
    assert (found.kind, found.key) == (kind, key)


@given(
    st.lists(
        st.sampled_from(["a", "svc", "pod", "cluster", "local", "_http", "_tcp", "in-addr", "arpa", ""]), max_size=8
    )
)
def test_any_name_has_a_form(labels: list[str]) -> None:
    assert cluster_name(".".join(labels) + ".").says


def test_records_are_joined_to_services_and_pods(directory: NameDirectory) -> None:
    (record,) = [join(record, directory) for record in look("hello-world").records]
    assert (record.kind, record.what) == ("service", "default/hello-world")
    pods = [join(record, directory) for record in look("hello-headless").records]
    assert {found.kind for found in pods} == {"pod"}
    assert len({found.what for found in pods}) == 4
    assert all("default/hello-world-" in str(found.what) for found in pods)
    alias = join(look("example-external").records[0], directory)
    assert (alias.kind, alias.what) == ("external name", "default/example-external")
    port = join(look("_http._tcp.hello-world", ("SRV",)).records[0], directory)
    assert (port.kind, port.what) == ("port", "default/hello-world")
    assert "is 80/TCP" in port.says
    stale = join(Record("hello-world.default.svc.cluster.local.", "A", 30, "10.32.9.9"), directory)
    assert "another address" in stale.says
    assert join(Record("example.com.", "A", 30, "192.0.2.1"), directory).says == "nobody's"


def test_why_a_name_is_missing(directory: NameDirectory) -> None:
    told = "\n".join(explain_missing(look("no-such.default.svc.cluster.local."), directory))
    assert "Service no-such in namespace default; namespace default has no such Service" in told
    gone = DnsAnswer(
        "cart", "glibc", "no such name", "NXDOMAIN", None, (), None, look("hello-world.svc").queries, "", ""
    )
    assert "There is a Service cart in namespace shop: cart.shop" in explain_missing(gone, directory)
    told = "\n".join(explain_missing(look("cart.shop"), directory))
    assert "cart.shop.default.svc.cluster.local. NXDOMAIN: endpoint cart of Service shop in namespace default" in told
    assert "cart.shop.svc.cluster.local. NOERROR" in told


def spec(pod: str) -> dict[str, Any]:
    namespace, name = pod.split("/")
    found: dict[str, Any] = next(
        i["spec"] for i in items("pods") if (i["metadata"]["namespace"], i["metadata"]["name"]) == (namespace, name)
    )
    return found


def test_every_recorded_resolv_conf_is_as_expected() -> None:
    node = parse_resolv_conf("nameserver 10.255.255.53\n")
    files = sorted(DATA.glob("nodes/*/pods/*/*/resolv.conf"))
    assert len(files) == 13
    for file in files:
        pod = f"{file.parent.parent.name}/{file.parent.name}"
        recorded = parse_resolv_conf(file.read_bytes())
        expected = expected_resolv_conf(spec(pod), pod.split("/")[0], [VIP], node=node)
        assert compare_resolv_conf(expected, recorded) == (), pod
        assert expected.text.encode() == file.read_bytes(), pod
        unknown = expected_resolv_conf(spec(pod), pod.split("/")[0], [VIP])
        assert compare_resolv_conf(unknown, recorded) == ()
        assert unknown.unknown


def test_policies_and_dns_config() -> None:
    node = parse_resolv_conf("search corp.test\nnameserver 10.9.9.9\noptions timeout:3 edns0\n")
    config = {
        "nameservers": ["1.2.3.4", VIP],
        "searches": ["x.test", "svc.cluster.local"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "single-request-reopen"}],
    }

    def text(**fields: Any) -> str:
        return expected_resolv_conf(fields, "shop", [VIP], node=node).text

    first = "search shop.svc.cluster.local svc.cluster.local cluster.local corp.test"
    assert text() == text(dnsPolicy="ClusterFirst") == f"{first}\nnameserver {VIP}\noptions ndots:5\n"
    assert text(dnsConfig=config) == (
        f"{first} x.test\nnameserver {VIP}\nnameserver 1.2.3.4\noptions ndots:2 single-request-reopen\n"
    )
    taken = "search corp.test\nnameserver 10.9.9.9\noptions timeout:3 edns0\n"
    assert text(dnsPolicy="Default") == text(dnsPolicy="ClusterFirst", hostNetwork=True) == taken
    assert text(dnsPolicy="ClusterFirstWithHostNet", hostNetwork=True) == text()
    assert text(dnsPolicy="None", dnsConfig={"nameservers": ["1.1.1.1"]}) == "nameserver 1.1.1.1\n"
    assert expected_resolv_conf({}, "shop", [], node=node).text == taken
    many = expected_resolv_conf(
        {
            "dnsConfig": {
                "nameservers": ["1.1.1.1", "1.1.1.2", "1.1.1.3"],
                "searches": [f"s{n}.test" for n in range(40)],
            }
        },
        "shop",
        [VIP],
        node=node,
    )
    assert (len(many.conf.nameservers), len(many.conf.search), len(many.notes)) == (3, 32, 2)


def test_a_resolv_conf_that_is_not_as_expected() -> None:
    expected = expected_resolv_conf({}, "default", [VIP], node=parse_resolv_conf(""))
    told = compare_resolv_conf(expected, parse_resolv_conf("nameserver 8.8.8.8\nsearch a\noptions ndots:1 rotate\n"))
    assert len(told) == 4
    assert told[0] == f"name servers are 8.8.8.8, expected {VIP}"
    local = compare_resolv_conf(expected, parse_resolv_conf(expected.text.replace(VIP, "169.254.20.10")))
    assert "NodeLocal DNSCache" in local[0]


class Told:
    """Replies by server and transport."""

    repeats = True

    def __init__(self, **said: str) -> None:
        self.said = said

    def ask(self, server: str, query: Query, transport: str | None = None) -> Reply:
        said = self.said.get(f"{server} {transport}", "10.32.0.1 10.32.0.2")
        if said in ("silent", "not recorded"):
            return Reply("silent" if said == "silent" else "not recorded", transport=transport or "udp")
        records = tuple(Record(query.name, query.type, len(said), text) for text in said.split())
        return Reply("answered", Message(1, "NOERROR", ("qr",), None, records, (), (), 50), 1.0, transport or "udp")


def test_replicas_of_the_recording_agree() -> None:
    recorded = answers()
    query = recorded.most_compared([VIP, *REPLICAS])
    assert query == Query("kubernetes.default.svc.cluster.local.", "A")
    found = compare_replicas(query, VIP, REPLICAS, recorded)
    assert (found.verdict, found.findings, found.unknown) == ("agree", (), ())
    assert [(row.server, row.transport) for row in found.rows] == [
        (VIP, "udp"),
        (VIP, "tcp"),
        ("10.244.3.2", "udp"),
        ("10.244.18.2", "udp"),
    ]
    other = compare_replicas(Query("hello-world.default.svc.cluster.local.", "A"), VIP, REPLICAS, recorded)
    assert (other.verdict, len(other.unknown)) == ("not compared", 3)
    assert "Not asked" in str(other)


def test_replicas_that_disagree_or_are_silent() -> None:
    query = Query("a.default.svc.cluster.local.", "A")
    shuffled = compare_replicas(query, VIP, REPLICAS, Told(**{"10.244.3.2 udp": "10.32.0.2 10.32.0.1"}))
    assert shuffled.verdict == "agree"
    other = compare_replicas(query, VIP, REPLICAS, Told(**{"10.244.3.2 udp": "10.32.0.9"}))
    assert other.verdict == "disagree"
    assert "kube-system/coredns-km5v8 (10.244.3.2) by udp: NOERROR A 10.32.0.9" in other.findings
    silent = compare_replicas(query, VIP, REPLICAS, Told(**{f"{VIP} tcp": "silent"}))
    assert silent.verdict == "silence"
    assert silent.findings == (f"the Service ({VIP}) by tcp: no answer",)


def test_dig_through_nsenter_is_not_the_pods_resolution() -> None:
    found = compare_tools("hello-world", conf("default/client"), parse_resolv_conf("nameserver 10.255.255.53\n"))
    program, lookup, dig, outside = found.ways
    assert (program.server, len(program.queries)) == (VIP, 8)
    assert [query.type for query in lookup.queries] == ["A"] * 4
    assert [query.name for query in dig.queries] == ["hello-world."]
    assert (outside.server, outside.resolv_of, [q.name for q in outside.queries]) == (
        "10.255.255.53",
        "the node",
        ["hello-world."],
    )
    assert compare_tools("a", conf("default/client"), None, server=VIP).ways[3].server == VIP
    assert "not recorded" in str(compare_tools("a", conf("default/client"), None))
