"""nft's own syntax: text that nft reads back as the same ruleset, and says what it cannot say."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from k8snet_nb.parse.nft import Chain, Rule, Ruleset, Table, parse_nft
from k8snet_nb.parse.nft_text import rule_text, ruleset_text

sys.path.insert(0, str(Path(__file__).parent / "kernel"))
from lab import require

RECORDED = Path(__file__).parent.parent / "k8snet_nb/data/hello-cluster/nodes/node-two/nft.json"
KUBE_PROXY = [("ip", "kube-proxy"), ("ip6", "kube-proxy")]


def load(text: str, *, then: str = "nft -j list ruleset", check: bool = True) -> str:
    """Load text into a namespace that ends with the command, and what ``then`` prints there."""
    require("nft", "unshare")
    with tempfile.NamedTemporaryFile("w", suffix=".nft") as file:
        file.write(text)
        file.flush()
        command = ["unshare", "-n", "sh", "-c", f"nft -f {file.name} && {then}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert not check or done.returncode == 0, done.stderr + text
    return done.stdout if done.returncode == 0 else ""


def _flags_listed(value: Any) -> Any:
    """A single flag is a word in one version of nft, and a list of one word in another."""
    if isinstance(value, dict):
        listed = {key: _flags_listed(one) for key, one in value.items()}
        return {**listed, "flags": [listed["flags"]]} if isinstance(listed.get("flags"), str) else listed
    return [_flags_listed(one) for one in value] if isinstance(value, list) else value


def same(rules: Ruleset) -> Any:
    """A ruleset without handles, counters of time, and what an older nft leaves out of its JSON."""
    tables = {}
    for key, table in rules.tables.items():
        chains = {
            name: (
                [(_flags_listed(rule.expr), rule.comment) for rule in chain.rules],
                chain.type,
                chain.hook,
                chain.prio,
                chain.policy,
            )
            for name, chain in table.chains.items()
        }
        sets = {
            name: (one.types, one.is_map, one.timeout, {(e.key, str(e.data), e.comment) for e in one.elements()})
            for name, one in table.sets.items()
        }
        tables[key] = (chains, sets)
    return tables


@pytest.mark.parametrize("name", ["recorded", "cases"])
def test_the_text_loads_as_the_same_ruleset(name: str) -> None:
    path = RECORDED if name == "recorded" else Path(__file__).parent / "data/nft-cases.json"
    rules = parse_nft(path.read_bytes())
    kept = [key for key, table in rules.tables.items() if not table.compat]
    rendered = ruleset_text(rules, kept)
    assert rendered.left_out == ()
    loaded = parse_nft(load(rendered.text))
    wanted = {key: value for key, value in same(rules).items() if key in kept}
    assert same(loaded) == wanted


def test_rules_and_chains_read_as_nft_lists_them() -> None:
    rules = parse_nft(RECORDED.read_bytes())
    rendered = ruleset_text(rules, KUBE_PROXY).text
    listed = {line.strip() for line in load(rendered, then="nft list ruleset").splitlines()}
    ours = [
        line
        for table in KUBE_PROXY
        for chain in rules.tables[table].chains.values()
        for line in map(rule_text, chain.rules)
    ]
    assert len(ours) == 75
    assert [line for line in ours if line not in listed] == []
    heads = [line.strip() for line in rendered.splitlines() if " hook " in line]
    assert len(heads) == 16
    assert [line for line in heads if line not in listed] == []


def test_xtables_expressions_are_listed_and_stand_as_comments() -> None:
    rendered = ruleset_text(parse_nft(RECORDED.read_bytes()), [("ip", "filter")])
    assert len(rendered.left_out) == 2
    assert "table ip filter, chain KUBE-FIREWALL, handle 6: xtables match 'conntrack'" in rendered.left_out
    assert '# left out: ip saddr != 127.0.0.0/8 ip daddr 127.0.0.0/8 xt match "comment"' in rendered.text
    load(rendered.text)


def rule_of(*expr: dict[str, Any], comment: str = "", family: str = "ip") -> Rule:
    return Rule(family, "t", "c", 1, list(expr), comment)


def ruleset_of(*rules: Rule) -> Ruleset:
    chain = Chain("ip", "t", "c", rules=list(rules))
    pre = Chain("ip", "t", "pre", type="nat", hook="prerouting", prio=-100)
    return Ruleset("1", {("ip", "t"): Table("ip", "t", chains={"pre": pre, "d": Chain("ip", "t", "d"), "c": chain})})


@pytest.mark.parametrize(
    "evil", ['x" ; flush ruleset ; "', 'x\n}\ninclude "/etc/hosts"\n', "a; drop", "@x { 1 }", "$(id)"]
)
def test_hostile_words_stay_words(evil: str) -> None:
    match = {"match": {"op": "==", "left": {"meta": {"key": evil}}, "right": evil}}
    texts = [
        rule_text(rule_of({"accept": None}, comment=evil)),
        rule_text(rule_of(match)),
        rule_text(rule_of({"log": {"prefix": evil}})),
    ]
    for text in texts:
        assert not {";", "include", "flush", "{", "$(id)"} & set(_outside_quotes(text).split())
        assert text.count('"') % 2 == 0


def _outside_quotes(text: str) -> str:
    return " ".join(text.split('"')[::2])


ADDRESS = st.ip_addresses(v=4).map(str)
PORT = st.integers(0, 65535)
PREFIX = st.integers(1, 31).flatmap(
    lambda n: st.integers(1, 2**n - 1).map(lambda v: {"prefix": {"addr": _dotted(v << (32 - n)), "len": n}})
)
PORT_RANGE = st.tuples(PORT, PORT).filter(lambda p: p[0] < p[1]).map(lambda p: {"range": list(p)})
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\*$'), min_size=1, max_size=12)


def _dotted(value: int) -> str:
    return ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0))


def _payload(protocol: str, field: str) -> dict[str, Any]:
    return {"payload": {"protocol": protocol, "field": field}}


def _match(left: Any, right: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": left, "right": right}}


OPERATOR = st.sampled_from(["==", "!="])
MARK = {"meta": {"key": "mark"}}
CONCAT = {"concat": [_payload("ip", "daddr"), {"meta": {"key": "l4proto"}}, _payload("th", "dport")]}
ENTRY = st.tuples(ADDRESS, st.sampled_from(["tcp", "udp", "sctp"]), PORT)
VERDICT = st.sampled_from([{"accept": None}, {"drop": None}, {"goto": {"target": "d"}}, {"return": None}])
MATCHES = st.one_of(
    st.builds(lambda op, v: _match(_payload("ip", "saddr"), v, op), OPERATOR, ADDRESS | PREFIX),
    st.builds(lambda op, v: _match(_payload("tcp", "dport"), v, op), OPERATOR, PORT | PORT_RANGE),
    st.builds(lambda v: _match(_payload("ip", "saddr"), {"set": sorted(v)}), st.sets(ADDRESS, min_size=2, max_size=5)),
    st.builds(
        lambda v, op: _match({"meta": {"key": "iifname"}}, v, op),
        TEXT.filter(lambda t: t.strip() == t and t[:1] != "@"),  # in nft's JSON such a name is that of a set
        OPERATOR,
    ),
    st.builds(lambda m, v: _match({"&": [MARK, m | v]}, v, "!="), st.integers(1, 2**31), st.integers(1, 2**31)),
    st.builds(
        lambda words: _match({"ct": {"key": "state"}}, {"set": words}),
        st.sampled_from([["established", "new"], ["related", "new"]]),
    ),
    st.builds(
        lambda entries: _match(CONCAT, {"set": [{"concat": list(entry)} for entry in sorted(entries)]}),
        st.sets(ENTRY, min_size=2, max_size=4),
    ),
)
ENDS = st.one_of(
    VERDICT,
    st.builds(lambda v: {"mangle": {"key": MARK, "value": {"|": [MARK, v]}}}, st.integers(1, 2**31)),
    st.builds(
        lambda pairs: {"vmap": {"key": CONCAT, "data": {"set": [[{"concat": list(k)}, v] for k, v in pairs]}}},
        st.lists(st.tuples(ENTRY, VERDICT), min_size=1, max_size=4, unique_by=lambda pair: pair[0]),
    ),
    st.builds(lambda text: {"log": {"prefix": text}}, TEXT),
)


def _sorted_sets(value: Any) -> Any:
    """Nft gives an anonymous set back in its own order, and says tcp for th beside another match on tcp."""
    if value == "th":
        return "tcp"
    if isinstance(value, dict):
        return {
            k: sorted((_sorted_sets(one) for one in v), key=str)
            if k == "set" and isinstance(v, list)
            else _sorted_sets(v)
            for k, v in value.items()
        }
    return [_sorted_sets(one) for one in value] if isinstance(value, list) else value


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink would start nft thousands of times
)
@given(st.lists(st.tuples(st.lists(MATCHES, max_size=2), ENDS, TEXT), min_size=20, max_size=20))
def test_random_rules_come_back_as_they_were(made: list[tuple[list[dict[str, Any]], dict[str, Any], str]]) -> None:
    rules = [rule_of(*matches, end, comment=comment) for matches, end, comment in made]
    rendered = ruleset_text(ruleset_of(*rules))
    assert rendered.left_out == ()
    (table,) = parse_nft(load(rendered.text)).tables.values()
    for loaded, meant in zip(table.chains["c"].rules, rules, strict=True):
        assert (_sorted_sets(loaded.expr), loaded.comment) == (_sorted_sets(meant.expr), meant.comment)
