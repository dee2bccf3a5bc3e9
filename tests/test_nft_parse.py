"""nft's JSON: what is read, and what bad input says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from k8snet_nb.errors import FactBroken
from k8snet_nb.parse.nft import parse_nft

RECORDED = Path(__file__).parent.parent / "k8snet_nb/data/hello-cluster/nodes/node-two/nft.json"
HEAD = {"metainfo": {"version": "1.1.7", "json_schema_version": 1}}
TABLE = {"table": {"family": "ip", "name": "t", "handle": 1}}


def listing(*entries: object) -> str:
    return json.dumps({"nftables": [HEAD, *entries]})


def test_elements_are_found_by_their_key() -> None:
    table = parse_nft(RECORDED.read_bytes()).table("ip", "kube-proxy")
    assert table is not None
    found = table.sets["service-ips"].get(("10.32.62.13", "tcp", 80))
    assert found is not None
    assert found.data == {"goto": {"target": "service-MBZD57SS-default/hello-world/tcp/http"}}
    orphan = table.sets["no-endpoint-services"].get(("10.32.22.26", "tcp", 9000))
    assert orphan is not None
    assert orphan.comment == "default/orphan:admin"
    assert table.sets["service-ips"].get(("10.32.62.13", "udp", 80)) is None


def test_protocol_numbers_are_found_by_name_and_ranges_apart() -> None:
    types = ["ipv4_addr", "inet_proto", "inet_service"]
    elements = [{"concat": ["1.1.1.1", 132, 9]}, {"concat": [{"prefix": {"addr": "2.0.0.0", "len": 8}}, "tcp", 80]}]
    one = {"set": {"family": "ip", "table": "t", "name": "s", "type": types, "elem": elements}}
    table = parse_nft(listing(TABLE, one)).table("ip", "t")
    assert table is not None
    assert table.sets["s"].get(("1.1.1.1", "sctp", 9)) is not None
    assert len(list(table.sets["s"].ranged_elements())) == 1


def test_base_chains_run_by_priority_and_inet_sees_both_families() -> None:
    chains = [
        {"chain": {"family": "ip", "table": "t", "name": "late", "type": "filter", "hook": "input", "prio": 10}},
        {"chain": {"family": "inet", "table": "u", "name": "early", "type": "filter", "hook": "input", "prio": -5}},
    ]
    rules = parse_nft(listing(TABLE, {"table": {"family": "inet", "name": "u"}}, *chains))
    assert [chain.name for chain in rules.base_chains("ip", "input")] == ["early", "late"]
    assert [chain.name for chain in rules.base_chains("ip6", "input")] == ["early"]


def test_of_equal_priorities_the_chain_made_last_runs_first() -> None:
    hook = {"family": "ip", "table": "t", "type": "filter", "hook": "input", "prio": 0}
    rules = parse_nft(listing(TABLE, {"chain": {**hook, "name": "first"}}, {"chain": {**hook, "name": "second"}}))
    assert [chain.name for chain in rules.base_chains("ip", "input")] == ["second", "first"]


def test_an_empty_ruleset_is_empty() -> None:
    assert parse_nft(listing()).tables == {}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty"),
        (b"table ip nat {\n}\n", "nft's text, not its JSON"),
        (b'{"nftables": [', "truncated.*line 1, column"),
        (b'{"nftables": [{"metainfo": {"version": "1.1', "truncated"),
        (b'{"nftables": [}', "not JSON at line 1, column 15"),
        (b'[{"ifindex": 1}]', 'no list "nftables"'),
        (b'{"nftables": []}', 'does not begin with "metainfo"'),
        (b'{"nftables": [{"table": {}}]}', 'does not begin with "metainfo"'),
        (b'{"nftables": [{"metainfo": {"json_schema_version": 2}}]}', "json_schema_version is 2"),
        (b'{"nftables": [{"metainfo": {"version": "\xff"}}]}', "byte 40 is not UTF-8"),
        (b"[" * 200_000, "cannot be read"),
    ],
)
def test_what_is_not_nfts_json_says_what_and_where(data: bytes, words: str) -> None:
    with pytest.raises(FactBroken, match=words) as caught:
        parse_nft(data, "node n1")
    assert "nft.json of node n1" in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"rule": {"family": "ip", "table": "t", "chain": "gone", "expr": []}}, "chain that is not listed"),
        ({"set": {"family": "ip", "table": "gone", "name": "s", "type": "mark"}}, "table that is not listed"),
        ({"chain": {"family": "ip", "table": "t"}}, "not what nft lists"),
        ({"chain": {"family": "ip", "table": "t", "name": "c", "prio": "first"}}, "not what nft lists"),
        ({"map": {"family": "ip", "table": "t", "name": "m", "type": "mark", "elem": [7]}}, "not what nft lists"),
        ({"set": {"family": "ip", "table": "t", "name": "s", "type": "mark", "elem": [{"elem": {}}]}}, "not what nft"),
        ({}, "not exactly one kind"),
        ([], "not what nft lists|not exactly one kind"),
        ("table", "not what nft lists|not exactly one kind"),
    ],
)
def test_a_broken_entry_is_named_by_its_place(entry: object, words: str) -> None:
    with pytest.raises(FactBroken, match=rf'entry 2 of "nftables".*({words})'):
        parse_nft(listing(TABLE, entry))


def test_every_truncation_of_a_real_listing_is_an_error() -> None:
    text = RECORDED.read_text().rstrip()
    for length in range(0, len(text), 997):
        with pytest.raises(FactBroken):
            parse_nft(text[:length])


def test_a_rule_whose_expressions_are_no_list_of_objects() -> None:
    chain = {"chain": {"family": "ip", "table": "t", "name": "c"}}
    for expr in ({"accept": None}, ["accept"], [{"a": 1, "b": 2}]):
        rule = {"rule": {"family": "ip", "table": "t", "chain": "c", "expr": expr}}
        with pytest.raises(FactBroken, match=re.escape('entry 3 of "nftables"')):
            parse_nft(listing(TABLE, chain, rule))
