"""Conntrack tables from text: every style, every protocol, and what is no conntrack text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import k8snet_nb
from k8snet_nb.errors import FactBroken
from k8snet_nb.parse.conntrack import parse_conntrack
from k8snet_nb.parse.shapes import chunks

RECORDED = Path(k8snet_nb.__file__).parent / "data" / "hello-cluster" / "nodes" / "node-one"
UDP = "udp      17 29 src=10.0.0.1 dst=10.32.0.10 sport=4000 dport=53 src=10.244.0.2 dst=10.0.0.1 sport=53 dport=4000"
TAIL = " [ASSURED] mark=0 use=1"


def row(text: str) -> dict[str, object]:
    table = parse_conntrack(text + "\n")
    assert not table.problems
    assert len(table) == 1
    return dict(table.frame.iloc[0].dropna().to_dict())


def test_recorded_table() -> None:
    data = (RECORDED / "conntrack.txt").read_bytes()
    table = parse_conntrack(data)
    assert len(table) == len(table.frame) == data.count(b"\n")
    assert table.problems == ()
    first = table.frame.iloc[0]
    assert (first.family, first.protocol, first.state, first.timeout) == ("ipv4", "tcp", "TIME_WAIT", 117)
    assert (first.orig_dst, first.orig_dport, first.reply_src, first.reply_sport) == (
        "10.32.118.77", 8000, "10.244.18.6", 8000)  # fmt: skip
    assert first.id == 1953540297
    assert first["flags"] == "ASSURED"


def test_where_filters_as_the_tool_does() -> None:
    table = parse_conntrack((RECORDED / "conntrack.txt").read_bytes())
    dns = table.where(destination="10.32.0.10", protocol="udp", port=53)
    assert 0 < len(dns) < len(table)
    assert set(dns.frame.orig_dst) == {"10.32.0.10"}
    assert len(table.where(destination="10.32.0.0/16")) > len(dns)
    assert len(table.where(state="time_wait")) == int((table.frame.state == "TIME_WAIT").sum())
    assert len(table.where(reply_source="10.244.18.6", source="10.244.18.5")) > 0
    assert len(table.where(destination="10.9.9.9")) == 0


ICMP = "icmp     1 29 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=77 src=10.0.0.2 dst=10.0.0.1 type=0 code=0 id=77"
GRE = (
    "gre      47 29 timeout=0, stream_timeout=0 src=10.0.0.1 dst=10.0.0.2 srckey=0x10 dstkey=0x20 [UNREPLIED]"
    " src=10.0.0.2 dst=10.0.0.1 srckey=0x20 dstkey=0x10 mark=0 zone=0 use=2"
)
SCTP = (
    "ipv6     10 sctp     132 299 HEARTBEAT_SENT src=fd00:0000:0000:0000:0000:0000:0000:0001 dst=fd00::2 sport=1"
    " dport=2 src=fd00::2 dst=fd00::1 sport=2 dport=1 mark=0 use=1"
)
SAVE = (
    "-A -t 299 -u SEEN_REPLY,ASSURED -s 10.0.0.1 -d 10.32.0.1 -r 10.244.0.1 -q 10.0.0.1 -p tcp --sport 1000"
    " --dport 80 --reply-port-src 8080 --reply-port-dst 1000 --state ESTABLISHED"
)
LARGEST = 2**64 - 1
ONE_WAY = UDP.replace(" src=10.244", " zone-orig=9 [UNREPLIED] src=10.244")
COUNTED = UDP.replace(" src=10.244", f" packets=3 bytes={LARGEST} src=10.244")
LINES: list[tuple[str, dict[str, object]]] = [
    (UDP + TAIL, {"protocol": "udp", "orig_dport": 53, "flags": "ASSURED", "mark": 0, "family": "ipv4"}),
    (f"ipv4     2 {UDP} [OFFLOAD] mark=7 secctx=a:b:c zone=4 use=2", {"flags": "OFFLOAD", "zone": 4, "mark": 7}),
    (f"{UDP} [HW_OFFLOAD] mark=0 use=1 labels=web,dns", {"flags": "HW_OFFLOAD", "labels": "web,dns"}),
    (f"{ONE_WAY} mark=0 use=1", {"flags": "UNREPLIED", "orig_zone": 9}),
    (f"{COUNTED} packets=0 bytes=7 mark=0", {"orig_packets": 3, "orig_bytes": LARGEST, "reply_bytes": 7}),
    (f"{ICMP} mark=0 use=1 id=841309000", {"icmp_type": 8, "icmp_code": 0, "icmp_id": 77, "id": 841309000}),
    (GRE, {"protocol": "gre", "orig_sport": 16, "orig_dport": 32}),
    (
        "unknown  253 29 src=10.0.0.1 dst=10.0.0.2 src=10.0.0.2 dst=10.0.0.1 mark=0 use=1",
        {"protocol": "unknown", "protocol_number": 253},
    ),
    (SCTP, {"family": "ipv6", "orig_src": "fd00::1", "state": "HEARTBEAT_SENT"}),
    (f"{UDP} mark=0 use=1 [start=Mon Jan  1 00:00:07 2024]", {"start": "2024-01-01 00:00:07+00:00"}),
    (SAVE, {"state": "ESTABLISHED", "reply_sport": 8080, "flags": "ASSURED", "timeout": 299}),
]


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_styles_and_protocols(line: str, expected: dict[str, object]) -> None:
    found = row(line)
    assert {name: str(found.get(name)) for name in expected} == {name: str(value) for name, value in expected.items()}


def test_expectations_are_left_out() -> None:
    text = "297 proto=6 src=10.0.0.1 dst=10.0.0.2 sport=0 dport=21 mask-src=255.255.255.255 sport=0 dport=65535\n"
    assert len(parse_conntrack(text + UDP + TAIL + "\n")) == 1


def test_empty_text_is_an_empty_table() -> None:
    assert len(parse_conntrack(b"")) == 0
    assert list(parse_conntrack(b"").frame.columns)[:3] == ["family", "protocol", "state"]


@pytest.mark.parametrize(
    "text",
    [
        "Netid State  Recv-Q Send-Q Local Address:Port\ntcp   ESTAB  0      0      10.0.0.1:22   10.0.0.2:40\n",
        "conntrack v1.4.7 (conntrack-tools): Operation failed: Operation not permitted\n",
        '<?xml version="1.0" encoding="utf-8"?>\n<conntrack>\n',
        b"\x7fELF\x00\x01\x02\n" * 3,
        "ipv4     2 tcp      6 117 TIME_WAIT src=10.2",
    ],
)
def test_something_else_is_broken(text: str | bytes) -> None:
    with pytest.raises(FactBroken, match="line 1"):
        parse_conntrack(text)


def problems(text: str) -> tuple[int, str]:
    table = parse_conntrack(text)
    return len(table), "; ".join(map(str, table.problems))


def test_cut_and_foreign_lines_are_said_with_their_number() -> None:
    whole = UDP + TAIL + "\n"
    count, said = problems(whole + "cpu=0 found=1\n" + UDP.replace("4000", "4001")[:70] + "\n")
    assert count == 1
    assert "line 2: left out, no conntrack entry" in said
    assert "line 3: left out, the entry is cut" in said


@pytest.mark.parametrize(("cut", "kept", "said"), [(3, 1, "is cut"), (6, 1, "ends within"), (1, 2, "may be cut")])
def test_text_that_ends_in_a_line(cut: int, kept: int, said: str) -> None:
    lines = UDP + TAIL + " id=12\n" + UDP.replace("4000", "4001") + TAIL + " id=13\n"
    count, words = problems(lines[:-cut])
    assert count == kept
    assert said in words


def test_numbers_that_do_not_fit_are_said() -> None:
    text = UDP.replace(" src=10.244", f" packets={2**64} bytes=1 src=10.244").replace("sport=4000", "sport=70000")
    table = parse_conntrack(text + TAIL + "\n")
    assert table.frame.orig_packets.isna().all()
    assert table.frame.orig_sport.isna().all()
    assert ["line 1" in str(problem) for problem in table.problems] == [True, True]


def test_a_bad_first_line_spoils_no_other_of_its_shape() -> None:
    bad = UDP.replace("src=10.0.0.1", "src=10.0.0.999") + TAIL + "\n" + UDP + " [ASSURED] mark= use=1\n"
    count, said = problems(bad + UDP + TAIL + "\n")
    assert count == 1
    assert "line 1: left out, orig_src is no address" in said
    assert "line 2: left out, the entry is cut" in said


def test_long_words_are_told_apart_to_their_end() -> None:
    line = "sctp 132 9 {} src=10.0.0.1 dst=10.0.0.2 sport={} dport=2 src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1 use=1\n"
    states = ["SHUTDOWN_ACK_SENT", "SHUTDOWN_ACK_SENX"]
    table = parse_conntrack("".join(line.format(state, i) for i, state in enumerate(states)))
    assert table.frame.state.tolist() == states


def test_entries_told_twice_count_once() -> None:
    count, said = problems((UDP + TAIL + "\n") * 3)
    assert count == 1
    assert "2 entries are told twice" in said


def test_announced_number_is_held_against_the_lines() -> None:
    announced = "conntrack v1.4.7 (conntrack-tools): {} flow entries have been shown.\n"
    assert problems(UDP + TAIL + "\n" + announced.format(1)) == (1, "")
    assert "says 2 entries" in problems(UDP + TAIL + "\n" + announced.format(2))[1]


def test_hostile_text_is_shown_not_obeyed() -> None:
    table = parse_conntrack(UDP + TAIL + "\n<script>\x1b[2J\n")
    assert "\x1b" not in repr(table)
    assert "<script>" not in table._repr_mimebundle_()["text/html"]


ports = st.integers(0, 65535)
entry = st.tuples(
    st.sampled_from([("tcp", 6, "ESTABLISHED "), ("udp", 17, ""), ("sctp", 132, "CLOSED ")]),
    st.integers(0, 2**32 - 1), st.ip_addresses(v=4), st.ip_addresses(v=4), ports, ports,
    st.sampled_from(["", "[UNREPLIED] "]), st.integers(0, 2**32 - 1), st.booleans(),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(entry, min_size=1, max_size=12, unique_by=lambda e: e[1:6]), st.integers(60, 400))
def test_what_is_written_is_read(entries: list[tuple[object, ...]], step: int) -> None:
    lines, expected = [], []
    for (name, number, state), timeout, src, dst, sport, dport, unreplied, mark, prefix in entries:  # type: ignore[misc]
        one = f"{name} {number} {timeout} {state}src={src} dst={dst} sport={sport} dport={dport} {unreplied}"
        lines.append(
            ("ipv4 2 " if prefix else "") + one + f"src={dst} dst={src} sport={dport} dport={sport} mark={mark}"
        )
        expected.append((name, timeout, str(src), str(dst), sport, dport, mark))
    text = "\n".join(lines) + "\n"
    table = parse_conntrack(text)
    names = ["protocol", "timeout", "orig_src", "orig_dst", "orig_sport", "orig_dport", "mark"]
    found = list(table.frame[names].itertuples(index=False, name=None))
    assert sorted(found) == sorted(set(expected)) if len({e[:1] + e[2:6] for e in expected}) == len(expected) else True
    pieces = list(chunks(text.encode(), step))
    assert sum(piece.line_count for piece in pieces) == len(lines)
