"""`ipset save`: sets and members, membership as the kernel tests it, and what must not pass for a save."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8snet_nb.errors import FactBroken
from k8snet_nb.parse.ipset import match, parse_ipset

NODE = Path(__file__).parent.parent / "k8snet_nb/data/hello-cluster/nodes/node-three"

SETS = """\
create ADDRESSES hash:ip family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x8bd590f3
add ADDRESSES 10.32.0.1
create PORTS hash:ip,port family inet hashsize 1024 maxelem 65536 timeout 60 comment
add PORTS 10.32.0.10,udp:53 timeout 41 comment "the cluster's DNS, -j DROP"
add PORTS 10.32.0.10,sctp:53 timeout 0
create LOOP hash:ip,port,ip family inet hashsize 1024 maxelem 65536
add LOOP 10.244.3.3,tcp:8080,10.244.3.3
create SOURCES hash:ip,port,net family inet hashsize 1024 maxelem 65536
add SOURCES 172.30.0.99,tcp:80,192.0.2.0/24
add SOURCES 172.30.0.99,tcp:80,192.0.2.128/25 nomatch
add SOURCES 172.30.0.99,tcp:80,198.51.100.7
add SOURCES 172.30.0.99,tcp:80,192.0.2.9 nomatch
create NODEPORTS bitmap:port range 0-65535
add NODEPORTS 30080
create NETS hash:net family inet6 hashsize 1024 maxelem 65536
add NETS fd00:1::/32
create SIX hash:ip,port family inet6 hashsize 1024 maxelem 65536
add SIX fd00::10,tcp:443
create SOME list:set size 8
add SOME ADDRESSES
create CARDS hash:mac hashsize 1024 maxelem 65536
add CARDS 01:02:03:04:05:06
"""


def packet(dst: str | None = None, dport: int | None = None, protocol: str | None = "tcp", src: str | None = None):  # type: ignore[no-untyped-def]
    return {"dst": dst, "dport": dport, "protocol": protocol, "src": src}


def test_the_recorded_sets() -> None:
    sets = parse_ipset((NODE / "ipset.txt").read_bytes())
    assert len(sets) == 30
    cluster = sets["KUBE-CLUSTER-IP"]
    assert (cluster.type, cluster.family, len(cluster), cluster.dimensions) == ("hash:ip,port", 4, 14, ("ip", "port"))
    assert match(cluster, ("dst", "dst"), packet("10.32.62.13", 80)) is True
    assert match(cluster, ("dst", "dst"), packet("10.32.62.13", 81)) is False
    assert match(cluster, ("dst", "dst"), packet("10.32.0.10", 53, "udp")) is True
    assert match(cluster, ("dst", "dst"), packet("10.32.0.10", 9153, "udp")) is False
    assert sets["KUBE-6-CLUSTER-IP"].family == 6
    assert len(sets["KUBE-LOOP-BACK"]) == 0
    assert match(sets["KUBE-NODE-PORT-LOCAL-TCP"], ("dst",), packet("172.30.0.13", 30081)) is True


@pytest.mark.parametrize(
    ("name", "ways", "fields", "expected"),
    [
        ("ADDRESSES", "dst", packet("10.32.0.1"), True),
        ("ADDRESSES", "src", packet("10.32.0.1", src="10.32.0.2"), False),
        ("ADDRESSES", "dst", packet("fd00::1"), False),
        ("PORTS", "dst,dst", packet("10.32.0.10", 53, "sctp"), True),
        ("PORTS", "dst,dst", packet("10.32.0.10", 53, "tcp"), False),
        ("LOOP", "dst,dst,src", packet("10.244.3.3", 8080, src="10.244.3.3"), True),
        ("LOOP", "dst,dst,src", packet("10.244.3.3", 8080, src="10.244.3.4"), False),
        ("SOURCES", "dst,dst,src", packet("172.30.0.99", 80, src="192.0.2.5"), True),
        ("SOURCES", "dst,dst,src", packet("172.30.0.99", 80, src="192.0.2.200"), False),
        ("SOURCES", "dst,dst,src", packet("172.30.0.99", 80, src="198.51.100.7"), True),
        ("SOURCES", "dst,dst,src", packet("172.30.0.99", 81, src="192.0.2.5"), False),
        ("SOURCES", "dst,dst,src", packet("172.30.0.99", 80, src="192.0.2.9"), False),
        ("NODEPORTS", "dst", packet("172.30.0.13", 30080, "udp"), True),
        ("NETS", "dst", packet("fd00:1::7"), True),
        ("NETS", "dst", packet("10.0.0.1"), False),
        ("SIX", "dst,dst", packet("fd00:0:0::10", 443), True),
        # a field that is unknown decides nothing, unless no member fits what is known
        ("SOURCES", "dst,dst,src", packet("172.30.0.99", 80), None),
        ("SOURCES", "dst,dst,src", packet("172.30.0.98", 80), False),
        ("PORTS", "dst,dst", packet("10.32.0.10", 53, None), None),
        # types that are not tested here, and fewer directions than the set has
        ("SOME", "dst", packet("10.32.0.1"), None),
        ("CARDS", "src", packet(src="10.0.0.1"), None),
        ("LOOP", "dst", packet("10.244.3.3", 8080), None),
    ],
)
def test_membership(name: str, ways: str, fields, expected: bool | None) -> None:  # type: ignore[no-untyped-def]
    assert match(parse_ipset(SETS)[name], ways.split(","), fields) is expected


def test_options_of_members() -> None:
    first, second = parse_ipset(SETS)["PORTS"].members
    assert first.timeout == 41
    assert first.options[-1] == "the cluster's DNS, -j DROP"
    assert first.line == 4
    assert second.timeout == 0
    assert parse_ipset(SETS)["SOURCES"].members[1].nomatch


def test_an_empty_text_is_an_answer() -> None:
    assert parse_ipset("") == {}


CREATE = "create A hash:ip,port family inet\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CREATE + "add A 10.0.0.1,tcp:8", "line 2: .*cut off"),
        (CREATE + "add A 10.0.0.1\n", "line 2: .*2 parts"),
        (CREATE + "add A 10.0.0.1,tcp:eighty\n", "line 2: .*not a port"),
        (CREATE + "add A fd00::1,tcp:80\n", "line 2: .*family"),
        (CREATE + "add B 10.0.0.1,tcp:80\n", "line 2: set B was not created"),
        (CREATE + CREATE, "line 2: .*second time"),
        (CREATE + "add A 10.0.0.1,tcp:80 timeout\n", "line 2: the value of timeout"),
        (CREATE + 'add A 10.0.0.1,tcp:80 comment "open\n', "line 2: "),
        (CREATE + "\x7fELF\n", "line 2: neither create nor add"),
        ("create A hash\n", "line 1: a set is created"),
        ("Name: KUBE-CLUSTER-IP\nType: hash:ip,port\n", "line 1: .*looks like `ipset list`"),
        ((NODE / "iptables-save.txt").read_text(), "line 1: .*looks like `iptables-save`"),
        ((NODE / "ipvs-save.txt").read_text(), "line 1: .*looks like `ipvsadm -Sn`"),
    ],
)
def test_bad_saves_name_the_line(text: str, message: str) -> None:
    with pytest.raises(FactBroken, match=message):
        parse_ipset(text)


@given(
    st.sets(st.tuples(st.ip_addresses(v=4).map(str), st.integers(0, 65535)), max_size=8), st.ip_addresses(v=4).map(str)
)
def test_a_set_holds_what_was_added_and_nothing_else(members, other: str) -> None:  # type: ignore[no-untyped-def]
    text = CREATE + "".join(f"add A {address},tcp:{port}\n" for address, port in members)
    found = parse_ipset(text)["A"]
    assert all(match(found, ("dst", "dst"), packet(address, port)) is True for address, port in members)
    for port in {port for _, port in members} | {1}:
        assert match(found, ("dst", "dst"), packet(other, port)) is ((other, port) in members)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(FactBroken):
        parse_ipset(text)
