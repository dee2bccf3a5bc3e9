"""Translations drawn, and the browser of chains, without a browser."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import pytest
from edited import as_json, cluster, text

import k8snet_nb as kn
from k8snet_nb.errors import FactMissing, NotFound
from k8snet_nb.explain.translation import Translation
from k8snet_nb.explain.waypoints import waypoints
from k8snet_nb.show.translation import ROWS

ONE, TWO, THREE = "node-one", "node-two", "node-three"
HOSTILE = "<img src=x onerror=alert(1)> $x_1$"


def drawn_words(figure: Any) -> list[str]:
    return [artist.get_text() for axes in figure.axes for artist in axes.texts if artist.get_text()]


def many(answer: Translation, count: int, nodes: int) -> Translation:
    first = answer.backends[0]
    backends = tuple(
        dataclasses.replace(
            first, address=f"10.1.{i // 250}.{i % 250}", node=f"node-{i % nodes}", probability=Fraction(1, count)
        )
        for i in range(count)
    )
    return dataclasses.replace(answer, backends=backends)


def test_waypoints_in_every_mode(hello: kn.Cluster) -> None:
    def ways(node: str, **more: Any) -> tuple[str, ...]:
        return waypoints(hello.translate(more.pop("service", "default/hello-world"), node=node, **more))

    assert ways(ONE) == ("KUBE-SERVICES", "KUBE-SVC-NOIMA57NP5B3VMDZ")
    assert ways(TWO) == ("chain services", "map service-ips", "chain service-MBZD57SS-default/hello-world/tcp/http")
    assert ways(THREE) == ("virtual server TCP, scheduler rr",)
    assert ways(ONE, service="default/orphan", port=80) == ("KUBE-SERVICES (filter)",)
    assert ways(ONE, service="default/hello-local", entry="node_port") == (
        "KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXT-WUGJMMNX7QJG7NVU", "KUBE-SVL-WUGJMMNX7QJG7NVU",
    )  # fmt: skip
    assert "map no-endpoint-services" in ways(TWO, service="default/orphan", port=80)


def test_a_drawing_has_everything_in_words_too(hello: kn.Cluster) -> None:
    drawing = kn.draw_translation(hello.translate("default/hello-world", node=ONE))
    words = drawn_words(drawing.figure)
    assert "a pod of node-one" in words
    assert "10.32.62.13:80/tcp" in words
    assert sum(word.startswith("1/4  10.244.") for word in words) == 4
    assert drawing.alt.endswith("KUBE-SVC-NOIMA57NP5B3VMDZ -> 4 endpoints")
    assert drawing.text.count("1/4 (25%)") == 4
    data = drawing._repr_mimebundle_()
    assert data["text/plain"] == drawing.text
    assert data["text/html"].startswith(
        '<img alt="default/hello-world on node-one: a pod of node-one -&gt; 10.32.62.13'
    )


@pytest.mark.parametrize(
    ("service", "node", "action", "words"),
    [
        ("default/orphan", ONE, "reject", "rejected\nthe client is told at once"),
        ("default/orphan", THREE, "reject", "rejected\nthe client is told at once"),
    ],
)
def test_rejects_are_drawn_as_such(hello: kn.Cluster, service: str, node: str, action: str, words: str) -> None:
    answer = hello.translate(service, 80, node)
    assert answer.action == action
    assert words in drawn_words(kn.draw_translation(answer).figure)
    for other, told in (("drop", "the client waits"), ("none", "not translated")):
        changed = kn.draw_translation(dataclasses.replace(answer, action=other))
        assert told in "".join(drawn_words(changed.figure))
        assert told in changed.alt


@pytest.mark.parametrize(("count", "nodes"), [(1, 1), (20, 3), (60, 1), (60, 7), (300, 50)])
def test_readable_for_one_endpoint_and_for_hundreds(hello: kn.Cluster, count: int, nodes: int) -> None:
    drawing = kn.draw_translation(many(hello.translate("default/hello-world"), count, nodes))
    width, height = drawing.figure.get_size_inches()
    assert width < 12
    assert height < 16
    words = drawn_words(drawing.figure)
    shown = sum(word.startswith(f"{Fraction(1, count)}  ") for word in words)
    assert shown == count if count <= ROWS else 0 < shown <= ROWS
    counted = sum(int(word.split()[1]) for word in words if word.startswith("and ") and " more" in word)
    assert shown + counted == count
    assert len(drawing.text.splitlines()) == count + 2


def test_hostile_names_start_no_formula_and_no_element(hello: kn.Cluster) -> None:
    answer = hello.translate("default/hello-world")
    backends = tuple(dataclasses.replace(backend, pod=HOSTILE, node=HOSTILE) for backend in answer.backends)
    drawing = kn.draw_translation(dataclasses.replace(answer, backends=backends, service=HOSTILE))
    assert "<img src=x" not in drawing._repr_mimebundle_()["text/html"].replace('<img alt="', "")
    assert any("$x_1$" in word for word in drawn_words(drawing.figure))


# ---------------------------------------------------------------- the browser


def test_the_browser_begins_where_services_are_looked_up(hello: kn.Cluster) -> None:
    assert kn.chain_browser(hello.node(ONE)).selector.key == "iptables nat KUBE-SERVICES"
    assert kn.chain_browser(hello.node(TWO)).selector.key == "nft ip kube-proxy services"
    assert kn.chain_browser(hello.node(ONE), "KUBE-POSTROUTING").selector.key == "iptables nat KUBE-POSTROUTING"


def test_jumps_can_be_followed_to_the_pod(hello: kn.Cluster) -> None:
    browser = kn.chain_browser(hello.node(ONE))
    browser.follow.value = "KUBE-SVC-NOIMA57NP5B3VMDZ"
    assert browser.selector.key == "iptables nat KUBE-SVC-NOIMA57NP5B3VMDZ"
    browser.follow.value = "KUBE-SEP-RRNV3P3F57FAYAGY"
    assert "to:10.244.18.3:8080" in browser.text
    browser.follow.value = "KUBE-MARK-MASQ"
    assert "MARK or 0x4000" in browser.text
    assert browser.follow.disabled


def test_the_filters(hello: kn.Cluster) -> None:
    browser = kn.chain_browser(hello.node(ONE))
    browser.rules.value = "hello-world"
    assert "(1 of 14 rules hold 'hello-world')" in browser.text
    browser.rules.value = ""
    browser.selector.filter.value = "hello-sticky"
    keys = [key for _, key in browser.selector.list.options]
    assert len(keys) == 5, "the chain of the Service port and its four endpoints"
    browser.selector.filter.value = ""
    browser.selector.namespace.value = "iptables filter"
    assert all(key.startswith("iptables filter") for _, key in browser.selector.list.options)


def test_maps_and_sets_of_nftables(hello: kn.Cluster) -> None:
    browser = kn.chain_browser(hello.node(TWO), "service-ips")
    assert "[node node-two]$ nft list map ip kube-proxy service-ips" in browser.text
    assert "10.32.62.13 . tcp . 80 : goto service-MBZD57SS-default/hello-world/tcp/http" in browser.text
    browser.follow.value = "service-MBZD57SS-default/hello-world/tcp/http"
    assert "numgen random mod 4" in browser.text


def test_chains_by_name_and_table(hello: kn.Cluster) -> None:
    node = hello.node(ONE)
    assert "KUBE-NODEPORTS" in node.chain("KUBE-SERVICES").text
    assert "REJECT" in node.chain("KUBE-SERVICES", table="filter").text
    assert node.chain("KUBE-SERVICES", table="filter").command == "iptables -L KUBE-SERVICES -n -v"
    with pytest.raises(NotFound, match="Near: KUBE-SERVICES"):
        node.chain("KUBE-SERVICE")
    frame = node.chains()
    assert list(frame.columns) == "key tool table name kind size about".split()
    assert frame.set_index("key").about["iptables nat KUBE-SVC-NOIMA57NP5B3VMDZ"] == "default/hello-world:http"


def test_hostile_comments_are_escaped() -> None:
    def comment(lines: list[str]) -> list[str]:
        return [line.replace('"default/hello-world:http cluster IP"', f'"{HOSTILE}\\\\ \x1b[31m"') for line in lines]

    changed = cluster({f"{ONE}/iptables-save.txt": text(comment)})
    view = changed.node(ONE).chain("KUBE-SERVICES")
    assert "\x1b" not in view.report().text()
    assert "<img" not in view.report().html()
    assert "<img" not in kn.chain_browser(changed.node(ONE))._repr_mimebundle_()["text/html"]


def test_a_broken_line_is_told_in_its_place() -> None:
    broken = cluster(
        {f"{ONE}/iptables-save.txt": text(lambda lines: [line.replace("-m statistic", "statistic") for line in lines])}
    )
    assert "this line cannot be read" in broken.node(ONE).chain("KUBE-SVC-NOIMA57NP5B3VMDZ").text


def test_a_node_without_rules() -> None:
    facts = {f"{ONE}/{fact}": None for fact in ("iptables-save.txt", "ip6tables-save.txt", "nft.json")}
    with pytest.raises(FactMissing, match="no rules were collected"):
        kn.chain_browser(cluster(facts).node(ONE))


def test_a_chain_of_thousands_of_rules_is_cut_with_a_word() -> None:
    def long(document: Any) -> None:
        portal = next(e["map"] for e in document["nftables"] if e.get("map", {}).get("name") == "service-ips")
        portal["elem"] += [
            [{"concat": [f"10.33.{i // 250}.{i % 250}", "tcp", 80]}, {"drop": None}] for i in range(3000)
        ]

    view = cluster({f"{TWO}/nft.json": as_json(long)}).node(TWO).chain("service-ips")
    assert "(and 2813 more)" in view.text
