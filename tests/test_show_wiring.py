"""The drawing of a pod's wiring: each case as what it is, the same words in figure and text, hostile names inert."""

from __future__ import annotations

import base64
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import k8snet_nb as kn
from k8snet_nb.explain.pod_network import NoVethPair
from k8snet_nb.show.wiring import Part, Wiring, WiringChart, draw_wiring

RECORDING = Path(kn.__path__[0]) / "data" / "hello-cluster"


@pytest.fixture(scope="module")
def cluster() -> kn.Cluster:
    return kn.open(RECORDING)


def drawn(chart: WiringChart) -> list[str]:
    """Every text of the figure."""
    return [text.get_text() for text in chart.figure.axes[0].texts]


def png(chart: WiringChart) -> bytes:
    html = chart._repr_mimebundle_()["text/html"]
    return base64.b64decode(re.search(r'src="data:image/png;base64,([^"]+)"', html)[1])


def test_a_bridge(cluster: kn.Cluster) -> None:
    chart = draw_wiring(cluster.pod("default/client"))
    assert [part.lines[0] for part in (*chart.wiring.inside, *chart.wiring.outside)] == [
        "eth0 (2) veth", "veth5255f3bf (7) veth", "cni0 (3) bridge", "eth0 (2) veth",
    ]  # fmt: skip
    assert [part.wire for part in chart.wiring.outside] == [True, True, False]
    for words in ("network namespace 4026532919", "10.244.18.5/24", "da:c6:70:bc:5a:3f", "peer: index 2 in id 4",
                  "default via 10.244.18.1", "port of the bridge", "default via 172.30.0.1"):  # fmt: skip
        assert words in chart.text
    assert "[node node-one]$ ip -j netns list-id" in chart.text
    assert png(chart).startswith(b"\x89PNG")
    assert png(chart) == png(chart)


def test_point_to_point(cluster: kn.Cluster) -> None:
    chart = draw_wiring(cluster.pod("default/client-two"))
    assert "route to 10.244.3.7/32, dev veth72978db9" in chart.text
    assert "bridge" not in chart.wiring.text()
    assert "route to 10.244.3.7/32" in drawn(chart)


def test_all_that_is_drawn_is_said(cluster: kn.Cluster) -> None:
    for key in ("default/client", "default/client-two", "kube-system/node-watch-qp8zd"):
        chart = draw_wiring(cluster.pod(key))
        said = " ".join(chart.wiring.text().split())
        for words in drawn(chart):
            assert all(part in said for part in words.split("…")) or words == "in the node's namespace", words


def test_on_the_host_network_there_is_one_frame_and_no_pair(cluster: kn.Cluster) -> None:
    chart = draw_wiring(cluster.pod("kube-system/node-watch-74fwx"))
    assert chart.wiring.shared
    assert "veth pair" not in drawn(chart)
    assert "holds pod kube-system/node-watch-74fwx (hostNetwork)" in chart.text
    assert "No veth pair" in chart.alt


def test_on_no_node(cluster: kn.Cluster) -> None:
    chart = draw_wiring(cluster.pod("kube-system/node-watch-8zf8j"))
    assert "on no node" in chart.text
    assert png(chart)


def test_a_parent_is_no_pair(cluster: kn.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = cluster.pod("default/client")
    link = replace(pod.links()[1], kind="ipvlan", peer_ifindex=2)
    uplink = cluster.node("node-one").links()[1]
    found = NoVethPair("ipvlan", "an ipvlan interface has no peer", link, uplink)
    monkeypatch.setattr(type(pod), "veth", lambda _self: found)
    chart = draw_wiring(pod)
    (parent,) = chart.wiring.outside
    assert (parent.lines[0], parent.tie, parent.wire) == ("eth0 (2) veth", "ipvlan: no pair", False)
    assert "eth0 (2) ipvlan" in chart.text


def test_what_was_not_read_is_said(tmp_path: Path) -> None:
    copy = tmp_path / "hello"
    shutil.copytree(RECORDING, copy)
    shutil.rmtree(copy / "nodes" / "node-two")
    (copy / "nodes" / "node-one" / "route.json").unlink()
    cluster = kn.open(copy)
    assert "not known" in draw_wiring(cluster.pod("default/client")).text
    far = draw_wiring(cluster.pod("default/client-two"))
    assert "No veth pair" in far.text
    assert png(far)


@pytest.mark.parametrize(
    "name", ["$\\frac{1}{0}$", "a$b$c", "<script>alert(1)</script>", 'x" onerror="1', "e\x1b[31m", "\u202eabc"]
)
def test_hostile_names_are_only_text(name: str) -> None:
    part = Part((name, "10.0.0.1/24"))
    chart = WiringChart(Wiring(f"pod {name}", f"node {name}", (part,), (Part((name,), "veth pair"),), note=name))
    bundle: dict[str, Any] = chart._repr_mimebundle_()
    assert png(chart)
    assert not any(text.get_parse_math() for text in chart.figure.axes[0].texts)
    assert "<script" not in bundle["text/html"]
    assert 'onerror="' not in bundle["text/html"]
    assert not {"\x1b", "\u202e"} & set("".join([bundle["text/plain"], bundle["text/html"], *drawn(chart)]))
    assert all(list(text.get_text()) for text in chart.figure.axes[0].texts)


def test_long_names_keep_both_ends() -> None:
    name = "a" * 200 + "-the-end"
    chart = WiringChart(Wiring(f"pod {name}", "node n", (Part((name,)),), ()))
    assert all(len(text) < 80 for text in drawn(chart))
    assert any(text.endswith("-the-end") for text in drawn(chart))
    assert name in chart.text
