"""The search list: which questions in which order. The C libraries themselves are asked in test_libc_truth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8snet_nb.explain.names import Libc, askable, cost, is_address, libc_differences, plan, search_expansion
from k8snet_nb.parse.resolv_conf import parse_resolv_conf

POD = parse_resolv_conf(
    "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.32.0.10\noptions ndots:5\n"
)


def names(name: str, libc: Libc = "glibc", text: str = "") -> list[str]:
    conf = parse_resolv_conf(text) if text else POD
    return [query.name for query in search_expansion(name, conf, libc) if query.type == "A"]


def test_a_short_name() -> None:
    found = search_expansion("hello-world", POD)
    assert [(query.name, query.type) for query in found] == [
        ("hello-world.default.svc.cluster.local.", "A"),
        ("hello-world.default.svc.cluster.local.", "AAAA"),
        ("hello-world.svc.cluster.local.", "A"),
        ("hello-world.svc.cluster.local.", "AAAA"),
        ("hello-world.cluster.local.", "A"),
        ("hello-world.cluster.local.", "AAAA"),
        ("hello-world.", "A"),
        ("hello-world.", "AAAA"),
    ]
    assert found[0].via == "default.svc.cluster.local"
    assert found == search_expansion("hello-world", POD, "musl")


def test_ndots_and_the_trailing_dot() -> None:
    assert names("a.b.c.d.e.f")[0] == "a.b.c.d.e.f."
    assert len(names("a.b.c.d.e.f")) == 4
    assert names("a.b.c.d.e.f", "musl") == ["a.b.c.d.e.f."]
    assert names("example.com.") == ["example.com."]
    assert names("kubernetes.default")[-1] == "kubernetes.default."
    assert names("a", text="nameserver 1.1.1.1") == ["a."]
    assert names("a.b", text="search x.test") == ["a.b.", "a.b.x.test."]
    assert names("a", text="search x.test\noptions ndots:0") == ["a.", "a.x.test."]


def test_an_address_asks_nothing() -> None:
    assert [
        name for name in ("10.0.0.1", "10.1", "::1", "fe80::1%eth0", "0x7f000001", "127") if search_expansion(name, POD)
    ] == []
    assert is_address("10.0.0.1")
    assert not is_address("10.0.0.1.nip.test")
    assert not is_address("a")
    assert search_expansion("", POD) == []


def test_round_trips() -> None:
    inside = cost("hello-world", POD, found_at="hello-world.default.svc.cluster.local.")
    other = cost("cart.shop", POD, found_at="cart.shop.svc.cluster.local.")
    outside = cost("example.com", POD, found_at="example.com.")
    assert (inside.tries, inside.queries, inside.round_trips) == (1, 2, 1)
    assert (other.queries, other.round_trips) == (4, 2)
    assert (outside.queries, outside.round_trips) == (8, 4)
    assert cost("example.com.", POD).queries == 2
    alone = parse_resolv_conf("search a b c\noptions ndots:5 single-request\n")
    assert cost("x", alone).round_trips == 8
    assert cost("x", alone, "musl").round_trips == 4


def test_differences_are_said() -> None:
    assert len(libc_differences("hello", POD)) == 1
    assert "NXDOMAIN" in libc_differences("hello", POD)[0]
    assert "glibc asks up to 8 questions, musl 2" in libc_differences("a.b.c.d.e.f", POD)[0]
    text = "nameserver 1.1.1.1\nnameserver 1.1.1.2\noptions rotate no-aaaa\n"
    assert len(libc_differences("a.", parse_resolv_conf(text))) == 3
    assert libc_differences("a.", POD) == ()


def test_options_of_glibc() -> None:
    text = "search a.test\noptions ndots:5 no-aaaa"
    assert [query.type for query in search_expansion("x", parse_resolv_conf(text))] == ["A", "A"]
    assert len(search_expansion("x", parse_resolv_conf(text), "musl")) == 4
    assert names("x", text="search a.test\noptions ndots:5 no-tld-query") == ["x.a.test."]
    assert names("x", text="search . a.test\noptions ndots:5") == ["x.", "x.a.test."]


def test_what_does_not_fit_into_a_question() -> None:
    long = ".".join(["x" * 60] * 4)
    assert askable(long)
    assert names(long) == [long + "."]
    assert "glibc" not in plan(long, POD).why
    assert search_expansion("x" * 64, POD) == []
    assert search_expansion("a..b", POD) == []
    two = f"search {'y' * 60}.{'z' * 60} b.test\nnameserver 1.1.1.1\noptions ndots:5"
    wide = ".".join(["x" * 60] * 3)
    assert names(wide, text=two) == [wide + "."]
    assert names(wide, "musl", text=two) == [wide + ".b.test.", wide + "."]


NAME = st.from_regex(r"[a-z0-9-]{1,10}(\.[a-z0-9-]{1,10}){0,6}\.?", fullmatch=True).filter(
    lambda name: not is_address(name)
)
DOMAINS = st.lists(st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8}){0,3}", fullmatch=True), max_size=6)


@given(NAME, DOMAINS, st.integers(0, 15), st.sampled_from(["glibc", "musl"]))
@pytest.mark.parametrize("types", [("A", "AAAA"), ("SRV",)])
def test_laws_of_the_expansion(types: tuple[str, ...], name: str, domains: list[str], ndots: int, libc: Libc) -> None:
    conf = parse_resolv_conf(f"search {' '.join(domains)}\noptions ndots:{ndots}\n")
    found = search_expansion(name, conf, libc, types)
    asked = [query.name for query in found[:: len(types)]]
    given_name = name.rstrip(".") + "."
    dots = name.count(".")
    assert all(query.name.endswith(".") and askable(query.name) for query in found)
    assert [query.type for query in found] == list(types) * len(asked)
    assert asked.count(given_name) >= 1, "the name itself is always tried"
    if name.endswith("."):
        assert asked == [name]
    elif dots >= ndots:
        assert asked[0] == given_name
        assert len(asked) == (1 if libc == "musl" else 1 + len(domains))
    else:
        assert asked == [f"{name}.{domain}." for domain in domains] + [given_name]
    assert cost(name, conf, libc, types).queries == len(found)
