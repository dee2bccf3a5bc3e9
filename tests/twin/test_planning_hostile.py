"""A plan of a twin from a hostile or damaged recording: only checked words come out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twin.made import LO, Made, four, link
from twin.planned import HELLO, changed

from k8snet_nb.render import printable
from k8snet_nb.sources.recorded import open_recording
from k8snet_nb.twin import words
from k8snet_nb.twin.links import work_for
from k8snet_nb.twin.model import TwinPlan
from k8snet_nb.twin.planning.links import MOST_LINKS
from k8snet_nb.twin.planning.plan import plan_twin

# hostile recordings

_SAFE = re.compile(r"[A-Za-z0-9._@:/,\[\]-]+", re.ASCII)


def everything(plan: TwinPlan) -> Iterable[str]:
    """Every word of a plan that reaches a tool, a path or the kernel."""
    spaces = [(None, plan.wire), *((n, n.space) for n in plan.nodes)]
    spaces += [(None, p.space) for n in plan.nodes for p in n.pods if p.space]
    for owner, space in spaces:
        work = work_for(space, lambda _: 7, owner.pods if owner else ())
        for batch in (work.make, *work.lay):
            for line in batch.lines:
                assert "\n" not in line.text
                yield from line.text.split(" ")
                yield from (line.otherwise or "-").split(" ")
        for path, value in work.sysctls:
            assert path.startswith("net/")
            assert ".." not in path.split("/")
            yield path
            yield value
    for n in plan.nodes:
        yield n.name
        for p in n.pods:
            assert ".." not in p.cgroup
            yield from (p.key, p.netns or "-")
        for s in (*n.listeners, *(one for p in n.pods for one in p.listeners), *plan.wire_listeners):
            yield from (s.protocol, s.address, str(s.port), s.kind, s.says)


def check_words(plan: TwinPlan) -> None:
    for word in everything(plan):
        assert _SAFE.fullmatch(word), word
    for left in plan.left_out:
        assert printable(left.text + left.why) == left.text + left.why
        assert len(left.text) <= 200


BAD_NAMES = [
    "a\nlink add x",
    "-force",
    "",
    ".",
    "..",
    "a/b",
    "x" * 16,
    "a b",
    "é",
    "a;b",
    "all",
    "default",
    "a\0b",
    "$x",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_interface_names_are_left_out(name: object) -> None:
    def rename(links: list[dict[str, Any]]) -> None:
        links[3]["ifname"] = name

    plan = plan_twin(changed({"node-one/addr.json": rename}), ["node-one"])
    check_words(plan)
    assert any(left.node == "node-one" and left.fact == "addr.json" for left in plan.left_out)
    with pytest.raises(ValueError, match=re.escape("interface name")):
        words.interface_name(name)


def _set(path: list[Any], value: object) -> Callable[[Any], None]:
    def change(items: Any) -> None:
        for key in path[:-1]:
            items = items[key]
        items[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("fact", "path", "value"),
    [
        ("addr", [2, "address"], "46:3a:b7:58:81:be index 9"),
        ("addr", [2, "mtu"], 10**9),
        ("addr", [2, "ifindex"], 10**12),
        ("addr", [2, "ifindex"], -1),
        ("addr", [2, "linkinfo", "info_kind"], "bridge type dummy"),
        ("addr", [2, "linkinfo", "info_kind"], "wireguard"),
        ("addr", [2, "addr_info", 0, "broadcast"], "10.0.0.1 dev lo"),
        ("addr", [2, "addr_info", 0, "label"], "lo:x"),
        ("addr", [2, "addr_info", 0, "prefixlen"], 33),
        ("addr", [3, "master"], "eth0\nlink"),
        ("route", [1, "gateway"], "172.30.0.12 table 7"),
        ("route", [1, "dev"], "eth0 onlink"),
        ("route", [1, "dev"], "nothere"),
        ("route", [1, "table"], "local\nx"),
        ("route", [1, "table"], "vrf-blue"),
        ("route", [1, "protocol"], "x y"),
        ("route", [1, "prefsrc"], "1.1.1.1;"),
        ("route", [1, "type"], "nat"),
        ("route", [1, "encap"], "mpls"),
        ("route", [1, "metrics"], [{"lock mtu": 5}]),
        ("rule", [1, "table"], "7 nop"),
        ("neigh", [0, "state"], ["PERMANENT", 5]),
    ],
)
def test_a_bad_word_leaves_its_entry_out(fact: str, path: list[Any], value: object) -> None:
    plan = plan_twin(changed({f"node-one/{fact}.json": _set(path, value)}), ["node-one"])
    check_words(plan)
    assert any(left.node == "node-one" for left in plan.left_out)


def test_a_thousand_million_is_no_number_of_interfaces(tmp_path: Path) -> None:
    made = Made(tmp_path, ["alpha"])
    crowd = [link(n, f"d{n}", "0e:00:00:00:00:01", kind="dummy") for n in range(2, MOST_LINKS + 50)]
    crowd.append(link(10**9, "far", "0e:00:00:00:00:02", kind="dummy"))
    made.space("alpha", [LO, *crowd], [four("default", "d2", gateway="10.0.0.1")] * 3, [])
    made.write("nodes/alpha/node.json", {})
    plan = plan_twin(open_recording(tmp_path))
    assert len(plan.nodes[0].space.links) == MOST_LINKS
    assert any("further interfaces" in left.why for left in plan.left_out)


def test_a_recording_without_an_api_is_planned_from_its_kernels() -> None:
    plan = plan_twin(changed(dict.fromkeys(["nodes", "pods", "services", "endpointslices"])))
    assert len(plan.nodes) == 3
    assert {left.fact for left in plan.left_out if left.node is None} == {
        "nodes.json", "pods.json", "services.json", "endpointslices.json"
    }  # fmt: skip
    check_words(plan)


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterable[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, (*path, key))
    else:
        yield path


_FACTS = ["addr", "route", "rule", "neigh", "fdb", "nsid", "lsns", "processes"]
_LEAVES = {name: list(_leaves(json.loads((HELLO / f"nodes/node-one/{name}.json").read_text()))) for name in _FACTS}
_API = ["pods", "nodes", "services", "endpointslices"]
_LEAVES |= {name: list(_leaves(json.loads((HELLO / f"api/{name}.json").read_text()))) for name in _API}
_NASTY = st.one_of(
    st.sampled_from(
        ["a\nb", "-force", "; reboot", "$(id)", "../../etc", "::ffff:1.2.3.4", "fe80::1%lo", "0x1", " ", "all"]
    ),
    st.text(max_size=20),
    st.integers(),
    st.none(),
    st.booleans(),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=1),
)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_whatever_a_recording_says_only_checked_words_come_out(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(_LEAVES)))
    changes = data.draw(st.lists(st.tuples(st.sampled_from(_LEAVES[name]), _NASTY), min_size=1, max_size=4))

    def edit(items: Any) -> None:
        for path, value in changes:
            try:
                _set(list(path), value)(items)
            except (LookupError, TypeError):
                continue  # an earlier change took its place away

    key = name if name in _API else f"node-one/{name}.json"
    check_words(plan_twin(changed({key: edit}), ["node-one"]))


@given(st.text(max_size=20))
def test_an_interface_name_is_one_word_of_few_letters(text: str) -> None:
    try:
        name = words.interface_name(text)
    except ValueError:
        return
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._@:-]{0,14}", name)
