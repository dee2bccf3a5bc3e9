"""The twin's DNS: as the recorded CoreDNS answered, against bytes of any kind, and asked by real clients."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel.lab import Lab
from needs import need
from twin.inside import HELLO, hello_zone, running, serving

from k8snet_nb.errors import FactMissing, Refused
from k8snet_nb.facts import FactRef
from k8snet_nb.parse.dns import Ask, parse_dns_log, parse_message
from k8snet_nb.sources.base import Source
from k8snet_nb.sources.recorded import open_recording
from k8snet_nb.twin.model import Listener
from k8snet_nb.twin.serving.dns_server import Zone, read_zone

LOCAL = "svc.cluster.local."


def recorded_asks() -> list[Ask]:
    logs = sorted(HELLO.glob("nodes/*/pods/*/*/dns.jsonl"))
    assert logs, "no recorded questions: nothing would be compared"
    return [ask for log in logs for ask in parse_dns_log(log.read_bytes()).asks]


def ask(zone: Zone, name: str, kind: str = "A", transport: str = "udp", **more: Any) -> dns.message.Message:
    query = dns.message.make_query(name, kind, **more)
    wire = zone.answer(query.to_wire(), transport)
    assert wire is not None
    reply = dns.message.from_wire(wire)
    assert query.is_response(reply)
    return reply


def answers(reply: dns.message.Message) -> set[str]:
    return {f"{dns.rdatatype.to_text(rrset.rdtype)} {rdata}" for rrset in reply.answer for rdata in rrset}


class Edited:
    """A source whose facts are those of another, but for a few. ``None``: not recorded."""

    def __init__(self, source: Source, facts: Mapping[str, Any]) -> None:
        self._source, self._facts = source, facts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def read(self, ref: FactRef) -> bytes:
        found = self._facts.get(ref.fact, ...)
        if found is None:
            raise FactMissing(ref.fact, "here", "left out")
        return self._source.read(ref) if found is ... else json.dumps(found).encode()


def edited(**facts: Any) -> Zone:
    return read_zone(Edited(open_recording(HELLO), facts))  # type: ignore[arg-type]


def items(resource: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((HELLO / "api" / f"{resource}.json").read_text())["items"]
    return found


def corefile(text: str) -> dict[str, Any]:
    return {"items": [{"metadata": {"namespace": "kube-system", "name": "coredns"}, "data": {"Corefile": text}}]}


def test_every_recorded_answer_is_given_again() -> None:
    """Cluster names from the API alone: code, flags, and every section, but for id, TTL and order; also their size."""
    zone = replace(hello_zone(), recorded={})
    seen = 0
    for each in recorded_asks():
        assert each.message is not None
        query = dns.message.make_query(each.name, each.type)
        wire = zone.answer(query.to_wire(), each.transport)
        assert wire is not None
        ours = parse_message(wire)
        for section in ("answers", "authority", "additional"):
            told, then = getattr(ours, section), getattr(each.message, section)
            assert sorted((r.name, r.type, r.text) for r in told) == sorted((r.name, r.type, r.text) for r in then), (
                each
            )
        assert (ours.rcode, ours.flags, ours.question) == (
            each.message.rcode,
            each.message.flags,
            each.message.question,
        )
        seen += 1
    assert seen == 594


def test_other_names_are_answered_byte_for_byte() -> None:
    zone = hello_zone()
    outside = [each for each in recorded_asks() if not each.name.endswith("cluster.local.")]
    assert outside
    for each in outside:
        query = dns.message.make_query(each.name, each.type, id=7).to_wire()
        then = base64.b64decode(json.loads(each.raw)["response"])
        assert zone.answer(query, each.transport) == b"\0\7" + then[2:]


@pytest.mark.parametrize(
    ("name", "kind", "rcode", "expected"),
    [
        ("HELLO-world.Default.svc.Cluster.local.", "A", "NOERROR", {"A 10.32.62.13"}),
        (f"hello-world.default.{LOCAL}", "MX", "NOERROR", set()),
        (f"hello-world.nowhere.{LOCAL}", "A", "NXDOMAIN", set()),
        (f"default.{LOCAL}", "A", "NOERROR", set()),
        (LOCAL, "A", "NXDOMAIN", set()),
        ("cluster.local.", "A", "NOERROR", set()),
        (f"_web._tcp.cart.shop.{LOCAL}", "SRV", "NOERROR", {f"SRV 0 100 8000 cart.shop.{LOCAL}"}),
        (f"_web._udp.cart.shop.{LOCAL}", "SRV", "NXDOMAIN", set()),
        (f"cart.shop.{LOCAL}", "SRV", "NOERROR", {f"SRV 0 50 {port} cart.shop.{LOCAL}" for port in (8000, 81)}),
        (f"10-244-3-3.hello-headless.default.{LOCAL}", "A", "NOERROR", {"A 10.244.3.3"}),
        (f"10-244-3-9.hello-headless.default.{LOCAL}", "A", "NXDOMAIN", set()),
        (f"10-244-3-3.hello-world.default.{LOCAL}", "A", "NOERROR", {"A 10.244.3.3"}),
        ("10-9-8-7.default.pod.cluster.local.", "A", "NOERROR", {"A 10.9.8.7"}),
        ("fd00--7.default.pod.cluster.local.", "AAAA", "NOERROR", {"AAAA fd00::7"}),
        ("fd00--7.default.pod.cluster.local.", "A", "NOERROR", set()),
        ("10-9-8.default.pod.cluster.local.", "A", "NXDOMAIN", set()),
        ("10-9-8-7.nowhere.pod.cluster.local.", "A", "NXDOMAIN", set()),
        ("13.62.32.10.in-addr.arpa.", "PTR", "NOERROR", {f"PTR hello-world.default.{LOCAL}"}),
        ("6.18.244.10.in-addr.arpa.", "PTR", "NOERROR", {f"PTR 10-244-18-6.cart.shop.{LOCAL}"}),
        ("9.9.9.9.in-addr.arpa.", "PTR", "SERVFAIL", set()),
        (f"example-external.default.{LOCAL}", "CNAME", "NOERROR", {"CNAME example.com."}),
        (f"example-external.default.{LOCAL}", "SRV", "NOERROR", set()),
        ("dns-version.cluster.local.", "TXT", "NOERROR", {'TXT "1.1.0"'}),
        ("example.com.", "A", "SERVFAIL", set()),
        ("cluster.local.", "AXFR", "REFUSED", set()),
    ],
)
def test_names_are_what_the_specification_says(name: str, kind: str, rcode: str, expected: set[str]) -> None:
    reply = ask(hello_zone(), name, kind)
    assert (dns.rcode.to_text(reply.rcode()), answers(reply)) == (rcode, expected)


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "default", "name": name}, "spec": spec}


def slice_of(name: str, endpoints: list[dict[str, Any]], ports: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": name}
    meta = {"namespace": "default", "name": f"{name}-{kind}", "labels": labels}
    return {"metadata": meta, "addressType": kind, "endpoints": endpoints, "ports": ports}


def test_host_names_families_and_readiness() -> None:
    ports = [{"name": "db", "port": 5432, "protocol": "TCP"}]
    four = [
        {"addresses": ["10.1.0.1"], "hostname": "db-0", "conditions": {"ready": True}},
        {"addresses": ["10.1.0.2"], "hostname": "db-1", "conditions": {"ready": False}},
    ]
    six = [{"addresses": ["fd00::1"], "hostname": "db-0", "conditions": {}}]
    zone = edited(
        services={"items": [service("db", clusterIPs=["None"], clusterIP="None", ports=ports)]},
        endpointslices={"items": [slice_of("db", four, ports, "IPv4"), slice_of("db", six, ports, "IPv6")]},
    )
    assert answers(ask(zone, f"db.default.{LOCAL}")) == {"A 10.1.0.1"}
    assert answers(ask(zone, f"db.default.{LOCAL}", "AAAA")) == {"AAAA fd00::1"}
    assert answers(ask(zone, f"db-0.db.default.{LOCAL}")) == {"A 10.1.0.1"}
    assert ask(zone, f"db-1.db.default.{LOCAL}").rcode() == dns.rcode.NXDOMAIN
    srv = ask(zone, f"_db._tcp.db.default.{LOCAL}", "SRV")
    assert answers(srv) == {f"SRV 0 50 5432 db-0.db.default.{LOCAL}"}
    assert {str(rdata) for rrset in srv.additional for rdata in rrset} == {"10.1.0.1", "fd00::1"}
    reverse = "1.0.0.0." + "0.0.0.0." * 6 + "0.0.d.f.ip6.arpa."
    assert answers(ask(zone, reverse, "PTR")) == {f"PTR db-0.db.default.{LOCAL}"}


def test_a_large_answer_is_truncated_by_udp_and_whole_by_tcp() -> None:
    ports = [{"name": "x", "port": 1}]
    many = [{"addresses": [f"10.1.{n // 250}.{n % 250}"]} for n in range(600)]
    zone = edited(
        services={"items": [service("big", clusterIPs=["None"], ports=ports)]},
        endpointslices={"items": [slice_of("big", many, ports, "IPv4")]},
    )
    query = dns.message.make_query(f"big.default.{LOCAL}", "A")
    small = zone.answer(query.to_wire(), "udp")
    assert small is not None
    assert len(small) <= 512
    assert dns.message.from_wire(small).flags & dns.flags.TC
    query.use_edns(0, payload=1232)
    more = zone.answer(query.to_wire(), "udp")
    assert more is not None
    assert 512 < len(more) <= 1232
    assert len(answers(ask(zone, f"big.default.{LOCAL}", "A", "tcp"))) == 600


def test_the_corefile_decides() -> None:
    verified = corefile(".:53 {\n kubernetes corp.test {\n pods verified\n ttl 7\n namespaces shop\n }\n}\n")
    zone = edited(configmaps=verified)
    cart = ask(zone, "cart.shop.svc.corp.test.")
    assert answers(cart) == {"A 10.32.118.77"}
    assert cart.answer[0].ttl == 7
    assert ask(zone, "hello-world.default.svc.corp.test.").rcode() == dns.rcode.NXDOMAIN  # not among the namespaces
    assert ask(zone, "10-244-18-6.shop.pod.corp.test.").rcode() == dns.rcode.NOERROR
    assert ask(zone, "10-244-18-99.shop.pod.corp.test.").rcode() == dns.rcode.NXDOMAIN
    assert ask(zone, "cart.shop.svc.cluster.local.").rcode() == dns.rcode.NOERROR  # then an outside name: recorded
    only = replace(edited(configmaps=corefile("corp.test:53 {\n kubernetes\n}\n")), recorded={})
    assert only.records.options.refuses
    disabled = edited(configmaps=corefile(".:53 {\n kubernetes cluster.local\n}\n"))
    assert ask(disabled, "10-244-18-6.shop.pod.cluster.local.").rcode() == dns.rcode.NXDOMAIN


def test_what_is_not_recorded_is_a_failure_never_an_absence() -> None:
    assert ask(edited(services=None), f"no-such.default.{LOCAL}").rcode() == dns.rcode.SERVFAIL
    headless = edited(endpointslices=None)
    assert ask(headless, f"hello-headless.default.{LOCAL}").rcode() == dns.rcode.SERVFAIL
    assert ask(headless, f"hello-world.default.{LOCAL}").rcode() == dns.rcode.NOERROR
    broken = edited(services={"items": [*items("services"), service("odd", ports=[{"port": "x"}])]})
    assert ask(broken, f"odd.default.{LOCAL}").rcode() == dns.rcode.SERVFAIL
    assert any("default/odd" in note for note in broken.notes)
    assert ask(broken, f"hello-world.default.{LOCAL}").rcode() == dns.rcode.NOERROR
    assert "No Corefile" in " ".join(edited(configmaps=None).notes)


def test_hostile_names_in_the_api_do_no_harm() -> None:
    names = ["a..b", "x" * 300, "bad\nname", "\\999", "é", "localhost."]
    for name in names:
        zone = edited(services={"items": [service("ext", type="ExternalName", externalName=name)]})
        assert ask(zone, f"ext.default.{LOCAL}").rcode() in (dns.rcode.NOERROR, dns.rcode.SERVFAIL)
    circle = [
        service("one", type="ExternalName", externalName=f"two.default.{LOCAL}"),
        service("two", type="ExternalName", externalName=f"one.default.{LOCAL}"),
    ]
    assert ask(edited(services={"items": circle}), f"one.default.{LOCAL}").rcode() == dns.rcode.NOERROR


def test_an_external_name_inside_is_followed() -> None:
    more = service("also", type="ExternalName", externalName=f"cart.shop.{LOCAL}")
    zone = edited(services={"items": [*items("services"), more]})
    assert answers(ask(zone, f"also.default.{LOCAL}")) == {f"CNAME cart.shop.{LOCAL}", "A 10.32.118.77"}


def test_a_wrong_answer_can_be_put_in_its_place() -> None:
    zone = hello_zone().with_answer(f"Cart.shop.{LOCAL}", "a", ["192.0.2.9"])
    assert answers(ask(zone, f"cart.shop.{LOCAL}")) == {"A 192.0.2.9"}
    assert answers(ask(hello_zone(), f"cart.shop.{LOCAL}")) == {"A 10.32.118.77"}
    assert ask(zone, f"cart.shop.{LOCAL}", "AAAA").rcode() == dns.rcode.NOERROR
    gone = zone.with_answer(f"cart.shop.{LOCAL}", "A", rcode="NXDOMAIN")
    assert ask(gone, f"cart.shop.{LOCAL}").rcode() == dns.rcode.NXDOMAIN
    outside = zone.with_answer("example.com", "A", ["192.0.2.1", "192.0.2.2"])
    assert len(answers(ask(outside, "example.com."))) == 2


@pytest.mark.parametrize(
    ("name", "kind", "data", "rcode"),
    [
        ("a..b", "A", [], "NOERROR"),
        ("a.b", "NO", [], "NOERROR"),
        ("a.b", "A", ["x"], "NOERROR"),
        ("a.b", "A", [], "WHAT"),
    ],
)
def test_a_wrong_answer_that_is_none_is_refused(name: str, kind: str, data: list[str], rcode: str) -> None:
    with pytest.raises(Refused):
        hello_zone().with_answer(name, kind, data, rcode=rcode)


def test_the_question_s_case_and_recursion_flag_come_back() -> None:
    for name in ("KuBe.", "CART.shop.", "cArT.sHoP.SVC.cluster.LOCAL."):
        query = dns.message.make_query(name, "A", flags=0)
        wire = hello_zone().answer(query.to_wire())
        assert wire is not None
        reply = dns.message.from_wire(wire)
        assert reply.question[0].name.labels == query.question[0].name.labels
        assert not reply.flags & dns.flags.RD


def whole(reply: bytes | None, query: bytes, limit: int) -> None:
    """Whatever the query: no answer, or one that a client takes for the answer to it."""
    if reply is None:
        assert len(query) < 12 or query[2] & 0x80
        return
    assert reply[:2] == query[:2]
    assert reply[2] & 0x80
    assert 12 <= len(reply) <= limit
    dns.message.from_wire(reply)


@given(st.binary(max_size=600))
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_answered_or_dropped(wire: bytes) -> None:
    whole(hello_zone().answer(wire, "udp"), wire, 4096)
    whole(hello_zone().answer(wire, "tcp"), wire, 65535)


LABELS = st.sampled_from(
    ["cart", "shop", "svc", "pod", "cluster", "local", "_tcp", "_web", "10-1-1-1", "in-addr", "arpa"]
)
KINDS = st.sampled_from(
    ["A", "AAAA", "SRV", "PTR", "CNAME", "TXT", "SOA", "NS", "ANY", "AXFR", "TYPE65", "OPT", "TSIG"]
)


@given(
    st.lists(LABELS | st.text(min_size=1, max_size=8), min_size=0, max_size=7),
    KINDS,
    st.sampled_from(["IN", "CH", "ANY"]),
    st.integers(0, 65535),
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=4),
)
@settings(max_examples=400, deadline=None)
def test_queries_and_queries_with_changed_bytes(
    labels: list[str], kind: str, rdclass: str, payload: int, changes: list[tuple[int, int]]
) -> None:
    name = b"".join(bytes([len(raw)]) + raw for raw in (label.encode()[:63] for label in labels)) + b"\0"
    classes = {"IN": 1, "CH": 3, "ANY": 255}
    question = name + int(dns.rdatatype.from_text(kind)).to_bytes(2, "big") + classes[rdclass].to_bytes(2, "big")
    edns = b"\0\0\x29" + payload.to_bytes(2, "big") + bytes(6)
    wire = bytearray(b"\x12\x34\1\0\0\1\0\0\0\0\0\1" + question + edns)
    whole(hello_zone().answer(bytes(wire)), bytes(wire), 4096)
    for at, value in changes:
        wire[at % len(wire)] = value
    whole(hello_zone().answer(bytes(wire)), bytes(wire), 4096)


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    """A namespace with the two CoreDNS pods' addresses, both serving."""
    with Lab("twd") as lab:
        inside = lab.namespace("d")
        lab.address(inside, "lo", "10.244.18.2/32", "10.244.3.2/32", "fd00:10::2/128")
        listeners = [
            Listener(by, address, 53, "dns", f"kube-system/coredns-{address}")
            for address in ("10.244.18.2", "10.244.3.2", "fd00:10::2")
            for by in ("udp", "tcp")
        ]
        with serving(inside, listeners) as failures:
            assert failures == []
            yield inside


@need(root=True, commands=["ip"])
@pytest.mark.parametrize("server", ["10.244.18.2", "10.244.3.2", "fd00:10::2"])
@pytest.mark.parametrize("by", ["udp", "tcp"])
def test_dnspython_is_answered(place: str, server: str, by: str) -> None:
    def work() -> list[str]:
        query = dns.message.make_query(f"hello-headless.default.{LOCAL}", "A", use_edns=0)
        send = dns.query.udp if by == "udp" else dns.query.tcp
        return sorted(answers(send(query, server, timeout=5)))

    found = running(place, work)
    assert found == sorted(f"A 10.244.{last}" for last in ("18.3", "18.4", "3.3", "3.4"))


@need(root=True, commands=["ip", "dig"])
@pytest.mark.parametrize("how", ["+notcp", "+tcp"])
def test_dig_is_answered_as_then(place: str, how: str) -> None:
    def dig(*words: str) -> str:
        command = ["dig", "+tries=1", "+time=5", how, "@10.244.3.2", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    told = running(place, lambda: dig(f"cart.shop.{LOCAL}"))
    assert "status: NOERROR" in told
    assert "flags: qr aa rd;" in told
    assert "10.32.118.77" in told
    assert "WARNING: recursion requested but not available" in told
    assert "status: SERVFAIL" in running(place, lambda: dig("cart.shop."))
    assert running(place, lambda: dig("+short", "-x", "10.32.0.1")).strip() == f"kubernetes.default.{LOCAL}"


@need(root=True, commands=["ip"])
def test_bad_frames_by_tcp_do_not_end_the_server(place: str) -> None:
    def work() -> list[str]:
        import socket

        for data in (b"\0\0", b"\0\1x", b"\xff\xff" + b"y" * 100, b"\0\x0c" + bytes(12), b"GET / HTTP/1.1\r\n\r\n"):
            with socket.create_connection(("10.244.3.2", 53), 5) as client:
                client.sendall(data)
        query = dns.message.make_query(f"cart.shop.{LOCAL}", "A")
        with socket.create_connection(("10.244.3.2", 53), 5) as client:
            found = []
            for _ in range(3):  # one connection, several questions (RFC 7766)
                dns.query.send_tcp(client, query)
                found += sorted(answers(dns.query.receive_tcp(client)[0]))
            return found

    assert running(place, work) == ["A 10.32.118.77"] * 3
