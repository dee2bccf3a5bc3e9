"""What of native nft tables a twin loads, and what it leaves out."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twin.rules_place import steps

from k8snet_nb.twin.loading.nft_words import WORDS, text_problem
from k8snet_nb.twin.loading.steps import Loaded


def table(*entries: dict[str, Any], comment: str = "", name: str = "t", **chain: Any) -> Loaded:
    """One table with one chain (and its rules) as node-two's nft.json."""
    rules = [{"rule": {"family": "ip", "table": name, "chain": "c", "handle": 1, **one}} if "expr" in one else one
             for one in entries]  # fmt: skip
    head = {"family": "ip", "table": name, "name": "c", **chain}
    listed = [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
              {"table": {"family": "ip", "name": name, **({"comment": comment} if comment else {})}},
              {"chain": head}, *rules]  # fmt: skip
    return steps({"node-two/nft.json": json.dumps({"nftables": listed}).encode()}, "node-two")


def nft_text(loaded: Loaded) -> str:
    return "".join(step.stdin for step in loaded.steps if step.argv[0] == "nft")


DROP = {"expr": [{"drop": None}]}


def match(left: Any, right: Any, op: str = "==") -> dict[str, Any]:
    return {"expr": [{"match": {"op": op, "left": left, "right": right}}, {"drop": None}]}


DADDR = {"payload": {"protocol": "ip", "field": "daddr"}}


@pytest.mark.parametrize(
    "rule",
    [
        match("include", "/etc/pass wd"),
        match("include", "/etc/passwd"),
        match("define", "x"),
        match({"meta": {"key": "mark\n\t}\n}\nflush ruleset\n"}}, 1),
        match(DADDR, "evil.example.com"),
        match(DADDR, "$x"),
        match(DADDR, "1.2.3.4; flush ruleset"),
        match(DADDR, "1.2.3.4 } } flush ruleset"),
        match(DADDR, "1.2.3.4\\"),
        match(DADDR, "flush"),
        match(DADDR, "@nowhere"),
        match(DADDR, "@x } } flush ruleset"),
        match({"meta": {"key": "iifname"}}, 'x" drop\n}\n}\ninclude "/etc/passwd"\n'),
        match({"meta": {"key": "iifname"}}, "x\ny"),
        match(DADDR, {"set": ["1.2.3.4", "evil }"]}),
        {"expr": [{"jump": {"target": "c } } flush ruleset"}}]},
        {"expr": [{"jump": {"target": "nowhere"}}]},
        {"expr": [{"include": "/etc/passwd"}]},
        {"expr": [{"log": {"prefix": 'x"\n}\ninclude "y'}}]},
        {"expr": [{"log": {"level": "debug } }"}}]},
        {"expr": [{"drop": None}], "comment": 'x" ; include "/etc/passwd'},
        {"expr": [{"drop": None}], "comment": "x\ny"},
        {"expr": [{"xt": {"type": "target", "name": "LOG"}}]},
        {"expr": [{"queue": {"num": 1}}]},
        {"expr": [{"queue": None}]},
        {"expr": [{"ct helper": "ftp"}]},
        {"expr": [{"flow": {"op": "add", "flowtable": "@f"}}]},
        {"expr": [{"match": {}}]},
        {"expr": [{"limit": []}]},
    ],
)
def test_a_hostile_nft_rule_is_left_out_and_its_neighbours_go_in(rule: dict[str, Any]) -> None:
    loaded = table(DROP, rule, DROP)
    lines = [line.strip() for line in nft_text(loaded).splitlines()]
    assert lines == ["table ip t {", "chain c {", "drop", "drop", "}", "", "}"]
    assert len(loaded.left_out) == 1
    assert loaded.left_out[0].text.startswith("table ip t, chain c")


@pytest.mark.parametrize(
    "frame",
    [
        {"name": "t } flush ruleset"},
        {"name": "t\nflush ruleset\n"},
        {"comment": 'x"\n}\nflush ruleset\ntable ip y {\n comment "'},
        {"comment": "x\ny"},
        {"type": "nat", "hook": 'prerouting priority 0; } } include "/etc/passwd"', "prio": 0},
        {"type": "evil", "hook": "input", "prio": 0},
        {"type": "filter", "hook": {"drop": None}, "prio": 0, "policy": "evil"},
        {"type": "filter", "hook": "ingress", "prio": 0, "dev": 'x" } }'},
    ],
)
def test_a_table_whose_frame_is_hostile_is_left_out_whole(frame: dict[str, Any]) -> None:
    loaded = table(DROP, **frame)
    assert not nft_text(loaded)
    assert len(loaded.left_out) == 1
    assert loaded.left_out[0].fact == "nft.json"


@pytest.mark.parametrize(
    "made",
    [
        {"type": "ipv4_addr", "elem": ["evil.example.com"]},
        {"type": "ipv4_addr", "elem": ["1.2.3.4 } } include"]},
        {"type": "evil"},
        {"type": "ipv4_addr", "flags": ["evil"]},
        {"type": "ipv4_addr", "elem": [{"elem": {"val": "1.2.3.4", "comment": 'x" } "'}}]},
        {"type": "ipv4_addr", "timeout": "1s; include"},
    ],
)
def test_a_hostile_set_goes_with_the_rules_that_use_it(made: dict[str, Any]) -> None:
    one = {"set": {"family": "ip", "table": "t", "name": "s", **made}}
    loaded = table(one, DROP, match(DADDR, "@s"))
    lines = [line.strip() for line in nft_text(loaded).splitlines()]
    assert lines == ["table ip t {", "chain c {", "drop", "}", "", "}"]
    assert len(loaded.left_out) == 2


def test_counters_begin_at_zero_and_a_dormant_table_is_not_woken() -> None:
    loaded = table({"expr": [{"counter": {"packets": 7, "bytes": 9}}, {"drop": None}]})
    assert "counter drop" in nft_text(loaded)
    dormant = steps({"node-two/nft.json": _dormant}, "node-two")
    assert not nft_text(dormant)
    assert {one.text for one in dormant.left_out} == {"table ip kube-proxy", "table ip6 kube-proxy"}


def _dormant(content: bytes) -> bytes:
    listed = json.loads(content)
    for entry in listed["nftables"]:
        if "table" in entry:
            entry["table"]["flags"] = "dormant"
    return json.dumps(listed).encode()


NFT_WORDS = st.sampled_from(["ip", "daddr", "10.0.0.1", "drop", "}", "{", ";", "\n", '"', "include", "$x", "#", "\\",
                             "@c", "jump", "c", "evil", ",", "0x1", "1s", "define", "\x00", "é", "'"])  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(NFT_WORDS | st.text(max_size=3), max_size=8))
def test_of_nft_text_that_passes_every_bare_word_is_known(words: list[str]) -> None:
    said = " ".join(words)
    if text_problem(said, frozenset(("c",))) is None:
        bare = re.sub(r'"[^"]*"', " ", said)
        assert not set("$#\\'\"\x00") & set(bare)
        for word in re.findall(r"[A-Za-z_]\w*", bare):
            assert word in WORDS | {"c", "x1"} or re.fullmatch(r"[0-9a-fA-F]+|s", word), said
        assert not {"include", "define", "undefine", "redefine", "flush"} & set(bare.split())
