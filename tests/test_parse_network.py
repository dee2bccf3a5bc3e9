from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import k8snet_nb
from k8snet_nb.errors import FactBroken
from k8snet_nb.facts import FactRef
from k8snet_nb.parse.links import parse_links, parse_routes
from k8snet_nb.parse.namespaces import parse_lsns, parse_nsid, parse_pod_processes, parse_processes
from k8snet_nb.parse.routing import parse_fdb, parse_neigh, parse_rules

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


@pytest.mark.parametrize("fact", sorted(PARSERS))
@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'[{"ifindex": 1,\n "ifname": ]', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'"text"', ""),
        (b"[1]", ""),
        (b"[" * 100_000, ""),
        (b'[{"ifindex": "x", "ifname": 2, "dst": 3, "nsid": "x", "pid": "x", "mac": 1, "priority": true}]', ""),
    ],
)
def test_what_is_not_the_fact_is_one_clear_error(fact: str, data: bytes, says: str) -> None:
    with pytest.raises(FactBroken, match="pod a/b on node-one") as caught:
        PARSERS[fact](data, FactRef(fact, "node-one", "a/b"))
    assert fact in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize("fact", sorted(PARSERS))
@settings(max_examples=30)
@given(data=st.binary() | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["ifindex", "ifname", "dst", "namespaces", "ns", "nsid", "pid", "addr_info", "flags"]), inner),
    max_leaves=8).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_no_input_raises_anything_else(fact: str, data: bytes) -> None:
    with contextlib.suppress(FactBroken):
        PARSERS[fact](data, FactRef(fact, "n"))


def test_empty_is_empty() -> None:
    assert parse_neigh(b"", FactRef("neigh.json", "n")) == parse_neigh(b"[{}]", FactRef("neigh.json", "n")) == ()
