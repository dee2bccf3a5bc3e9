"""The panel that leads from a row of any table to what it names, without a browser."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from edited import as_json, cluster, slice_of

import k8snet_nb as kn
from k8snet_nb.show.investigate import Things, things_of
from k8snet_nb.show.live import WIDGET_VIEW


def one_less(listing: Any) -> None:
    slice_of(listing, "hello-world")["endpoints"].pop()


DRIFTED = {"endpointslices": as_json(one_less)}


@pytest.fixture(scope="module")
def one() -> kn.Cluster:
    return kn.open()


@pytest.fixture(scope="module")
def drifted() -> kn.Cluster:
    return cluster(DRIFTED)


def test_a_finding_leads_to_service_pod_and_flows(drifted: kn.Cluster) -> None:
    panel = kn.investigate(drifted, value="ENDPOINT_STALE")
    assert str(panel.selector.key).endswith("ENDPOINT_STALE Service default/hello-world on node-one")
    for words in (
        "error: ENDPOINT_STALE, Service default/hello-world on node-one",
        "How do we know?",
        "Service default/hello-world translated",
        "KUBE-SVC-",
        "the first behind the Service: its wiring",
        "port of the bridge",
        "Flows on node-one",
        "tracked flows are of default/hello-world",
    ):
        assert words in panel.text, words
    assert panel.html.count("<img alt=") == 2


def test_choosing_another_redraws_in_place(one: kn.Cluster) -> None:
    panel = kn.investigate(one)
    assert "CONNTRACK_DROPS" in panel.text
    assert "Conntrack usage" in panel.text
    panel.selector.next_button.click()
    assert "CONNTRACK_DROPS, node node-two" in panel.text
    panel.selector.namespace.value = "info"
    assert panel.text.splitlines()[1].startswith("info: ")
    panel.selector.filter.value = "hello-local"
    assert "SERVICE_LOCAL_NONE, Service default/hello-local on node-three" in panel.text
    assert "(ipvs)" in panel.text


def test_a_code_that_is_not_there_is_said(one: kn.Cluster) -> None:
    assert "finding STALE_FLOW is not in this cluster now" in kn.investigate(one, value="STALE_FLOW").text


def test_static_and_live_views(one: kn.Cluster) -> None:
    bundle = kn.investigate(one, value="orphan")._repr_mimebundle_()
    assert WIDGET_VIEW in bundle
    assert "default/orphan on node-one" in bundle["text/plain"]
    assert "<details>" in bundle["text/html"]


@pytest.mark.parametrize(
    ("make", "things"),
    [
        (lambda c: c.services(), Things("default/hello-headless")),
        (lambda c: c.pods(), Things(None, None, "default/client-two", "node-two")),
        (lambda c: c.nodes(), Things(None, None, None, "node-three")),
        (
            lambda c: c.endpoints(),
            Things("default/hello-headless", "8080", "default/hello-world-c648f6bd8-96wh2", "node-one"),
        ),
        (
            lambda c: c.node("node-one").flows(),
            Things("default/hello-world", "http", "default/hello-world-c648f6bd8-96wh2"),
        ),
        (lambda c: c.sandboxes(), Things(None, None, "default/client-two", "node-two")),
    ],
    ids=["services", "pods", "nodes", "endpoints", "flows", "sandboxes"],
)
def test_rows_of_other_tables_name_things(one: kn.Cluster, make: Any, things: Things) -> None:
    frame: pd.DataFrame = make(one)
    assert things_of(frame.iloc[1]) == things
    panel = kn.investigate(one, frame.head(3))
    panel.selector.next_button.click()
    assert "Error" not in panel.text


def test_drift_s_own_table(drifted: kn.Cluster) -> None:
    panel = kn.investigate(drifted, drifted.drift())
    assert "Service default/hello-world translated" in panel.text
    assert "Flows on node-one" in panel.text


def test_without_a_node_s_facts_it_says_so(one: kn.Cluster) -> None:
    bare = cluster({"node-three/ipvs-save.txt": None})
    row = bare.findings()
    panel = kn.investigate(bare, row[row.service == "default/hello-local"])
    assert "not known" in panel.text or "ipvs-save.txt" in panel.text


def test_hostile_cells_are_escaped(one: kn.Cluster) -> None:
    frame = pd.DataFrame({"service": ["default/<img src=x>"], "node": ["node-\x1b[2Jone"]})
    panel = kn.investigate(one, frame)
    assert "\x1b" not in panel.text
    assert "<img src=x>" not in panel.html
    assert "no Service" in panel.text


def test_an_empty_table(one: kn.Cluster) -> None:
    assert kn.investigate(one, one.drift()).text == "no row matches"
