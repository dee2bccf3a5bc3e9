"""The drawing of a journey: each case as what it is, the same words in figure and text, hostile names inert."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from typing import Any

import pytest
from edited import cluster

import k8snet_nb as kn
from k8snet_nb.explain.journey.values import Journey
from k8snet_nb.show.journey import JourneyDrawing, draw_journey

HELLO = "default/hello-world"
CASES: dict[str, tuple[Any, ...]] = {
    "iptables": ("default/client", HELLO),
    "nftables": ("default/client-two", HELLO),
    "ipvs": ("node-three", HELLO),
    "one node": ("default/client", HELLO, None, "10.244.18.4"),
    "rejected": ("default/client", "default/orphan", "http"),
    "outside": ("default/client", "default/kubernetes"),
}


@pytest.fixture(scope="module")
def journeys() -> dict[str, Journey]:
    source = cluster()
    return {name: source.journey(*asked) for name, asked in CASES.items()}


def drawn(drawing: JourneyDrawing) -> list[str]:
    """Every text of the figure, but the arrows' empty ones."""
    return [words.get_text() for words in drawing.figure.axes[0].texts if words.get_text()]


def png(drawing: JourneyDrawing) -> bytes:
    html = drawing._repr_mimebundle_()["text/html"]
    return base64.b64decode(re.search(r'src="data:image/png;base64,([^"]+)"', html)[1])


@pytest.mark.parametrize("case", CASES)
def test_every_stop_is_drawn_once_with_its_addresses(journeys: dict[str, Journey], case: str) -> None:
    journey = journeys[case]
    words = drawn(draw_journey(journey))
    numbers = [int(found[1]) for one in words if (found := re.match(r"(\d+)  ", one))]
    assert sorted(numbers) == list(range(1, len(journey.stops) + 1))
    assert {journey.stops[0].source, f"→ {journey.stops[0].destination}"} <= set(words)
    arrows = [one for one in draw_journey(journey).figure.axes[0].texts if not one.get_text()]
    assert len(arrows) == len(journey.stops) - (2 if journey.far and journey.stops[-1].direction == "back" else 1)


@pytest.mark.parametrize("case", CASES)
def test_all_that_is_drawn_is_said(journeys: dict[str, Journey], case: str) -> None:
    drawing = draw_journey(journeys[case])
    said = drawing.text.replace(" > ", " → ")
    for words in drawn(drawing):
        if not words.startswith(("The way", "orange, thick", "dashed", "node-")):
            assert all(part in said for part in re.sub(r"^\d+  ", "", words).split("…")), words


def test_the_picture_is_the_same_each_time_and_has_a_text(journeys: dict[str, Journey]) -> None:
    drawing = draw_journey(journeys["iptables"])
    assert png(drawing).startswith(b"\x89PNG")
    assert png(drawing) == png(drawing)
    html = drawing._repr_mimebundle_()["text/html"]
    assert 'alt="pod default/client -&gt; default/hello-world' in html
    assert "4 out  node-one, translation KUBE-SEP-4XITVHZVEZTX25SU" in drawing.alt
    assert "(destination rewritten)" in drawing.alt
    assert "(not in evidence)" in drawing.alt


def test_rewritten_and_unseen_do_not_rest_on_colour(journeys: dict[str, Journey]) -> None:
    journey = journeys["ipvs"]
    boxes = [patch for patch in draw_journey(journey).figure.axes[0].patches if patch.get_height() < 0.8]
    thick = [patch for patch in boxes if patch.get_linewidth() > 1.5]
    dashed = [patch for patch in boxes if patch.get_linestyle() == "--"]
    assert len(thick) == len([stop for stop in journey.stops if stop.changed])
    assert len(dashed) == len([stop for stop in journey.stops if not stop.seen])


@pytest.mark.parametrize(
    "name", ["$\\frac{1}{0}$", "<script>alert(1)</script>", 'x" onerror="1', "e\x1b[31m", "a" * 300]
)
def test_hostile_names_are_only_text(journeys: dict[str, Journey], name: str) -> None:
    stops = tuple(replace(stop, name=name, source=name, node=stop.node and name) for stop in journeys["nftables"].stops)
    hostile = replace(journeys["nftables"], stops=stops, near=name, far="other", mode=name, verdict=name, client=name)
    drawing = JourneyDrawing(hostile)
    bundle = drawing._repr_mimebundle_()
    assert png(drawing)
    assert not any(words.get_parse_math() for words in drawing.figure.axes[0].texts if words.get_text())
    assert "<script" not in bundle["text/html"]
    assert 'onerror="' not in bundle["text/html"]
    assert "\x1b" not in bundle["text/plain"] + bundle["text/html"] + "".join(drawn(drawing))
    assert all(len(words) < 60 for words in drawn(drawing))


def test_it_is_one_of_the_public_names() -> None:
    assert kn.draw_journey is draw_journey


@pytest.mark.parametrize("case", ["iptables", "nftables", "ipvs"])
def test_each_node_has_its_column(journeys: dict[str, Journey], case: str) -> None:
    journey = journeys[case]
    axes = draw_journey(journey).figure.axes[0]
    across = {int(found[1]): words.get_position()[0] for words in axes.texts
              if (found := re.match(r"(\d+)  ", words.get_text()))}  # fmt: skip
    sides = {node: {across[n] for n, stop in enumerate(journey.stops, 1) if stop.node == node}
             for node in (journey.near, journey.far)}  # fmt: skip
    (near,), (far,) = sides[journey.near], sides[journey.far]
    assert near < far
    titles = [
        words.get_text()
        for words in axes.texts
        if words.get_text().startswith("node-") and words.get_weight() == "bold"
    ]
    assert titles == [f"{journey.near} ({journey.mode})", journey.far] * 2
