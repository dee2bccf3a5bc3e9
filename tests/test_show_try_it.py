"""The lessons' live parts where nothing can be sent: one calm line, the same on every machine, and the offer."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

import k8snet_nb as kn
from k8snet_nb.errors import NotFound, TwinError
from k8snet_nb.show import full_table as shown_table
from k8snet_nb.show import twin_offer
from k8snet_nb.show.callers import clients
from k8snet_nb.show.full_table import fill_a_table
from k8snet_nb.show.sending import Wish
from k8snet_nb.show.trying import try_it


@pytest.fixture
def cluster() -> kn.Cluster:
    return kn.open()


def test_a_recording_gets_one_calm_line(cluster: kn.Cluster) -> None:
    panel = try_it(cluster, "default/hello-world", client="default/client", hold=3, watch="conntrack")
    bundle = panel._repr_mimebundle_()
    assert bundle["text/plain"] == (
        "Try it: 40 connections from default/client to default/hello-world, held open for 3 s.\n"
        'What is open here can only be read. A twin does it for real: `k8snet twin up`, then kn.open("twin").'
    )
    assert "<code>k8snet twin up</code>" in bundle["text/html"]
    panel.send()
    assert panel.seen is None


def test_names_are_shown_as_text(cluster: kn.Cluster) -> None:
    panel = try_it(cluster, "default/<b>\x1b[31m", client="<i>x")
    assert "<b>" not in panel._repr_mimebundle_()["text/html"]
    assert "\x1b" not in panel.text


@pytest.mark.parametrize("wish", [Wish("x", client="ns/p449"), Wish("x", client="node", node="n2")])
def test_a_client_among_more_than_are_listed_is_chosen(wish: Wish) -> None:
    pod = {"node": "n1", "ips": ("::1",), "host_network": False}
    pods = {f"ns/p{n}": SimpleNamespace(key=f"ns/p{n}", **pod) for n in range(450)}
    source = SimpleNamespace(nodes=lambda: ("n1", "n2"))
    big: Any = SimpleNamespace(source=source, api=SimpleNamespace(nodes={"n1", "n2"}, pods=pods))
    found = clients(big, wish)
    assert (found.chosen, found.missing, len(found.options)) == ((wish.client, wish.node), "", 200)


def test_counters_that_there_are_not(cluster: kn.Cluster) -> None:
    with pytest.raises(NotFound, match="conntrack, sockets, veth, rules, ipvs"):
        try_it(cluster, "default/hello-world", watch="all")


@pytest.mark.parametrize(("platform", "buttons"), [("linux", 2), ("darwin", 0), ("win32", 0)])
def test_the_button_is_where_a_twin_can_be(
    cluster: kn.Cluster, monkeypatch: pytest.MonkeyPatch, platform: str, buttons: int
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    offer = twin_offer.TwinOffer(cluster, lambda found: None)
    assert len([child for child in offer.layout.children if hasattr(child, "description") and child.description]) == (
        buttons
    )


def test_a_twin_that_cannot_be_is_said_beside_the_button(cluster: kn.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise TwinError("no namespaces here; use the container")

    monkeypatch.setattr(twin_offer, "up", refused)
    monkeypatch.setattr(twin_offer, "twin_folders", list)
    offer = twin_offer.TwinOffer(cluster, lambda found: None)
    offer.bring_up()
    offer.wait(10)
    assert "no namespaces here; use the container" in offer.status
    assert not offer.up_button.disabled
    assert offer.down_button.disabled


def test_a_table_is_filled_only_by_the_button(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def refused(*numbers: Any, **more: Any) -> None:
        asked.append((numbers, more))
        raise ValueError("maximum is <1>")

    monkeypatch.setattr(shown_table, "full_table", refused)
    panel = fill_a_table()
    assert not asked
    assert "Nothing has run yet" in panel._repr_mimebundle_()["text/plain"]
    panel.maximum.value = 64
    panel.start_button.click()
    panel.wait(10)
    assert asked == [((64, 160), {"unanswered": 0, "raised": 256})]
    assert "maximum is <1>" in panel.text
    assert "&lt;1&gt;" in panel._repr_mimebundle_()["text/html"]


def test_a_lazy_name_is_the_same_however_often_it_is_named() -> None:
    """A module of a room is an attribute of it once it is loaded: no function may be called like its module."""
    first = {name: getattr(kn, name) for name in kn.__all__}
    again = {name: getattr(kn, name) for name in kn.__all__}
    assert [name for name in first if first[name] is not again[name]] == []
    assert callable(kn.try_it)
