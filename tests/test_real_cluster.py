"""Acceptance on a real cluster: run with KUBECONFIG pointing at one (and the right to create agents on it).

    KUBECONFIG=~/.kube/config python -m pytest -m live

It reads the API, puts an agent on one ready node, compares with what kubectl's words promise, and takes all away.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import k8snet_nb as kn
from k8snet_nb.facts import FactRef
from k8snet_nb.record import check_recording
from k8snet_nb.sources.agent_pods import clean
from k8snet_nb.sources.live import LiveSource

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="needs KUBECONFIG, pointing at a cluster"),
]
NAMESPACE = os.environ.get("K8SNET_NAMESPACE", "k8snet-test")


@pytest.fixture(scope="module")
def cluster() -> Iterator[kn.Cluster]:
    opened = kn.open("live", namespace=NAMESPACE, image=os.environ.get("K8SNET_IMAGE"))
    assert isinstance(opened.source, LiveSource)
    ready = [planned.node for planned in opened.source.plan() if planned.kind == "Job"]
    failed = opened.source.start_agents([node for node in ready[:1] if node])
    opened.refresh()
    assert failed == {}
    yield opened
    opened.source.close()
    clean(opened.source.api.connection, NAMESPACE)


def test_the_api_is_read(cluster: kn.Cluster) -> None:
    assert cluster.version.startswith("v1.")
    assert "default/kubernetes" in set(cluster.services()["namespace"] + "/" + cluster.services()["name"])
    assert len(cluster.nodes()) >= 1


def test_a_node_is_read_with_its_own_tools(cluster: kn.Cluster) -> None:
    node = cluster.node(cluster.source.nodes()[0])
    addresses = {a.address for link in node.links() for a in link.addresses}
    assert addresses & set(node.ips)
    facts = node.facts()
    assert facts["present"].sum() > 10
    assert cluster.source.read(FactRef("processes.json", node.name))


def test_services_are_programmed_as_the_api_says(cluster: kn.Cluster) -> None:
    name = cluster.source.nodes()[0]
    drift = cluster.drift(name)
    assert not ((drift["severity"] == "error") & (drift["state"] == "confirmed")).any()
    if cluster.node(name).proxy_mode is not None:
        answer = cluster.translate("default/kubernetes", port="https", node=name)
        assert answer.action == "dnat"


def test_pods_of_the_node_are_found(cluster: kn.Cluster) -> None:
    name = cluster.source.nodes()[0]
    pods = cluster.pods()
    here = pods[(pods["node"] == name) & (pods["status"] == "Running") & ~pods["host_network"]]
    for row in here.head(5).itertuples():
        pod = cluster.pod(f"{row.namespace}/{row.name}")
        assert pod.netns
        assert set(pod.ips) <= {
            a for line in pod.interfaces()["addresses"] for a in (str(x).split("/")[0] for x in line)
        }


def test_a_redacted_recording_of_it_is_whole(cluster: kn.Cluster, tmp_path: Path) -> None:
    cluster.record(tmp_path / "out", redact=True)
    assert check_recording(tmp_path / "out").good
    text = "".join(path.read_text(errors="replace") for path in (tmp_path / "out").rglob("*") if path.is_file())
    for ips in cluster.pods()["ips"]:
        for ip in ips:
            assert ip not in text
