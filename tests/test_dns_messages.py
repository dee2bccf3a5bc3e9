"""DNS messages and recorded queries: good ones, malformed ones, lies."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8snet_nb.parse.dns import BadMessage, compose, parse_dns_log, parse_message, unfit

NODES = Path(__file__).parent.parent / "k8snet_nb/data/hello-cluster/nodes"
A = "rh+FAAABAAEAAAAACmt1YmVybmV0ZXMHZGVmYXVsdANzdmMHY2x1c3RlcgVsb2NhbAAAAQABwAwAAQABAAAAHgAECiAAAQ=="
WIRE = base64.b64decode(A)


def test_a_recorded_message() -> None:
    message = parse_message(WIRE)
    assert (message.rcode, message.flags, message.truncated) == ("NOERROR", ("qr", "aa", "rd"), False)
    assert message.question == ("kubernetes.default.svc.cluster.local.", "A")
    assert str(message.answers[0]) == "kubernetes.default.svc.cluster.local. 30 IN A 10.32.0.1"
    assert message.size == len(WIRE)


def test_truncated_is_no_error_but_cut_off_is() -> None:
    flagged = bytearray(WIRE)
    flagged[2] |= 2
    assert parse_message(bytes(flagged)).truncated
    assert parse_message(bytes(flagged[:60])).truncated
    assert parse_message(bytes(flagged[:60])).answers == ()
    with pytest.raises(BadMessage, match="60 bytes"):
        parse_message(WIRE[:60])


@given(st.integers(0, len(WIRE) - 1))
def test_no_part_of_a_message_is_one(length: int) -> None:
    with pytest.raises(BadMessage):
        parse_message(WIRE[:length])


@given(st.one_of(st.binary(max_size=120), st.tuples(st.integers(0, len(WIRE) - 1), st.integers(0, 255))))
def test_any_bytes_are_a_message_or_said_not_to_be(data: bytes | tuple[int, int]) -> None:
    wire = data if isinstance(data, bytes) else WIRE[: data[0]] + bytes([data[1]]) + WIRE[data[0] + 1 :]
    said = ""
    try:
        said = f"{parse_message(wire).rcode} {parse_message(wire).size} bytes"
    except BadMessage as bad:
        said = str(bad)
    assert f"{len(wire)} bytes" in said


def test_a_pointer_that_runs_in_a_circle() -> None:
    with pytest.raises(BadMessage):
        parse_message(WIRE[:12] + b"\xc0\x0c\x00\x01\x00\x01")


LABEL = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=20)


@given(st.lists(LABEL, min_size=1, max_size=6), st.sampled_from(["A", "AAAA", "SRV", "PTR"]), st.integers(0, 65535))
def test_what_is_composed_is_read_back(labels: list[str], kind: str, ident: int) -> None:
    name = ".".join(labels) + "."
    message = parse_message(compose(name, kind, ident))
    assert (message.question, message.id, message.flags) == ((name, kind), ident, ("rd",))
    assert parse_message(compose(name, kind, ident, edns=True, trust_ad=True)).flags == ("rd", "ad")


@pytest.mark.parametrize(("name", "kind"), [("x" * 64 + ".", "A"), ("a..b.", "A"), ("a." * 130, "A"), ("a.", "NOPE")])
def test_what_cannot_be_asked(name: str, kind: str) -> None:
    with pytest.raises(ValueError, match="no query for"):
        compose(name, kind, 1)


def test_lies() -> None:
    query = parse_message(compose("kubernetes.default.svc.cluster.local.", "A", 0xAE1F))
    assert unfit(query, parse_message(WIRE)) is None
    assert unfit(query, parse_message(WIRE.replace(b"kubernetes", b"KUBERNETES"))) is None
    assert "wrong id" in str(unfit(query, parse_message(b"\0\1" + WIRE[2:])))
    assert "wrong question" in str(unfit(query, parse_message(WIRE.replace(b"kubernetes", b"kubernotes"))))
    assert unfit(query, query) == "a query, not a reply"
    bare = WIRE[:2] + b"\x81\x85" + bytes(8)
    assert unfit(query, parse_message(bare)) is None
    assert "no question" in str(unfit(query, parse_message(WIRE[:2] + b"\x81\x80" + bytes(8))))


def test_the_whole_recording() -> None:
    files = sorted(NODES.glob("*/pods/*/*/dns.jsonl"))
    assert len(files) == 11
    for file in files:
        log = parse_dns_log(file.read_bytes())
        assert log.problems == ()
        assert len(log.asks) == 54
        assert all(ask.problem is None for ask in log.asks)
        assert {ask.message.rcode for ask in log.asks if ask.message} == {"NOERROR", "NXDOMAIN", "SERVFAIL"}


def row(**changes: object) -> str:
    name = "kubernetes.default.svc.cluster.local."
    base = {
        "name": name,
        "type": "A",
        "server": "10.32.0.10",
        "transport": "udp",
        "ms": 1,
        "response": A,
        "error": None,
    }
    return json.dumps({**base, **changes})


def test_lines_that_are_no_recorded_query() -> None:
    log = parse_dns_log(
        "\n".join([row(), "{", "[]", row(name=None), row(transport="x"), "", row(response=None, error="timed out")])
    )
    assert [problem.line for problem in log.problems] == [2, 3, 4, 5]
    assert [ask.line for ask in log.asks] == [1, 7]
    assert log.asks[1].error == "timed out"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"response": A[:40]}, "not a DNS message"),
        ({"response": "!!"}, "not base64"),
        ({"response": None}, "neither a response nor an error"),
        ({"name": "other."}, "another question"),
        ({"type": "AAAA"}, "another question"),
        ({"response": base64.b64encode(compose("kubernetes.default.svc.cluster.local.", "A", 1)).decode()}, "a query"),
    ],
)
def test_a_bad_response_is_kept_with_its_problem(changes: dict[str, object], why: str) -> None:
    (ask,) = parse_dns_log(row(**changes)).asks
    assert ask.message is None
    assert why in str(ask.problem)


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    log = parse_dns_log(text)
    assert len(log.asks) + len(log.problems) == sum(bool(line.strip()) for line in text.split("\n"))
