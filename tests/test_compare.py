"""cluster.compare: nodes and modes side by side, and against the EndpointSlices."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from edited import as_json, cluster, slice_of, text
from translating import MODES, ONE, THREE, TWO

import k8snet_nb as kn


def test_compare_puts_nodes_and_modes_side_by_side(hello: kn.Cluster) -> None:
    rows = hello.compare("default/hello-world")
    assert list(rows.columns) == "node mode port family action endpoints shares masquerade affinity same says".split()
    assert dict(zip(rows.node, rows["mode"], strict=True)) == MODES
    assert rows.same.tolist() == [True] * 3
    assert all(set(row.values()) == {Fraction(1, 4)} and len(row) == 4 for row in rows.shares)
    assert set(rows.says) == {"as the EndpointSlices say"}
    local = hello.compare("default/hello-local", entry="node_port").set_index("node")
    assert local.endpoints.to_dict() == {ONE: 2, TWO: 2, THREE: 4}
    assert local.same.tolist() == [True] * 3
    assert len(hello.compare("kube-system/kube-dns")) == 9
    assert len(hello.compare("kube-system/kube-dns", port="metrics")) == 3
    assert hello.compare("default/orphan", port=80).action.tolist() == ["reject"] * 3
    assert hello.compare("default/orphan", port=80).same.tolist() == [True] * 3


def test_compare_says_what_differs_from_the_slices() -> None:
    def one_less(listing: Any) -> None:
        slice_of(listing, "hello-world")["endpoints"].pop(0)

    rows = cluster({"endpointslices": as_json(one_less)}).compare("default/hello-world")
    assert rows.same.tolist() == [False] * 3
    assert set(rows.says) == {"in no EndpointSlice: 10.244.18.3:8080"}


def test_compare_says_that_shares_are_uneven() -> None:
    def skew(lines: list[str]) -> list[str]:
        at = next(i for i, line in enumerate(lines) if "-A KUBE-SVC-NOIMA" in line and "--probability 0.25" in line)
        return [*lines[:at], lines[at].replace("y 0.25000000000", "y 0.10000000000"), *lines[at + 1 :]]

    rows = cluster({f"{ONE}/iptables-save.txt": text(skew)}).compare("default/hello-world").set_index("node")
    assert rows.same.to_dict() == {ONE: False, TWO: True, THREE: True}
    assert "uneven shares: 1/10 (10%) to 10.244.18.3:8080" in rows.says[ONE]
    assert "instead of 1/4 (25%) each" in rows.says[ONE]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--dport 80 ", "--dport eighty "),
        ("-d 10.32.62.13/32", "-d 10.32.62.999/32"),
        ("--to-destination 10.244.18.3:8080", "--to-destination 10.244.18.999:8080"),
    ],
)
def test_values_that_cannot_be_read_are_no_drift(old: str, new: str) -> None:
    """The line is named, and what it would say is not held against the node."""

    def damage(lines: list[str]) -> list[str]:
        wanted = "-A KUBE-SEP-" if "10.244" in old else "-A KUBE-SERVICES -d 10.32.62.13/32"
        at = next(i for i, line in enumerate(lines) if wanted in line and old in line)
        numbers.append(at + 1)
        return [*lines[:at], lines[at].replace(old, new), *lines[at + 1 :]]

    numbers: list[int] = []
    damaged = cluster({f"{ONE}/iptables-save.txt": text(damage)})
    rows = damaged.drift(ONE)
    assert rows.code.tolist() == ["NOT_CHECKED"]
    assert f"line {numbers[0]}:" in rows.says[0]
    answer = damaged.translate("default/hello-world", node=ONE)
    assert any(f"line {numbers[0]}" in why or new in why for why in answer.unknown), answer.unknown


def test_compare_of_what_another_proxy_programs() -> None:
    def label(listing: Any) -> None:
        service = next(item for item in listing["items"] if item["metadata"]["name"] == "hello-world")
        service["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "other"}

    rows = cluster({"services": as_json(label)}).compare("default/hello-world")
    assert rows.same.tolist() == [False] * 3  # the rules are still there
    assert all("kube-proxy is not asked" in says for says in rows.says)


def test_refused_combinations_are_rows_not_errors(hello: kn.Cluster) -> None:
    rows = hello.compare("default/hello-world", entry="node_port")
    assert set(rows.action) == {"unknown"}
    assert all("no IPv4 node_port" in says for says in rows.says)
