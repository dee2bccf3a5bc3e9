"""Each namespace of a plan, built by this kernel in fresh namespaces, reads back as it was recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from needs import need
from twin.made import dual_stack
from twin.spaces import Spaces

from k8snet_nb.facts import FactRef
from k8snet_nb.sources.base import Source
from k8snet_nb.sources.recorded import open_recording
from k8snet_nb.twin.model import LeftOut
from k8snet_nb.twin.planning.plan import plan_twin

pytestmark = need(root=True, commands=["ip", "bridge", "unshare", "setpriv"], kernel=["veth", "bridge"])

HELLO = Path(__file__).parents[2] / "k8snet_nb" / "data" / "hello-cluster"


class Built:
    """A source, its plan, its namespaces, and what the tools refused."""

    def __init__(self, source: Source) -> None:
        self.source, self.plan = source, plan_twin(source)
        self.spaces = Spaces()
        self.left: tuple[LeftOut, ...] = ()

    def recorded(self, fact: str, node: str, pod: str | None) -> list[dict[str, Any]]:
        ref = FactRef(fact, node, pod)
        return json.loads(self.source.read(ref)) if self.source.has(ref) else []

    def places(self) -> list[tuple[str, str, str | None]]:
        """(key, node, pod) of every namespace that was recorded."""
        nodes = [(node.name, node.name, None) for node in self.plan.nodes if not node.stand_in]
        inside = [(node, pod) for node in self.plan.nodes for pod in node.pods if pod.space]
        return [*nodes, *((pod.key, node.name, pod.key) for node, pod in inside)]


def _built(source: Source) -> Iterator[Built]:
    built = Built(source)
    try:
        built.left = built.spaces.twin(built.plan)
        yield built
    finally:
        built.spaces.close()


@pytest.fixture(scope="module")
def hello() -> Iterator[Built]:
    yield from _built(open_recording(HELLO))


@pytest.fixture(scope="module")
def dual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    yield from _built(open_recording(dual_stack(tmp_path_factory.mktemp("dual"))))


def link(item: dict[str, Any]) -> dict[str, Any]:
    """What of an interface is to be as recorded. Which namespace id the wire has is the kernel's choice."""
    slave = (item.get("linkinfo") or {}).get("info_slave_data") or {}
    kept = {key: item.get(key) for key in ("ifindex", "ifname", "mtu", "address", "master")}
    kept["up"] = "UP" in item["flags"]
    kept["hairpin"] = slave.get("hairpin", False)
    keys = ("family", "local", "address", "prefixlen", "scope", "broadcast", "label", "noprefixroute", "metric")
    kept["addresses"] = sorted(str([a.get(key) for key in keys]) for a in item["addr_info"])
    return kept


def routes(items: list[dict[str, Any]]) -> set[str]:
    """Routes of all tables; the kernel's anycast entries come and go with forwarding and are not compared."""
    keys = (
        "type",
        "dst",
        "gateway",
        "via",
        "dev",
        "table",
        "protocol",
        "scope",
        "prefsrc",
        "metric",
        "metrics",
        "pref",
    )
    found = set()
    for item in items:
        if item["type"] != "anycast":
            hops = [(hop.get("gateway"), hop.get("dev"), hop.get("weight")) for hop in item.get("nexthops") or ()]
            onlink = "onlink" in (item.get("flags") or ())
            found.add(str([item.get(key, "main" if key == "table" else None) for key in keys] + [onlink, hops]))
    return found


def check_links(built: Built) -> None:
    for key, node, pod in built.places():
        now = {item["ifname"]: item for item in built.spaces.read(key, "ip", "-d", "-j", "addr")}
        then = {item["ifname"]: item for item in built.recorded("addr.json", node, pod)}
        assert {name: link(item) for name, item in now.items()} == {name: link(item) for name, item in then.items()}
        for name, item in then.items():
            if item.get("link_index") and (pod or name.startswith(("veth", "cali"))):
                ends = ("link_index", "link_netnsid")
                assert [now[name].get(end) for end in ends] == [item.get(end) for end in ends], (key, name)


def check_routes(built: Built) -> None:
    for key, node, pod in built.places():
        for family, fact in (("-4", "route.json"), ("-6", "route6.json")):
            now = built.spaces.read(key, "ip", family, "-d", "-j", "route", "show", "table", "all")
            six = fact == "route6.json"
            then = [r for r in built.recorded(fact, node, pod) if six or ("pref" not in r and ":" not in r["dst"])]
            assert routes(now) == routes(then), (key, fact)


def test_hello_cluster_links(hello: Built) -> None:
    check_links(hello)


def test_hello_cluster_routes(hello: Built) -> None:
    check_routes(hello)


def test_hello_cluster_rules_and_namespace_ids(hello: Built) -> None:
    for key, node, pod in hello.places():
        assert hello.spaces.read(key, "ip", "-j", "rule") == hello.recorded("rule.json", node, pod)
    for node in ("node-one", "node-two"):
        then = {item["nsid"] for item in hello.recorded("nsid.json", node, None)}
        assert {item["nsid"] for item in hello.spaces.read(node, "ip", "-j", "netns", "list-id")} == then


def test_nothing_is_refused_but_what_this_kernel_lacks(hello: Built) -> None:
    """IPVS and its dummy interface belong into the guest, where this kernel has none."""
    strange = [left for left in hello.left if left.node != "node-three"]
    assert not strange
    assert all("net/ipv4/vs" in left.text or "no dummy" in left.why for left in hello.left)


def test_the_wire_leads_to_the_node_that_a_mark_names(hello: Built) -> None:
    for position, node in enumerate(hello.plan.nodes):
        address = node.space.links[1].addresses[0].split("/")[0]
        way = hello.spaces.read("wire", "ip", "-j", "route", "get", "10.32.62.13", "mark", str(1001 + position))
        assert way[0]["gateway"] == address
    assert hello.spaces.read("wire", "ip", "-j", "route", "get", "10.32.62.13") == []


def test_dual_stack_links_and_routes(dual: Built) -> None:
    assert dual.left == ()
    check_links(dual)
    check_routes(dual)


def test_dual_stack_rules_neighbours_and_forwarding_entries(dual: Built) -> None:
    def rules(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{k: v for k, v in item.items() if not k.endswith("detached")} for item in items]

    assert rules(dual.spaces.read("alpha", "ip", "-j", "rule")) == dual.recorded("rule.json", "alpha", None)
    near = {(n["dst"], n["dev"], n["lladdr"]) for n in dual.spaces.read("alpha", "ip", "-j", "neigh")}
    assert ("10.20.2.0", "flannel.1", "0e:00:00:00:02:99") in near
    entries = dual.spaces.read("alpha", "bridge", "-j", "fdb", "show", "dev", "flannel.1")
    assert {(e["mac"], e["dst"]) for e in entries if "dst" in e} == {("0e:00:00:00:02:99", "192.168.5.12")}
