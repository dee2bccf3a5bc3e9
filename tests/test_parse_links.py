from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import k8snet_nb
from k8snet_nb.errors import FactBroken
from k8snet_nb.facts import FactRef
from k8snet_nb.parse.links import parse_links
from k8snet_nb.parse.namespaces import parse_lsns, parse_nsid, parse_pod_processes, parse_processes
from k8snet_nb.parse.routing import parse_fdb, parse_neigh, parse_routes, parse_rules

HELLO = Path(next(iter(k8snet_nb.__path__))) / "data" / "hello-cluster" / "nodes"
PARSERS: dict[str, Callable[[bytes, FactRef], Any]] = {
    "addr.json": parse_links,
    "route.json": parse_routes,
    "route6.json": parse_routes,
    "rule.json": parse_rules,
    "neigh.json": parse_neigh,
    "fdb.json": parse_fdb,
    "nsid.json": parse_nsid,
    "lsns.json": parse_lsns,
    "processes.json": parse_processes,
    "pod.json": parse_pod_processes,
}


def test_every_recorded_fact_is_read_whole() -> None:
    read = 0
    for path in HELLO.rglob("*.json"):
        if path.name in PARSERS:
            data = path.read_bytes()
            values = PARSERS[path.name](data, FactRef(path.name, "n"))
            raw = json.loads(data)
            expected = raw["namespaces"] if path.name == "lsns.json" else raw
            if path.name != "pod.json":
                assert len(values) == len(expected), path
                read += 1
    assert read > 90


def test_a_recorded_interface() -> None:
    links = parse_links((HELLO / "node-one/addr.json").read_bytes(), FactRef("addr.json", "node-one"))
    veth = links[3]
    assert (veth.ifindex, veth.name, veth.kind, veth.link_index, veth.link_netnsid, veth.master) == (
        4, "veth554a505b", "veth", 2, 1, "cni0",
    )  # fmt: skip
    assert [str(address) for address in links[2].addresses][0] == "10.244.18.1/24"
    assert links[0].loopback and links[1].up and veth.evidence_line().endswith('"linkinfo": {"info_kind": "veth"}}')


@pytest.mark.parametrize("fact", sorted(PARSERS))
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'[{"ifindex": 1,\n "ifname": ]', "line 2"),
        (b"\xff\xfe", "is not JSON"),
        (b'"text"', ""),
        (b"[1]", ""),
        (b"[" * 100_000, ""),
        (b'[{"ifindex": "1", "ifname": 2, "dst": 3, "nsid": "x", "pid": "x", "mac": 1, "priority": true}]', ""),
    ],
)
def test_what_is_not_the_fact_is_one_clear_error(fact: str, data: bytes, says: str) -> None:
    with pytest.raises(FactBroken, match="pod a/b on node-one") as caught:
        PARSERS[fact](data, FactRef(fact, "node-one", "a/b"))
    assert fact in str(caught.value) and says in str(caught.value)


@pytest.mark.parametrize("fact", sorted(PARSERS))
@given(data=st.binary() | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["ifindex", "ifname", "dst", "namespaces", "ns", "nsid", "pid", "addr_info", "flags"]), inner),
    max_leaves=8).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_input_raises_anything_else(fact: str, data: bytes) -> None:
    try:
        PARSERS[fact](data, FactRef(fact, "n"))
    except FactBroken:
        pass


def test_empty_is_empty_and_a_second_ifindex_is_not_hidden() -> None:
    assert parse_neigh(b"", FactRef("neigh.json", "n")) == parse_neigh(b"[{}]", FactRef("neigh.json", "n")) == ()
    with pytest.raises(FactBroken, match="second time"):
        parse_links(b'[{"ifindex": 1, "ifname": "a"}, {"ifindex": 1, "ifname": "b"}]', FactRef("addr.json", "n"))


def test_host_routes() -> None:
    routes = parse_routes(
        b'[{"dst": "10.0.0.4", "dev": "v"}, {"dst": "10.0.0.0/24"}, {"dst": "default", "gateway": "fe80::1"},'
        b' {"dst": "fd00::1/128"}, {"dst": "fd00::2"}]',
        FactRef("route.json", "n"),
    )
    assert [route.host for route in routes] == ["10.0.0.4", None, None, "fd00::1", "fd00::2"]
    assert [route.family for route in routes] == ["inet", "inet", "inet6", "inet6", "inet6"]
