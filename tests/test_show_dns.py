"""The drawing of a look-up and its panel, without a browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import k8snet_nb as kn
from k8snet_nb.cluster import Cluster
from k8snet_nb.show.dns import DnsPanel
from k8snet_nb.show.live import WIDGET_VIEW

RECORDING = Path(kn.__file__).parent / "data" / "hello-cluster"


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    return kn.open(RECORDING)


def drawn(figure: object) -> str:
    return "\n".join(text.get_text() for text in figure.axes[0].texts)  # type: ignore[attr-defined]


def test_the_way_is_drawn_and_told(cluster: Cluster) -> None:
    chart = kn.draw_dns(cluster.pod("default/client"), "kubernetes.default")
    words = drawn(chart.figure)
    assert "1. kubernetes.default.default.svc.cluster.local." in words
    assert "✘ A and AAAA: NXDOMAIN" in words
    assert "✔ A: NOERROR, 1 record; AAAA: NOERROR, no such record" in words
    assert "nameserver 10.32.0.10" in words
    assert "iptables, dnat" in words
    assert words.count("1/2") == 2
    shown = chart._repr_mimebundle_()
    assert "How do we know" not in shown["text/plain"]
    assert "try 2         kubernetes.default.svc.cluster.local." in shown["text/plain"]
    assert 'alt="default/client looks up kubernetes.default: try 1 is' in shown["text/html"]
    assert shown == chart._repr_mimebundle_()


def test_what_is_not_known_is_drawn_as_such(cluster: Cluster) -> None:
    host = kn.draw_dns(cluster.pod("kube-system/node-watch-74fwx"), "example.com")
    words = drawn(host.figure)
    assert "? A and AAAA: not recorded" in words
    assert "no search list" in words
    assert "nothing is" in words
    assert "nothing is asked" in kn.draw_dns(cluster.pod("default/client"), "10.1.2.3").alt


def test_names_are_neither_markup_nor_formulas(cluster: Cluster) -> None:
    chart = kn.draw_dns(cluster.pod("default/client"), "<b>$x$")
    html = chart._repr_mimebundle_()["text/html"]
    assert "<b>$x$" not in html
    assert "$x$" in drawn(chart.figure)
    assert not [text for text in chart.figure.axes[0].texts if text.get_text() and text.get_parse_math()]


def test_the_panel_follows_its_choices(cluster: Cluster) -> None:
    panel = kn.dns_panel(cluster, "default/client", "kubernetes.default")
    assert isinstance(panel, DnsPanel)
    assert "kubernetes.default.default.svc.cluster.local." in panel.text
    panel.name.value = "hello-world"
    assert "found: A 10.32.62.13" in panel.text
    panel.selector.choose("default/client-two")
    assert "node-two" in panel.text
    panel.libc.value = "musl"
    assert "musl" in panel.text.splitlines()[1]
    panel.name.value = " "
    assert panel.text == "pod default/client-two\nname none, musl"
    assert WIDGET_VIEW in panel._repr_mimebundle_()


def test_the_panel_shows_what_goes_wrong(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(RECORDING, tmp_path / "copy"))
    (copy / "nodes/node-one/pods/default/client/resolv.conf").unlink()
    panel = kn.dns_panel(kn.open(copy), "default/client", "hello-world")
    assert "resolv.conf of pod default/client on node-one" in panel.text
    assert 'role="alert"' in panel.html
    panel.selector.choose("default/client-two")
    assert "found: A 10.32.62.13" in panel.text
