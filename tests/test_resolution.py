"""Looking a name up over recorded answers: what was asked then, and what was not."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8snet_nb.errors import FactBroken, Refused
from k8snet_nb.explain.dns.answers import LiveAnswers, RecordedAnswers, server_timeout
from k8snet_nb.explain.names import PAIR, Libc, Query, search_expansion
from k8snet_nb.explain.resolution import DnsAnswer, Reply, resolve
from k8snet_nb.facts import FactRef
from k8snet_nb.parse.dns import Message, Record, parse_dns_log
from k8snet_nb.parse.resolv_conf import parse_resolv_conf

CLIENT = Path(__file__).parent.parent / "k8snet_nb/data/hello-cluster/nodes/node-one/pods/default/client"
REF = FactRef("dns.jsonl", "node-one", "default/client")
POD = parse_resolv_conf((CLIENT / "resolv.conf").read_bytes())
TEXT = (CLIENT / "dns.jsonl").read_text()


def client(name: str, text: str = TEXT, libc: Libc = "glibc", types: tuple[str, ...] = PAIR) -> DnsAnswer:
    return resolve(name, POD, RecordedAnswers(parse_dns_log(text), REF), libc=libc, types=types)


def test_a_service_in_the_own_namespace() -> None:
    found = client("hello-world")
    assert (found.outcome, found.rcode, found.eai, found.server) == ("found", "NOERROR", "", "10.32.0.10")
    assert found.addresses == ("10.32.62.13",)
    assert found.name == "hello-world.default.svc.cluster.local."
    assert [str(each.query) for each in found.queries] == [
        "hello-world.default.svc.cluster.local. A",
        "hello-world.default.svc.cluster.local. AAAA",
    ]
    assert [each.result for each in found.queries] == ["NOERROR, 1 record", "NOERROR, no such record"]
    assert found.ms == pytest.approx(0.562 + 0.812)
    assert "10.32.62.13" in str(found.evidence[0])
    assert found.evidence[0].lines[0] in TEXT
    assert "hello-world.default.svc.cluster.local. 8 IN A 10.32.62.13" in str(found)


def test_a_service_elsewhere_and_other_kinds() -> None:
    found = client("kubernetes.default")
    assert [each.result for each in found.queries][:2] == ["NXDOMAIN", "NXDOMAIN"]
    assert found.addresses == ("10.32.0.1",)
    assert len(client("hello-headless").addresses) == 4
    alias = client("example-external")
    assert (alias.outcome, alias.addresses, alias.eai) == ("found", (), "EAI_NONAME")
    assert {record.type for record in alias.records} == {"CNAME"}
    port = client("_http._tcp.hello-world", types=("SRV",))
    assert port.records[0].text == "0 100 80 hello-world.default.svc.cluster.local."


def test_nxdomain_and_not_recorded_differ() -> None:
    gone = client("no-such.default.svc.cluster.local.")
    assert (gone.outcome, gone.rcode, gone.records, gone.eai) == ("no such name", "NXDOMAIN", (), "EAI_NONAME")
    assert [each.result for each in gone.queries] == ["NXDOMAIN", "not recorded"]
    unknown = client("no-such")
    assert (unknown.outcome, unknown.rcode, unknown.eai, unknown.server) == ("not recorded", None, "", None)
    assert "not recorded" in unknown.why
    assert len(unknown.queries) == 4
    assert client("never-asked").rcode is None


def test_the_last_try_decides_where_no_server_knows_more() -> None:
    """The search domains say NXDOMAIN, and CoreDNS has nobody to ask for the bare name: EAI_AGAIN, not EAI_NONAME."""
    short = parse_resolv_conf("search cluster.local\nnameserver 10.32.0.10\noptions ndots:5\n")
    found = resolve("cart.shop", short, RecordedAnswers(parse_dns_log(TEXT), REF))
    assert [each.result for each in found.queries] == ["NXDOMAIN", "NXDOMAIN", "SERVFAIL", "SERVFAIL"]
    assert (found.outcome, found.rcode, found.eai) == ("failed", "SERVFAIL", "EAI_AGAIN")


def test_a_recorded_time_out_is_silence() -> None:
    line = {"name": "a.", "type": "A", "server": "10.32.0.10", "transport": "udp", "ms": 5000, "response": None}
    text = (
        json.dumps({**line, "error": "timed out"}) + "\n" + json.dumps({**line, "type": "AAAA", "error": "timed out"})
    )
    found = client("a.", text)
    assert (found.outcome, found.rcode, found.eai) == ("no answer", None, "EAI_AGAIN")
    assert client("a.", text.replace("timed out", "Connection refused")).outcome == "unreachable"


def test_broken_lines_are_errors_once_their_answer_is_asked_for() -> None:
    lines = TEXT.splitlines()
    at = next(n for n, line in enumerate(lines) if '"cart.shop.svc.cluster.local."' in line and '"A"' in line)
    lines = [line for line in lines if '"cart.shop.svc' not in line or line is lines[at]]
    at = next(n for n, line in enumerate(lines) if '"cart.shop.svc' in line)
    row = json.loads(lines[at])
    lines[at] = json.dumps({**row, "response": row["response"][:40]})
    with pytest.raises(FactBroken, match=rf"line {at + 1}: not a DNS message"):
        client("cart.shop", "\n".join(lines))
    assert client("hello-world", "\n".join(lines)).outcome == "found"
    lines[at] = lines[at][:-5]
    with pytest.raises(FactBroken, match=rf"line {at + 1}: .*may be the one"):
        client("cart.shop", "\n".join(lines))


def test_time_limits_of_servers() -> None:
    conf = parse_resolv_conf("nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\noptions timeout:3\n")
    assert [server_timeout(conf, server) for server in conf.nameservers] == [3, 2, 4]
    assert server_timeout(conf, "10.9.9.9") == 3


def test_what_cannot_be_asked_is_refused_and_nothing_is_sent() -> None:
    def send(*_: object) -> None:
        raise AssertionError

    live = LiveAnswers(send, POD, REF)  # type: ignore[arg-type]
    with pytest.raises(Refused, match="NOPE"):
        resolve("hello", POD, live, types=("NOPE",))


def row(kind: str, *records: str, transport: str = "udp", rcode: int = 0, tc: bool = False, error: str = "") -> str:
    """A line of dns.jsonl: what was said to ``a. KIND``."""
    line = {"name": "a.", "type": kind, "server": "10.32.0.10", "transport": transport, "ms": 1, "response": None}
    if error:
        return json.dumps({**line, "error": error}) + "\n"
    message = dns.message.make_response(dns.message.make_query("a.", kind), recursion_available=True)
    message.set_rcode(rcode)
    message.flags |= dns.flags.TC if tc else 0
    for record in records:
        name, of, text = record.split()
        message.answer.append(dns.rrset.from_text(name, 30, "IN", of, text))
    return json.dumps({**line, "response": base64.b64encode(message.to_wire()).decode(), "error": None}) + "\n"


@pytest.mark.parametrize("libc", ["glibc", "musl"])
def test_a_truncated_answer_is_no_answer_without_the_one_by_tcp(libc: Libc) -> None:
    cut = row("A", tc=True) + row("AAAA")
    found = client("a.", cut, libc)
    assert (found.outcome, found.rcode) == ("truncated, the TCP answer is not recorded", None)
    assert len(found.queries) == 2
    whole = client("a.", row("A", "a. A 10.0.0.1", transport="tcp") + cut, libc)
    assert (whole.outcome, whole.addresses) == ("found", ("10.0.0.1",))


@pytest.mark.parametrize(
    ("lost", "words", "rcode"),
    [({"error": "timed out"}, "A: no answer (timed out)", None), ({"rcode": 2}, "A: SERVFAIL", "SERVFAIL"),
     ({"rcode": 5}, "A: REFUSED", "REFUSED")],
)  # fmt: skip
def test_half_an_answer_is_not_no_such_record(lost: dict[str, Any], words: str, rcode: str | None) -> None:
    found = client("a.", row("A", **lost) + row("AAAA"))
    assert (found.outcome, found.rcode) == ("half an answer", rcode)
    assert f"{words}, AAAA: NOERROR, no such record" in found.report().notes[0]
    other = client("a.", row("A", "a. A 10.0.0.1") + row("AAAA", error="timed out"))
    assert other.outcome == "found"
    assert "AAAA: no answer (timed out)" in other.report().notes[0]


def test_records_of_another_name_are_ignored() -> None:
    found = client("a.", row("A", "b. A 10.0.0.1") + row("AAAA"))
    assert (found.outcome, found.records) == ("no such record", ())
    assert "record for another name, ignored: b. 30 IN A 10.0.0.1" in found.report().notes
    chain = client("a.", row("A", "x. A 10.0.0.2", "c. A 10.0.0.1", "b. CNAME c.", "a. CNAME b.") + row("AAAA"))
    assert chain.addresses == ("10.0.0.1",)


KINDS = st.sampled_from(
    ["NXDOMAIN", "NODATA", "SERVFAIL", "REFUSED", "FORMERR", "found", "silent", "unreachable", "not recorded"]
)


class Drawn:
    """Answers drawn by hypothesis, the same for the same question."""

    repeats = True

    def __init__(self, draw: st.DataObject) -> None:
        self.draw, self.told = draw, {}

    def ask(self, server: str, query: Query, transport: str | None = None) -> Reply:
        kind = self.told.setdefault((server, query.name, query.type), self.draw.draw(KINDS))
        if kind in ("silent", "unreachable", "not recorded"):
            return Reply(kind)
        records = (Record(query.name, query.type, 30, "10.0.0.1"),) if kind == "found" else ()
        rcode = "NOERROR" if kind in ("found", "NODATA") else kind
        return Reply("answered", Message(1, rcode, ("qr", "ra"), (query.name, query.type), records, (), (), 40))


@given(st.data(), st.sampled_from(["a", "a.b", "a.b.", "a.b.c.d.e.f"]), st.sampled_from(["glibc", "musl"]))
def test_laws_of_a_look_up(data: st.DataObject, name: str, libc: Libc) -> None:
    conf = parse_resolv_conf("search x.test y.test\nnameserver 10.0.0.1\nnameserver 10.0.0.2\noptions ndots:2\n")
    found = resolve(name, conf, Drawn(data), libc=libc)
    expected = [query.name for query in search_expansion(name, conf, libc)]
    asked = list(dict.fromkeys(each.query.name for each in found.queries))
    assert asked == [each for each in dict.fromkeys(expected) if each in asked], "in the expansion's order"
    assert (found.outcome == "found") == bool(found.records)
    assert (found.rcode is None) <= (found.server is None)
    if found.outcome == "no such name":
        assert found.rcode == "NXDOMAIN"
        if libc == "glibc":  # musl takes the first server's word
            assert not any(each.result.startswith("NOERROR, 1") for each in found.queries)
    if found.outcome == "not recorded":
        assert any(each.reply.status == "not recorded" for each in found.queries)
        assert (found.rcode, found.eai) == (None, "")
    assert str(found)
