"""Corefiles: the grammar, errors with their line, and what they do in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8snet_nb.errors import FactBroken
from k8snet_nb.explain.dns.server import explain_corefile
from k8snet_nb.parse.corefile import Zone, parse_corefile

MAPS = Path(__file__).parent.parent / "k8snet_nb/data/hello-cluster/api/configmaps.json"
NODE_LOCAL = """cluster.local:53 {
    errors
    cache {
        success 9984 30
        denial 9984 5
    }
    bind 169.254.20.10
    forward . 10.32.0.10 {
        force_tcp
    }
}
.:53 {
    bind 169.254.20.10
    forward . __PILLAR__UPSTREAM__SERVERS__
}
"""


def recorded() -> str:
    items = json.loads(MAPS.read_text())["items"]
    return str(next(item["data"]["Corefile"] for item in items if "Corefile" in item.get("data", {})))


def test_the_recorded_one() -> None:
    corefile = parse_corefile(recorded())
    (server,) = corefile.servers
    assert server.zones == (Zone(".", 53),)
    kubernetes = server.plugin("kubernetes")
    assert kubernetes is not None
    assert kubernetes.args == ("cluster.local", "in-addr.arpa", "ip6.arpa")
    assert [str(option) for option in kubernetes.block] == [
        "pods insecure",
        "fallthrough in-addr.arpa ip6.arpa",
        "ttl 30",
    ]
    told = explain_corefile(corefile)
    assert told.cluster_zones == ("cluster.local", "in-addr.arpa", "ip6.arpa")
    assert (told.ttl, told.upstream, told.stub_domains, told.node_local) == (30, {}, (), False)
    assert "up to 30 s" in told.cache
    assert "SERVFAIL" in told.outside
    assert all(line.says for line in told.lines)
    assert "How do we know?" in str(told)


def test_stub_domains_and_upstream() -> None:
    told = explain_corefile(
        parse_corefile(
            recorded().replace("loop", "forward . /etc/resolv.conf") + "corp.test {\n forward . 10.9.9.9 10.9.9.8\n}\n"
        )
    )
    assert told.upstream == {".": ("/etc/resolv.conf",), "corp.test.": ("10.9.9.9", "10.9.9.8")}
    assert told.stub_domains == ("corp.test.",)
    assert "/etc/resolv.conf" in told.outside
    assert any(line.says == "asks 10.9.9.9 or 10.9.9.8 for every other name" for line in told.lines)


def test_node_local_cache() -> None:
    told = explain_corefile(parse_corefile(NODE_LOCAL))
    assert told.node_local
    assert told.ttl is None
    assert "NodeLocal" in told.notes[0]
    assert "success: 9984 entries, up to 30 s" in told.cache


def test_nothing_is_guessed() -> None:
    told = explain_corefile(parse_corefile(". {\n mystery x\n}\n"))
    assert told.lines[0].says == ""
    assert "not known" in told.outside
    assert "mystery" in told.outside
    told = explain_corefile(parse_corefile("a.test {\n cache\n import more/*\n}\n"))
    assert "not known" in told.outside
    assert "unknown" in told.notes[0]
    assert "REFUSED" in explain_corefile(parse_corefile("a.test {\n cache\n}\n")).outside


def test_snippets_quotes_comments_and_keys() -> None:
    text = """# comment
(common) {
    errors # a word, then a comment
    import deeper
}
(deeper) {
    template IN A "a b#c" "say \\"hi\\"" {
        answer "{{ .Name }} 60 IN A 1.2.3.4"
    }
}
one.test two.test:1053,
tls://three.test {
    import common
    log
}
"""
    (server,) = parse_corefile(text).servers
    assert server.zones == (Zone("one.test.", 53), Zone("two.test.", 1053), Zone("three.test.", 853, "tls"))
    assert [plugin.name for plugin in server.plugins] == ["errors", "template", "log"]
    assert server.plugins[1].args == ("IN", "A", "a b#c", 'say "hi"')
    assert server.plugins[1].block[0].args == ("{{ .Name }} 60 IN A 1.2.3.4",)
    assert [plugin.line for plugin in server.plugins] == [3, 7, 14]


def test_a_file_without_braces_is_one_server() -> None:
    (server,) = parse_corefile("a.test\ncache 10\nlog\n").servers
    assert [str(plugin) for plugin in server.plugins] == ["cache 10", "log"]
    assert parse_corefile("").servers == ()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (". {\n errors\n", 1),
        (". {\n}\n}\n", 3),
        (". {\n a {\n b\n}\n", 1),
        ("{\n}\n", 1),
        ('. {\n log "x\n}\n', 2),
        ("ftp://a {\n}\n", 1),
        (". {\n\n {\n }\n}\n", 3),
        (".:99999 {\n}\n", 1),
        ("(a) {\n import a\n}\n. {\n import a\n}\n", 2),
        ("(a)\n", 1),
        ("}}}{", 1),
        (". {\n log }}\n}\n", 2),
        (". {\n {{ x\n}\n", 2),
    ],
)
def test_errors_name_the_line(text: str, line: int) -> None:
    with pytest.raises(FactBroken, match=rf"line {line}: "):
        parse_corefile(text)


def test_an_empty_one_says_so_and_variables_are_no_stray_braces() -> None:
    assert "The Corefile is empty" in str(explain_corefile(parse_corefile("# nothing\n")))
    assert parse_corefile("{$ZONE}:53 {\n log\n}\n").servers[0].zones == (Zone("{$zone}.", 53),)


WORD = st.from_regex(r"[a-z0-9./:_-]{1,12}", fullmatch=True).filter(lambda word: word != "import")
TREE = st.recursive(
    st.tuples(WORD, st.lists(WORD, max_size=3), st.just(())),
    lambda below: st.tuples(WORD, st.lists(WORD, max_size=3), st.lists(below, min_size=1, max_size=3).map(tuple)),
    max_leaves=8,
)


def render(tree: tuple, depth: int = 1) -> str:
    name, args, block = tree
    pad = "  " * depth
    head = pad + " ".join([name, *args])
    return head + (" {\n" + "".join(render(each, depth + 1) for each in block) + pad + "}\n" if block else "\n")


def same(directive: object, tree: tuple) -> bool:
    name, args, block = tree
    got = (directive.name, list(directive.args), len(directive.block))  # type: ignore[attr-defined]
    return got == (name, args, len(block)) and all(map(same, directive.block, block))  # type: ignore[attr-defined]


@given(st.lists(TREE, min_size=1, max_size=4))
def test_what_is_written_is_read(trees: list[tuple]) -> None:
    (server,) = parse_corefile("a.test {\n" + "".join(map(render, trees)) + "}\n").servers
    assert len(server.plugins) == len(trees)
    assert all(map(same, server.plugins, trees))


@given(st.one_of(st.text(max_size=80), st.text('{}()"#\\\n ab,:/', max_size=60)))
def test_any_text_is_a_corefile_or_said_not_to_be(text: str) -> None:
    said = ""
    try:
        parse_corefile(text)
    except FactBroken as bad:
        said = str(bad)
    assert not said or "line " in said
