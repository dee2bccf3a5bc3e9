"""The twin's servers and client against each other, and against clients of no manners, in real namespaces."""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from kernel.lab import Lab
from needs import need
from twin.inside import connecting, running, serving

from k8snet_nb.errors import Refused
from k8snet_nb.twin.model import Listener
from k8snet_nb.twin.serving.client import Answer, Plan, connect

pytestmark = need(root=True, commands=["ip"])

POD4, POD6, CLIENT4, CLIENT6 = "10.77.0.1", "fd77::1", "10.77.0.2", "fd77::2"
FAMILIES = pytest.mark.parametrize("address", [POD4, POD6])


@dataclass(frozen=True)
class Pair:
    """Two namespaces with a wire between them."""

    lab: Lab
    server: str
    client: str


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Lab("tws") as lab:
        server, client = lab.namespace("s"), lab.namespace("c")
        lab.veth(server, "eth0", client, "eth0")
        lab.address(server, "eth0", f"{POD4}/24", f"{POD6}/64")
        lab.address(client, "eth0", f"{CLIENT4}/24", f"{CLIENT6}/64", "10.77.0.3/24")
        for key in ("net/ipv4/icmp_ratelimit", "net/ipv6/icmp/ratelimit"):
            lab.sysctl(server, key, "0")  # else only a few refusals a second are told to one client
        yield Pair(lab, server, client)


def listener(
    kind: str, address: str, port: int, *, protocol: str | None = None, says: str = "default/hello"
) -> Listener:
    transport = protocol or {"http": "tcp", "dns": "udp"}.get(kind, kind)
    return Listener(transport, address, port, kind, says)


def everything(address: str) -> list[Listener]:
    return [
        listener("http", address, 8080),
        listener("http", address, 6443, says="default/api"),
        listener("tcp", address, 7),
        listener("udp", address, 7),
        listener("dns", address, 53, says="kube-system/coredns"),
        listener("dns", address, 53, protocol="tcp", says="kube-system/coredns"),
    ]


@pytest.fixture(scope="module")
def all_kinds(pair: Pair) -> Iterator[Pair]:
    with serving(pair.server, everything(POD4) + everything(POD6)) as failures:
        assert failures == []
        yield pair


@FAMILIES
@pytest.mark.parametrize(
    ("protocol", "port", "speaks", "pod"),
    [
        ("tcp", 8080, None, "default/hello"),
        ("tcp", 6443, None, "default/api"),
        ("tcp", 7, "text", "default/hello"),
        ("tcp", 7, "http", "default/hello"),
        ("udp", 7, None, "default/hello"),
        ("udp", 53, "dns", "kube-system/coredns"),
        ("tcp", 53, "dns", "kube-system/coredns"),
    ],
)
def test_each_kind_says_who_it_is_and_whom_it_sees(
    all_kinds: Pair, address: str, protocol: str, port: int, speaks: str | None, pod: str
) -> None:
    (answer,) = connecting(all_kinds.client, Plan(protocol, address, port, speaks=speaks))
    client = CLIENT6 if ":" in address else CLIENT4
    assert (answer.end, answer.pod, answer.server, answer.port) == ("ok", pod, address, port)
    assert (answer.peer, answer.local) == (client, client)
    assert answer.peer_port == answer.local_port > 0
    assert 0 < answer.ms < 2000


@FAMILIES
@pytest.mark.parametrize(("protocol", "port"), [("tcp", 8080), ("udp", 7), ("udp", 53)])
def test_five_hundred_at_once_are_all_answered(all_kinds: Pair, address: str, protocol: str, port: int) -> None:
    speaks = "dns" if port == 53 else None
    plan = Plan(protocol, address, port, count=500, concurrency=500, timeout=8, speaks=speaks)
    answers = connecting(all_kinds.client, plan)
    assert [answer.end for answer in answers] == ["ok"] * 500
    assert all(answer.peer_port == answer.local_port for answer in answers)


def test_kept_connections_stand_in_the_client_s_table(all_kinds: Pair) -> None:
    def look(keep: float) -> list[int]:
        seen: list[int] = []

        def count(answers: Sequence[Answer]) -> None:
            command = ["ss", "-Htn", "state", "established"]
            found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            seen.extend([len(answers), found.count(f"{POD4}:8080")])

        connect(Plan("tcp", POD4, 8080, count=20, keep=keep, concurrency=4), count)
        return seen

    assert running(all_kinds.client, lambda: look(0.1)) == [20, 20]
    assert running(all_kinds.client, lambda: look(0)) == [20, 0]


def test_the_source_address_is_the_one_asked_for(all_kinds: Pair) -> None:
    (answer,) = connecting(all_kinds.client, Plan("tcp", POD4, 8080, source="10.77.0.3"))
    assert (answer.peer, answer.local) == ("10.77.0.3", "10.77.0.3")


def test_a_mark_chooses_the_client_s_way(all_kinds: Pair) -> None:
    run, client = all_kinds.lab.run, all_kinds.client
    run(client, ["ip", "route", "add", "unreachable", POD4, "table", "77"])
    run(client, ["ip", "rule", "add", "fwmark", "0x4d", "table", "77", "pref", "77"])
    try:
        (marked,) = connecting(client, Plan("tcp", POD4, 8080, mark=0x4D))
        (plain,) = connecting(client, Plan("tcp", POD4, 8080))
    finally:
        run(client, ["ip", "rule", "del", "pref", "77"])
    assert (marked.end, plain.end) == ("unreachable", "ok")


def test_a_big_answer_is_as_big_as_asked(all_kinds: Pair) -> None:
    said = raw(all_kinds, 8080, [b"GET /?bytes=4000 HTTP/1.1\r\nHost: x\r\n\r\n"])
    assert len(said.partition(b"\r\n\r\n")[2]) == 4000
    (answer,) = connecting(all_kinds.client, Plan("tcp", POD4, 8080, size=60_000))
    assert answer.end == "ok"
    for bad in ({"size": 60_001}, {"size": -1}, {"size": 9, "speaks": "dns"}):
        with pytest.raises(Refused, match="size"):
            Plan("tcp", POD4, 8080, **bad)  # type: ignore[arg-type]


@FAMILIES
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_port_without_server_refuses(all_kinds: Pair, address: str, protocol: str) -> None:
    (answer,) = connecting(all_kinds.client, Plan(protocol, address, 9))
    assert (answer.end, answer.says) == ("refused", "ECONNREFUSED")


@contextmanager
def filtering(pair: Pair, rule: str) -> Iterator[None]:
    """A rule for what comes in to the server, as long as the block runs."""
    rules = f"table inet t {{\nchain c {{\ntype filter hook input priority 0;\n{rule}\n}}\n}}\n"
    pair.lab.run(pair.server, ["nft", "-f", "-"], text=rules)
    try:
        yield
    finally:
        pair.lab.run(pair.server, ["nft", "delete", "table", "inet", "t"])


@FAMILIES
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize(
    ("verdict", "end"),
    [
        ("drop", "timeout"),
        ("reject with icmpx type port-unreachable", "refused"),
        ("reject with icmpx type admin-prohibited", "unreachable"),
        ("reject with icmpx type host-unreachable", "unreachable"),
    ],
)
@need(root=True, commands=["nft"])
def test_what_a_packet_filter_does_is_told_apart(
    all_kinds: Pair, address: str, protocol: str, verdict: str, end: str
) -> None:
    with filtering(all_kinds, f"{protocol} dport 10 {verdict}"):
        (answer,) = connecting(all_kinds.client, Plan(protocol, address, 10, timeout=0.3 if end == "timeout" else 4))
    assert answer.end == end


@need(root=True, commands=["nft"])
def test_a_connection_broken_off_is_reset(all_kinds: Pair) -> None:
    """Established, then the request meets a reset."""
    with filtering(all_kinds, "tcp dport 8080 tcp flags & (psh|ack) == psh|ack reject with tcp reset"):
        (answer,) = connecting(all_kinds.client, Plan("tcp", POD4, 8080))
    assert answer.end == "reset"


def test_no_route_is_unreachable(all_kinds: Pair) -> None:
    (answer,) = connecting(all_kinds.client, Plan("udp", "192.0.2.1", 9))
    assert (answer.end, answer.says) == ("unreachable", "ENETUNREACH")


def test_what_cannot_be_bound_is_reported_and_the_rest_is_served(pair: Pair) -> None:
    wanted = [
        listener("http", "10.99.0.1", 80, says="other/place"),
        listener("http", POD4, 8081),
        listener("http", POD4, 8081, says="a second of the same"),
        listener("dns", POD4, 8053, says="kube-system/coredns"),
        listener("sctp", POD4, 9999, says="default/sctp"),
        Listener("icmp", POD4, 1, "http", "default/odd"),
    ]
    sctp = has_sctp()
    with serving(pair.server, wanted) as failures:
        assert [("10.99.0.1" in each, "icmp" in each) for each in failures if "sctp" not in each] == [
            (True, False),
            (False, True),
        ]
        assert any("sctp" in each and "kernel" in each for each in failures) is not sctp
        (answer,) = connecting(pair.client, Plan("tcp", POD4, 8081))
        assert answer.pod == "default/hello"
        if sctp:
            (answer,) = connecting(pair.client, Plan("sctp", POD4, 9999))
            assert (answer.end, answer.pod) == ("ok", "default/sctp")


def has_sctp() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        return False
    return True


def raw(pair: Pair, port: int, sends: list[bytes], *, wait: float = 0.0) -> bytes:
    """What the server sends to a client that sends these pieces, until it closes."""

    def talk() -> str:
        got = b""
        with socket.create_connection((POD4, port), 5) as client:
            for piece in sends:
                client.sendall(piece)
                time.sleep(wait)
            while part := client.recv(65536):
                got += part
        return got.hex()

    return bytes.fromhex(running(pair.client, talk))


@pytest.mark.parametrize(
    ("sends", "begins"),
    [
        ([b"GET /any HTTP/1.1\r\nHost: x\r\n\r\n"], b"HTTP/1.1 200 OK\r\n"),
        ([b"G", b"ET / HT", b"TP/1.0\r", b"\n\r", b"\n"], b"HTTP/1.1 200 OK\r\n"),
        (
            [b"POST / HTTP/1.1\r\nContent-Length: 90000\r\nConnection: keep-alive\r\n\r\n", b"x" * 90000],
            b"HTTP/1.1 200 OK",
        ),
        ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)], b"HTTP/1.1 400 Bad Request\r\n"),
        ([bytes(range(256)) * 8], b"HTTP/1.1 400 Bad Request\r\n"),
        ([b"GET /" + b"a" * 60000], b"HTTP/1.1 400 Bad Request\r\n"),
    ],
    ids=["whole", "in pieces", "with a body", "TLS", "garbage", "oversized"],
)
def test_http_answers_every_request_and_closes(all_kinds: Pair, sends: list[bytes], begins: bytes) -> None:
    got = raw(all_kinds, 8080, sends, wait=0.02)
    assert got.startswith(begins)
    assert got.endswith(b"\r\n\r\ndefault/hello\n")


def test_head_has_no_body_and_tls_ports_say_that_they_are_plain(all_kinds: Pair) -> None:
    got = raw(all_kinds, 6443, [b"HEAD / HTTP/1.1\r\n\r\n"])
    assert got.endswith(b"\r\n\r\n")
    assert b"X-K8snet-Note: plain HTTP on port 6443" in got
    assert b"Note" not in raw(all_kinds, 8080, [b"HEAD / HTTP/1.1\r\n\r\n"])


@pytest.mark.parametrize(("port", "line"), [(8080, b"default/hello\n"), (7, b"{")])
def test_a_silent_client_is_told_after_a_while(all_kinds: Pair, port: int, line: bytes) -> None:
    assert raw(all_kinds, port, []).startswith(line)


def test_hostile_words_stay_one_line(pair: Pair) -> None:
    says = "x/y\r\nX-Evil: 1\r\n\r\nbody\u202eé"
    with serving(pair.server, [listener("http", POD4, 8082, says=says), listener("udp", POD4, 8082, says=says)]):
        got = raw(pair, 8082, [b"GET / HTTP/1.1\r\n\r\n"])
        head, _, body = got.partition(b"\r\n\r\n")
        assert b"\r\nX-Evil" not in head
        assert body == says.encode() + b"\n"
        (answer,) = connecting(pair.client, Plan("udp", POD4, 8082))
        assert answer.pod == says


def misbehave(port: int, stay: list[socket.socket]) -> None:
    """Half-open, slow, resetting and babbling clients."""
    for number in range(150):
        client = socket.create_connection((POD4, port), 5)
        if number % 3 == 1:
            client.sendall(os.urandom(300))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            continue
        if number % 3 == 0:
            client.sendall(b"GE")
        stay.append(client)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as babbler:
        for number in range(300):
            babbler.sendto(os.urandom(number % 60), (POD4, port))


def test_a_crowd_of_bad_clients_harms_nobody(all_kinds: Pair) -> None:
    def work() -> list[str]:
        stay: list[socket.socket] = []
        for port in (8080, 7, 53):
            misbehave(port, stay)
        good = [("http", "tcp", 8080), ("text", "tcp", 7), ("text", "udp", 7), ("dns", "udp", 53), ("dns", "tcp", 53)]
        plans = [Plan(by, POD4, port, count=20, speaks=speaks, timeout=5) for speaks, by, port in good]
        return [answer.end for plan in plans for answer in connect(plan)]

    assert running(all_kinds.client, work) == ["ok"] * 100


def test_a_client_that_waits_for_the_end_need_not_wait_long(all_kinds: Pair) -> None:
    """The server says that it is done, and does not wait for the client to say so first."""

    def seconds() -> float:
        begun = time.monotonic()
        raw(all_kinds, 8080, [b"GET / HTTP/1.1\r\n\r\n"])
        return time.monotonic() - begun

    assert min(seconds() for _ in range(5)) < 0.9


def test_datagrams_of_a_crowd_have_room_to_wait(all_kinds: Pair) -> None:
    told = all_kinds.lab.run(all_kinds.server, ["ss", "-Huamn", "sport", "=", ":7"])
    room = [int(found) for found in re.findall(r"\brb(\d+)", told)]
    assert len(room) == 2
    assert min(room) > 212992  # what a socket has that asks for nothing


def test_json_of_tcp_names_both_ends(all_kinds: Pair) -> None:
    told = json.loads(raw(all_kinds, 7, [b"hello"]))
    assert (told["pod"], told["server"], told["port"], told["peer"]) == ("default/hello", POD4, 7, CLIENT4)


@pytest.mark.parametrize(
    "change",
    [
        {"protocol": "icmp"},
        {"port": 0},
        {"port": 70000},
        {"count": 0},
        {"count": 10**9},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"keep": -1},
        {"mark": -1},
        {"address": "example.com"},
        {"source": "fd00::1"},
        {"speaks": "smtp"},
        {"concurrency": True},
    ],
)
def test_a_plan_that_is_none_is_refused(change: dict[str, object]) -> None:
    good: dict[str, object] = {"protocol": "tcp", "address": POD4, "port": 80}
    with pytest.raises(Refused):
        Plan(**{**good, **change})  # type: ignore[arg-type]


def test_a_source_that_is_not_here_is_said(pair: Pair) -> None:
    def work() -> str:
        with pytest.raises(Refused) as refused:
            connect(Plan("tcp", POD4, 80, count=3, source="10.99.0.9"))
        return str(refused.value)

    assert "source address 10.99.0.9" in running(pair.client, work)
