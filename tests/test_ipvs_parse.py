"""ipvsadm's four listings: every form that version 1.31 prints, and what must not pass for one."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8snet_nb.errors import FactBroken
from k8snet_nb.parse.ipvs import parse_rules
from k8snet_nb.parse.ipvs_listing import Connections, parse_connections, parse_stats, parse_table

NODE = Path(__file__).parent.parent / "k8snet_nb/data/hello-cluster/nodes/node-three"

RULES = """\
-A -t 10.0.0.1:80 -s rr
-a -t 10.0.0.1:80 -r 10.1.0.1:8080 -m -w 1
-a -t 10.0.0.1:80 -r 10.1.0.2:8080 -m -w 0
-A -t 10.0.0.2:80 -s wrr -p 600 -M 255.255.255.0
-a -t 10.0.0.2:80 -r 10.1.0.1:80 -g -w 3
-a -t 10.0.0.2:80 -r 10.1.0.2:80 -i -w 2 --tun-type gue --tun-port 6080 --tun-nocsum
-A -u 10.0.0.1:53 -s sh -o -b sh-fallback,sh-port
-A -u 10.0.0.12:5060 -s rr -p 60 --pe sip
-A --sctp-service 10.0.0.1:99 -s rr
-a --sctp-service 10.0.0.1:99 -r 10.1.0.9:99 -m -w 1
-A -t [fd00:1234::9abc]:65535 -s wlc -p 10 -M 64
-a -t [fd00:1234::9abc]:65535 -r [fd00:1234::1]:8080 -m -w 1
-A -f 7 -s lc
-a -f 7 -r 10.1.0.9:99 -m -w 1
-A -f 8 -6 -s lc -p 360 -M 64
-a -f 8 -6 -r [fd00::9]:0 -m -w 1
"""

TABLE = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.0.0.1:80 rr
  -> 10.1.0.1:8080                Masq    1      3          12        
  -> 10.1.0.2:8080                Masq    0      0          1         
TCP  10.0.0.2:80 wrr persistent 600 mask 255.255.255.0
  -> 10.1.0.1:80                  Route   3      0          0         
  -> 10.1.0.2:80                  Tunnel  2      0          0         
UDP  10.0.0.1:53 sh (sh-fallback,sh-port) ops
UDP  10.0.0.12:5060 rr persistent 60 pe sip
SCTP 10.0.0.1:99 rr
  -> 10.1.0.9:99                  Masq    1      0          0         
TCP  [fd00:1234::9abc]:65535 wlc persistent 10 mask 64
  -> [fd00:1234::1]:8080          Masq    1      0          0         
FWM  7 lc
  -> 10.1.0.9:99                  Masq    1      0          0         
FWM  8 IPv6 lc persistent 360 mask 64
  -> [fd00::9]:0                  Masq    1      0          0         
"""  # noqa: W291 - ipvsadm fills its columns with blanks


def test_rules_of_the_recorded_node() -> None:
    servers = parse_rules((NODE / "ipvs-save.txt").read_bytes())
    assert len(servers) == 18
    assert sum(len(virtual.servers) for virtual in servers) == 49
    sticky = next(virtual for virtual in servers if virtual.address == "10.32.91.161")
    assert (sticky.scheduler, sticky.persistent, sticky.text) == ("rr", 600, "-A -t 10.32.91.161:80 -s rr -p 600")
    assert [virtual.name for virtual in servers if not virtual.servers] == [
        "tcp 10.32.22.26:80",
        "tcp 10.32.22.26:9000",
        "tcp 10.32.35.27:80",
    ]


def test_rules_of_every_form() -> None:
    plain, wrr, hashed, engine, sctp, six, mark, mark6 = parse_rules(RULES)
    assert [(s.address, s.port, s.weight, s.forward) for s in plain.servers] == [
        ("10.1.0.1", 8080, 1, "Masq"),
        ("10.1.0.2", 8080, 0, "Masq"),
    ]
    assert (wrr.persistent, wrr.netmask) == (600, "255.255.255.0")
    assert [s.forward for s in wrr.servers] == ["Route", "Tunnel"]
    assert wrr.servers[1].tunnel == ("--tun-type", "gue", "--tun-port", "6080", "--tun-nocsum")
    assert hashed.flags == ("sh-fallback", "sh-port")
    assert hashed.one_packet
    assert engine.engine == "sip"
    assert sctp.protocol == "sctp"
    assert sctp.servers[0].port == 99
    assert (six.family, six.address, six.port, six.netmask) == (6, "fd00:1234::9abc", 65535, "64")
    assert (mark.fwmark, mark.address, mark.family, mark.name) == (7, None, 4, "fwmark 7")
    assert (mark6.family, mark6.servers[0].address) == (6, "fd00::9")
    assert wrr.line == 4
    assert wrr.servers[1].line == 6


def test_marks_of_the_two_families_are_two_virtual_servers() -> None:
    text = "-A -f 8 -6 -s rr\n-A -f 8 -s rr\n-a -f 8 -r 10.1.0.9:99 -m -w 1\n-a -f 8 -6 -r [fd00::9]:0 -m -w 1\n"
    six, four = parse_rules(text)
    assert [server.address for server in six.servers] == ["fd00::9"]
    assert [server.address for server in four.servers] == ["10.1.0.9"]


def test_the_table_says_the_same_as_the_rules_and_counts_connections() -> None:
    rules, table = parse_rules(RULES), parse_table(TABLE)
    for one, other in zip(rules, table, strict=True):
        assert one.identity == other.identity
        assert (one.scheduler, one.persistent, one.netmask, one.flags, one.engine, one.one_packet) == (
            other.scheduler,
            other.persistent,
            other.netmask,
            other.flags,
            other.engine,
            other.one_packet,
        )
        assert [(s.address, s.port, s.weight, s.forward) for s in one.servers] == [
            (s.address, s.port, s.weight, s.forward) for s in other.servers
        ]
    assert [(s.active, s.inactive) for s in table[0].servers] == [(3, 12), (0, 1)]


def test_counters_of_the_recorded_node() -> None:
    counted = {stats.identity.address: stats for stats in parse_stats((NODE / "ipvs-stats.txt").read_bytes())}
    world = counted["10.32.62.13"]
    assert (world.total.connections, world.total.in_bytes, world.total.out_bytes) == (6, 2052, 3030)
    assert [(address, c.connections) for address, _, c in world.servers] == [
        ("10.244.3.3", 2),
        ("10.244.3.4", 2),
        ("10.244.18.3", 1),
        ("10.244.18.4", 1),
    ]


def test_connections_of_the_recorded_node() -> None:
    table = parse_connections((NODE / "ipvs-connections.txt").read_bytes())
    assert len(table) == 6
    assert set(table.state) == {"TIME_WAIT"}
    assert table.expires[0] == 114
    # the client on the node itself has the virtual address as its source
    assert set(table.client) == set(table.virtual) == {"10.32.62.13"}
    assert table.server[0] == "10.244.18.3"
    assert table.server_port[0] == 8080


def test_connections_of_ipv6_and_of_a_persistence_template() -> None:
    head = "IPVS connection entries\npro expire state       source             virtual            destination\n"
    table = parse_connections(
        head
        + "TCP 14:58  ESTABLISHED [fd00::2]:4000     [fd00::1]:80       [fd00::9]:8080\n"
        + "TCP 180:00 NONE        10.0.0.9:0         10.32.91.161:80    10.244.3.3:8080\n"
    )
    assert table.client == ("fd00::2", "10.0.0.9")
    assert table.client_port == (4000, 0)
    assert table.expires == (898, 10800)


@pytest.mark.parametrize("parse", [parse_rules, parse_table, parse_stats])
def test_an_empty_text_is_an_answer(parse) -> None:  # type: ignore[no-untyped-def]
    assert parse("") == ()
    assert parse_connections("") == Connections()


def test_a_table_without_virtual_servers() -> None:
    assert parse_table("\n".join(TABLE.split("\n")[:3]) + "\n") == ()


RULE = "-A -t 10.0.0.1:80 -s rr\n"
BAD_RULES = {
    "cut in a word": (
        RULE + "-a -t 10.0.0.1:80 -r 10.1.0.1:8080 -m -w 1\n-a -t 10.0.",
        "line 3: the last line has no end",
    ),
    "cut between words": (RULE + "-a -t 10.0.0.1:80 -r 10.1.0.1:8080 -m\n", "line 2: .*without its forwarding"),
    "no value": (RULE + "-a -t 10.0.0.1:80 -r 10.1.0.1:8080 -m -w\n", "line 2: the line ends where the value of -w"),
    "garbage": (RULE + "\x00\x01 hello\n", "line 2: neither -A"),
    "no scheduler": ("-A -t 10.0.0.1:80\n", "line 1: .*scheduler"),
    "names": ("-A -t webserver:http -s rr\n", "line 1: .*in numbers"),
    "port": ("-A -t 10.0.0.1:99999 -s rr\n", "line 1: .*99999"),
    "orphan": ("-a -t 10.0.0.1:80 -r 10.1.0.1:8080 -m -w 1\n", "line 1: .*not defined before"),
    "twice": (RULE + RULE, "line 2: .*second time"),
    "brackets": ("-A -t fd00::1:80 -s rr\n", "line 1: .*brackets"),
    "weight": (RULE + "-a -t 10.0.0.1:80 -r 10.1.0.1:8080 -m -w -1\n", "line 2: .*not a number"),
    "option": ("-A -t 10.0.0.1:80 -s rr -z\n", "line 1: unknown option"),
}


@pytest.mark.parametrize("name", BAD_RULES)
def test_bad_rules_name_the_line(name: str) -> None:
    text, message = BAD_RULES[name]
    with pytest.raises(FactBroken, match=message):
        parse_rules(text)


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(FactBroken, match="is not text"):
        parse_rules(b"-A -t \xff\xfe\n")


@pytest.mark.parametrize(
    ("parse", "text", "seen", "wanted"),
    [
        (parse_rules, TABLE, "ipvsadm -Ln", "ipvsadm -Sn"),
        (parse_table, RULES, "ipvsadm -Sn", "ipvsadm -Ln"),
        (parse_table, (NODE / "ipvs-stats.txt").read_text(), "ipvsadm -Ln --stats --exact", "ipvsadm -Ln"),
        (parse_stats, TABLE, "ipvsadm -Ln", "ipvsadm -Ln --stats --exact"),
        (parse_rules, (NODE / "ipvs-connections.txt").read_text(), "ipvsadm -Lnc", "ipvsadm -Sn"),
        (parse_rules, (NODE / "iptables-save.txt").read_text(), "iptables-save", "ipvsadm -Sn"),
        (parse_connections, (NODE / "ipset.txt").read_text(), "ipset save", "ipvsadm -Lnc"),
    ],
)
def test_the_output_of_another_command_is_named(parse, text: str, seen: str, wanted: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FactBroken) as caught:
        parse(text, "node-three")
    assert f"looks like `{seen}`, the fact wants `{wanted}`" in str(caught.value)
    assert "node-three" in str(caught.value)


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_table, TABLE.replace("Masq    1      3          12        ", "Masq    1"), "line 5: .*ActiveConn"),
        (parse_table, TABLE.replace("Masq    1      3 ", "Mask    1      3 "), "line 5: unknown forwarding"),
        (parse_table, TABLE.replace("TCP  10.0.0.1:80 rr\n", ""), "line 4: a real server before any"),
        (parse_table, "IP Virtual Server version 1.2.1 (size=4096)\n", "line 2: the title line"),
        (parse_stats, (NODE / "ipvs-stats.txt").read_text().replace("     3030", "    3030K"), "line 40: rounded"),
        (parse_stats, (NODE / "ipvs-stats.txt").read_text()[:-9] + "\n", "line 70: five counters"),
        (parse_connections, (NODE / "ipvs-connections.txt").read_text()[:-30] + "\n", "line 8: "),
    ],
)
def test_bad_listings_name_the_line(parse, text: str, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FactBroken, match=message):
        parse(text)


_ADDRESS = st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(lambda address: f"[{address}]")
_ENDPOINT = st.tuples(_ADDRESS, st.integers(0, 65535)).map(lambda pair: f"{pair[0]}:{pair[1]}")


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["-t", "-u", "--sctp-service"]), _ENDPOINT),
        st.lists(st.tuples(_ENDPOINT, st.sampled_from(["-m", "-g", "-i"]), st.integers(0, 65535)), max_size=4),
        max_size=4,
    )
)
def test_what_is_printed_is_read_back(services) -> None:  # type: ignore[no-untyped-def]
    lines = []
    for (kind, name), servers in services.items():
        lines.append(f"-A {kind} {name} -s rr")
        lines += [f"-a {kind} {name} -r {server} {forward} -w {weight}" for server, forward, weight in servers]
    text = "".join(line + "\n" for line in lines)
    found = parse_rules(text)
    assert [line for virtual in found for line in (virtual.text, *(s.text for s in virtual.servers))] == lines
    assert [len(virtual.servers) for virtual in found] == [len(servers) for servers in services.values()]


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_rules, parse_table, parse_stats, parse_connections):
        with contextlib.suppress(FactBroken):
            parse(text)
