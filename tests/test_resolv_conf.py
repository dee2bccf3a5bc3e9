"""resolv.conf as the C library reads it; glibc itself is asked in test_libc_truth."""

from __future__ import annotations

import socket

from hypothesis import given
from hypothesis import strategies as st

from k8snet_nb.parse.resolv_conf import MAX_NDOTS, MAX_SERVERS, ipv4_address, parse_resolv_conf, server_address

KUBELET = "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.32.0.10\noptions ndots:5\n"


def whys(text: str) -> list[tuple[int, str]]:
    return [(problem.line, problem.why) for problem in parse_resolv_conf(text).problems]


def test_what_the_kubelet_writes() -> None:
    conf = parse_resolv_conf(KUBELET)
    assert conf.nameservers == ("10.32.0.10",)
    assert conf.search == ("default.svc.cluster.local", "svc.cluster.local", "cluster.local")
    assert (conf.ndots, conf.timeout, conf.attempts, conf.flags, conf.problems) == (5, 5, 2, (), ())
    assert conf.quote("options") == ("options ndots:5",)


def test_an_empty_file_means_the_local_host() -> None:
    conf = parse_resolv_conf(b"# nothing\n")
    assert (conf.nameservers, conf.server_default, conf.search, conf.ndots) == (("127.0.0.1",), True, (), 1)
    assert conf.problems == ()


def test_limits_of_glibc() -> None:
    servers = "".join(f"nameserver 10.0.0.{n}\n" for n in range(5))
    conf = parse_resolv_conf(servers + "options ndots:99 timeout:99 attempts:99\n")
    assert conf.nameservers == ("10.0.0.0", "10.0.0.1", "10.0.0.2")
    assert conf.unused_nameservers == ("10.0.0.3", "10.0.0.4")
    assert (conf.ndots, conf.timeout, conf.attempts) == (15, 30, 5)
    assert [line for line, _ in whys(servers)] == [4, 5]


def test_the_last_search_or_domain_line_counts() -> None:
    assert parse_resolv_conf("search a b\nsearch c d\n").search == ("c", "d")
    assert parse_resolv_conf("search a b\ndomain c d\n").search == ("c",)
    assert parse_resolv_conf("domain a\nsearch b\n").search == ("b",)
    assert whys("search a\ndomain b\n")[0][0] == 2
    assert parse_resolv_conf("search a\nsearch \n").search == ("a",)


def test_lines_that_do_not_do_what_they_seem_to() -> None:
    lines = ["nameserver dns.test", " nameserver 1.1.1.1", "nameservers 1.1.1.1"]
    found = dict(whys("\n".join([*lines, "search a # b", "options ndot:3 debug", "options", ""])))
    assert sorted(found) == [1, 2, 3, 4, 5, 6]
    assert "not an address" in found[1]
    assert "start of a line" in found[2]
    assert "not a keyword" in found[3]
    assert "comment" in found[4]
    assert "without a value" in found[6]
    assert parse_resolv_conf("search a # b\n").search == ("a", "#", "b")
    assert "whole number" in whys("options ndots:five\n")[0][1]
    assert "no query at all" in dict(whys("options attempts:0\n"))[1]
    assert whys("nameserver 1.1.1.1\r\n")[0][0] == 1


def test_options() -> None:
    conf = parse_resolv_conf("options rotate single-request-reopen use-vc\noptions edns0 trust-ad no-aaaa rotate\n")
    assert conf.flags == ("rotate", "single-request-reopen", "use-vc", "edns0", "trust-ad", "no-aaaa")
    assert parse_resolv_conf("options timeout:0").timeout == 1


def test_addresses() -> None:
    assert server_address("10.1") == "10.0.0.1"
    assert server_address("FD00::0001") == "fd00::1"
    assert server_address("fe80::1%eth0 rest") == "fe80::1%eth0"
    assert server_address("") is None
    assert server_address("1.2.3.4x") is None


LINES = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.builds(
            lambda keyword, words: " ".join([keyword, *words]),
            st.sampled_from(["nameserver", "search", "domain", "options", "sortlist", "#", ";"]),
            st.lists(
                st.sampled_from(["1.1.1.1", "fd00::1", "a.test", "ndots:7", "timeout:x", "rotate", "\0", "%"]),
                max_size=5,
            ),
        ),
    ),
    max_size=12,
)


@given(LINES)
def test_any_file_is_read_within_the_limits(lines: list[str]) -> None:
    text = "\n".join(lines)
    conf = parse_resolv_conf(text)
    assert 1 <= len(conf.nameservers) <= MAX_SERVERS
    assert 0 <= conf.ndots <= MAX_NDOTS
    assert 1 <= conf.timeout <= 30
    assert all(1 <= problem.line <= len(conf.lines) + 1 for problem in conf.problems)
    assert parse_resolv_conf(text.encode("utf-8", "surrogateescape")) == conf


@given(st.binary(max_size=200))
def test_any_bytes_are_read(data: bytes) -> None:
    assert parse_resolv_conf(data).nameservers


@given(
    st.lists(st.ip_addresses(v=4).map(str), min_size=1, max_size=3),
    st.lists(st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8}){0,3}", fullmatch=True), min_size=1, max_size=6),
    st.integers(0, 15),
)
def test_a_clean_file_says_what_was_written(servers: list[str], search: list[str], ndots: int) -> None:
    text = f"search {' '.join(search)}\n" + "".join(f"nameserver {s}\n" for s in servers) + f"options ndots:{ndots}\n"
    conf = parse_resolv_conf(text)
    assert (conf.nameservers, conf.search, conf.ndots, conf.problems) == (tuple(servers), tuple(search), ndots, ())


@given(
    st.text("0123456789abfxX.", max_size=14) | st.from_regex(r"(0x|0)?[0-9a-f]{1,4}(\.[0-9]{1,3}){0,4}", fullmatch=True)
)
def test_ipv4_addresses_are_read_as_inet_aton_reads_them(text: str) -> None:
    try:
        wanted: str | None = socket.inet_ntoa(socket.inet_aton(text))
    except OSError:
        wanted = None
    assert ipv4_address(text) == wanted
